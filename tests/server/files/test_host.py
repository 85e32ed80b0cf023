"""The media host serves valid videos, in ranges, and only while the link is valid."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import probe
from hobbyhorse.server.files.renderer import tier
from tests.conftest import CONTRACTS
from tests.server.media_host import Host, count_renderings

pytestmark = pytest.mark.anyio


async def test_the_video_has_the_documented_length_and_rate_and_needs_no_key(contract: Contract, host: Host) -> None:
    response = await host.client.get(await host.video(contract))
    assert response.status_code == 200
    assert response.headers["content-type"] == "video/mp4"
    assert int(response.headers["content-length"]) == len(response.content)
    (job,) = host.mock.world.jobs.values()
    facts = probe(response.content)
    assert facts.fps == 24
    assert facts.constant_frame_rate
    assert facts.frames == 24 * job.order.seconds
    assert facts.video_codec == "h264"
    assert facts.audio_codec == "aac"
    assert facts.moov_first
    area = {720: 1280 * 720, 1080: 1920 * 1080}[tier(job.order)]
    assert abs(facts.width * facts.height - area) < 0.01 * area


async def test_head_declares_the_body_of_get(host: Host) -> None:
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


@pytest.mark.parametrize("wanted", ["items=0-1", "seconds=0-", "0-9"])
async def test_a_range_in_another_unit_is_ignored(wanted: str, host: Host) -> None:
    url = await host.video()
    response = await host.client.get(url, headers={"range": wanted})
    assert response.status_code == 200
    assert response.content == (await host.client.get(url)).content


async def test_several_ranges_come_as_one_message_of_several_parts(host: Host) -> None:
    url = await host.video()
    whole = (await host.client.get(url)).content
    response = await host.client.get(url, headers={"range": "bytes=0-9,100-109"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges")
    assert int(response.headers["content-length"]) == len(response.content)
    assert whole[0:10] in response.content
    assert whole[100:110] in response.content


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=10-5", "bytes=a"])
async def test_a_range_that_is_not_there_is_refused(wanted: str, host: Host) -> None:
    response = await host.client.get(await host.video(), headers={"range": wanted})
    assert response.status_code in (400, 416)
    assert response.headers["content-type"] == "application/xml"
    assert (b"<Code>InvalidRange</Code>" in response.content) == (response.status_code == 416)
    assert ("content-range" in response.headers) == (response.status_code == 416)


async def test_a_file_that_the_client_has_is_not_sent_again(host: Host) -> None:
    url = await host.video()
    tag = (await host.client.get(url)).headers["etag"]
    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = await host.client.get(url, headers={"if-none-match": wanted})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == tag
    assert (await host.client.get(url, headers={"if-none-match": '"other"'})).status_code == 200


async def test_a_link_expires_on_the_worlds_clock_as_in_an_object_store(host: Host) -> None:
    url = await host.video()
    (job,) = host.mock.world.jobs.values()
    assert job.expires is not None
    await host.mock.clock.advance(job.expires - host.mock.clock.now() - 1)
    assert (await host.client.get(url)).status_code == 200
    await host.mock.clock.advance(2)
    response = await host.client.get(url)
    assert response.status_code == 403
    assert response.headers["content-type"].startswith("application/xml")
    assert b"<Code>AccessDenied</Code>" in response.content


async def test_a_link_that_was_changed_is_refused(host: Host) -> None:
    url = await host.video()
    (job,) = host.mock.world.jobs.values()
    longer = re.sub(r"Expires=\d+", "Expires=99999999999", url)
    never = re.sub(r"Expires=\d+", "Expires=", url)
    for changed in (longer, never, url.partition("?")[0], url.replace("video.mp4", "first_frame.jpg"), url[:-1] + "x"):
        response = await host.client.get(changed)
        assert response.status_code == 403, changed
        assert b"SignatureDoesNotMatch" in response.content
    assert job.id in url


async def test_a_file_that_never_existed_is_not_found(host: Host) -> None:
    url = urlsplit(await host.video())
    signer = host.mock.fake.worlds.signer
    for path in (url.path.replace("video.mp4", "other.mp4"), "/media/nobody/nothing/video.mp4"):
        response = await host.client.get(f"{path}?{signer.query(path, None)}")
        assert response.status_code == 404
        assert b"<Code>NoSuchKey</Code>" in response.content


async def test_the_first_frame_is_served_where_the_contract_shows_it(host: Host) -> None:
    for contract in CONTRACTS:
        if "first_frame_url" not in contract.operations["status"].bindings:
            continue
        job = await host.mock.submit(contract)
        await host.mock.clock.advance(3_600)
        reply = await host.mock.call(contract, "status", path={"job": job})
        assert reply.reading is not None
        response = await host.client.get(reply.reading.values["first_frame_url"])
        assert response.headers["content-type"] == "image/jpeg"
        assert response.content.startswith(b"\xff\xd8")
        return
    pytest.fail("no contract shows a first frame")


async def test_a_failed_rendering_is_a_503_and_the_next_request_succeeds(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_renderings(monkeypatch, fail=1)
    url = await host.video()
    failed = await host.client.get(url)
    assert failed.status_code == 503
    assert failed.headers["retry-after"] == "1"
    assert b"<Code>SlowDown</Code>" in failed.content
    assert (await host.client.get(url)).status_code == 200
    assert [path.suffix for path in (host.mock.fake.options.cache or Path()).iterdir()] == [".mp4"]
