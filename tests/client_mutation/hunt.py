"""Run the client suite on one mutant until its first finding: `python -m tests.client_mutation.hunt` is the child.

Each mutant has its own process: it may hang for good, or change the state of the process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hobbyhorse.conformance.client.cases import CALLABLE_KINDS, Case
from hobbyhorse.conformance.client.report import finding_json
from hobbyhorse.conformance.client.search import CannotRun, Plan, Progress, Search
from hobbyhorse.contract.folder import load_all
from hobbyhorse.runners import callable as callables
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.process_pool import WorkerSetup, fresh_runner
from hobbyhorse.traces.trace import Trace
from tests.mutation.plan import ROOT

from .plan import CorrectClient

FOUND, SURVIVED, UNTESTABLE, EQUIVALENT = "found", "survived", "could not be tested", "equivalent"
# Runs of a mutant: as many as the acceptance of the suite promises for a client.
RUNS = 500
# Real seconds for them: several times what an unchanged client takes on a busy machine.
SECONDS = 400
# The exit status of a replay that shows the finding again.
STILL_BROKEN = 1
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")
DIGITS = 3  # milliseconds: the clock is virtual, so equal clients have equal times


class Found(Exception):
    """Ends a search at its first finding."""


@dataclass(slots=True)
class Recorder:
    """Runs cases, and keeps a digest of each trace."""

    runner: CallableRunner
    digests: list[str] = field(default_factory=list)

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        for case in cases:
            # Equal draws in every run, so that a client with random pauses or keys can be compared with its mutant.
            random.seed(0)
            trace = self.runner.run(case)
            self.digests.append(digest(trace))
            yield trace


def digest(trace: Trace) -> str:
    """Return a digest of what a provider and a caller see of a run."""
    start = trace.runs[0].started if trace.runs else 0.0
    sent = [
        (one.method, one.url.replace(trace.base, ""), one.headers, one.body, round(one.arrived - start, DIGITS))
        for one in trace.exchanges
    ]
    ends = [
        (run.outcome.kind, run.outcome.sha256, run.outcome.id_exposed, round(run.outcome.ended - start, DIGITS))
        for run in trace.runs
        if run.outcome is not None
    ]
    answered = [(one.status, one.kind, one.number) for one in trace.deliveries]
    text = repr((sent, ends, answered))
    # Each process has servers and receivers at other ports; a client that calls another server must still be noticed.
    for kind, url in (("api", trace.base), *trace.origins.items()):
        text = text.replace(urlsplit(url).netloc, kind)
    return hashlib.sha256(PORT.sub("a port", text).encode()).hexdigest()[:16]


def suite(name: str, provider: str, runs: int, ignored: Collection[str] | None) -> dict[str, Any]:
    """Run the suite on a client in this process, and return the result as JSON.

    It ends at the first finding of a rule that is not `ignored`; if that is None, it goes to the end.
    """
    contract = next(one for one in load_all() if one.key == provider)
    client = callables.find_client(name)
    # Ids that a client draws must be the same in each run of it, and in its mutant.
    uuid.uuid4 = lambda: uuid.UUID(int=random.getrandbits(128), version=4)

    def stop(progress: Progress) -> None:
        # Not after the first run: a client that gets no video there cannot be tested, whatever it breaks.
        if progress.runs > 1 and ignored is not None and not set(ignored).issuperset(progress.broken):
            raise Found

    with FakeSession(contract, contract.models[0]) as session:
        runner = CallableRunner(session, client)
        runner.fit()
        recorder = Recorder(runner)
        search = Search(contract, recorder, Plan(runs, 0, (), CALLABLE_KINDS), stop, fit=session.fit)
        # A client that runs well once only is shown by its second run in a fresh process.
        search.fresh = fresh_runner(WorkerSetup(name, provider, contract.models[0].id, fit=session.fit))
        try:
            ended = search.run("client", contract.models[0].id)
        except CannotRun as error:
            return {"result": UNTESTABLE, "why": str(error)[:300]}
    known = set(ignored or ())
    findings = {one.rule.id: one.smallest[1] for one in search.tallies if one.smallest and one.rule.id not in known}
    if findings:
        said = {rule: one.messages[0][:200] for rule, one in findings.items()}
        first = finding_json(ended, next(iter(findings.values())))
        return {"result": FOUND, "rules": list(said), "said": said, "runs": search.runs, "finding": first}
    if search.errors:
        # A search that an error of its own has stopped says nothing about the client.
        return {"result": UNTESTABLE, "why": f"internal error: {search.errors[0].message[:300]}"}
    digests = hashlib.sha256("".join(recorder.digests).encode()).hexdigest()[:16]
    return {"result": SURVIVED, "digest": digests, "runs": search.runs}


def judged(client: CorrectClient, source: str, runs: int = RUNS) -> dict[str, Any]:
    """Run the suite on a source of a client in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(client.path).name)
        path.write_text(source)
        return in_child(f"{path}:{client.function}", client.provider, runs, client.listed)


def in_child(
    name: str, provider: str, runs: int = RUNS, ignored: Iterable[str] | None = (), **environment: str
) -> dict[str, Any]:
    """Run the suite on `FILE.py:FUNCTION` in a child process; see `suite`."""
    command = [sys.executable, "-m", "tests.client_mutation.hunt", name, provider, "--runs", str(runs)]
    command += ["--whole"] if ignored is None else [word for rule in ignored for word in ("--ignore", rule)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"result": UNTESTABLE, "why": f"no end after {SECONDS} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"result": UNTESTABLE, "why": f"exit status {done.returncode}: {done.stderr[-300:]}"}
    return found


def mutant_recurs(client: CorrectClient, source: str, finding: Mapping[str, Any]) -> bool:
    """Whether a source of a client shows a stored finding again; see `recurs`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(client.path).name)
        path.write_text(source)
        return recurs(f"{path}:{client.function}", finding)


def recurs(name: str, finding: Mapping[str, Any], **environment: str) -> bool:
    """Whether `FILE.py:FUNCTION` shows a stored finding again in the test case of the finding, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "finding.scenario.json")
        path.write_text(json.dumps(finding))
        suite = str(Path(sys.executable).with_name("hobbyhorse"))
        command = [suite, "conformance", "replay", str(path), "--times", "1", "--python", name]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, timeout=SECONDS, check=False
        )
    return done.returncode == STILL_BROKEN


def main() -> None:
    """Run the suite on the client that the arguments name, and print the result as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("provider")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--ignore", action="append", default=[])
    asked = parser.parse_args()
    print(json.dumps(suite(asked.name, asked.provider, asked.runs, None if asked.whole else asked.ignore)))


if __name__ == "__main__":
    main()
