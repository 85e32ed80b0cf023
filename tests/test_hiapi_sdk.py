"""HiAPI's published Python client, unmodified except for its `base_url`, against the fake."""

from __future__ import annotations

import asyncio
import queue
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import hiapi
import httpx
import orjson
import pytest
from hiapi import HiAPI
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hobbyhorse.cli import main as cli
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.during import during
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import check
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.media.probe import probe
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.client_suite import examine
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.worlds.world import Ending, World
from tests.conftest import CONTRACTS
from tests.hiapi_sdk_findings import KNOWN, Known, generate

KEY = "sk-test"
MODEL = "happyhorse-1.1/image-to-video"
SECONDS = 3
INPUT = {
    "image_urls": ["https://static.hiapi.ai/example/first-frame.jpg"],
    "prompt": "slow camera push-in with gentle wind",
    "resolution": "720p",
    "duration": SECONDS,
}
# Real seconds to wait for a job or a callback. Jobs end immediately; only a broken server makes a test wait.
PATIENCE = 20.0
CONTRACT = next(contract for contract in CONTRACTS if contract.key == "hiapi")
# Runs of the suite: enough for the single faults of vital fields, which show most of the bugs, and a few seconds.
RUNS = 120


@contextmanager
def served(**options: Any) -> Iterator[tuple[Fake, str]]:
    """Serve the fake; yield it and the client's base URL."""
    fake = Fake(options=Options(**{"strict": True, "pace": "instant", **options}))
    with serving(fake) as url:
        yield fake, f"{url}/hiapi/v1"


def client(url: str, key: str = KEY, **options: Any) -> HiAPI:
    return HiAPI(api_key=key, base_url=url, **{"max_retries": 0, **options})


def world(fake: Fake) -> World:
    found = fake.worlds.of(KEY)
    assert found is not None
    return found


@pytest.fixture
def sdk() -> Iterator[HiAPI]:
    """A client of a server whose jobs end immediately."""
    with served() as (_, url):
        yield client(url)


def test_the_client_is_the_published_one() -> None:
    assert hiapi.__version__ == "0.2.1"


def test_it_creates_a_task_waits_for_it_and_finds_the_video() -> None:
    """The clock moves to the next stage each time the client has seen one."""
    seen, clock = [], ManualClock()
    with served(pace="realistic", make_clock=lambda: clock) as (fake, url):
        sdk = client(url)
        created = sdk.tasks.create(model=MODEL, input=INPUT)
        assert not created.idempotent_replay
        timeline = world(fake).jobs[created.task_id].timeline

        def on_update(task: hiapi.Task) -> None:
            seen.append(task.status)
            moment = next((moment for moment, _ in timeline if moment > clock.now()), clock.now())
            asyncio.run(clock.advance(moment - clock.now()))

        task = sdk.tasks.wait(created.task_id, poll_interval=0.01, timeout=PATIENCE, on_update=on_update)
        assert seen == ["queued", "handling", "archiving", "success"]
        assert (task.task_id, task.model, task.succeeded) == (created.task_id, MODEL, True)
        video = next(output for output in task.output if output.type == "video")
        assert task.completed_at == int(clock.now())
        assert video.expire_at == int(clock.now()) + 7 * 86_400
        assert probe(httpx.get(video.url, trust_env=False, timeout=60).content).frames == 24 * SECONDS


def test_it_runs_a_task_in_one_call(sdk: HiAPI) -> None:
    assert sdk.tasks.run(model=MODEL, input=INPUT, poll_interval=0.01, timeout=PATIENCE).succeeded


def test_a_task_that_has_not_ended_has_no_completion_time() -> None:
    with served(pace="realistic", make_clock=ManualClock) as (_, url):
        sdk = client(url)
        created = sdk.tasks.create(model=MODEL, input=INPUT)
        task = sdk.tasks.retrieve(created.task_id)
        assert (task.status, task.is_terminal, task.completed_at, task.output) == ("queued", False, None, [])
        with pytest.raises(hiapi.PollTimeout):
            sdk.tasks.wait(created.task_id, timeout=0)


def test_it_lists_its_tasks_newest_first_and_by_page(sdk: HiAPI) -> None:
    created = [sdk.tasks.create(model=MODEL, input=INPUT).task_id for _ in range(5)]
    pages = [sdk.tasks.list(page=page, size=2) for page in (1, 2, 3)]
    assert [task.task_id for page in pages for task in page.items] == created[::-1]
    assert [(page.page, page.size, page.total) for page in pages] == [(1, 2, 5), (2, 2, 5), (3, 2, 5)]
    assert all(task.succeeded for page in pages for task in page.items)


def test_an_idempotent_create_is_replayed_and_makes_one_task(sdk: HiAPI) -> None:
    first = sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
    again = sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
    other = sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-2")
    assert (first.idempotent_replay, again.idempotent_replay, other.idempotent_replay) == (False, True, False)
    assert first.task_id == again.task_id != other.task_id
    assert sdk.tasks.list().total == 2


def test_an_idempotency_key_with_another_body_is_refused(sdk: HiAPI) -> None:
    sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
    with pytest.raises(hiapi.IdempotencyKeyMismatchError) as refused:
        sdk.tasks.create(model=MODEL, input={**INPUT, "duration": 4}, idempotency_key="order-1")
    assert (refused.value.status, refused.value.error_code) == (422, "IDEMPOTENCY_KEY_MISMATCH")
    assert sdk.tasks.list().total == 1


class HalfSent:
    """A create request on a connection of its own, sent up to the middle of its body."""

    def __init__(self, url: str, idempotency_key: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        body = orjson.dumps({"model": MODEL, "input": INPUT})
        self._rest = body[len(body) // 2 :]
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
        lines = (
            f"POST {parts.path}/tasks HTTP/1.1",
            f"host: {parts.netloc}",
            f"authorization: Bearer {KEY}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"idempotency-key: {idempotency_key}",
            "expect: 100-continue",
            "connection: close",
        )
        self.socket.sendall("\r\n".join((*lines, "", "")).encode())
        # The server requests the body when it starts to read it; by then it has the key.
        assert self.socket.recv(1024).startswith(b"HTTP/1.1 100 ")
        self.socket.sendall(body[: len(body) // 2])

    def finish(self) -> bytes:
        """Send the rest; return the response."""
        self.socket.sendall(self._rest)
        response = b""
        while chunk := self.socket.recv(65_536):
            response += chunk
        self.socket.close()
        return response


def test_a_key_whose_first_request_is_still_being_sent_is_refused_and_replays_after_it() -> None:
    with served() as (_, url):
        sdk, first = client(url), HalfSent(url, "order-1")
        with pytest.raises(hiapi.IdempotencyKeyProcessingError) as refused:
            sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
        assert refused.value.status == 409
        assert sdk.tasks.list().total == 0
        assert not sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-2").idempotent_replay
        response = first.finish()
        assert response.startswith(b"HTTP/1.1 200 ")
        again = sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
        assert again.idempotent_replay
        assert again.task_id.encode() in response


def test_the_refusal_of_a_key_in_flight_has_a_retry_after() -> None:
    with served() as (_, url):
        first = HalfSent(url, "order-1")
        headers = {"authorization": f"Bearer {KEY}", "idempotency-key": "order-1"}
        response = httpx.post(f"{url}/tasks", json={"model": MODEL, "input": INPUT}, headers=headers, trust_env=False)
        assert (response.status_code, response.headers["retry-after"]) == (409, "1")
        first.finish()


def test_a_key_is_free_again_after_its_first_request_was_aborted() -> None:
    with served() as (fake, url):
        sdk, first = client(url), HalfSent(url, "order-1")
        first.socket.close()
        for _ in range(10_000):
            try:
                created = sdk.tasks.create(model=MODEL, input=INPUT, idempotency_key="order-1")
                break
            except hiapi.IdempotencyKeyProcessingError:
                continue
        assert not created.idempotent_replay
        assert list(world(fake).jobs) == [created.task_id]


def test_a_failed_task_raises_the_providers_error() -> None:
    with served() as (fake, url):
        world(fake).endings.append(Ending("fail", "TASK_FAILED", "upstream rejected the prompt"))
        with pytest.raises(hiapi.TaskFailed, match="upstream rejected the prompt") as failed:
            client(url).tasks.run(model=MODEL, input=INPUT, poll_interval=0.01, timeout=PATIENCE)
        assert failed.value.code == "TASK_FAILED"
        assert failed.value.task.status == "fail"  # type: ignore[attr-defined]
        assert failed.value.task.output == []  # type: ignore[attr-defined]


def test_a_key_that_is_not_accepted_is_an_authentication_error() -> None:
    with served(api_keys=frozenset({KEY})) as (_, url):
        with pytest.raises(hiapi.AuthenticationError) as refused:
            client(url, "sk-another").tasks.create(model=MODEL, input=INPUT)
        assert refused.value.status == 401
        assert client(url).tasks.create(model=MODEL, input=INPUT).task_id.startswith("tk-hiapi-")


REFUSED: dict[str, tuple[Callable[[HiAPI], object], type[Exception]]] = {
    "an unknown task": (lambda sdk: sdk.tasks.retrieve("tk-hiapi-nobody"), hiapi.NotFoundError),
    "a task id with slashes": (lambda sdk: sdk.tasks.retrieve("../../x"), hiapi.NotFoundError),
    "an unknown model": (lambda sdk: sdk.tasks.create(model="no/model", input=INPUT), hiapi.ModelUnavailableError),
    "no picture": (lambda sdk: sdk.tasks.create(model=MODEL, input={}), hiapi.InvalidRequestError),
    "a callback inside the input": (
        lambda sdk: sdk.tasks.create(model=MODEL, input={**INPUT, "callback": {"url": "https://example.com"}}),
        hiapi.InvalidRequestError,
    ),
    "page 0": (lambda sdk: sdk.tasks.list(page=0), hiapi.InvalidRequestError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_raises_the_clients_own_error(name: str, sdk: HiAPI) -> None:
    request, error = REFUSED[name]
    with pytest.raises(error):
        request(sdk)


def test_another_keys_task_is_not_found() -> None:
    with served() as (_, url):
        mine = client(url).tasks.create(model=MODEL, input=INPUT)
        with pytest.raises(hiapi.NotFoundError):
            client(url, "sk-another").tasks.retrieve(mine.task_id)
        assert client(url, "sk-another").tasks.list().items == []


def test_a_server_that_is_gone_is_a_connection_error() -> None:
    with served() as (_, url):
        pass
    with pytest.raises(hiapi.APIConnectionError):
        client(url).tasks.list()


# ---- callbacks


class Receiver:
    """A receiver of callbacks. As the client's documentation requires, it keeps the raw body and headers."""

    def __init__(self, server: HTTPServer) -> None:
        self.callback = {"url": server.url_for("/hiapi/callback"), "when": "final"}
        self._received: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()
        server.clear()
        server.expect_request("/hiapi/callback", method="POST").respond_with_handler(self._receive)

    def _receive(self, request: Request) -> Response:
        self._received.put((request.get_data(), dict(request.headers)))
        return Response(status=200)

    def next(self) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of the next callback."""
        return self._received.get(timeout=PATIENCE)


def test_a_callback_passes_the_clients_verifier_and_equals_a_poll(httpserver: HTTPServer) -> None:
    receiver = Receiver(httpserver)
    with served() as (_, url):
        sdk = client(url, webhook_secret=DEFAULT_SECRET)
        created = sdk.tasks.create(model=MODEL, input=INPUT, callback=receiver.callback)
        received = sdk.webhooks.verify(*receiver.next())
        assert received.task_id == created.task_id
        assert received.succeeded
        assert received == sdk.tasks.retrieve(created.task_id)


def test_the_callback_of_a_failed_task_has_the_error(httpserver: HTTPServer) -> None:
    receiver = Receiver(httpserver)
    with served(callback_secret="a secret of our own") as (fake, url):
        world(fake).endings.append(Ending("fail", "TASK_TIMEOUT", "too slow"))
        client(url).tasks.create(model=MODEL, input=INPUT, callback=receiver.callback)
        received = client(url, webhook_secret="a secret of our own").webhooks.verify(*receiver.next())
        assert received.error is not None
        assert (received.status, received.error.code, received.error.message) == ("fail", "TASK_TIMEOUT", "too slow")


def test_the_verifier_refuses_forged_and_stale_callbacks(httpserver: HTTPServer) -> None:
    receiver = Receiver(httpserver)
    with served() as (_, url):
        sdk = client(url, webhook_secret=DEFAULT_SECRET)
        sdk.tasks.create(model=MODEL, input=INPUT, callback=receiver.callback)
        body, headers = receiver.next()
    sent = int(headers["X-Hiapi-Timestamp"])
    sdk.webhooks.verify(body, headers, now=sent + 300)
    for changed in ({"secret": "another"}, {"now": sent + 301}, {"now": sent - 301}):
        with pytest.raises(hiapi.WebhookVerificationError):
            sdk.webhooks.verify(body, headers, **changed)
    with pytest.raises(hiapi.WebhookVerificationError):
        sdk.webhooks.verify(body.replace(b"success", b"SUCCESS"), headers)


def test_the_output_of_env_configures_the_client(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    """Use the printed variables and the printed line of code, without further arguments."""
    receiver = Receiver(httpserver)
    with served(api_keys=frozenset({"sk-mine"})) as (_, url):
        monkeypatch.setattr(
            "sys.argv", ["hobbyhorse", "env", "hiapi", "--url", url.removesuffix("/hiapi/v1"), "--key", "sk-mine"]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        for line in printed.splitlines():
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                monkeypatch.setenv(name, value)
        (code,) = [line.partition(": ")[2] for line in printed.splitlines() if line.startswith("# ")]
        sdk = eval(code, {"HiAPI": HiAPI})
        task = sdk.tasks.create(model=MODEL, input=INPUT, callback=receiver.callback)
        assert sdk.webhooks.verify(*receiver.next()).task_id == task.task_id


# ---- the suite


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.name} {known.fault['move']}")
def test_a_known_bug_is_found(known: Known) -> None:
    with FakeSession(CONTRACT, CONTRACT.model(MODEL) or CONTRACT.models[0]) as session:
        trace = CallableRunner(session, generate).run(Case(known.scenario))
    rule = next(one for one in rules() if one.id == known.rule)
    found = check(rule, AnnotatedTrace(CONTRACT, trace)).breaches
    assert [during(breach, trace) for breach in found] == [known.during]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.name} {known.fault['move']}")
def test_a_known_bug_is_where_it_says(known: Known) -> None:
    file, line, code = known.place.split(":", 2)
    text = (files(hiapi) / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert text.strip().startswith(code.strip())


def test_the_suite_finds_nothing_else() -> None:
    result = examine(generate, CONTRACT, CONTRACT.model(MODEL) or CONTRACT.models[0], runs=RUNS)
    assert (result.errors, result.unfit) == ((), None)
    found = {finding.name: finding.messages for one in result.broken for finding in one.findings}
    assert {name: found[name] for name in found.keys() - {known.name for known in KNOWN}} == {}
    assert len(found) > len(KNOWN) / 2, "the few runs meet most of the bugs"
