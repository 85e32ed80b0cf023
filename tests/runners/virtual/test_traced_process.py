"""A program under the tracer starts, ends and is ended as an ordinary command is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hobbyhorse.runners.command import ClientTask, CommandError, Running, start
from hobbyhorse.runners.virtual.self_check import NoServer
from hobbyhorse.runners.virtual.timekeeper import Timekeeper
from tests.runners.virtual.conftest import RunProgram

TASK = ClientTask("http://127.0.0.1:1/hiapi", "key", {"a": 1}, "model")


@pytest.fixture
def keeper(tracer: Path) -> Timekeeper:
    return Timekeeper(NoServer(), tracer, 1e6, watched=60.0)


def shell(keeper: Timekeeper, script: str, limit: float = 30.0) -> Running:
    return start(["sh", "-c", script], TASK, limit, now=keeper.now, grace=0.2, launch=keeper.launch)


@pytest.mark.parametrize(
    ("script", "status", "kind"),
    [
        ("exit 0", 0, "success"),
        ("exit 3", 3, "failed"),
        ("kill -9 $$", -9, "failed"),
        ("echo timed out; exit 1", 1, "timeout"),
    ],
)
def test_the_exit_status_is_that_of_the_program(keeper: Timekeeper, script: str, status: int, kind: str) -> None:
    with keeper, shell(keeper, script) as running:
        done = running.wait()
    assert (done.exit_status, done.outcome.kind) == (status, kind)


def test_the_task_and_the_output_reach_the_program_and_the_runner(keeper: Timekeeper) -> None:
    with keeper, shell(keeper, "sleep 5; echo $HOBBYHORSE_MODEL $HOBBYHORSE_SPEED; echo oh >&2") as running:
        done = running.wait()
    assert (done.stdout, done.stderr) == ("model 1\n", "oh\n")


def test_the_end_is_the_virtual_time_of_the_program(keeper: Timekeeper) -> None:
    begun = keeper.now()
    with keeper, shell(keeper, "sleep 500") as running:
        assert running.wait().outcome.ended - begun == pytest.approx(500, abs=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["./no-such-program"], "the file does not exist; for a program in the current directory, write ./no-such"),
        (["no-such-program"], "no directory of PATH contains the program"),
        (["{folder}"], "it is not executable"),
        (["{folder}/script"], "the interpreter in its first line does not exist"),
        (["{folder}/plain"], "a script needs a first line such as #!/bin/sh"),
        (["sh", "-c", "a\0b"], "null byte"),
    ],
)
def test_a_program_that_cannot_be_started_is_an_error_with_the_reason(
    keeper: Timekeeper, words: list[str], message: str, tmp_path: Path
) -> None:
    for name, text in (("script", "#!/no/such/interpreter\n"), ("plain", "plain\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    argv = [word.format(folder=tmp_path) for word in words]
    with keeper, pytest.raises(CommandError) as error:
        start(argv, TASK, 5.0, now=keeper.now, launch=keeper.launch)
    if words != ["{folder}/script"]:
        assert message in str(error.value)


def test_a_program_that_ignores_sigterm_is_killed_at_its_limit(keeper: Timekeeper) -> None:
    with keeper, shell(keeper, "trap '' TERM; while :; do :; done", limit=0.5) as running:
        done = running.wait()
    assert done.outcome.kind == "unfinished"
    assert "it had not ended at its limit" in done.outcome.message


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_children_that_end_before_their_parent_goes_on_leave_nothing_to_wait_for(keeper: Timekeeper) -> None:
    # An end may be reported before the fork, the more often the more processes share the processors.
    script = "for i in 1 2 3 4; do (for j in $(seq 60); do /bin/true; done) & done; wait; sleep 5"
    with keeper, shell(keeper, script) as running:
        assert running.wait().exit_status == 0


def test_a_daemon_runs_on_for_a_while_and_is_ended(keeper: Timekeeper, tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = f"setsid sh -c 'echo $$ >{note}; while :; do sleep 7; date +%s >>{note}; done' >/dev/null 2>&1 & sleep 1"
    with keeper, shell(keeper, script) as running:
        assert running.wait().exit_status == 0
        assert running.leftovers()
        keeper.watch(running.pid)
        assert not running.leftovers()
    pid, *times = note.read_text().split()
    assert len(times) == 8  # of the 61 s from its start
    assert gone(int(pid))


def test_a_kill_ends_everything(keeper: Timekeeper, tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = f"setsid sh -c 'echo $$ >{note}; while :; do :; done' & while :; do :; done"
    with keeper, shell(keeper, script) as running:
        until = time.monotonic() + 10
        while not (note.is_file() and note.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.01)
        running.kill()
        done = running.wait()
    assert done.outcome.kind == "unfinished"
    assert done.outcome.message.startswith("it was killed")
    assert gone(int(note.read_text()))


def test_programs_die_with_the_process_that_runs_them(tracer: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from hobbyhorse.runners.virtual.self_check import NoServer\n"
        "from hobbyhorse.runners.virtual.timekeeper import Timekeeper\n"
        "keeper = Timekeeper(NoServer(), Path(sys.argv[1]), 1e6)\n"
        "process = keeper.launch(['/bin/sh', '-c', 'while :; do :; done'], {})\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", code, str(tracer)], stdout=subprocess.PIPE)
    assert runner.stdout is not None
    pid = int(runner.stdout.readline())
    assert alive(pid)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    runner.stdout.close()
    assert gone(pid)


def test_a_program_that_ends_at_once_is_a_run_like_any_other(keeper: Timekeeper) -> None:
    with keeper:
        for _ in range(40):
            with shell(keeper, "exit 4") as running:
                assert running.wait().exit_status == 4


def test_a_run_without_a_mark_kills_no_other_run(keeper: Timekeeper, run: RunProgram) -> None:
    with keeper, shell(keeper, "while :; do :; done") as running:
        assert run(["/bin/true"]).status == 0
        assert not running.ended
        assert alive(running.pid)


def test_runs_leave_no_file_open(keeper: Timekeeper) -> None:
    with keeper:
        with shell(keeper, "exit 0") as running:
            running.wait()
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with shell(keeper, "sleep 1") as running:
                running.wait()
        until = time.monotonic() + 5
        while set(os.listdir("/proc/self/fd")) - before and time.monotonic() < until:
            time.sleep(0.01)
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # that of the listing itself
