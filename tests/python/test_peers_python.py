"""The same Python everywhere: a machine that lacks the head's environment makes it. See also `test_peers.py`.

`RASK_TEST_LONG=1`: an environment with numpy, pandas and bokeh.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lan as lans
from harness import wait_until
from lan import Head
from test_peers import SPAN, lan  # noqa: F401

pytestmark = [
    pytest.mark.skipif(lans.why_not() is not None, reason=f"NO TEST OF PEERS' PYTHONS: {lans.why_not()}"),
    pytest.mark.timeout(240),
]
PACKAGES = ["distributed", *(["numpy", "pandas", "bokeh"] if os.environ.get("RASK_TEST_LONG") == "1" else [])]


def small_environment(folder: Path) -> Path:
    """A Python with what is needed and nothing else: packages are borrowed from this one."""
    made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    site = next((folder / "lib").glob("python3.*")) / "site-packages"
    for dist in closure(*PACKAGES):
        for top in {file.parts[0] for file in dist.files if ".." not in file.parts and file.parts[0] != "__pycache__"}:
            (site / top).symlink_to(dist.locate_file(top))
    return folder


def closure(*names: str) -> list[metadata.Distribution]:
    """Packages and all that they need."""
    found, wanted = {}, list(names)
    while wanted:
        dist = metadata.distribution(wanted.pop())
        if found.setdefault(dist.metadata["Name"].lower(), dist) is dist:
            needs = [Requirement(text) for text in dist.requires or []]
            wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return list({dist.metadata["Name"].lower(): dist for dist in found.values()}.values())


def wheels(folder: Path):
    """A wheel of each of these packages, from what is installed: no index is asked."""
    folder.mkdir()
    for dist in closure(*PACKAGES):
        tags = [line.split(": ")[1] for line in (dist.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
        name = re.sub(r"[-_.]+", "_", dist.metadata["Name"]).lower()
        with zipfile.ZipFile(folder / f"{name}-{dist.version}-{tags[-1]}.whl", "w") as wheel:
            for file in dist.files:
                if ".." not in file.parts and "__pycache__" not in file.parts and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json"):
                    wheel.write(dist.locate_file(file), str(file))


SEES = """
import json, os, sys
from distributed import Client

def look():
    import lent
    return lent.WORD, os.environ.get("SAID"), sys.prefix

if __name__ == "__main__":
    with Client("tcp://127.0.0.1:8786", timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
        client.upload_file(sys.argv[1])
        print(json.dumps(list(client.run(look).items())))
"""


def test_a_machine_without_the_heads_python_makes_it_once(lan, tmp_path):
    """Goal: it is made from the head's lock, with progress, kept by its hash and used again; a file that a client
    uploads reaches workers on both machines.

    Method: the smallest environment that will do; pip finds wheels of it in a folder, since no index is in reach.
    """
    env = small_environment(tmp_path / "env")
    wheels(tmp_path / "wheels")
    net = lan("head", "one")
    head = Head(net["head"], *SPAN, "--python", str(env))
    one = net["one"]
    bare = {
        "VIRTUAL_ENV": "", "PYTHONPATH": "", "PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_INDEX_URL": "",
    }
    proc = head.join(one, "--name", "one", "--cores", "1", env=bare)
    notes = set()

    def there():
        groups = head.peers().get("one", {}).get("groups", [])
        notes.update(group["note"] for group in groups)
        assert not groups or groups[0]["phase"] != "failed", groups[0]["note"]
        return groups and groups[0]["running"]

    wait_until(there, "a worker in the environment that was made", 120, 0.2)
    print("progress:", sorted(notes))
    assert any("making the environment" in note for note in notes) and len(notes) > 2, notes
    made = list((one.state / "envs").glob("head-*"))
    assert len([path for path in made if path.is_dir()]) == 1 and not list((one.state / "envs").glob("*.tmp"))
    (tmp_path / "lent.py").write_text("WORD = 'lent'\n")
    done = head.machine.python(SEES, str(tmp_path / "lent.py"))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {word for _, (word, _, _) in seen} == {"lent"} and str(made[0]) in {prefix for _, (_, _, prefix) in seen}, seen
    # The next time nothing is made: no index and no wheels are needed.
    proc.stop()
    again = time.monotonic()
    proc = one.rask("join", "--cores", "1", env=bare | {"PIP_FIND_LINKS": "/nowhere"})
    wait_until(lambda: head.peers()["one"]["state"] == "up" and there(), "a worker again", 30, 0.2)
    print(f"again after {time.monotonic() - again:.1f} s")
    assert "Making the head's Python environment" not in proc.output()
