"""The media host serves what a client's own checks accept, in ranges, once, and only while the link holds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

import httpx
import pytest

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import probe
from hobbyhorse.media.video import VideoError, VideoSpec, film
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.files import renderer as studio_module
from hobbyhorse.server.files.renderer import tier
from tests.conftest import CONTRACTS
from tests.world import KEY, ContractClient, Mock, documented

pytestmark = pytest.mark.anyio

CONTRACT = next(contract for contract in CONTRACTS if contract.retention.result_url is not None)


class Host:
    """A mock with an HTTP client for its media."""

    def __init__(self, mock: Mock, client: httpx.AsyncClient) -> None:
        self.mock, self.client = mock, client

    async def video(self, contract: Contract = CONTRACT) -> str:
        """Run a job to its end; return the address of its video."""
        job = await self.mock.submit(contract)
        await self.mock.clock.advance(3_600)
        role = "result" if "result" in contract.operations else "status"
        reply = await self.mock.call(contract, role, path={"job": job})
        assert reply.reading is not None
        return str(reply.reading.values["video_url"])


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    mock = Mock(list(CONTRACTS), cache=tmp_path / "cache")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
        yield Host(mock, client)


async def test_the_video_has_the_documented_length_and_rate_and_needs_no_key(contract: Contract, host: Host) -> None:
    answer = await host.client.get(await host.video(contract))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert int(answer.headers["content-length"]) == len(answer.content)
    (job,) = host.mock.world.jobs.values()
    facts = probe(answer.content)
    assert facts.fps == 24
    assert facts.constant_frame_rate
    assert facts.frames == 24 * job.order.seconds
    assert facts.video_codec == "h264"
    assert facts.audio_codec == "aac"
    assert facts.moov_first
    area = {720: 1280 * 720, 1080: 1920 * 1080}[tier(job.order)]
    assert abs(facts.width * facts.height - area) < 0.01 * area


async def test_head_says_what_get_sends(host: Host) -> None:
    url = await host.video()
    head, get = await host.client.head(url), await host.client.get(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-length", "content-type", "etag", "accept-ranges", "content-disposition"):
        assert head.headers[name] == get.headers[name]
    assert "attachment" in get.headers["content-disposition"] or "inline" in get.headers["content-disposition"]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None)],
)
async def test_a_range_is_that_part_of_the_whole(wanted: str, start: int, stop: int | None, host: Host) -> None:
    url = await host.video()
    whole = (await host.client.get(url)).content
    part = await host.client.get(url, headers={"range": wanted})
    assert part.status_code == 206
    assert part.content == whole[start:stop]
    first, last, size = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", part.headers["content-range"]).groups()  # type: ignore[union-attr]
    assert whole[int(first) : int(last) + 1] == part.content
    assert int(size) == len(whole)


async def test_several_ranges_come_as_one_message_of_several_parts(host: Host) -> None:
    url = await host.video()
    whole = (await host.client.get(url)).content
    answer = await host.client.get(url, headers={"range": "bytes=0-9,100-109"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert whole[0:10] in answer.content
    assert whole[100:110] in answer.content


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=10-5"])
async def test_a_range_that_is_not_there_is_refused(wanted: str, host: Host) -> None:
    answer = await host.client.get(await host.video(), headers={"range": wanted})
    assert answer.status_code in (400, 416)


async def test_what_the_client_has_is_not_sent_again(host: Host) -> None:
    url = await host.video()
    tag = (await host.client.get(url)).headers["etag"]
    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await host.client.get(url, headers={"if-none-match": wanted})
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["etag"] == tag
    assert (await host.client.get(url, headers={"if-none-match": '"other"'})).status_code == 200


async def test_a_link_expires_on_the_worlds_clock_as_an_object_store_says(host: Host) -> None:
    url = await host.video()
    (job,) = host.mock.world.jobs.values()
    assert job.expires is not None
    await host.mock.clock.advance(job.expires - host.mock.clock.now() - 1)
    assert (await host.client.get(url)).status_code == 200
    await host.mock.clock.advance(2)
    answer = await host.client.get(url)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("application/xml")
    assert b"<Code>AccessDenied</Code>" in answer.content


async def test_a_link_that_was_changed_is_refused(host: Host) -> None:
    url = await host.video()
    (job,) = host.mock.world.jobs.values()
    longer = re.sub(r"Expires=\d+", "Expires=99999999999", url)
    never = re.sub(r"Expires=\d+", "Expires=", url)
    for changed in (longer, never, url.partition("?")[0], url.replace("video.mp4", "first_frame.jpg"), url[:-1] + "x"):
        answer = await host.client.get(changed)
        assert answer.status_code == 403, changed
        assert b"SignatureDoesNotMatch" in answer.content
    assert job.id in url


async def test_what_was_never_there_is_not_found(host: Host) -> None:
    url = urlsplit(await host.video())
    signer = host.mock.fake.worlds.signer
    for path in (url.path.replace("video.mp4", "other.mp4"), "/media/nobody/nothing/video.mp4"):
        answer = await host.client.get(f"{path}?{signer.query(path, None)}")
        assert answer.status_code == 404
        assert b"<Code>NoSuchKey</Code>" in answer.content


async def test_a_job_that_has_not_succeeded_has_no_video(host: Host) -> None:
    job = await host.mock.submit(CONTRACT)
    path = f"/media/{host.mock.world.handle}/{job}/video.mp4"
    answer = await host.client.get(f"{path}?{host.mock.fake.worlds.signer.query(path, None)}")
    assert answer.status_code == 404


def count_films(
    monkeypatch: pytest.MonkeyPatch, fail: int = 0, make: Callable[[VideoSpec, Path], None] = film
) -> list[int]:
    """Count how many films are being made at once; let the first ones fail."""
    lock, state = Lock(), {"now": 0, "failed": 0}
    seen: list[int] = []

    def counted(shot: VideoSpec, out: Path) -> None:
        with lock:
            state["now"] += 1
            seen.append(state["now"])
            if state["failed"] < fail:
                state["failed"] += 1
                state["now"] -= 1
                raise VideoError("ffmpeg was killed")
        try:
            make(shot, out)
        finally:
            with lock:
                state["now"] -= 1

    monkeypatch.setattr(studio_module, "film", counted)
    return seen


async def test_many_first_requests_for_one_video_make_it_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_films(monkeypatch)
    url = await host.video()
    answers = await asyncio.gather(*(host.client.get(url) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({hashlib.sha256(answer.content).digest() for answer in answers}) == 1
    assert len(seen) == 1


async def test_fifty_videos_are_never_made_by_more_makers_than_cores(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(shot: VideoSpec, out: Path) -> None:
        time.sleep(0.005)  # long enough for every free maker to begin
        out.write_bytes(b"a film")

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen = count_films(monkeypatch, make=stand_in)
    jobs = [await host.mock.submit(CONTRACT) for _ in range(50)]
    await host.mock.clock.advance(3_600)
    world = host.mock.world
    files = [host.mock.fake.studio().video(world.jobs[job]) for job in jobs]
    assert len(set(await asyncio.gather(*files))) == 50
    assert (len(seen), max(seen)) == (50, 2)


def test_six_requests_give_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    tables = [hashes(tmp_path / str(number)) for number in range(2)]
    assert tables[0] == tables[1]
    assert len(set(tables[0].values())) == 6


def hashes(cache: Path) -> dict[str, str]:
    """Order six videos of a server in a process of its own; return the hash of each."""
    contract = next(contract for contract in CONTRACTS if "seed" in contract.models[0].parameters)
    operation, model, body = documented(contract)
    program = str(Path(sys.executable).with_name("hobbyhorse"))
    command = [program, "serve", "--port", "0", "--pace", "instant", "--cache", str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            url = json.loads(server.stdout.readline())["url"]
            with httpx.Client(trust_env=False, timeout=60) as http:
                client = ContractClient(contract, f"{url}/{contract.key}", KEY, http)
                found = {}
                for number, picture in enumerate(("landscape.jpg", "square.webp", "graphic.png") * 2):
                    order = body
                    values = {"seed": 7 + number // 3, "first_frame": f"{url}/fixtures/images/{picture}", "duration": 3}
                    for name, value in values.items():
                        place = (*operation.model_parameters.pointer, *model.parameters[name][0])
                        order = replaced(order, place, value)
                    job = client.submit(model.id, order).reading.values["job"]
                    role = "result" if "result" in contract.operations else "status"
                    video = client.call(role, path={"job": job}).reading.values["video_url"]
                    found[f"{picture} {values['seed']}"] = hashlib.sha256(http.get(video).content).hexdigest()
                return found
        finally:
            server.terminate()


async def test_a_maker_that_dies_is_a_503_and_the_next_request_succeeds(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_films(monkeypatch, fail=1)
    url = await host.video()
    failed = await host.client.get(url)
    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "1"
    assert b"<Code>SlowDown</Code>" in failed.content
    assert (await host.client.get(url)).status_code == 200
    assert [path.suffix for path in (host.mock.fake.options.cache or Path()).iterdir()] == [".mp4"]


async def test_the_same_order_and_seed_give_the_same_bytes_in_another_server(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        mock = Mock([CONTRACT], cache=tmp_path / str(number), seed=3)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
            answer = await client.get(await Host(mock, client).video())
            digests.append((hashlib.sha256(answer.content).hexdigest(), answer.headers["etag"]))
    assert digests[0] == digests[1]


async def test_the_cache_is_shared_by_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_films(monkeypatch)
    for _ in range(2):
        mock = Mock([CONTRACT], cache=tmp_path, seed=3)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
            assert (await client.get(await Host(mock, client).video())).status_code == 200
    assert len(seen) == 1


async def test_the_first_frame_is_served_where_the_contract_shows_it(host: Host) -> None:
    for contract in CONTRACTS:
        if "first_frame_url" not in contract.operations["status"].bindings:
            continue
        job = await host.mock.submit(contract)
        await host.mock.clock.advance(3_600)
        reply = await host.mock.call(contract, "status", path={"job": job})
        assert reply.reading is not None
        answer = await host.client.get(reply.reading.values["first_frame_url"])
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8")
        return
    pytest.fail("no contract shows a first frame")


async def test_the_projects_own_pictures_are_served(host: Host) -> None:
    answer = await host.client.get("/fixtures/images/")
    assert answer.status_code == 404
    assert (await host.client.get("/fixtures/images/..%2f..%2fREADME.md")).status_code == 404
    for path in (data_directory("fixtures") / "images").iterdir():
        answer = await host.client.get(f"/fixtures/images/{path.name}")
        assert answer.content == path.read_bytes()


def test_a_fake_without_jobs_makes_no_cache(tmp_path: Path) -> None:
    Fake(options=Options(cache=tmp_path / "cache", make_clock=ManualClock))
    assert not (tmp_path / "cache").exists()
