"""What comes from a cluster may hold control characters: no command passes them on to a terminal or a pipe."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from distributed import Client, wait

from appliance import Appliance
from harness import rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="commands of rask"),
]

# A title that a terminal would set, bells, the one-byte CSI, an overwritten line, and text that reads backwards.
EVIL = "\x1b]0;owned\x07 \x9b31m \rgone \u202edlrow\u2066 \x7f"
UNSAFE = [chr(c) for c in [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]]
UNSAFE = {c for c in UNSAFE if c not in "\n\t"}


def fail(text):
    print(text)
    raise ValueError(text)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """An appliance whose cluster holds such a key, error, log line and worker."""
    folder = tmp_path_factory.mktemp("evil")
    with Appliance(folder, local=True) as appliance, Client(appliance.up["scheduler"], timeout=60) as client:
        future = client.submit(fail, f"said {EVIL}", key=f"key{EVIL}")
        wait(future, timeout=60)
        assert future.status == "error"
        kept = client.submit(len, "abc", key=f"kept{EVIL}")
        wait(kept, timeout=60)
        client.run(print, f"printed {EVIL}", flush=True)
        yield appliance, future.key, kept


def rask(appliance, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([rask_bin(), *args], env=appliance.env, capture_output=True, timeout=120, cwd=appliance.folder)


def seen(answer) -> str:
    return (answer.stdout + answer.stderr).decode()


COMMANDS = [
    "explain KEY",
    "top --once",
    "status",
    "status --json",
    "logs",
    "cluster ls",
    "cluster ls --json",
    "cluster show local",
    "cluster show local --json",
    "cluster logs local",
    "cluster logs local --worker scheduler",
    "doctor",
    "doctor --json",
    "peers",
    "token ls",
    "certs",
    "env",
    "cluster show KEY",
    "explain --url http://127.0.0.1:1/KEY KEY",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_passes_control_characters_on(evil, line):
    appliance, key, _ = evil
    text = seen(rask(appliance, *[key if word == "KEY" else word.replace("KEY", EVIL) for word in line.split()]))
    assert text and {c for c in text if c in UNSAFE} == set()
    if line == "explain KEY":
        assert "key\\u001b]0;owned\\u0007 \\u009b31m \\rgone \\u202edlrow\\u2066 \\u007f is erred" in text
        assert "ValueError" in text, text


def test_control_characters_in_logs_are_seen_and_printed_raw_if_asked_for(evil):
    appliance, key, _ = evil
    lines = lambda *more: rask(appliance, "cluster", "logs", "local", *more).stdout.decode(errors="replace")
    wait_until(lambda: "printed \\u001b]0;owned" in lines(), "the line is in the log", 30)
    assert f"printed {EVIL}" in lines("--raw")
    assert f"key{EVIL} is erred" in rask(appliance, "explain", "--raw", key).stdout.decode()


def test_json_stays_the_same_json(evil):
    appliance, _, _ = evil
    shown = json.loads(rask(appliance, "cluster", "show", "local", "--json").stdout)
    assert shown["name"] == "local" and shown["status"] == "RUNNING"


@pytest.mark.parametrize("length", [59_000, 70_000, 100_000])
def test_a_key_of_any_length_is_no_reason_to_panic(evil, length):
    """70,000 characters do not fit a URL; 59,000 do, and are the key of no task."""
    appliance, _, _ = evil
    answer = rask(appliance, "explain", "x" * length)
    assert answer.returncode in (1, 2) and answer.stderr.startswith(b"rask: ") and b"panicked" not in answer.stderr
    assert length < 60_000 or b"cannot be asked for" in answer.stderr


def test_logs_of_the_appliance_are_shown_safely(evil):
    appliance, _, _ = evil
    log = appliance.state / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(f"one {EVIL}\n".encode() + b"two \x9b31m\xff\n")
    other = dict(appliance.env, RASK_STATE_DIR=str(appliance.folder / "elsewhere"))
    os.makedirs(appliance.folder / "elsewhere" / "logs", exist_ok=True)
    log.rename(appliance.folder / "elsewhere" / "logs" / "up.log")
    run = lambda *more: subprocess.run([rask_bin(), "logs", *more], env=other, capture_output=True, timeout=60).stdout
    assert run().decode().splitlines()[0].startswith("one \\u001b]0;owned\\u0007")
    assert not UNSAFE & set(run().decode())
    assert b"two \x9b31m\xff\n" in run("--raw")
