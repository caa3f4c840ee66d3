#!/bin/sh
# Installs rask for one user: no root, nothing outside of PREFIX (default ~/.local). Again: upgrades.
# `rask uninstall` takes away what is listed in PREFIX/share/rask/installed-files.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-$HOME/.local}
list=$prefix/share/rask/installed-files

"$here/bin/rask" --version >/dev/null || {
    echo "install.sh: bin/rask does not run here ($(uname -s) on $(uname -m)): take the archive for this machine" >&2
    exit 1
}

mkdir -p "$prefix/share/rask"
: >"$list.new"
(cd "$here" && find bin share -type f) | sort | while read -r file; do
    mkdir -p "$(dirname "$prefix/$file")"
    # A running rask keeps the file it has: a new one takes its name.
    cp -p "$here/$file" "$prefix/$file.new"
    mv -f "$prefix/$file.new" "$prefix/$file"
    echo "$prefix/$file" >>"$list.new"
done
mv -f "$list.new" "$list"

# Desktops start programs without the PATH of a shell.
sed -e "s|^Exec=rask|Exec=$prefix/bin/rask|" -e "s|^TryExec=rask|TryExec=$prefix/bin/rask|" "$here/share/applications/rask.desktop" >"$prefix/share/applications/rask.desktop"
command -v update-desktop-database >/dev/null && update-desktop-database -q "$prefix/share/applications" || true

echo "Installed $("$prefix/bin/rask" --version) in $prefix."
case :$PATH: in
*:"$prefix/bin":*) echo "Start: rask up" ;;
*) echo "Start: $prefix/bin/rask up   (or add $prefix/bin to PATH)" ;;
esac
echo "With your session: rask service install   Something wrong: rask doctor   Away: rask uninstall"
