"""The suite for servers: it passes the fake, never spends more than it may, and ends well on anything that answers."""

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

from hobbyhorse.cli.server_verdicts import show_server_result
from hobbyhorse.conformance.client.judge import BROKEN, PASSED
from hobbyhorse.conformance.server.bodies import bounds, negatives, price_of
from hobbyhorse.conformance.server.budget import Budget, worst
from hobbyhorse.conformance.server.endpoint import Endpoint
from hobbyhorse.conformance.server.probes import each_probe, most, probes, run_probes
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rule import LESSON, Breach, ServerRule
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import Session, told_job
from hobbyhorse.conformance.server.suite import SuiteOptions, examine, local
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.folder import build, load
from hobbyhorse.contract.forms.expressions import parse_pointer, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from hobbyhorse.traces.trace import read_trace
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY, Run, contracts_that, many
from tests.little import Said, Told, little

KEY, OTHER = "key-of-the-first-account", "key-of-the-other-account"
MODELS = [(contract, model) for contract in CONTRACTS for model in contract.models]
SEEDS = many(200, 30)
HTML = b"<!doctype html><html><body>Welcome</body></html>"

models = pytest.mark.parametrize(("contract", "model"), MODELS, ids=[f"{c.key}-{m.id}" for c, m in MODELS])


@contextmanager
def fakes(contract: Contract, **more: Any) -> Iterator[str]:
    """Serve the fake; gives the base URL."""
    options = Options(**{"api_keys": frozenset({KEY, OTHER}), "strict": True, "pace": "fast", **more})
    with serving(Fake([contract], options)) as url:
        yield f"{url}/{contract.key}"


def asked(url: str, **more: Any) -> SuiteOptions:
    return SuiteOptions(**{"base_url": url, "api_key": KEY, "callback_secret": DEFAULT_SECRET, **more})


def words(result: ServerResult) -> list[str]:
    return [f"{one.rule.id}: {breach.message}" for one in result.verdicts for breach in one.breaches]


@models
def test_the_fake_keeps_every_rule(contract: Contract, model: Model) -> None:
    with fakes(contract) as url:
        result = examine(contract, model, asked(url, budget=Decimal(5), other_key=OTHER), server_rules())
    assert words(result) == []
    assert result.status == 0
    assert result.spent <= 5
    assert result.spent == sum(entry.price for entry in result.ledger if entry.billed)
    assert sum(1 for one in result.verdicts if one.verdict == PASSED) > len(server_rules()) / 3
    assert result.seconds < 60


@models
def test_without_a_budget_nothing_that_can_be_billed_is_sent(contract: Contract, model: Model) -> None:
    with fakes(contract) as url:
        result = examine(contract, model, asked(url), server_rules())
    assert result.trace.exchanges
    assert not [one for one in result.trace.exchanges if one.role in ("submit", "run")]
    assert result.status == 0
    assert result.spent == 0


@models
def test_the_same_seed_orders_the_same(contract: Contract, model: Model) -> None:
    one, other, third = (bench_on(contract, model, httpx.MockTransport(_never), seed) for seed in (3, 3, 4))
    assert one.order == other.order
    assert one.marked("x") == other.marked("x")
    assert one.order != third.order


@models
def test_every_negative_breaks_the_contract_and_every_bound_keeps_it(contract: Contract, model: Model) -> None:
    bench = bench_on(contract, model, httpx.MockTransport(_never))
    broken = list(negatives(contract, model, bench.submit, bench.order))
    assert len(broken) > 10
    assert len({body.label for body in broken}) == len(broken)
    for body in broken:
        assert not isinstance(try_order(contract, bench.submit, model.id, body.value), ValidRequest), body.label
    edges = list(bounds(contract, model, bench.submit, bench.order))
    assert len(edges) >= 2
    for body in edges:
        assert isinstance(try_order(contract, bench.submit, model.id, body.value), ValidRequest), body.label


@models
def test_a_body_whose_price_cannot_be_read_costs_the_worst(contract: Contract, model: Model) -> None:
    bench = bench_on(contract, model, httpx.MockTransport(_never))
    submit, order = bench.submit, bench.order
    place = (*submit.model_parameters.pointer, *model.parameters["duration"][0])
    assert bench.price == model.cost(min(model.price, key=lambda tier: model.price[tier]), resolve(order, place))
    for wrong in (None, "3", 3.5, True, 0, -1, 10**9, [3]):
        assert price_of(contract, model, submit, order, replaced(order, place, wrong)) == worst(contract)


def _never(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing is sent")


class Time:
    """A clock that sleep moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def bench_on(
    contract: Contract, model: Model, transport: httpx.BaseTransport, seed: int = 0, budget: Decimal | None = None
) -> Session:
    clock = Time()
    http = httpx.Client(transport=transport)
    endpoint = Endpoint(contract, "http://endpoint.test", KEY, Budget(budget), time.monotonic() + 60, http)
    return Session(endpoint, model, seed=seed, sleep=clock.sleep, clock=clock)


@dataclass
class Counting:
    """An endpoint that counts what it bills, at the documented price, and takes whatever it is sent.

    What it does besides depends on the seed: it refuses some, breaks some off, answers some with an error though it
    took them. What is not refused is billed.
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
                return self.ordered(request) if role in ("submit", "run") else self.read(role, found.groupdict())
        return httpx.Response(404, json={})

    def ordered(self, request: httpx.Request) -> httpx.Response:
        luck = self.random.random()
        if self.manner == "moody" and luck < 0.6:
            return httpx.Response(self.random.choice([400, 401, 402, 409, 422, 429]), json={"message": "no"})
        self.billed += self.price(request.content)
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

    def price(self, content: bytes) -> Decimal:
        """Return the documented price of a body; of one that cannot be read, that of the longest and dearest."""
        try:
            body = resolve(orjson.loads(content), self.contract.operations["submit"].model_parameters.pointer)
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
    bench = bench_on(contract, model, httpx.MockTransport(counting), seed, budget)
    run_probes(bench)
    bench.endpoint.http.close()
    assert counting.billed <= bench.endpoint.purse.spent <= budget, (contract.key, manner, seed)
    assert sum(entry.price for entry in bench.ledger if entry.billed) == bench.endpoint.purse.spent
    return counting.billed


def test_a_suite_that_does_not_pay_before_is_caught() -> None:
    """The counting endpoint sees what a purse would have stopped."""
    contract, model = MODELS[0]
    counting = Counting(contract, model, Random(0), "lenient")
    bench = bench_on(contract, model, httpx.MockTransport(counting), 0, Decimal(1000))
    run_probes(bench)
    bench.endpoint.http.close()
    assert counting.billed > Decimal("0.50")


@models
def test_free_probes_come_first_and_the_plan_has_them_all(contract: Contract, model: Model) -> None:
    bench = bench_on(contract, model, httpx.MockTransport(_never), budget=Decimal(5))
    found = probes(bench)
    costs = [probe.cost(bench) for probe in found]
    first = next(number for number, cost in enumerate(costs) if cost > 0)
    assert first >= 3
    assert most(bench) == sum(costs)
    assert len({probe.name for probe in found}) == len(found)
    assert {"identity:unknown", "job", "job:media", "machine", "negative:json"} <= {probe.name for probe in found}


FLIPS: tuple[tuple[str, str, Any], ...] = (
    ("hiapi", "lifecycle.json#/job_id/form", "uuid4"),
    ("runcomfy", "lifecycle.json#/situations/unauthenticated/status", 401),
    ("runflow", "openapi.json#/components/schemas/Runs/required", ["another_cursor"]),
    ("vtrix", "openapi.json#/components/schemas/Error/required", ["error"]),
    ("vtrix", "lifecycle.json#/job_id", {"form": "ulid", "prefix": "job-"}),
    ("vtrix", "lifecycle.json#/situations/unknown_job", {"status": 401, "example": "unauthenticated"}),
)
"""Places that a contract only assumes, and what they could be instead."""


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
        result = examine(other, other.models[0], asked(url, budget=Decimal("0.50")), server_rules())
    assert words(result) == []
    assert result.lessons
    assert result.status == 0
    assert LESSON in {one.verdict for one in result.verdicts}


@contracts_that(lambda contract: bool(contract.variants))
def test_each_variant_of_a_contract_is_no_finding_either(contract: Contract) -> None:
    for variant in contract.variants:
        other = load(DIRECTORY / contract.key, [variant.name])
        with fakes(contract) as url:
            result = examine(other, other.models[0], asked(url, budget=Decimal("0.50")), server_rules())
        assert words(result) == [], variant.name
        assert result.status == 0
        assert sum(one.verdict == PASSED for one in result.verdicts) > len(server_rules()) / 4


def test_what_a_document_states_and_is_contradicted_is_a_finding() -> None:
    contract = next(one for one in CONTRACTS if one.key == "hiapi")
    other = flipped(contract, {"lifecycle.json#/job_id/prefix": "other-"})
    with fakes(contract) as url:
        result = examine(other, other.models[0], asked(url, budget=Decimal("0.50")), server_rules())
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
    for probe in each_probe(bench_on(contract, contract.models[0], httpx.MockTransport(_never))):
        assert probe.name in done.out
    assert "never more than 1.00 USD" in done.out


def test_a_plan_for_a_host_elsewhere_asks_nothing(run: Run) -> None:
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
def test_what_is_elsewhere_is_not_local(url: str) -> None:
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
def test_what_is_typed_wrong_is_one_line_and_status_2(run: Run, more: tuple[str, str], says: str) -> None:
    done = run(*at("http://127.0.0.1:1", *more))
    assert done.status == 2
    assert says in done.err
    assert done.err.count("\n") == 1


def test_an_address_that_is_none_is_refused(run: Run) -> None:
    assert "--base-url" in run(*at("ftp://x")).err


def unjudged(run: Run, url: str, folder: Path, *more: object, provider: str = "vtrix") -> str:
    """Run on an endpoint that cannot be judged: in time, status 2, a report, one sentence."""
    started = time.monotonic()
    done = run(*at(url, "--report", folder, "--timeout", "8", *more, provider=provider))
    assert time.monotonic() - started < 12
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
    assert "there is no server" in unjudged(run, server.url, tmp_path / "report")


def test_a_server_without_tls_where_tls_is_asked_for_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    with little(lambda said: Told(200, {})) as server:
        said = unjudged(run, server.url.replace("http:", "https:"), tmp_path / "report")
    assert "TLS fails" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate")
def test_a_certificate_that_nobody_signed_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    command = [shutil.which("openssl") or "", *made, "-subj", "/CN=127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with little(lambda said: Told(200, {})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        assert "TLS fails" in unjudged(run, server.url.replace("http:", "https:"), tmp_path / "report")


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


def test_answers_of_100_mb_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    piece = b"x" * 65536
    with little(lambda said: Told(200, (piece for _ in range(1600)))) as server:
        said = unjudged(run, server.url, tmp_path / "report", "--budget", "5")
    assert "came to its end" in said


def test_a_server_that_takes_requests_and_says_nothing_cannot_be_judged(run: Run, tmp_path: Path) -> None:
    def hangs(said: Said) -> Told:
        time.sleep(9)
        return Told(200, {})

    with little(hangs) as server:
        assert "gives no answer" in unjudged(run, server.url, tmp_path / "report", "--budget", "5")


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
        result = examine(contract, contract.models[0], asked(server.url, budget=Decimal("0.5"), timeout=5), ())
    assert result.seconds < 8
    assert result.unjudged is None
    assert counting.billed <= Decimal("0.5")


def test_the_report_says_everything(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = next(one for one in CONTRACTS if one.key == "vtrix")
    with fakes(contract) as url:
        done = run(*at(url, "--budget", "0.5", "--report", tmp_path, "--callback-secret", DEFAULT_SECRET))
    assert done.status == 0, done.out
    assert "nothing broken" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"format", "rules", "lessons", "ledger", "summary"}
    assert {"id", "family", "verdict", "findings"} <= set(report["rules"][0])
    billed = sum(Decimal(line["price"]) for line in report["ledger"] if line["billed"])
    assert billed == Decimal(report["summary"]["spent_at_most"]) == Decimal("0.42")
    trace = read_trace(json.loads((tmp_path / "trace.json").read_text()))
    assert trace.exchanges
    assert trace.secret is None
    whole = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in whole
    assert DEFAULT_SECRET not in whole
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("tests") == str(len(report["rules"]))
    assert suite.get("failures") == "0"
    assert "<svg" in (tmp_path / "index.html").read_text()


ALWAYS = ServerRule("SHA-99", "always", "MUST", "minor", "It is broken.", "To see it.", lambda story: [Breach("it is")])


def test_a_known_finding_is_accepted_and_one_that_is_gone_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    contract, model = MODELS[0]
    with fakes(contract) as url:
        found = examine(contract, model, asked(url), (ALWAYS,))
        accepted = examine(contract, model, asked(url), (ALWAYS,), known={"SHA-99": "known"})
        stale = examine(contract, model, asked(url), (), known={"SHA-99": "known"})
    assert (found.status, accepted.status, stale.status) == (1, 0, 1)
    assert [one.verdict for one in found.verdicts] == [BROKEN]
    assert stale.stale == ("SHA-99",)
    said = []
    for result in (found, accepted, stale):
        show_server_result(result, None)
        said.append(capsys.readouterr().out)
    assert ("SHA-99 It is broken." in said[0], said[0].endswith("1 rule broken\n")) == (True, True)
    assert ("SHA-99 is accepted: known" in said[1], said[1].endswith("nothing broken\n")) == (True, True)
    assert "It is broken." not in said[1]
    assert ("take it out" in said[2], said[2].endswith("1 accepted in vain\n")) == (True, True)


def test_a_receiver_answers_500_once_and_keeps_what_came() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is not None)
    assert contract.callbacks is not None
    place = next(place for place in contract.callbacks.bindings["job"].request if place.part == "body")
    body = orjson.dumps(replaced({}, place.pointer, "job-1"))
    with Receiver(told_job(contract)) as receiver, httpx.Client(trust_env=False) as http:
        answers = [http.post(receiver.url, content=body).status_code for _ in range(3)]
        assert http.post(receiver.url, content=b"no JSON").status_code == 200
        assert http.get(receiver.url).status_code == 501
        deliveries = receiver.deliveries
    assert answers == [500, 200, 200]
    assert [(one.job, one.number) for one in deliveries] == [("job-1", 1), ("job-1", 2), ("job-1", 3), (None, 1)]
    assert [one.acknowledged for one in deliveries] == [False, True, True, True]
