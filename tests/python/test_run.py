"""`rask run` with a cluster of its own: exit codes as a shell gives them, and nothing left behind, however it ends."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from harness import STOP_S, Proc, clean_env, rask_bin, scheduler_kind, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own command"),
]

SCRIPT = """
import os, sys, time
from distributed import Client

if __name__ == "__main__":
    print("result", Client().submit(sum, [1, 2]).result(), sys.argv[2:], flush=True)
    match sys.argv[1]:
        case "raise":
            raise ValueError("on purpose")
        case "wait":
            time.sleep(600)
        case "kill":
            os.kill(os.getpid(), 9)
        case code:
            sys.exit(int(code))
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    env = clean_env(tmp_path, RASK_STATE_DIR=tmp_path / "state", HOME=tmp_path)
    started = []

    def start(*args: str) -> Proc:
        line = [rask_bin(), "run", "--nworkers", "1", "--nthreads", "1", "script.py", *args]
        started.append(Proc("rask-run", line, env, tmp_path))
        return started[-1]

    yield start
    for proc in started:
        proc.stop()


def after_result(proc: Proc) -> list[psutil.Process]:
    """The family, once the script has computed."""
    wait_until(lambda: "result 3" in proc.output() or not proc.alive(), "the script computes", 90)
    return proc.children()


def nothing_left(proc: Proc, family, tmp_path):
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == [], proc.output()
    assert [p.name for p in (tmp_path / "state").rglob("*") if p.is_socket() or p.suffix == ".lock"] == []


@pytest.mark.parametrize("how, code", [("0", 0), ("7", 7), ("raise", 1), ("kill", 128 + signal.SIGKILL)])
def test_the_exit_code_is_the_scripts(start, tmp_path, how, code):
    proc = start(how, "--flag", "-x")
    family = after_result(proc)
    assert proc.wait(60) == code, proc.output()
    assert "result 3 ['--flag', '-x']" in proc.output()
    nothing_left(proc, family, tmp_path)


def test_sigterm_reaches_the_script_and_then_all_ends(start, tmp_path):
    proc = start("wait")
    family = after_result(proc)
    t0 = time.monotonic()
    proc.popen.terminate()
    assert proc.wait(20) == 128 + signal.SIGTERM, proc.output()
    assert time.monotonic() - t0 < 11
    nothing_left(proc, family, tmp_path)


def test_sigkill_leaves_no_process(start):
    proc = start("wait")
    family = after_result(proc)
    assert len(family) >= 4  # the script, the scheduler, the group and a worker at least
    proc.kill()
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
