"""`rask doctor` and what a person does around a cluster: findings are made to happen, files are looked at."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import clean_env, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own commands"),
]


@pytest.fixture
def home(tmp_path):
    """A folder that is somebody's home."""
    return Home(tmp_path)


class Home:
    def __init__(self, path: Path):
        self.path = path
        self.state = path / "state"
        # Ports of the machine that runs the tests are not the tests' business.
        self.env = clean_env(path, RASK_STATE_DIR=self.state, HOME=path, RASK_UP__PORT=0, RASK_UP__SCHEDULER_PORT=0)
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            self.env.pop(name, None)
            self.env.pop(name.upper(), None)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess:
        env = self.env | {key: str(value) for key, value in env.items()}
        return subprocess.run([rask_bin(), *args], env=env, cwd=self.path, capture_output=True, text=True, timeout=60)

    def doctor(self, *args: str, **env: str) -> tuple[int, list[dict]]:
        """Exit code and what is worse than a note."""
        done = self.run("doctor", "--json", *args, **env)
        told = json.loads(done.stdout)
        assert told["worst"] in [finding["severity"] for finding in told["findings"]]
        return done.returncode, [f for f in told["findings"] if f["severity"] in ("warning", "problem")]


def one(findings: list[dict], area: str) -> dict:
    found = [finding for finding in findings if finding["area"] == area]
    assert len(found) == 1, findings
    assert found[0]["remedy"], found
    return found[0]


def test_a_sound_machine_has_no_problem_and_every_check_speaks(home):
    done = home.run("doctor")
    assert done.returncode == 0, done.stdout
    for area in ("settings", "appliance", "python", "ports", "proxy", "cores", "memory", "limits", "clock", "state", "disk"):
        assert f" {area} " in done.stdout, done.stdout
    assert sys.version.split()[0] in done.stdout


def test_a_busy_port_is_a_problem_and_names_who_has_it(home):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, findings = home.doctor(RASK_UP__PORT=port)
    found = one(findings, "ports")
    assert (code, found["severity"]) == (1, "problem")
    assert str(port) in found["what"] and f"process {os.getpid()}" in found["what"]
    assert "--port" in found["remedy"]


def test_a_proxy_that_catches_local_requests_is_a_warning_until_it_is_exempt(home):
    code, findings = home.doctor(http_proxy="http://proxy.invalid:3128")
    assert code == 0
    assert "no_proxy" in one(findings, "proxy")["remedy"]
    _, findings = home.doctor(http_proxy="http://proxy.invalid:3128", no_proxy="localhost,127.0.0.1")
    assert [finding for finding in findings if finding["area"] == "proxy"] == []


def test_a_state_folder_that_cannot_be_is_a_problem(home):
    (home.path / "file").write_text("")
    code, findings = home.doctor("--state-dir", str(home.path / "file" / "state"))
    assert (code, one(findings, "state")["severity"]) == (1, "problem")
    assert "--state-dir" in one(findings, "state")["remedy"]


def test_a_state_folder_open_to_others_is_a_warning(home):
    home.state.mkdir(mode=0o700)
    assert one_or_none(home.doctor()[1], "state") is None
    home.state.chmod(0o755)
    assert "chmod 700" in one(home.doctor()[1], "state")["remedy"]


def one_or_none(findings: list[dict], area: str):
    return next((finding for finding in findings if finding["area"] == area), None)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no file system in memory here")
def test_a_state_folder_in_memory_is_a_warning(home):
    _, findings = home.doctor("--state-dir", "/dev/shm/rask-doctor-test")
    assert any("in memory" in finding["what"] for finding in findings if finding["area"] == "disk"), findings
    assert not os.path.exists("/dev/shm/rask-doctor-test")


def test_a_python_without_distributed_is_a_problem_if_it_was_asked_for(home):
    code, findings = home.doctor("--python", "/bin/true")
    assert (code, one(findings, "python")["severity"]) == (1, "problem")


def test_a_damaged_and_a_newer_database_are_problems_with_a_way_out(home):
    home.state.mkdir(mode=0o700)
    database = home.state / "rask.db"
    database.write_bytes(b"no database" * 1000)
    code, findings = home.doctor()
    assert (code, "damaged" in one(findings, "database")["what"]) == (1, True), findings
    database.unlink()
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 999")
    code, findings = home.doctor()
    found = one(findings, "database")
    assert (code, "newer" in found["what"]) == (1, True), findings
    assert "newer version again" in found["remedy"]


def test_the_state_of_a_newer_rask_is_refused_and_left_as_it_is(home):
    home.state.mkdir(mode=0o700)
    with sqlite3.connect(home.state / "rask.db") as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA user_version = 999")
    db.close()
    before = (home.state / "rask.db").read_bytes()
    done = home.run("up", "--no-local-cluster")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert "newer rask" in done.stderr and "newer version again" in done.stderr, done.stderr
    assert (home.state / "rask.db").read_bytes() == before
    assert home.run("status").returncode == 1


def test_certificates_are_looked_at(home):
    (home.state / "ca").mkdir(parents=True, mode=0o700)
    home.state.chmod(0o700)
    (home.state / "ca/ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    code, findings = home.doctor()
    assert (code, "no certificate" in one(findings, "tls")["what"]) == (1, True), findings


def test_settings_that_cannot_be_read_are_a_problem_and_the_rest_is_looked_at_all_the_same(home):
    bad = home.path / "bad.toml"
    bad.write_text("[up]\nprot = 1\n")
    code, findings = home.doctor("--config", str(bad))
    assert code == 1
    assert "up.prot" in one(findings, "settings")["what"]


def test_a_variable_that_sends_clients_elsewhere_is_a_warning(home):
    _, findings = home.doctor(DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:1")
    assert "DASK_SCHEDULER_ADDRESS" in one(findings, "clients")["what"]


def test_open_starts_one_in_the_background_and_opens_the_browser_and_down_ends_it(home):
    # A browser that writes down what it was asked to open.
    tools = home.path / "tools"
    tools.mkdir()
    opened = home.path / "opened"
    (tools / "xdg-open").write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    (tools / "xdg-open").chmod(0o755)
    home.env |= {"PATH": f"{tools}:{home.env['PATH']}", "RASK_WORKERS__NWORKERS": "1", "RASK_WORKERS__NTHREADS": "1"}
    try:
        first = home.run("open")
        assert first.returncode == 0, first.stderr
        url = first.stdout.split()[1]
        second = home.run("open")
        assert second.stdout.split()[1] == url
        wait_until(lambda: opened.exists() and opened.read_text().split() == [url, url], "two times the same page")
        status = json.loads(home.run("status", "--json").stdout)
        assert status["running"]["http"] == url
        logs = home.run("logs")
        assert (logs.returncode, url in logs.stdout) == (0, True), logs.stdout + logs.stderr
        code, findings = home.doctor()
        assert (code, [f for f in findings if f["area"] in ("appliance", "ports")]) == (0, []), findings
        with urllib.request.urlopen(f"{url}/api/rask/v1/doctor", timeout=30) as answer:
            told = json.load(answer)
        assert {f["area"] for f in told["findings"]} >= {"appliance", "python", "ports", "database", "tls"}, told
        refused = home.run("uninstall", "--yes")
        assert refused.returncode == 1 and "rask down" in refused.stderr
    finally:
        down = home.run("down")
    assert down.returncode == 0 and "Stopped rask" in down.stdout, down.stdout + down.stderr
    assert home.run("status").returncode == 1
    assert "Nothing runs" in home.run("down").stdout
    # The log of the last one can still be read.
    assert url in home.run("logs").stdout


def test_a_start_in_the_background_that_fails_says_why(home):
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = home.run("up", "--background", "--no-local-cluster", "--port", str(server.getsockname()[1]))
    assert done.returncode == 1
    assert "in use" in done.stderr, done.stderr


def test_uninstall_lists_asks_and_removes_what_is_ours(home):
    ours = {home.state / "rask.db", home.path / ".config/rask/rask.toml", home.path / ".config/dask/rask.yaml"}
    theirs = home.path / ".config/dask/mine.yaml"
    for path in [*ours, theirs]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (home.path / ".config/dask/rask.yaml").write_text("# Written by `rask configure`\n")
    env = {"XDG_CONFIG_HOME": home.path / ".config", "DASK_CONFIG": home.path / ".config/dask"}
    unasked = home.run("uninstall", **env)
    assert unasked.returncode == 2 and "--yes" in unasked.stderr
    assert all(path.exists() for path in ours)
    assert all(str(path.parent if path.name != "rask.yaml" else path) in unasked.stdout for path in ours), unasked.stdout
    done = home.run("uninstall", "--yes", **env)
    assert done.returncode == 0, done.stderr
    assert [path for path in ours if path.exists()] == []
    assert theirs.exists()
    assert "Nothing to remove" in home.run("uninstall", "--yes", **env).stdout
