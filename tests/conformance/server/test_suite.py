"""The server suite: no findings for the fake, never more money than its budget, and a clean end on any server."""

from __future__ import annotations

import itertools
import json
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import httpx
import orjson
import pytest

from hobbyhorse.conformance.judge import LESSON, PASSED
from hobbyhorse.conformance.server.budget import Budget, worst
from hobbyhorse.conformance.server.endpoint import Endpoint
from hobbyhorse.conformance.server.probes import each_probe, run_probes
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import Session
from hobbyhorse.conformance.server.suite import SuiteOptions, examine, local
from hobbyhorse.contract.folder import build, load
from hobbyhorse.contract.forms.expressions import parse_pointer, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY, Run, contracts_that, many
from tests.little import Said, Told, little

KEY, OTHER = "key-of-the-first-account", "key-of-the-other-account"
MODELS = [(contract, model) for contract in CONTRACTS for model in contract.models]
SEEDS = many(200, 6)
HTML = b"<!doctype html><html><body>Welcome</body></html>"

models = pytest.mark.parametrize(("contract", "model"), MODELS, ids=[f"{c.key}-{m.id}" for c, m in MODELS])


@contextmanager
def fakes(contract: Contract, **more: Any) -> Iterator[str]:
    """Serve the fake, and yield its base URL."""
    options = Options(**{"api_keys": frozenset({KEY, OTHER}), "strict": True, "pace": "fast", **more})
    with serving(Fake([contract], options)) as url:
        yield f"{url}/{contract.key}"


def suite_options(url: str, **more: Any) -> SuiteOptions:
    return SuiteOptions(**{"base_url": url, "api_key": KEY, "callback_secret": DEFAULT_SECRET, **more})


def words(result: ServerResult) -> list[str]:
    return [f"{one.rule.id}: {breach.message}" for one in result.verdicts for breach in one.breaches]


@models
def test_the_fake_keeps_every_rule(contract: Contract, model: Model) -> None:
    with fakes(contract) as url:
        result = examine(contract, model, suite_options(url, budget=Decimal(5), other_key=OTHER), server_rules())
    assert words(result) == []
    assert result.status == 0
    assert result.spent <= 5
    assert result.spent == sum(entry.price for entry in result.ledger if entry.billed)
    assert sum(1 for one in result.verdicts if one.verdict == PASSED) > len(server_rules()) / 3
    assert result.seconds < 120


@models
def test_without_a_budget_no_billable_request_is_sent(contract: Contract, model: Model) -> None:
    with fakes(contract) as url:
        result = examine(contract, model, suite_options(url), server_rules())
    assert result.trace.exchanges
    assert not [one for one in result.trace.exchanges if one.role in ("submit", "run")]
    assert result.status == 0
    assert result.spent == 0


def test_the_seconds_of_a_suite_are_those_that_it_took(contract: Contract) -> None:
    began = time.monotonic()
    # Nobody listens there.
    result = examine(contract, contract.models[0], suite_options("http://127.0.0.1:9/nobody", timeout=1.0), ())
    assert 0 < result.seconds <= time.monotonic() - began


def never_called(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing is sent")


class Time:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def session_on(
    contract: Contract, model: Model, transport: httpx.BaseTransport, seed: int = 0, budget: Decimal | None = None
) -> Session:
    clock = Time()
    http = httpx.Client(transport=transport)
    endpoint = Endpoint(contract, "http://endpoint.test", KEY, Budget(budget), time.monotonic() + 60, http)
    return Session(endpoint, model, seed=seed, sleep=clock.sleep, clock=clock)


@dataclass
class Counting:
    """An endpoint that accepts any body and sums up its bills, at the documented price.

    By `manner` and seed, it refuses some requests, breaks some off, and returns errors for some that it has accepted.
    Everything that it does not refuse is billed.
    """

    contract: Contract
    model: Model
    random: Random
    manner: str
    billed: Decimal = Decimal(0)
    jobs: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        for role, operation in self.contract.operations.items():
            if operation.method == request.method and (found := operation.pattern.fullmatch(request.url.path)):
                return self.ordered(role, request) if role in ("submit", "run") else self.read(role, found.groupdict())
        return httpx.Response(404, json={})

    def ordered(self, role: str, request: httpx.Request) -> httpx.Response:
        luck = self.random.random()
        if self.manner == "moody" and luck < 0.6:
            return httpx.Response(self.random.choice([400, 401, 402, 409, 422, 429]), json={"message": "no"})
        self.billed += self.price(role, request.content)
        if self.manner == "rude" and luck < 0.7:
            if luck < 0.3:
                raise httpx.ReadError("broken off")
            return httpx.Response(self.random.choice([202, 302, 408, 500, 502, 503, 504]), json={})
        operation = self.contract.operations["submit"]
        job = f"job-{next(self.numbers)}"
        self.jobs[job] = 0
        example = self.contract.schemas.at(operation.situations["accepted"].example_at)
        place = next(place for place in operation.bindings["job"].response if place.part == "body")
        return httpx.Response(operation.situations["accepted"].status, json=replaced(example, place.pointer, job))

    def price(self, role: str, content: bytes) -> Decimal:
        """Return the documented price of a body; the worst price if it cannot be read."""
        try:
            body = resolve(orjson.loads(content), self.contract.operations[role].model_parameters.pointer)
        except orjson.JSONDecodeError:
            return worst(self.contract)
        tier, seconds = (resolve(body, self.model.parameters[name][0]) for name in ("resolution", "duration"))
        if tier not in list(self.model.price) or type(seconds) is not int or not 3 <= seconds <= 15:
            return worst(self.contract)
        return self.model.price[tier] * seconds

    def read(self, role: str, named: Mapping[str, str]) -> httpx.Response:
        operation = self.contract.operations[role]
        ends = [one for one in operation.situations.values() if any(self.ends(stage) for stage in one.stages)]
        chosen = (ends or list(operation.situations.values()))[0]
        return httpx.Response(chosen.status, json=self.contract.schemas.at(chosen.example_at))

    def ends(self, stage: str) -> bool:
        return self.contract.graph[stage].kind == "success"


def test_half_a_dollar_stays_half_a_dollar_whatever_the_seed() -> None:
    cases = itertools.cycle(itertools.product(MODELS, ("lenient", "moody", "rude")))
    billed = [
        spent_within(contract, model, manner, seed, Decimal("0.50"))
        for seed, ((contract, model), manner) in zip(range(SEEDS), cases, strict=False)
    ]
    assert max(billed) == Decimal("0.42")


@pytest.mark.parametrize("budget", ["0.41", "0.42", "1", "4.20", "10"])
def test_any_budget_holds(budget: str) -> None:
    for (contract, model), manner in itertools.product(MODELS, ("lenient", "moody", "rude")):
        spent_within(contract, model, manner, 1, Decimal(budget))


def spent_within(contract: Contract, model: Model, manner: str, seed: int, budget: Decimal) -> Decimal:
    counting = Counting(contract, model, Random(seed), manner)
    session = session_on(contract, model, httpx.MockTransport(counting), seed, budget)
    run_probes(session)
    session.endpoint.http.close()
    assert counting.billed <= session.endpoint.budget.spent <= budget, (contract.key, manner, seed)
    assert sum(entry.price for entry in session.ledger if entry.billed) == session.endpoint.budget.spent
    return counting.billed


def test_a_suite_that_does_not_pay_before_is_caught() -> None:
    """Check that the counting endpoint notices spending that a budget would have stopped."""
    contract, model = MODELS[0]
    counting = Counting(contract, model, Random(0), "lenient")
    session = session_on(contract, model, httpx.MockTransport(counting), 0, Decimal(1000))
    run_probes(session)
    session.endpoint.http.close()
    assert counting.billed > Decimal("0.50")


FLIPS: tuple[tuple[str, str, Any], ...] = (
    ("hiapi", "lifecycle.json#/job_id/form", "uuid4"),
    ("runcomfy", "lifecycle.json#/situations/unauthenticated/status", 401),
    ("runflow", "openapi.json#/components/schemas/Runs/required", ["another_cursor"]),
    ("vtrix", "openapi.json#/components/schemas/Error/required", ["error"]),
    ("vtrix", "lifecycle.json#/job_id", {"form": "ulid", "prefix": "job-", "x-assumed": "job-id"}),
    ("vtrix", "lifecycle.json#/situations/unknown_job", {"status": 401, "example": "unauthenticated"}),
)
"""Places that a contract only assumes, and other values for them."""


def flipped(contract: Contract, changes: Mapping[str, Any]) -> Contract:
    documents = specimen.whole(DIRECTORY / contract.key)
    for address, value in changes.items():
        file, _, pointer = address.partition("#")
        documents[file] = replaced(documents[file], parse_pointer(pointer), value)
    return build(DIRECTORY / contract.key, documents)


@pytest.mark.parametrize(("key", "place", "value"), FLIPS, ids=[f"{key}-{place}" for key, place, _ in FLIPS])
def test_an_assumption_that_is_contradicted_is_a_lesson_and_no_finding(key: str, place: str, value: Any) -> None:
    contract = next(one for one in CONTRACTS if one.key == key)
    other = flipped(contract, {place: value})
    with fakes(contract) as url:
        result = examine(other, other.models[0], suite_options(url, budget=Decimal("0.50")), server_rules())
    assert words(result) == []
    assert result.lessons
    assert result.status == 0
    assert LESSON in {one.verdict for one in result.verdicts}


@contracts_that(lambda contract: bool(contract.variants))
def test_each_variant_of_a_contract_is_no_finding_either(contract: Contract) -> None:
    for variant in contract.variants:
        other = load(DIRECTORY / contract.key, [variant.name])
        with fakes(contract) as url:
            result = examine(other, other.models[0], suite_options(url, budget=Decimal("0.50")), server_rules())
        assert words(result) == [], variant.name
        assert result.status == 0
        assert sum(one.verdict == PASSED for one in result.verdicts) > len(server_rules()) / 4


def test_a_contradicted_document_is_a_finding() -> None:
    contract = next(one for one in CONTRACTS if one.key == "hiapi")
    other = flipped(contract, {"lifecycle.json#/job_id/prefix": "other-"})
    with fakes(contract) as url:
        result = examine(other, other.models[0], suite_options(url, budget=Decimal("0.50")), server_rules())
    assert "IDN-01" in {one.rule.id for one in result.broken}
    assert result.status == 1


@pytest.fixture
def run(run: Run) -> Run:
    """Run the command in this process."""
    return partial(run, "conformance", "server")


def at(url: str, *more: object, provider: str = "vtrix") -> tuple[object, ...]:
    return ("--provider", provider, "--base-url", url, "--api-key", KEY, *more)


def test_the_plan_prints_every_probe_and_its_cost_and_opens_no_connection(run: Run) -> None:
    with little(lambda said: Told(500)) as server:
        done = run(*at(server.url, "--budget", "1", "--plan"))
        assert server.connections == 0
    assert done.status == 0
    contract = next(one for one in CONTRACTS if one.key == "vtrix")
    for probe in each_probe(session_on(contract, contract.models[0], httpx.MockTransport(never_called))):
        assert probe.name in done.out
    assert "never more than 1.00 USD" in done.out


def test_a_plan_for_a_remote_host_needs_no_confirmation(run: Run) -> None:
    done = run(*at("https://api.example.com", "--plan"))
    assert done.status == 0
    assert "without --budget" in done.out


def test_a_host_elsewhere_needs_a_yes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115
    done = run(*at("http://endpoint.invalid", "--budget", "0.5", "--timeout", "5"))
    sys.stdin.close()
    assert done.status == 2
    assert "endpoint.invalid" in done.err
    assert f"ends in {KEY[-4:]}" in done.err
    assert KEY not in done.err
    assert "at most 0.50 USD" in done.err
    assert "--yes" in done.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost/x", "http://[::1]:80", "http://127.1.2.3"])
def test_this_machine_is_local(url: str) -> None:
    assert local(url)


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1", "http://127.0.0.1.example.com", "http://localhost.example.com", "http://0.0.0.0", "http://x"],
)
def test_a_remote_address_is_not_local(url: str) -> None:
    assert not local(url)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--budget", "lots"), "--budget"),
        (("--budget", "-1"), "--budget"),
        (("--budget", "nan"), "--budget"),
        (("--timeout", "0"), "--timeout"),
        (("--model", "none"), "--model"),
        (("--image", "/no/such/file"), "--image"),
        (("--callback-listen", "here"), "--callback-listen"),
        (("--baseline", "/no/such/file"), "cannot be read"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(run: Run, more: tuple[str, str], says: str) -> None:
    done = run(*at("http://127.0.0.1:1", *more))
    assert done.status == 2
    assert says in done.err
    assert done.err.count("\n") == 1


def test_a_base_url_of_another_scheme_is_refused(run: Run) -> None:
    assert "--base-url" in run(*at("ftp://x")).err


def unjudged(run: Run, url: str, folder: Path, *more: object, provider: str = "vtrix") -> str:
    """Run on an endpoint that cannot be judged, and return the reason: in time, status 2, one sentence, a report."""
    started = time.monotonic()
    done = run(*at(url, "--report", folder, "--timeout", "8", *more, provider=provider))
    # One timeout, with room for a busy machine: a suite that waited for each of its requests would take minutes.
    assert time.monotonic() - started < 60
    assert done.status == 2, done.out
    report = json.loads((folder / "report.json").read_text())
    said: str = report["summary"]["unjudged"]
    assert said in done.out
    for name in ("junit.xml", "index.html", "lessons.patch.json", "trace.json"):
        assert (folder / name).exists()
    assert ElementTree.parse(folder / "junit.xml").getroot()[0].get("errors") == "1"
    assert KEY not in "".join(path.read_text() for path in folder.iterdir())
    return said


def test_a_base_url_with_no_server_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    with little(lambda said: Told(500)) as server:
        pass
    assert "no server at" in unjudged(run, server.url, tmp_path / "report")


def test_a_server_without_the_requested_tls_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    with little(lambda said: Told(200, {})) as server:
        said = unjudged(run, server.url.replace("http:", "https:"), tmp_path / "report")
    assert "TLS failed" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate")
def test_a_self_signed_certificate_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    command = [shutil.which("openssl") or "", *made, "-subj", "/CN=127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with little(lambda said: Told(200, {})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        assert "TLS failed" in unjudged(run, server.url.replace("http:", "https:"), tmp_path / "report")


def test_html_everywhere_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    with little(lambda said: Told(200, HTML, {"content-type": "text/html"})) as server:
        said = unjudged(run, server.url, tmp_path / "report", "--budget", "5")
        assert not [one for one in server.said if one.method == "POST"]
    assert "HTML" in said


def test_a_key_that_is_refused_everywhere_cannot_be_judged(run: Run, tmp_path: Path, contract: Contract) -> None:
    with fakes(contract, api_keys=frozenset({"another-key-altogether"})) as url:
        said = unjudged(run, url, tmp_path / "report", provider=contract.key)
    assert "refuses the key" in said


def test_a_redirect_is_never_followed_and_the_key_goes_nowhere(run: Run, tmp_path: Path) -> None:
    with (
        little(lambda said: Told(200, {})) as elsewhere,
        little(lambda said: Told(307, {}, {"location": f"{elsewhere.url}{said.path}"})) as server,
    ):
        said = unjudged(run, server.url, tmp_path / "report", "--budget", "5")
        assert elsewhere.connections == 0
    assert "redirects" in said


def test_responses_of_100_mb_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    piece = b"x" * 65536
    with little(lambda said: Told(200, (piece for _ in range(1600)))) as server:
        said = unjudged(run, server.url, tmp_path / "report", "--budget", "5")
    assert "completed within 16 MB" in said


def test_a_server_that_never_responds_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    def hangs(said: Said) -> Told:
        time.sleep(9)
        return Told(200, {})

    with little(hangs) as server:
        assert "gave no response" in unjudged(run, server.url, tmp_path / "report", "--budget", "5")


HUNG = [(contract, role) for contract in CONTRACTS for role in contract.operations if contract.key == "runcomfy"]


@pytest.mark.parametrize(("contract", "role"), HUNG, ids=[role for _, role in HUNG])
def test_a_server_that_hangs_on_one_operation_is_judged_in_time(contract: Contract, role: str) -> None:
    operation = contract.operations[role]
    counting = Counting(contract, contract.models[0], Random(0), "lenient")

    def answer(said: Said) -> Told:
        if said.method == operation.method and operation.pattern.fullmatch(said.path):
            time.sleep(3)
        request = httpx.Request(said.method, f"http://x{said.path}", content=said.body)
        answered = counting(request)
        return Told(answered.status_code, answered.content)

    with little(answer) as server:
        result = examine(contract, contract.models[0], suite_options(server.url, budget=Decimal("0.5"), timeout=5), ())
    assert result.seconds < 8
    assert result.unjudged is None
    assert counting.billed <= Decimal("0.5")


@contracts_that(lambda contract: len(contract.models) > 1)
def test_every_model_is_judged_in_one_run(contract: Contract) -> None:
    options = {"budget": Decimal(2), "models": contract.models, "other_key": OTHER}
    with fakes(contract) as url:
        result = examine(contract, contract.models[0], suite_options(url, **options), server_rules())
    assert words(result) == []
    assert result.model == ", ".join(model.id for model in contract.models)
    accepted = [one for one in result.trace.exchanges if one.role == "submit" and one.status < 300]
    for model in contract.models:
        assert any(model.id in one.url or model.id.encode() in one.body for one in accepted)


def test_all_models_can_be_requested(run: Run) -> None:
    contract = next(one for one in CONTRACTS if len(one.models) > 1)
    done = run(*at("http://127.0.0.1:9", "--model", "all", "--plan", provider=contract.key))
    alone = run(*at("http://127.0.0.1:9", "--plan", provider=contract.key))
    assert done.out.count("one job, submitted and polled") == len(contract.models)
    assert alone.out.count("one job, submitted and polled") == 1


def test_the_greatest_cost_is_printed_before_the_start(run: Run) -> None:
    with little(lambda said: Told(500)) as server:
        done = run(*at(server.url, "--budget", "1.5", "--timeout", "8"))
    assert done.err.startswith("this may cost at most 1.50 USD\n")
