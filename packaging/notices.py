"""Licences of everything that is linked into the binary or shipped inside it, as one text; refuses what is not permissive.

    python packaging/notices.py          prints the text
    python packaging/notices.py --check  only says whether all is permissive

Facts come from `cargo metadata` and the sources in cargo's registry, and from `web/package-lock.json` where the
dashboard's packages are installed. Nothing is asked over the network.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Licences that ask for no more than their text. Each by its SPDX name.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT",
    "MIT-0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Zlib",
}  # fmt: skip
EXCEPTIONS = {"LLVM-exception"}

# Texts of a licence that a package brings, by name.
TEXTS = re.compile(r"(?i)^(licen[cs]e|copying|unlicense|notice|copyright)([-._].*)?$")

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


class NotPermissive(Exception):
    """Names the packages and their licences."""


def permissive(expression: str) -> bool:
    """Is there a choice within an SPDX expression that is permissive? `/` is how `OR` was written once."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    value, rest = _either(tokens)
    if rest:
        raise ValueError(f"not a licence expression: {expression}")
    return value


def _either(tokens: list[str]) -> tuple[bool, list[str]]:
    value, tokens = _both(tokens)
    while tokens and tokens[0] == "OR":
        other, tokens = _both(tokens[1:])
        value = value or other
    return value, tokens


def _both(tokens: list[str]) -> tuple[bool, list[str]]:
    value, tokens = _one(tokens)
    while tokens and tokens[0] == "AND":
        other, tokens = _one(tokens[1:])
        value = value and other
    return value, tokens


def _one(tokens: list[str]) -> tuple[bool, list[str]]:
    if not tokens:
        return False, []
    first, tokens = tokens[0], tokens[1:]
    if first == "(":
        value, tokens = _either(tokens)
        return value, tokens[1:]
    value = first in PERMISSIVE
    if tokens and tokens[0] == "WITH":
        value = value and tokens[1] in EXCEPTIONS
        tokens = tokens[2:]
    return value, tokens


def crates() -> list[dict]:
    """What is linked in: normal dependencies, all the way down."""
    host = next(line[6:] for line in _run("rustc", "-vV").splitlines() if line.startswith("host: "))
    told = json.loads(_run("cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host))
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    root = told["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    found = [packages[name] for name in seen - {root}]
    return [
        {
            "name": package["name"],
            "version": package["version"],
            "licence": package["license"] or "",
            "authors": [re.sub(r"\s*<[^>]*>", "", author) for author in package["authors"]],
            "folder": Path(package["manifest_path"]).parent,
            "file": package["license_file"],
        }
        for package in found
    ]


def scripts() -> list[dict]:
    """What the dashboard's page is built from."""
    lock = ROOT / "web/package-lock.json"
    if not lock.exists():
        return []
    found = []
    for path, package in json.loads(lock.read_text())["packages"].items():
        if not path or package.get("dev"):
            continue
        licence = package.get("license", "")
        name = path.rpartition("node_modules/")[2]
        found.append(
            {"name": name, "version": package["version"], "licence": licence, "authors": [], "folder": ROOT / "web" / path, "file": None}
        )
    return found


def check(packages: list[dict]) -> None:
    bad = [p for p in packages if not (p["licence"] and permissive(p["licence"])) and not (p["file"] and not p["licence"])]
    if bad:
        named = ", ".join(f"{p['name']} {p['version']} ({p['licence'] or 'none told'})" for p in bad)
        raise NotPermissive(f"licences that are not permissive: {named}")


def texts_of(package: dict) -> list[str]:
    folder = package["folder"]
    if package["file"]:
        paths = [folder / package["file"]]
    else:
        paths = sorted(path for path in folder.glob("*") if path.is_file() and TEXTS.match(path.name))
    return [path.read_text(errors="replace").strip() for path in paths if path.exists()]


def text() -> str:
    packages = sorted([*crates(), *scripts()], key=lambda p: (p["name"].lower(), p["version"]))
    check(packages)
    # Many packages bring the same text: each is printed once.
    users: dict[str, list[str]] = {}
    for package in packages:
        title = f"{package['name']} {package['version']} ({package['licence'] or 'see its text'})"
        texts = texts_of(package)
        if not texts:
            who = ", ".join(package["authors"]) or f"The authors of {package['name']}"
            texts = [f"Copyright (c) {who}\n\n{MIT}" if "MIT" in package["licence"] else f"{package['licence']}, by {who}"]
        for one in texts:
            users.setdefault(one, []).append(title)
    rule = "-" * 100
    parts = [
        "rask contains the work of others. Each text below is preceded by the packages that it belongs to.\n"
        "SQLite, which libsqlite3-sys contains, is in the public domain."
    ]
    parts += [f"{rule}\n" + "\n".join(titles) + f"\n{rule}\n\n{one}" for one, titles in users.items()]
    return "\n\n".join(parts) + "\n"


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout


if __name__ == "__main__":
    try:
        if "--check" in sys.argv[1:]:
            everything = [*crates(), *scripts()]
            check(everything)
            print(f"{len(everything)} packages, all permissive")
        else:
            sys.stdout.write(text())
    except NotPermissive as found:
        sys.exit(f"packaging/notices.py: {found}")
