//! `rask uninstall`: everything that rask made for this user (and for the machine, if asked), listed and then removed.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::service::{self, Scope};
use crate::app::command_error::CommandError;
use crate::app::commands::configure;
use crate::app::local::settings::home;
use crate::app::local::state_dir::{self as state, Running};
use crate::app::text::outln;

/// What a state folder of ours has at least one of.
const MARKS: &[&str] = &["rask.db", "up.lock", "clusters", "envs", "logs", "ca"];

/// Written by the installer of the archive beside what it installs: one path per line.
const MANIFEST: &str = "share/rask/installed-files";

/// Something that goes.
struct Item {
    what: &'static str,
    path: PathBuf,
}

/// `rask uninstall`
#[derive(Clone, Debug, Default)]
pub struct UninstallArgs {
    pub state_dir: Option<PathBuf>,
    /// Do not ask.
    pub yes: bool,
    /// Leave state and settings.
    pub keep_state: bool,
    /// The machine's service too, with its state and settings.
    pub system: bool,
}

/// Lists, asks (unless told not to), removes.
///
/// Errors: something still runs; nobody can be asked; a file that cannot be removed.
pub fn uninstall(args: &UninstallArgs) -> Result<(), CommandError> {
    let state = state::state_dir(args.state_dir.as_deref())?;
    if let Some(running) = Running::find(&state) {
        return Err(
            CommandError::world(format!("rask runs (process {})", running.pid)).remedy("stop it first: rask down")
        );
    }
    let items = items(&state, args)?;
    if items.is_empty() {
        outln!("Nothing to remove.");
    } else {
        outln!("This goes:");
        for item in &items {
            outln!("  {:<12} {}", item.what, item.path.display());
        }
        if !args.yes && !confirmed()? {
            outln!("Nothing was removed.");
            return Ok(());
        }
        if items.iter().any(|item| item.what == "service") {
            for scope in scopes(args) {
                service::uninstall(scope, None)?;
            }
        }
        for item in items.iter().filter(|item| item.what != "service") {
            remove(&item.path)?;
        }
        outln!("Removed.");
    }
    hints(args).into_iter().for_each(|hint| outln!("{hint}"));
    Ok(())
}

fn scopes(args: &UninstallArgs) -> Vec<Scope> {
    if args.system { vec![Scope::User, Scope::System] } else { vec![Scope::User] }
}

fn items(state: &Path, args: &UninstallArgs) -> Result<Vec<Item>, CommandError> {
    let mut items = Vec::new();
    let mut add = |what, path: PathBuf| {
        if path.symlink_metadata().is_ok() {
            items.push(Item { what, path });
        }
    };
    for scope in scopes(args) {
        service::made(scope, None).into_iter().for_each(|path| add("service", path));
    }
    let dask = configure::dask_file()?;
    if fs::read_to_string(&dask).is_ok_and(|text| text.starts_with(configure::DASK_FILE_MARK)) {
        add("clients", dask);
    }
    if !args.keep_state {
        home("XDG_CONFIG_HOME", ".config").into_iter().for_each(|base| add("settings", base.join("rask")));
        let ours = MARKS.iter().any(|mark| state.join(mark).exists());
        if ours {
            add("state", state.to_path_buf());
        }
        if args.system {
            add("settings", PathBuf::from("/etc/rask"));
            add("state", PathBuf::from("/var/lib/rask"));
        }
    }
    for path in installed() {
        add("program", path);
    }
    Ok(items)
}

/// What the archive's installer put beside this program, the list itself last.
fn installed() -> Vec<PathBuf> {
    let prefix = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_path_buf()));
    let Some(prefix) = prefix else { return Vec::new() };
    let manifest = prefix.join(MANIFEST);
    let Ok(list) = fs::read_to_string(&manifest) else { return Vec::new() };
    // Only what is below the same prefix: a list that was tampered with removes nothing else.
    let clean = |path: &PathBuf| path.starts_with(&prefix) && !path.components().any(|part| part.as_os_str() == "..");
    list.lines().map(PathBuf::from).filter(clean).chain([manifest.clone()]).collect()
}

fn confirmed() -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::usage("nobody is here to be asked").remedy("say --yes"));
    }
    print!("Remove all of this? [y/N] ");
    let mut answer = String::new();
    let asked = io::stdout().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.map_err(|why| CommandError::world(format!("no answer could be read: {why}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn remove(path: &Path) -> Result<(), CommandError> {
    let is_folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(CommandError::world(format!("cannot remove {}: {why}", path.display())))
        }
        Ok(()) | Err(_) => {
            // Folders of others are not empty.
            let above = path.parent().filter(|folder| folder.ends_with("share/rask"));
            above.into_iter().for_each(|folder| drop(fs::remove_dir(folder)));
            Ok(())
        }
    }
}

/// What this command must leave to those who installed it.
fn hints(args: &UninstallArgs) -> Vec<String> {
    let mut hints = Vec::new();
    let Ok(exe) = std::env::current_exe() else { return hints };
    let shown = exe.display();
    if of_dpkg(&exe) {
        hints.push("The program itself: sudo apt purge rask".to_owned());
    } else if of_pip(&exe) {
        hints.push("The program itself: pip uninstall rask-dask".to_owned());
    } else if exe.exists() {
        hints.push(format!("The program itself: {shown}"));
    }
    if !args.system && Path::new("/etc/systemd/system/rask.service").exists() {
        hints.push("The machine's service, with its state: sudo rask uninstall --system".to_owned());
    }
    hints
}

fn of_dpkg(exe: &Path) -> bool {
    let asked = Command::new("dpkg-query").arg("--search").arg(exe).stderr(Stdio::null()).output();
    asked.is_ok_and(|answer| answer.status.success() && answer.stdout.starts_with(b"rask:"))
}

/// Python's installers keep a folder of facts beside the packages of the environment whose `bin` we are in.
fn of_pip(exe: &Path) -> bool {
    let Some(lib) = exe.parent().and_then(Path::parent).map(|prefix| prefix.join("lib")) else { return false };
    let versions = fs::read_dir(lib).into_iter().flatten().flatten();
    versions.flat_map(|version| fs::read_dir(version.path().join("site-packages")).into_iter().flatten().flatten()).any(
        |entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with("rask_dask-") && name.ends_with(".dist-info"))
        },
    )
}
