"""Run the server suite on a blind server with one defect, until its first finding, and without a defect to its end."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.server.probes import each_probe
from hobbyhorse.conformance.server.results import concluded
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import EndpointUnreachable, Session, Skipped
from hobbyhorse.conformance.server.suite import SuiteOptions, opened
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from tests.server_mutation.hunt import summary
from tests.server_mutation.serving import found

from . import hiapi_http, runcomfy_starlette, runflow_http, vtrix_aiohttp

HERE = Path(__file__).parent
MODULES = {"hiapi": hiapi_http, "runcomfy": runcomfy_starlette, "runflow": runflow_http, "vtrix": vtrix_aiohttp}
KEY, OTHER = "good-key-1", "good-key-2"
BUDGET = Decimal(20)
# A whole run takes about a minute; only a server that hangs takes longer.
SECONDS = 300.0
START_SECONDS = 60.0
HONEST = ""


@dataclass(frozen=True)
class Case:
    """A server with a defect, or without one if the name is empty. `seed` is that of the suite."""

    provider: str
    defect: str
    kind: str = "chosen"
    sentence: str = ""
    seed: int = 0

    @property
    def key(self) -> str:
        """A hash of the server's file and the defect: a result belongs to exactly this server."""
        return hashlib.sha256(f"{digest(self.provider)}:{self.defect}:{self.seed}".encode()).hexdigest()[:16]

    @property
    def model(self) -> int:
        """The number of the model to judge: a defect of references shows only in orders of the second model."""
        return int(self.defect.startswith("reference-"))

    @property
    def secret(self) -> str | None:
        """The secret of callbacks; one defect shows only where nobody has set one."""
        return None if self.defect.endswith("-without-secret") else DEFAULT_SECRET


@cache
def digest(provider: str) -> str:
    """Return the hash of a server's file."""
    return hashlib.sha256(Path(str(MODULES[provider].__file__)).read_bytes()).hexdigest()


def cases() -> list[Case]:
    """Return every defect of the servers: the ones drawn by lot, the ones added by hand, and the others."""
    every = []
    for provider, module in MODULES.items():
        # The later servers have only few defects, all of them added by hand.
        added = getattr(module, "FURTHER", module.DEFECTS)
        chosen, further = ({one.name for one in group} for group in (getattr(module, "CHOSEN", ()), added))
        # One of the servers has the defects added by hand among all of them, too.
        for one in dict.fromkeys((*module.DEFECTS, *added)):
            kind = "chosen" if one.name in chosen else "further" if one.name in further else "other"
            every.append(Case(provider, one.name, kind, one.sentence))
    return every


@contextmanager
def serving(case: Case, cache: Path) -> Iterator[str]:
    """Start a server in a process of its own, and yield its base URL. Videos are kept in `cache`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(MODULES[case.provider].__file__), "--port", str(port), "--key", KEY, "--key", OTHER]
    command += ["--cache", str(cache)]
    command += ["--callback-secret", case.secret] if case.secret is not None else []
    command += ["--defect", case.defect] if case.defect else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        process.stdout.close()


def judged(case: Case, cache: Path, *, whole: bool = False) -> dict[str, Any]:
    """Run the suite on a server until its first finding, or to its end, and return the result as JSON."""
    contract = next(one for one in load_all() if one.key == case.provider)
    began = time.monotonic()
    with serving(case, cache) as url:
        options = SuiteOptions(
            base_url=url,
            api_key=KEY,
            other_key=OTHER,
            budget=BUDGET,
            callback_secret=case.secret,
            timeout=SECONDS,
            seed=case.seed,
        )
        with opened(contract, contract.models[case.model], options) as session:
            _probed(session, whole=whole or case.defect == HONEST)
            result = concluded(session, contract, server_rules(), time.monotonic() - began)
    return summary(result) | {"seconds": round(time.monotonic() - began, 1)}


def _probed(session: Session, *, whole: bool) -> None:
    """Run the probes until a rule is broken, or all of them."""
    looked_at = 0
    for probe in each_probe(session):
        # As in a real run: nothing is paid for an endpoint about which the free probes show nothing.
        if probe.cost(session) > 0 and not session.judgeable:
            return
        try:
            probe.run(session)
        except Skipped as error:
            session.note(probe.name, str(error))
        except EndpointUnreachable:
            return
        exchanges = len(session.endpoint.exchanges)
        # Half as many exchanges again since the last look: the judge reads all of them each time.
        if not whole and exchanges > 1.5 * looked_at:
            looked_at = exchanges
            if found(session, session.contract, server_rules()):
                return


def with_result(cache: Path, case: Case) -> tuple[Case, dict[str, Any]]:
    """Return a case with its result; the function of the worker processes."""
    return case, judged(case, cache)
