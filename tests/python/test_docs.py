"""What the documents say is true: commands and flags exist, links lead somewhere, settings are settings, examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from appliance import Appliance
from harness import ROOT, clean_env, rask_bin, scheduler_kind

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own documents"),
]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "packaging/doc").glob("*.md"), *(ROOT / "src").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# A setting by its dotted name in backticks, such as `gateway.auth.type`.
SETTING = re.compile(r"`((?:up|workers|security|gateway|scheduler|comm|limits|peers|log)\.[a-z_.-]+)`")
# Names of files.
NOT_SETTINGS = {"scheduler.json", "workers.sock"}


def blocks(document: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(document.read_text()) if language in languages]


def only(found: list[str], word: str) -> str:
    """The one block that contains a word."""
    matching = [block for block in found if word in block]
    assert len(matching) == 1, (word, found)
    return matching[0]


def command_lines(document: Path) -> list[str]:
    """Every `rask ...` in a shell block or in backticks."""
    found = []
    for block in blocks(document, "sh", "console"):
        for line in block.splitlines():
            line = re.sub(r"^(\S*\$) +", "", line).split(" #")[0]
            for part in re.split(r"[;|&]|\$\(", line):
                if part.strip().startswith("rask "):
                    found.append(part.strip().rstrip(")\""))
    prose = FENCE.sub("", document.read_text())
    return found + [" ".join(words.split()) for words in re.findall(r"`(rask\s[^`]+)`", prose)]


@cache
def told(*command: str) -> str:
    """The help of a command."""
    done = subprocess.run([rask_bin(), *command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@cache
def commands(*above: str) -> list[str]:
    """Commands below a command, by its help."""
    text = told(*above)
    usage = next(line for line in text.splitlines() if line.startswith("Usage:"))
    if "<COMMAND>" not in usage:
        return []
    names = re.findall(r"^  ([a-z][a-z-]*)  +\S", text.split("Options:")[0] if above else text, re.M)
    return [name for name in names if name != "help"]


def faults(line: str) -> list[str]:
    """What in a command line rask does not know."""
    words = shlex.split(line)[1:]
    while words and words[0].startswith("--"):  # flags for every command may come first
        words = words[2:]
    if not words or words[0] == "COMMAND":
        return []
    path: list[str] = []
    while words and commands(*path):
        name = words.pop(0)
        if name not in commands(*path):
            return [f"{line}: no command {name!r}"]
        path.append(name)
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    known = set(re.findall(r"(?:^|\s)(--?[a-zA-Z][a-z-]*)\b", told(*path)))
    return [f"{line}: no flag {flag}" for flag in flags if flag not in known]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_in_a_document_is_one_that_rask_knows(document):
    wrong = [fault for line in command_lines(document) for fault in faults(line)]
    assert wrong == []


def test_a_wrong_command_line_would_be_found():
    assert faults("rask up --lan --no-such-flag") == ["rask up --lan --no-such-flag: no flag --no-such-flag"]
    assert faults("rask cluster burn") == ["rask cluster burn: no command 'burn'"]
    assert len(command_lines(ROOT / "README.md")) > 30


def test_the_readme_has_a_row_for_every_command():
    rows = re.findall(r"^\| `rask ([a-z-]+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert sorted(rows) == sorted(commands())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_to_a_file(document):
    targets = re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", document.read_text()))
    broken = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert broken == []


def test_every_setting_that_a_document_names_is_one():
    sample = tomllib.loads((ROOT / "config/rask.toml").read_text())

    def exists(name: str) -> bool:
        at = sample
        for part in name.split("."):
            if not isinstance(at, dict) or part not in at:
                return False
            at = at[part]
        return True

    named = {name for document in DOCUMENTS for name in SETTING.findall(document.read_text())} - NOT_SETTINGS
    assert len(named) > 8
    assert [name for name in sorted(named) if not exists(name)] == []


@pytest.fixture(scope="module")
def appliance(work_dir):
    with Appliance(work_dir / "documents", local=True) as appliance:
        yield appliance


def at_home(text: str, appliance: Appliance) -> str:
    """An example with the addresses of this appliance."""
    return text.replace("http://127.0.0.1:8787", appliance.address).replace("tcp://127.0.0.1:8786", appliance.up["scheduler"])


def runs(argv: list[str], appliance: Appliance, **env: str) -> str:
    env = appliance.env | env
    done = subprocess.run(argv, env=env, cwd=appliance.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readmes_first_script_computes(appliance):
    script = at_home(only(blocks(ROOT / "README.md", "python"), "client.map"), appliance)
    script = script.replace("client.gather", "print(client.gather").rstrip() + ")\n"
    assert "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]" in runs([sys.executable, "-c", script], appliance)


def test_the_readmes_script_with_a_cluster_of_its_own_computes(appliance):
    script = only(blocks(ROOT / "README.md", "python"), "LocalCluster(")
    path = f"{ROOT / 'packaging/python'}:{appliance.env['PYTHONPATH']}"
    said = runs([sys.executable, "-W", "ignore", "-c", script], appliance, PYTHONPATH=path, RASK_BIN=rask_bin())
    assert said == "3\n"


def test_the_readmes_script_scales_the_running_cluster(appliance):
    script = only(blocks(ROOT / "README.md", "python"), "rask.connect") + CONNECTED
    path = f"{ROOT / 'packaging/python'}:{appliance.env['PYTHONPATH']}"
    env = {"PYTHONPATH": path, "RASK_BIN": rask_bin(), "RASK_STATE_DIR": str(appliance.state)}
    address = appliance.up["scheduler"]
    assert runs([sys.executable, "-c", script], appliance, **env) == f"{address} 2\nRunningCluster local\nNotThere\n"
    # The cluster has outlived the script.
    assert appliance.ask("GET", "/api/rask/v1/clusters/local").json()["status"] == "RUNNING"


CONNECTED = """
client.wait_for_workers(2, timeout=90)
assert client.submit(sum, [1, 2]).result(timeout=60) == 3
print(client.cluster.scheduler_address, len(client.scheduler_info()["workers"]))
cluster.adapt(minimum=1, maximum=2)
cluster.scale(1)
page = cluster._repr_html_()
assert cluster.dashboard_link in page
print(type(cluster).__name__, cluster.name)
cluster.close()

import asyncio

async def main():
    async with rask.connect(asynchronous=True) as cluster, rask.Client(cluster, asynchronous=True) as client:
        assert await client.submit(sum, [1, 2]) == 3
    try:
        await rask.connect("nowhere", asynchronous=True)
    except rask.NotThere as why:
        assert "nowhere" in str(why), why
        print("NotThere")

asyncio.run(main())
"""


def test_the_readmes_script_for_a_gateway_gets_a_cluster_that_computes(appliance):
    script = at_home(only(blocks(ROOT / "README.md", "python"), "Gateway("), appliance)
    script += "\nassert client.submit(sum, [1, 2]).result(timeout=90) == 3\ncluster.shutdown()\n"
    runs([sys.executable, "-c", script], appliance)


def test_the_readmes_calls_of_the_rest_api_do_what_they_say(appliance):
    script = at_home(only(blocks(ROOT / "README.md", "sh"), "curl"), appliance)
    # What goes on until somebody ends it is looked at for a moment.
    script = re.sub(r"^curl -N", "timeout 3 curl -N", script, flags=re.M)
    lines = [f"{line} || test $? = 124" if line.startswith("timeout") else line for line in
             (line.split("   #")[0] for line in script.splitlines())]
    script = "set -eu\n" + "\n".join(lines).replace("curl ", "curl -sS --fail-with-body ")
    said = runs(["bash", "-c", script], appliance)
    assert '"status":"RUNNING"' in said and '"name":"demo"' in said, said
    assert appliance.ask("GET", "/api/rask/v1/clusters/demo").json()["status"] in ("STOPPING", "STOPPED")


def test_the_three_ways_to_leave_out_the_address_lead_to_the_running_rask(appliance):
    script = appliance.folder / "script.py"
    script.write_text("from distributed import Client\nprint(Client(timeout=30).scheduler.address)\n")
    address, python = appliance.up["scheduler"], sys.executable
    rask = [rask_bin(), "--state-dir", str(appliance.state)]
    assert address in runs(["bash", "-c", f'eval "$({shlex.join([*rask, "env"])})"; {python} script.py'], appliance)
    assert address in runs([*rask, "run", "script.py"], appliance)
    settings = appliance.folder / "dask"
    settings.mkdir()
    said = runs([*rask, "configure"], appliance, DASK_CONFIG=str(settings))
    assert f"Client() now connects to {address}" in said
    assert address in runs([python, "script.py"], appliance, DASK_CONFIG=str(settings))
    runs([*rask, "configure", "--remove"], appliance, DASK_CONFIG=str(settings))
    assert list(settings.iterdir()) == []


def test_explain_says_what_the_readme_shows(appliance):
    script = (
        "from distributed import Client\n"
        f"client = Client({appliance.up['scheduler']!r}, timeout=30)\n"
        "future = client.submit(abs, 1, key='train-7', resources={'GPU': 1})\n"
        "import subprocess, time\n"
        "while client.story('train-7') == []: time.sleep(0.1)\n"
        f"print(subprocess.run([{rask_bin()!r}, 'explain', 'train-7', '--state-dir', {str(appliance.state)!r}], capture_output=True, text=True).stdout)\n"
    )
    said = runs([sys.executable, "-c", script], appliance)
    shown = only(blocks(ROOT / "README.md", "console"), "train-7").splitlines()[1:]
    # How many workers the local cluster has by now is other tests' business.
    told = re.sub(r"None of the \d+ workers", "None of the 2 workers", said)
    assert told.splitlines()[: len(shown)] == shown


def test_a_scheduler_and_workers_speak_tls_by_the_flags_of_the_guide(tmp_path):
    """Only that the flags are taken: what TLS does is tested in test_transports."""
    for line in command_lines(ROOT / "packaging/doc/tls.md"):
        if line.startswith(("rask scheduler", "rask worker")) and "--tls-cert" in line:
            argv = [rask_bin(), *shlex.split(line)[1:]]
            done = subprocess.run(argv, env=clean_env(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert done.returncode in (1, 2) and "pem" in done.stderr, done.stderr
            assert "unexpected argument" not in done.stderr, done.stderr
