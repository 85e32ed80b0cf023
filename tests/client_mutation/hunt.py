"""Run the client suite on one mutant until its first finding: `python -m tests.client_mutation.hunt` is the child.

Each mutant has its own process: it may hang for good, or change the state of the process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.search import CannotRun, Plan, Progress, Search
from hobbyhorse.contract.folder import load_all
from hobbyhorse.runners import callable as callables
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.client_suite import SUITE_KINDS
from hobbyhorse.traces.trace import Trace

from .plan import ROOT, CorrectClient

FOUND, SURVIVED, UNTESTABLE, EQUIVALENT = "found", "survived", "could not be tested", "equivalent"
# Runs of a mutant: as many as the acceptance of the suite promises for a client.
RUNS = 500
# Real seconds for them: several times what an unchanged client takes on a busy machine.
SECONDS = 400
DIGITS = 3  # milliseconds: the clock is virtual, so equal clients have equal times


class Found(Exception):
    """The first finding; the arguments are the ids of the broken rules."""


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
    return hashlib.sha256(repr((sent, ends, answered)).encode()).hexdigest()[:16]


def suite(path: str, function: str, provider: str, runs: int) -> dict[str, Any]:
    """Run the suite on a client in this process until its first finding, and return the result as JSON."""
    contract = next(one for one in load_all() if one.key == provider)
    client = callables.find_client(f"{path}:{function}")
    # Ids that a client draws must be the same in each run of it, and in its mutant.
    uuid.uuid4 = lambda: uuid.UUID(int=random.getrandbits(128), version=4)

    def stop(progress: Progress) -> None:
        if progress.broken:
            raise Found(*progress.broken)

    with FakeSession(contract, contract.models[0]) as session:
        recorder = Recorder(CallableRunner(session, client))
        try:
            Search(contract, recorder, Plan(runs, 0, (), SUITE_KINDS), stop).run("mutant", contract.models[0].id)
        except Found as found:
            return {"result": FOUND, "rules": list(found.args)}
        except CannotRun as error:
            return {"result": UNTESTABLE, "why": str(error)[:300]}
    whole = hashlib.sha256("".join(recorder.digests).encode()).hexdigest()[:16]
    return {"result": SURVIVED, "digest": whole, "runs": len(recorder.digests)}


def judged(client: CorrectClient, source: str, runs: int = RUNS, seconds: float = SECONDS) -> dict[str, Any]:
    """Run the suite on a source of a client in a child process. A child that does not end, or dies, was found out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(client.path).name)
        path.write_text(source)
        command = (sys.executable, "-m", "tests.client_mutation.hunt", str(path), client.function, client.provider)
        try:
            done = subprocess.run(
                (*command, "--runs", str(runs)), cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return {"result": UNTESTABLE, "why": f"no end after {seconds:.0f} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"result": UNTESTABLE, "why": f"exit status {done.returncode}: {done.stderr[-300:]}"}
    return found


def main() -> None:
    """Run the suite on the client that the arguments name, and print the result as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("function")
    parser.add_argument("provider")
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    print(json.dumps(suite(asked.path, asked.function, asked.provider, asked.runs)))


if __name__ == "__main__":
    main()
