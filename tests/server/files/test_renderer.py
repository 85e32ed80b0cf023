"""Each file is rendered once, by at most as many threads as there are cores, and is the same for the same order."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.media.probe import probe
from hobbyhorse.media.video import VideoError, VideoSpec
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.files import renderer
from tests.conftest import CONTRACTS
from tests.server.media_host import CONTRACT, Host, count_renderings
from tests.world import KEY, ContractClient, Mock, documented

pytestmark = pytest.mark.anyio


async def test_many_first_requests_for_one_video_render_it_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_renderings(monkeypatch)
    url = await host.video()
    responses = await asyncio.gather(*(host.client.get(url) for _ in range(200)))
    assert {response.status_code for response in responses} == {200}
    assert len({hashlib.sha256(response.content).digest() for response in responses}) == 1
    assert len(seen) == 1


async def test_fifty_videos_are_never_rendered_by_more_threads_than_cores(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(shot: VideoSpec, out: Path) -> None:
        time.sleep(0.005)  # long enough for every free thread to begin
        out.write_bytes(b"a film")

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen = count_renderings(monkeypatch, make=stand_in)
    jobs = [await host.mock.submit(CONTRACT) for _ in range(50)]
    await host.mock.clock.advance(3_600)
    world = host.mock.world
    files = [host.mock.fake.renderer().video(world.jobs[job]) for job in jobs]
    assert len(set(await asyncio.gather(*files))) == 50
    assert (len(seen), max(seen)) == (50, 2)


def test_six_requests_give_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    tables = [hashes(tmp_path / str(number)) for number in range(2)]
    assert tables[0] == tables[1]
    assert len(set(tables[0].values())) == 6


def hashes(cache: Path) -> dict[str, str]:
    """Submit six jobs to a server process; return the hash of each video."""
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


async def test_the_same_order_and_seed_give_the_same_bytes_in_another_server(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        mock = Mock([CONTRACT], cache=tmp_path / str(number), seed=3)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
            response = await client.get(await Host(mock, client).video())
            digests.append((hashlib.sha256(response.content).hexdigest(), response.headers["etag"]))
    assert digests[0] == digests[1]


async def test_the_cache_is_shared_by_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_renderings(monkeypatch)
    for _ in range(2):
        mock = Mock([CONTRACT], cache=tmp_path, seed=3)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
            assert (await client.get(await Host(mock, client).video())).status_code == 200
    assert len(seen) == 1


async def test_orders_with_different_prompts_have_different_videos_and_equal_orders_have_one(host: Host) -> None:
    found = []
    for prompt in ("one horse", "two horses", "one horse"):
        job = host.mock.world.jobs[await host.mock.submit(CONTRACT)]
        job.order = replace(job.order, prompt=prompt)
        job.seed = 7
        found.append((await host.mock.fake.renderer().video(job)).read_bytes())
    assert found[0] == found[2] != found[1]


def test_a_fake_without_jobs_makes_no_cache(tmp_path: Path) -> None:
    Fake(options=Options(cache=tmp_path / "cache", make_clock=ManualClock))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("resolution", "expected"), [("720p", 720), ("1080P", 1080), ("4k", 4), (None, 1080)])
def test_a_tier_is_the_number_of_a_resolution(resolution: str | None, expected: int) -> None:
    order = SimpleNamespace(resolution=resolution)
    assert renderer.tier(order) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "expected"), [("16:9", (16, 9)), (None, None), ("adaptive", None), ("16:9:4", None)])
def test_a_ratio_is_its_two_sides_or_none(text: str | None, expected: tuple[int, int] | None) -> None:
    order = SimpleNamespace(ratio=text)
    assert renderer.ratio(order) == expected  # type: ignore[arg-type]


async def test_a_failed_rendering_is_returned_as_an_error_and_retried_on_the_next_call(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_renderings(monkeypatch, fail=1)
    job = host.mock.world.jobs[await host.mock.submit(CONTRACT)]
    rendering = host.mock.fake.renderer()
    failed = await rendering.try_video(job)
    assert isinstance(failed, VideoError)
    assert rendering.made(job) is None
    path = await rendering.try_video(job)
    assert isinstance(path, Path)
    assert (path.suffix, len(seen)) == (".mp4", 2)


async def test_a_forgotten_job_loses_its_file_name_and_the_cache_keeps_the_file(host: Host) -> None:
    job = host.mock.world.jobs[await host.mock.submit(CONTRACT)]
    rendering = host.mock.fake.renderer()
    assert rendering.made(job) is None
    path = await rendering.video(job)
    frame = await rendering.try_first_frame(job)
    assert rendering.made(job) == path
    assert isinstance(frame, Path)
    assert frame.read_bytes().startswith(b"\xff\xd8")
    rendering.forget({job.id: job})
    assert rendering.made(job) is None
    assert path.is_file()


async def test_a_client_that_leaves_does_not_cancel_the_rendering_for_the_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_renderings(monkeypatch)
    job = host.mock.world.jobs[await host.mock.submit(CONTRACT)]
    rendering = host.mock.fake.renderer()
    leaving, staying = (asyncio.ensure_future(rendering.video(job)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).is_file()
    assert leaving.cancelled()
    assert len(seen) == 1


@pytest.mark.parametrize("plain", [True, False])
async def test_a_video_may_end_with_each_form_of_box(tmp_path: Path, plain: bool) -> None:
    mock = Mock([CONTRACT], cache=tmp_path, plain_videos=plain)
    _, model, body = documented(CONTRACT)
    for boxes in ("wide", "open", "bare", None):
        if boxes is not None:
            mock.world.scenarios.arm(read_scenario({"timeline": {"move": "file_boxes", "boxes": boxes}}), [CONTRACT])
        await mock.call(CONTRACT, "submit", path={"model": model.id}, body=body)
    rendering = mock.fake.renderer()
    jobs = list(mock.world.jobs.values())
    wide, opened, bare, usual = [(await rendering.video(job)).read_bytes() for job in jobs]
    marks = [job.id.encode() for job in jobs]
    assert [rendering.made(job) for job in jobs] == [await rendering.video(job) for job in jobs]
    assert wide.endswith(b"\0\0\0\x01free" + (16 + len(marks[0])).to_bytes(8, "big") + marks[0])
    assert opened.endswith(bytes(4) + b"free" + marks[1])
    assert bare.endswith(b"free" + marks[2] + b"\0\0\0\x08free")
    assert usual.endswith(b"free" + marks[3]) is plain
    facts = [replace(probe(await rendering.video(job)), nbytes=0, comment="") for job in jobs]
    assert facts[0] == facts[1] == facts[2] == facts[3]


async def test_the_copies_of_a_server_are_in_its_cache_which_is_bounded(tmp_path: Path) -> None:
    mock = Mock([CONTRACT], cache=tmp_path)
    _, model, body = documented(CONTRACT)
    mock.world.scenarios.arm(read_scenario({"timeline": {"move": "file_boxes"}}), [CONTRACT])
    await mock.call(CONTRACT, "submit", path={"model": model.id}, body=body)
    video = await mock.fake.renderer().video(next(iter(mock.world.jobs.values())))
    assert video.parent == tmp_path


async def test_plain_videos_are_rendered_once_for_many_orders_and_differ_only_in_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_renderings(monkeypatch)
    mock = Mock([CONTRACT], cache=tmp_path, plain_videos=True)
    _, model, body = documented(CONTRACT)
    place = (*CONTRACT.operations["submit"].model_parameters.pointer, *model.parameters["prompt"][0])
    for prompt in ("one", "two", "two"):
        await mock.call(CONTRACT, "submit", path={"model": model.id}, body=replaced(body, place, prompt))
    jobs = list(mock.world.jobs.values())
    rendering = mock.fake.renderer()
    assert rendering.made(jobs[0]) is None
    videos = [await rendering.video(job) for job in jobs]
    assert [rendering.made(job) for job in jobs] == videos
    assert len(seen) == 1
    contents = [path.read_bytes() for path in videos]
    assert len(set(contents)) == 3
    for job, content in zip(jobs, contents, strict=True):
        assert content.endswith(b"free" + job.id.encode())
        assert content[: -len(job.id)] == contents[0][: -len(jobs[0].id)]
    facts = [probe(path) for path in videos]
    assert facts[0] == facts[1] == facts[2]


async def test_the_video_of_an_image_that_had_to_go_shows_a_placeholder(host: Host) -> None:
    found = host.mock.fake.renderer()
    job = host.mock.world.jobs[await host.mock.submit(CONTRACT)]
    job.order = replace(job.order, first_frame=f"sha256:{'0' * 64}", references=())
    assert isinstance(await found.try_first_frame(job), Path)
