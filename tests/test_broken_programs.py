"""Broken clients in JavaScript and shell, in virtual time: each is caught, and its case does not accuse the original.

Each has one bug in an example client. Several of them need minutes of waiting: deadlines, long waits that a provider
asks for, and responses that never come.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import AHEAD, ONCE, Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import STUCK_JOB
from hobbyhorse.conformance.judge import check
from hobbyhorse.runners.against_fake import FakeSession
from hobbyhorse.runners.virtual.command_runner import VirtualCommandRunner
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import CONTRACTS, ROOT
from tests.runners.virtual.conftest import tracer
from tests.test_reference_clients import OTHERS

__all__ = ["tracer"]

JAVASCRIPT, SHELL = "javascript/hiapi.mjs", "bash/vtrix.sh"
# Real seconds for a run on a busy machine.
LIMIT = 120.0
# Seconds for which the examples wait for a job.
PATIENCE = 600.0
ALWAYS: dict[str, Any] = {"times": "always"}


@dataclass(frozen=True, slots=True)
class BrokenProgram:
    """A client with one bug: the rule that it breaks, the changed text, and the case that shows it."""

    client: str
    rule: str
    bug: str
    old: str
    new: str
    case: Case = field(default_factory=Case)

    def __str__(self) -> str:
        return f"{self.rule}-{Path(self.client).suffix[1:]}-{self.bug}"


def moved(role: str, move: str, **options: Any) -> Case:
    """Return a case with one fault."""
    return Case({"moves": {role: [{"move": move, **options}]}})


# Without a deadline they poll every two minutes: this shows the same, in fewer requests.
PROGRAMS = (
    BrokenProgram(
        JAVASCRIPT,
        "TMO-01",
        "no deadline",
        "const left = deadline - now();",
        "interval = 110; const left = 1e9;",
        STUCK_JOB,
    ),
    BrokenProgram(
        JAVASCRIPT,
        "RTY-01",
        "a pause of a minute at most",
        "Math.max(response.again * 1.02, LEAST_INTERVAL)",
        "Math.max(Math.min(response.again, 60), LEAST_INTERVAL)",
        moved("status", "rate_limited", retry_after=90),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "RTY-06",
        "failed polls extend the deadline",
        "failures[kind] = (failures[kind] ?? 0) + 1;",
        "[deadline, failures[kind]] = [now() + LONGEST_WAIT, 0];",
        moved("status", "timeout", **ALWAYS),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "RTY-01",
        "a date is not read",
        "(date() - Date.now()) / 1000;",
        "NaN;",
        moved("status", "rate_limited", retry_after_date=90),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "SUB-02",
        "each attempt has a key of its own",
        'send("POST", `${note.base_url}/v1/tasks`, order)',
        'send("POST", `${note.base_url}/v1/tasks`, '
        '{ ...order, headers: { ...order.headers, "Idempotency-Key": randomUUID() } })',
        moved("submit", "accept_then_drop"),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "RES-06",
        "every file is a video",
        "if (response.status === 200 && isMp4(response.body))",
        "if (response.status === 200)",
        moved("media", "html_page", **ALWAYS),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "TMO-05",
        "a download may take five seconds",
        'send("GET", url, {}, 300)',
        'send("GET", url, {}, 5)',
        moved("media", "slow_body", seconds=8, pieces=16, **ALWAYS),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "CLK-01",
        "the deadline is on the wall clock",
        "(performance.now() / 1000) * SPEED",
        "(Date.now() / 1000) * SPEED",
        Case({}, AHEAD),
    ),
    BrokenProgram(
        JAVASCRIPT,
        "POL-07",
        "ten polls a second",
        "await sleep(((wait < left - LEAST_INTERVAL ? wait : left) / SPEED) * 1000);",
        "await sleep(100);",
    ),
    BrokenProgram(
        JAVASCRIPT,
        "RTY-10",
        "the second failed poll ends the wait",
        "troubled: 8 }",
        "troubled: 1 }",
        moved("status", "server_error", times=3),
    ),
    BrokenProgram(
        SHELL,
        "TMO-01",
        "no deadline",
        "left=$(($2 - $(now)))",
        'set -- $((110 * second)) "$2"; left=$((100000 * second))',
        STUCK_JOB,
    ),
    BrokenProgram(
        SHELL,
        "RTY-01",
        "a pause of a minute at most",
        "wait=$((again + again / 50))",
        "wait=$((again < 60 * second ? again : 60 * second))",
        moved("status", "rate_limited", retry_after=90),
    ),
    BrokenProgram(
        SHELL,
        "RTY-01",
        "a date is not read",
        'again=$(date -u -d "$again" +%s 2>/dev/null) &&',
        "false &&",
        moved("status", "rate_limited", retry_after_date=90),
    ),
    BrokenProgram(SHELL, "TMO-04", "no time limit", ' --max-time "$within"', "", moved("status", "timeout", **ALWAYS)),
    BrokenProgram(
        SHELL,
        "SUB-01",
        "a lost response is taken for a refusal",
        "if ((status == -1 || status == 429))",
        "if ((status <= 0 || status == 429))",
        moved("submit", "accept_then_drop"),
    ),
    BrokenProgram(
        SHELL,
        "SEC-01",
        "the key goes to the host of the file",
        'send 300 GET "$url"',
        'send_with_key GET "$url"',
    ),
    BrokenProgram(
        SHELL,
        "RES-06",
        "every file is a video",
        'if ((status == 200)) && is_mp4 "$scratch/body"; then',
        "if ((status == 200)); then",
        moved("media", "all_zeros", **ALWAYS),
    ),
    BrokenProgram(
        SHELL,
        "TMO-05",
        "a download may take five seconds",
        'send 300 GET "$url"',
        'send 5 GET "$url"',
        moved("media", "slow_body", seconds=8, pieces=16, **ALWAYS),
    ),
)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_broken_program_is_caught_and_the_original_is_not(
    program: BrokenProgram, tmp_path: Path, tracer: Path
) -> None:
    provider, tools = OTHERS[program.client]
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"needs {missing[0]}, which is not installed")
    original = ROOT / "examples" / program.client
    text = original.read_text()
    assert text.count(program.old) == 1
    broken = tmp_path / original.name
    broken.write_text(text.replace(program.old, program.new))
    contract = next(one for one in CONTRACTS if one.key == provider)
    found = []
    for path in (broken, original):
        with FakeSession(contract, contract.models[0]) as session:
            runner = VirtualCommandRunner(session, [tools[0], str(path)], limit=LIMIT, tracer=tracer)
            trace = replace(runner.run(program.case), patience=PATIENCE)
        assert not trace.unjudged
        annotated = AnnotatedTrace(contract, trace)
        found.append({rule.id for rule in rules() if check(rule, annotated).breaches})
    assert program.rule in found[0]
    assert not found[1]


def test_both_languages_have_bugs_that_take_minutes() -> None:
    for client in (JAVASCRIPT, SHELL):
        assert {one.rule for one in PROGRAMS if one.client == client} >= {"TMO-01", "RTY-01", "RES-06", "TMO-05"}
    assert {one.case.kind for one in PROGRAMS} == {ONCE, AHEAD}
