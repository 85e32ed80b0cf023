"""Commands under test: whatever a client does, its run ends, is reported correctly, and leaves no process behind."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.runners import command as commands
from hobbyhorse.runners.command import ClientTask, CommandError, Finished, Running, Target, environment, start, with_ids
from hobbyhorse.traces.trace import Outcome

if os.name != "posix":
    pytest.skip("commands are run on POSIX systems only", allow_module_level=True)

TASK = ClientTask(
    base_url="http://127.0.0.1:1/acme",
    api_key="sk-secret",
    request={"prompt": "a horse \N{HORSE}", "image": "http://127.0.0.1:1/a.png"},
    model="acme/one",
)
# A limit (real seconds) that no command reaches, however slow the machine is.
LONG = 60.0
# A limit that a test waits for: longer than a shell needs to start on a busy machine.
SHORT = 0.5
ENDED = 1_767_225_600.0
linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")


def begin(script: str, limit: float = LONG, task: ClientTask = TASK, **more: Any) -> Running:
    return start(["/bin/sh", "-c", script], task, limit, now=lambda: ENDED, grace=0.2, **more)


def run(script: str, limit: float = LONG, task: ClientTask = TASK) -> Finished:
    with begin(script, limit, task) as running:
        return running.wait()


def python(code: str, limit: float = LONG) -> Finished:
    with start([sys.executable, "-S", "-c", code], TASK, limit, now=lambda: ENDED, grace=0.2) as running:
        return running.wait()


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Return whether a condition becomes true within `seconds` of real time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def pid_in(path: Path) -> int:
    """Return the process id that a client has written into a file."""
    assert eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """The file into which a client writes the id of the process that it starts."""
    return tmp_path / "pid"


def test_a_command_gets_its_task_in_the_environment() -> None:
    printed = run('env; echo "request=$(cat "$HOBBYHORSE_REQUEST")"').stdout
    assert "HOBBYHORSE_BASE_URL=http://127.0.0.1:1/acme\n" in printed
    assert "HOBBYHORSE_MODEL=acme/one\n" in printed
    assert "HOBBYHORSE_SPEED=1\n" in printed
    assert "HOBBYHORSE_CALLBACK" not in printed
    assert json.loads(printed.partition("request=")[2]) == TASK.request


def test_a_command_gets_the_url_and_secret_of_its_callbacks(tmp_path: Path) -> None:
    task = ClientTask("http://x", "k", {}, "m", "http://127.0.0.1:9/", "whsec", speed=2.5)
    variables = environment(task, tmp_path)
    assert variables["HOBBYHORSE_CALLBACK_URL"] == "http://127.0.0.1:9/"
    assert variables["HOBBYHORSE_CALLBACK_SECRET"] == "whsec"
    assert variables["HOBBYHORSE_SPEED"] == "2.5"


def test_a_command_gets_the_variables_of_its_task_before_those_of_its_surroundings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://elsewhere")
    monkeypatch.setenv("NO_PROXY", "*")
    variables = {"https_proxy": "http://127.0.0.1:8888", "NO_PROXY": "localhost"}
    printed = run('echo "$https_proxy $NO_PROXY"', task=replace(TASK, variables=variables)).stdout
    assert printed == "http://127.0.0.1:8888 localhost\n"


def test_a_command_of_two_providers_gets_each_variable_twice_and_the_plain_ones_of_the_first(tmp_path: Path) -> None:
    first = Target("a", "http://x/a", "key-a", {"n": 1}, "m", "http://127.0.0.1:9/", "whsec-a")
    second = Target("b", "http://x/b", "key-b", {"n": 2}, "n")
    task = ClientTask("http://x/a", "key-a", {"n": 1}, "m", "http://127.0.0.1:9/", "whsec-a", targets=(first, second))
    variables = environment(task, tmp_path)
    for suffix, one in (("_A", first), ("_B", second)):
        assert variables[f"HOBBYHORSE_BASE_URL{suffix}"] == one.base_url
        assert variables[f"HOBBYHORSE_API_KEY{suffix}"] == one.api_key
        assert variables[f"HOBBYHORSE_MODEL{suffix}"] == one.model
        assert variables.get(f"HOBBYHORSE_CALLBACK_URL{suffix}") == one.callback_url
        assert variables.get(f"HOBBYHORSE_CALLBACK_SECRET{suffix}") == one.callback_secret
        assert json.loads(Path(variables[f"HOBBYHORSE_REQUEST{suffix}"]).read_text()) == one.request
    for name in ("BASE_URL", "API_KEY", "MODEL", "CALLBACK_URL", "CALLBACK_SECRET"):
        assert variables[f"HOBBYHORSE_{name}"] == variables[f"HOBBYHORSE_{name}_A"]
    assert json.loads(Path(variables["HOBBYHORSE_REQUEST"]).read_text()) == first.request
    finished = run('echo "$HOBBYHORSE_API_KEY_A $HOBBYHORSE_API_KEY_B $HOBBYHORSE_CALLBACK_SECRET_A"', task=task)
    assert finished.stdout == "[key] [key] [redacted]\n"


def test_variables_of_an_outer_run_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOBBYHORSE_CALLBACK_SECRET", "whsec-9")
    assert "whsec-9" not in run("env").stdout


def test_a_command_uses_no_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.com")
    assert "no_proxy=example.com,127.0.0.1,localhost" in run("env").stdout


def test_a_command_that_saves_a_video_has_succeeded() -> None:
    finished = run('printf horse > "$HOBBYHORSE_OUTPUT"')
    digest = hashlib.sha256(b"horse").hexdigest()
    assert finished.outcome == Outcome("success", ENDED, sha256=digest, size=5, shows_key=False)
    assert finished.exit_status == 0


def test_a_command_that_reports_nothing_and_saves_nothing_has_no_video() -> None:
    outcome = run("exit 0").outcome
    assert (outcome.kind, outcome.sha256, outcome.size, outcome.by_reference) == ("success", None, None, False)


@pytest.mark.parametrize(
    "make", [': > "$HOBBYHORSE_OUTPUT"', 'mkdir "$HOBBYHORSE_OUTPUT"', 'ln -s /dev/zero "$HOBBYHORSE_OUTPUT"']
)
def test_only_a_file_that_is_not_empty_is_a_video(make: str) -> None:
    assert run(make).outcome.size is None


def test_a_named_pipe_instead_of_a_video_does_not_block() -> None:
    assert run('mkfifo "$HOBBYHORSE_OUTPUT"').outcome.size is None


def test_a_command_may_report_a_url_instead_of_saving_a_video() -> None:
    outcome = run("""echo '{"class": "success", "url": "http://127.0.0.1:1/v.mp4"}'""").outcome
    assert (outcome.kind, outcome.by_reference, outcome.told) == ("success", True, True)


def test_the_last_line_of_the_output_reports_the_outcome() -> None:
    line = json.dumps({"job": "job_7", "class": "timeout", "id_exposed": True, "sha256": None, "more": [1]})
    outcome = run(f"echo working; echo '{line}'; exit 3").outcome
    assert (outcome.kind, outcome.told, outcome.job, outcome.id_exposed) == ("timeout", True, "job_7", True)


def test_a_reported_outcome_counts_more_than_the_exit_status() -> None:
    outcome = run("""echo '{"class": "failed"}'""").outcome
    assert (outcome.kind, outcome.told) == ("failed", True)
    assert outcome.message == "it reports failed, but its exit status is 0"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"class": "success"', "is ignored: unexpected end of data"),
        ('{"class": "splendid"}', "class is 'splendid'; allowed: success, failed, timeout, error"),
        ('{"class": "unfinished"}', "class is 'unfinished'"),
        ('{"class": ["success"]}', "class is ['success']"),
        ('{"class": null}', "class is None"),
        ('{"job": "j"}', "it has no class"),
        ("{" * 3000, "is ignored"),
    ],
)
def test_a_malformed_outcome_line_is_ignored_and_mentioned(line: str, message: str) -> None:
    outcome = run(f"echo '{line}'; exit 1").outcome
    assert (outcome.kind, outcome.told) == ("failed", False)
    assert message in outcome.message


def test_a_malformed_field_of_the_outcome_line_is_ignored_and_mentioned() -> None:
    outcome = run("""echo '{"class": "error", "job": 5}'; exit 1""").outcome
    assert (outcome.kind, outcome.job) == ("error", None)
    assert "job in the last line of its output is ignored: got 5" in outcome.message


NODE = """file:///client.mjs:1
throw new Error("no such model");
      ^

Error: no such model
    at file:///client.mjs:1:7
    at node:internal/main:1:1 {
  code: 'E'
}

Node.js v20.20.2
"""
JAVA = "Exception in thread main: no such model\n\tat client.Main.main(Main.java:3)\n"


@pytest.mark.parametrize("printed", ["working\nno such model\n", JAVA, NODE.replace(" {\n  code: 'E'\n}", ""), NODE])
def test_a_failure_is_reported_with_the_line_that_names_the_error(tmp_path: Path, printed: str) -> None:
    (tmp_path / "printed").write_text(printed)
    outcome = run(f"cat '{tmp_path / 'printed'}' >&2; exit 1").outcome
    assert "no such model" in outcome.message


def test_an_ordinary_last_line_is_not_an_outcome() -> None:
    assert run("echo done").outcome == Outcome("success", ENDED, shows_key=False)


@pytest.mark.parametrize("words", ["Timed out after 300 s", "ReadTimeout", "Deadline exceeded", "job is still running"])
def test_a_command_that_fails_with_words_of_a_time_out_has_timed_out(words: str) -> None:
    assert run(f"echo '{words}' >&2; exit 1").outcome.kind == "timeout"


def test_a_command_that_fails_with_other_words_has_failed() -> None:
    outcome = run("echo 'the job failed' >&2; exit 4").outcome
    assert (outcome.kind, outcome.told) == ("failed", False)
    assert outcome.message == "exit status 4; the job failed"


def test_a_video_saved_without_success_is_recorded() -> None:
    outcome = run('printf horse > "$HOBBYHORSE_OUTPUT"; exit 1').outcome
    assert (outcome.kind, outcome.kept, outcome.sha256) == ("failed", True, None)
    assert not run("exit 1").outcome.kept


def test_a_command_that_crashes_has_failed() -> None:
    finished = run("kill -SEGV $$")
    assert (finished.outcome.kind, finished.exit_status) == ("failed", -11)
    assert "SIGSEGV" in finished.outcome.message


def test_a_command_that_hangs_is_ended_at_its_limit() -> None:
    finished = run("sleep 600", limit=SHORT)
    assert finished.outcome.kind == "unfinished"
    assert "limit of 0.5 s" in finished.outcome.message


def test_a_command_that_ignores_sigterm_is_killed() -> None:
    finished = run("trap '' TERM; while :; do sleep 0.05; done", limit=SHORT)
    assert (finished.outcome.kind, finished.exit_status) == ("unfinished", -9)


def test_a_command_that_succeeds_after_sigterm_is_unfinished() -> None:
    finished = run("""trap 'echo "{\\"class\\": \\"success\\"}"; exit 0' TERM; while :; do sleep 0.05; done""", SHORT)
    assert (finished.outcome.kind, finished.outcome.told, finished.exit_status) == ("unfinished", False, 0)
    assert '"success"' in finished.stdout


def test_a_stopped_command_is_ended() -> None:
    assert run("kill -STOP $$", limit=SHORT).outcome.kind == "unfinished"


def test_a_grandchild_that_holds_the_output_open_does_not_delay_the_outcome(note: Path) -> None:
    with begin(f"sleep 600 & echo $! > {note}; echo done; exit 0") as running:
        assert running.wait().stdout == "done\n"
        assert running.leftovers()
        assert alive(pid_in(note))
    assert eventually(lambda: not alive(pid_in(note)))


def test_a_command_that_leaves_nothing_running_has_no_leftovers() -> None:
    with begin("true") as running:
        running.wait()
        assert not running.leftovers()


def test_a_grandchild_that_never_stops_printing_does_not_delay_the_outcome() -> None:
    with begin("yes & exit 0") as running:
        assert running.wait().exit_status == 0
        assert running.leftovers()


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open({note!r}, "w").write(str(os.getpid()) + "\\n")
        time.sleep(600)
    os._exit(0)
while not os.path.exists({note!r}):
    time.sleep(0.01)
{then}
"""


@linux
def test_a_daemon_that_has_left_the_group_is_found_and_ended(note: Path) -> None:
    code = DAEMON.format(note=str(note), then="")
    with start([sys.executable, "-S", "-c", code], TASK, LONG, now=lambda: ENDED) as running:
        assert running.wait().exit_status == 0
        assert running.leftovers()
    assert eventually(lambda: not alive(pid_in(note)))


@linux
@pytest.mark.parametrize("killed", [True, False])
def test_a_daemon_is_ended_with_its_command(killed: bool, note: Path) -> None:
    """On a busy machine, the limit may end the command first: then it starts no daemon."""
    code, limit = DAEMON.format(note=str(note), then="time.sleep(600)"), LONG if killed else SHORT
    with start([sys.executable, "-S", "-c", code], TASK, limit, now=lambda: ENDED, grace=0.2) as running:
        if killed:
            pid_in(note)
            running.kill()
        assert running.wait().outcome.kind == "unfinished"
        assert not note.exists() or eventually(lambda: not alive(pid_in(note)))


@linux
def test_a_process_without_the_mark_is_found_by_its_session(note: Path) -> None:
    with begin(f"env -i sleep 600 & echo $! > {note}; sleep 0.05") as running:
        running.wait()
        assert running.leftovers()
    assert eventually(lambda: not alive(pid_in(note)))


def test_the_whole_group_is_killed(note: Path) -> None:
    with begin(f"sleep 600 & echo $! > {note}; wait") as running:
        child = pid_in(note)
        running.kill()
        finished = running.wait()
        assert (finished.outcome.kind, finished.exit_status) == ("unfinished", -9)
        assert "it was killed" in finished.outcome.message
        assert eventually(lambda: not alive(child))


def test_a_command_that_had_ended_before_it_was_killed_is_not_unfinished() -> None:
    with begin("exit 0") as running:
        running.wait()
        running.kill()
        assert running.wait().outcome.kind == "success"


def test_a_command_is_not_killed_after_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with begin("exit 0") as running:
        running.wait()
    signals: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: signals.append(number))
    running.kill()  # the system may have given the id of its group to another one
    assert signals == []


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_end_of_a_flood_without_a_newline_is_kept(stream: str) -> None:
    finished = python(f"import sys; sys.{stream}.write('x' * 3_000_000 + 'end')")
    kept = getattr(finished, stream)
    assert kept.endswith("xend")
    assert len(kept) == commands.KEPT_OUTPUT_BYTES
    assert finished.exit_status == 0


def test_an_endless_flood_is_ended_at_the_limit() -> None:
    assert run("yes", limit=SHORT).outcome.kind == "unfinished"


def test_an_outcome_after_a_flood_is_read() -> None:
    code = """print('x' * 2_000_000); print('{"class": "failed", "job": "j1"}'); raise SystemExit(1)"""
    assert python(code).outcome.job == "j1"


def test_a_command_that_closes_its_output_early_runs_on() -> None:
    finished = run('exec >&- 2>&-; sleep 0.1; printf horse > "$HOBBYHORSE_OUTPUT"')
    assert finished.outcome.size == 5


def test_a_command_that_closes_its_output_and_hangs_is_ended() -> None:
    assert run("exec >&- 2>&-; sleep 600", limit=SHORT).outcome.kind == "unfinished"


def test_the_standard_input_of_a_command_is_empty() -> None:
    assert run("cat; echo read").stdout == "read\n"


def test_output_that_is_not_text_is_shown_without_control_characters() -> None:
    finished = run(r"printf '\377\000\033[1m' >&2; exit 1")
    assert finished.outcome.message == "exit status 1; �  [1m"


def test_the_output_of_a_command_contains_no_secret() -> None:
    task = ClientTask("http://x", "sk-secret", {}, "m", callback_secret="whsec-1")
    finished = run('echo "$HOBBYHORSE_API_KEY $HOBBYHORSE_CALLBACK_SECRET" | tee /dev/stderr; exit 1', task=task)
    assert finished.stdout == finished.stderr == "[key] [redacted]\n"
    assert "secret" not in finished.outcome.message
    assert finished.outcome.shows_key
    assert python("print('sk')").outcome.shows_key is False


def test_the_kept_output_does_not_begin_with_half_a_secret() -> None:
    printed = python(f"print('{TASK.api_key}' + 'x' * ({commands.KEPT_OUTPUT_BYTES} - 4))").stdout
    assert len(printed) == commands.KEPT_OUTPUT_BYTES
    assert "cret" not in printed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["./no-such-client"], "the file does not exist"),
        (["no-such-client"], "no directory of PATH contains the program"),
        ([], "the command is empty"),
        (["/bin/sh", "-c", "\0"], "null byte"),
        (["{folder}/plain"], "is not executable; try chmod"),
        (["{folder}/orphan"], "the interpreter in its first line does not exist"),
        (["{folder}/shapeless"], "a script needs a first line"),
        (["{folder}"], "is not executable"),
    ],
)
def test_the_error_of_a_command_that_cannot_be_started_gives_the_reason(
    argv: list[str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for name, text in (("orphan", "#!/no/such/interpreter\n"), ("shapeless", "echo horse\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(CommandError, match=words):
        start([part.format(folder=tmp_path) for part in argv], TASK, LONG, now=lambda: ENDED)


def test_a_command_that_cannot_be_started_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CommandError):
        start(["./no-such-client"], TASK, LONG, now=lambda: ENDED)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_run_is_private_and_removed_with_it() -> None:
    with begin("exit 0") as running:
        running.wait()
        assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700
    assert not running.folder.exists()


def test_a_given_folder_stays_for_the_next_run(tmp_path: Path) -> None:
    with begin('echo job > "$(dirname "$HOBBYHORSE_OUTPUT")/state"; sleep 600', folder=tmp_path) as first:
        # The shell makes the file before it writes to it.
        assert eventually(lambda: (tmp_path / "state").exists() and bool((tmp_path / "state").read_text()))
        first.kill()
    with begin('cat "$(dirname "$HOBBYHORSE_OUTPUT")/state"', folder=tmp_path) as second:
        assert second.wait().stdout == "job\n"


def test_a_run_can_be_closed_twice_and_before_its_end() -> None:
    running = begin("sleep 600")
    running.close()
    running.close()
    assert running.wait().outcome.kind == "unfinished"
    assert not running.leftovers()


def test_the_ids_of_jobs_are_searched_in_the_output() -> None:
    finished = run("echo 'gave up on job_7' >&2; exit 1")
    outcome = with_ids(finished, ["job_6", "job_7"])
    assert (outcome.job, outcome.id_exposed) == ("job_7", True)
    assert with_ids(finished, ["job_77"]).id_exposed is False
    assert with_ids(finished, ["job"]).id_exposed is False
    assert with_ids(finished, []) == finished.outcome


def test_a_reported_job_and_its_exposure_stay() -> None:
    finished = run("""echo '{"class": "failed", "job": "a", "id_exposed": false}'; exit 1""")
    outcome = with_ids(finished, ["a"])
    assert (outcome.job, outcome.id_exposed) == ("a", False)


def test_many_commands_run_concurrently_without_mixing_their_outcomes() -> None:
    def one(number: int) -> str:
        return run(f'echo {number}; printf {number} > "$HOBBYHORSE_OUTPUT"').outcome.sha256 or ""

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(64)))
    assert found == [hashlib.sha256(str(number).encode()).hexdigest() for number in range(64)]


@linux
def test_runs_leave_no_file_open() -> None:
    run("true")
    before = len(os.listdir("/proc/self/fd"))
    for script in ("true", "yes & exit 0", "exit 1"):
        run(script)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("missing", [["pidfd_open"], ["pidfd_open", "waitid"]])
def test_a_system_without_the_newer_calls_is_supported(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in missing:
        monkeypatch.delattr(os, name, raising=False)
    assert run('printf horse > "$HOBBYHORSE_OUTPUT"').outcome.size == 5
    assert run("exec >&- 2>&-; exit 7").exit_status == 7
    assert run("sleep 600", limit=SHORT).outcome.kind == "unfinished"
    assert run("kill -KILL $$").exit_status == -9
