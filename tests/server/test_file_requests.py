"""Requests for files and for other origins: each is noted once, before its response leaves."""

from __future__ import annotations

import pytest
from starlette.types import Message as Event

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.server.file_requests import CANARY
from hobbyhorse.worlds.jobs import MediaLinks
from hobbyhorse.worlds.journal import KEYLESS_PART, MOST_EXCHANGES
from hobbyhorse.worlds.unkept import Unkept
from tests.world import KEY, Mock

pytestmark = pytest.mark.anyio
ORIGINS = {"media": "http://127.0.0.1:81", "foreign": "http://127.0.0.1:82", "private": "http://127.0.0.1:83"}


async def send(mock: Mock, method: str, url: str, port: int = 80, key: str | None = None) -> tuple[list[Event], int]:
    """Send a request; return the events of its response, and the length of the journal as the first one left."""
    headers = [(b"host", b"mock.test"), *([(b"authorization", f"Bearer {key}".encode())] if key else [])]
    path, _, query = url.partition("?")
    events: list[Event] = []
    noted: list[int] = []
    body: list[Event] = [{"type": "http.request", "body": b"sent"}]

    async def receive() -> Event:
        return body.pop() if body else {"type": "http.disconnect"}

    async def leave(event: Event) -> None:
        events.append(event)
        noted.append(mock.world.journal.total)

    scope = {"type": "http", "method": method, "scheme": "http", "path": path, "raw_path": path.encode()}
    more = {"query_string": query.encode(), "headers": headers, "root_path": "", "server": ("127.0.0.1", port)}
    await mock.fake({**scope, **more}, receive, leave)
    return events, noted[0]


async def unfinished(contract: Contract, moves: tuple[str, ...] = ()) -> tuple[Mock, str]:
    """Return a server with one job that has not ended, and the signed path of its video; nothing is rendered."""
    mock = Mock([contract])
    mock.fake.add_origins(ORIGINS)
    if moves:
        mock.world.scenarios.arm(read_scenario({"moves": {MEDIA: [{"move": move} for move in moves]}}), [contract])
    job = mock.world.jobs[await mock.submit(contract)]
    mock.world.journal.clear()
    return mock, MediaLinks("", mock.world.handle, mock.fake.worlds.signer).url(job, "video.mp4")


@pytest.mark.parametrize("port", [80, 81])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_request_for_a_file_is_noted_before_its_response_leaves(
    contract: Contract, method: str, port: int
) -> None:
    mock, path = await unfinished(contract)
    events, noted = await send(mock, method, path, port)
    assert (noted, len(mock.world.journal)) == (1, 1)
    (exchange,) = mock.world.journal
    length = int(dict(events[0]["headers"])[b"content-length"])
    assert (exchange.role, exchange.method, exchange.status) == (MEDIA, method, events[0]["status"])
    assert (exchange.size, exchange.whole) == (length if method == "GET" else 0, True)
    assert (exchange.body, exchange.answer, exchange.provider) == (b"", b"", contract.key)


async def test_a_refused_file_does_not_use_up_the_fault(contract: Contract) -> None:
    mock, path = await unfinished(contract, ("html_page",))
    _, noted = await send(mock, "GET", path)
    (exchange,) = mock.world.journal
    assert (noted, exchange.move, exchange.status) == (1, None, 404)
    assert mock.world.scenarios.armed[0].unmet()


async def test_a_file_of_an_unknown_job_is_refused_and_belongs_to_no_journal(contract: Contract) -> None:
    mock, _ = await unfinished(contract)
    events, _ = await send(mock, "GET", f"/media/{mock.world.handle}/unknown/video.mp4")
    assert events[0]["status"] == 403
    assert (mock.world.journal.total, mock.fake.journal.total) == (0, 0)


@pytest.mark.parametrize(("port", "kind", "status"), [(82, "foreign", 404), (83, "private", 200)])
async def test_another_origin_notes_the_sender_that_its_key_names(
    contract: Contract, port: int, kind: str, status: int
) -> None:
    mock, _ = await unfinished(contract)
    events, noted = await send(mock, "GET", "/a?b", port, KEY)
    (exchange,) = mock.world.journal
    assert (noted, exchange.notes, exchange.status, exchange.role) == (1, (f"{kind} origin",), status, None)
    assert (exchange.url, exchange.body, exchange.whole) == (f"http://127.0.0.1:{port}/a?b", b"sent", True)
    assert (exchange.answer == CANARY.body) == (kind == "private")
    assert exchange.answer == events[1]["body"]


async def test_another_origin_does_not_repeat_the_path_that_may_have_a_jobs_id(contract: Contract) -> None:
    mock, _ = await unfinished(contract)
    events, _ = await send(mock, "GET", "/a/the-job", 82, KEY)
    assert b"foreign" in events[1]["body"]
    assert b"the-job" not in events[1]["body"]


async def test_another_origin_notes_a_sender_without_a_key_beside_the_worlds(contract: Contract) -> None:
    mock, path = await unfinished(contract)
    await send(mock, "POST", "/a", 82)
    assert ([one.path for one in mock.fake.journal], mock.world.journal.total) == (["/a"], 0)
    await send(mock, "GET", path.partition("?")[0], 83)
    assert mock.world.journal.total == 1, "the world's handle in the path names the client"


@pytest.mark.parametrize("port", [80, 83])
async def test_requests_that_show_no_key_do_not_push_out_the_exchanges_of_the_client(
    contract: Contract, port: int
) -> None:
    mock, path = await unfinished(contract)
    await mock.submit(contract)
    for _ in range(MOST_EXCHANGES):
        await send(mock, "GET", path.partition("?")[0], port)
    shown = [(one.role, one.status) for one in mock.world.journal]
    assert (len(shown), shown[0][0]) == (1 + MOST_EXCHANGES * KEYLESS_PART, "submit")
    assert shown[-1] == ((MEDIA, 403) if port == 80 else (None, 200)), "the client may be the one that sends them"


async def test_what_is_not_noted_is_not_kept_either(contract: Contract) -> None:
    mock, path = await unfinished(contract)
    mock.world.unkept = unkept = Unkept("", set())
    for _ in range(MOST_EXCHANGES):
        await send(mock, "GET", path.partition("?")[0])
    assert len(unkept.entries) == mock.world.journal.total == MOST_EXCHANGES * KEYLESS_PART
