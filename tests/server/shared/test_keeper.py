"""The worlds that a process owns, when it dies, stops, or sleeps for too long."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import bind
from hobbyhorse.server.shared import run
from hobbyhorse.server.shared.keeper import SharedKeeper
from hobbyhorse.state.errors import StateError
from hobbyhorse.state.redis import RedisStore, open_to_read
from tests.conftest import CONTRACTS
from tests.server.kept import crash
from tests.state.redis_server import RedisServer, needs_redis

pytestmark = [
    needs_redis,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are listed in /proc"),
]

PATIENCE = 30.0
# The callbacks of a dead process come within this time.
MOST_SECONDS = 20.0
CONTRACT = next(one for one in CONTRACTS if one.callbacks is not None and one.idempotency.mode == "replay")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def receiver() -> Iterator[crash.Receiver]:
    found = crash.Receiver()
    yield found
    found.close()


def order(url: str, key: str, receiver: crash.Receiver) -> str:
    """Order a job with a callback; return its id."""
    model = CONTRACT.models[0]
    pointer = CONTRACT.operations["submit"].bindings["callback_url"].request[0].pointer
    body = replaced(order_for(CONTRACT, model, mark="an order"), pointer, receiver.url)
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        caller = ContractClient(CONTRACT, f"{url}/{CONTRACT.key}", key, client)
        return str(caller.submit(model.id, body).reading.values["job"])


def stage(url: str, key: str, job: str) -> frozenset[str]:
    """Return the stage of a job; a connection that its server has lost is opened again."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
                caller = ContractClient(CONTRACT, f"{url}/{CONTRACT.key}", key, client)
                return caller.call("status", path={"job": job}).reading.stages
        except httpx.TransportError:
            assert time.monotonic() < until


@contextmanager
def serving(*options: str) -> Iterator[crash.Served]:
    """Serve while the context lasts, unless the test ends the server itself."""
    server = crash.Served(*options)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.kill()


def children(server: crash.Served) -> list[int]:
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_callbacks_of_a_dead_process_come_although_no_client_asks(
    redis: RedisServer, receiver: crash.Receiver
) -> None:
    with serving("--state", redis.url) as dead, serving("--state", redis.url):
        jobs = [order(dead.url, f"key-{number}", receiver) for number in range(5)]
        began = time.monotonic()
        dead.kill()
        while not all(receiver.has(job) for job in jobs):
            assert time.monotonic() - began < MOST_SECONDS
            time.sleep(0.05)


def test_a_job_is_shown_by_another_process_after_its_own_has_died(redis: RedisServer, receiver: crash.Receiver) -> None:
    with serving("--state", redis.url, "--processes", "2") as server:
        jobs = {f"key-{number}": order(server.url, f"key-{number}", receiver) for number in range(4)}
        os.kill(children(server)[0], signal.SIGKILL)
        for key, job in jobs.items():
            assert stage(server.url, key, job), "the job is known"


def test_the_worlds_of_a_process_that_stops_are_served_at_once_by_another(
    redis: RedisServer, receiver: crash.Receiver
) -> None:
    with serving("--state", redis.url) as one, serving("--state", redis.url) as other:
        job = order(one.url, "a-key", receiver)
        assert stage(other.url, "a-key", job), "it is forwarded to another server"
        assert one.stop() == 0
        began = time.monotonic()
        assert stage(other.url, "a-key", job)
        assert time.monotonic() - began < 3, "nobody waited for the end of the lease"


def test_a_process_that_slept_too_long_serves_nothing_old(redis: RedisServer, receiver: crash.Receiver) -> None:
    with serving("--state", redis.url) as sleeping, serving("--state", redis.url) as other:
        first = order(sleeping.url, "a-key", receiver)
        sleeping.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        second = order(other.url, "a-key", receiver)
        sleeping.process.send_signal(signal.SIGCONT)
        for url in (sleeping.url, other.url):
            assert stage(url, "a-key", second)
        for server in (sleeping, other):
            listed = server.control("GET", "jobs", "a-key")["jobs"]
            assert [one["id"] for one in listed] == [first, second]
        until = time.monotonic() + PATIENCE
        while not (receiver.has(first) and receiver.has(second)):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "Traceback" not in sleeping.said() + other.said()


@asynccontextmanager
async def begun(redis: RedisServer, pictures: Path) -> AsyncIterator[tuple[SharedKeeper, Fake]]:
    """Yield a process that has begun to serve a state."""
    with bind("127.0.0.1", 0) as peer:
        keeper = SharedKeeper(redis.url, CONTRACTS, peer, pictures)
        fake = Fake(CONTRACTS, Options(state=keeper, run="a-run"))
        await keeper.connect()
        keeper.start(fake.worlds, fake._services)
        yield keeper, fake


@pytest.mark.anyio
async def test_a_task_that_has_failed_does_not_keep_the_rest_open(redis: RedisServer, tmp_path: Path) -> None:
    async with begun(redis, tmp_path) as (keeper, fake):
        await keeper.find(fake.worlds.handle("a-key"))
        world = fake.worlds.of("a-key")
        assert world is not None
        await keeper.kept(world)

        async def fail() -> None:
            raise OSError

        failed = asyncio.create_task(fail())
        await asyncio.wait([failed])
        keeper._tasks.append(failed)
        world.label = "changed"
        world.changed()
        await fake.close()
    assert isinstance(failed.exception(), OSError)
    store = await open_to_read(redis.url)
    head = (await store.look(world.handle)).head
    assert head is not None
    assert head.values["settings"]["label"] == "changed"
    assert keeper.owners is not None
    assert await store._redis.call("EXISTS", f"hh:p:{keeper.owners.name}") == 0
    await store.close()


@pytest.mark.anyio
async def test_a_redis_that_refuses_commands_is_one_reason_not_to_start(redis: RedisServer, tmp_path: Path) -> None:
    store = RedisStore(redis.url)
    await store.open()
    await store._redis.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StateError, match="the state cannot be used: OOM"):
            await run._check(redis.url, 0, CONTRACTS)
        with bind("127.0.0.1", 0) as peer:
            keeper = SharedKeeper(redis.url, CONTRACTS, peer, tmp_path)
            with pytest.raises(StateError, match="the state cannot be used: OOM"):
                await keeper.connect()
    finally:
        await store._redis.call("CONFIG", "SET", "maxmemory", "0")
        await store.close()


@pytest.mark.anyio
async def test_a_process_serves_a_world_as_soon_as_it_has_found_it(redis: RedisServer, tmp_path: Path) -> None:
    async with begun(redis, tmp_path) as (keeper, fake):
        handle = fake.worlds.handle("a-key")
        assert not keeper.serves(handle)
        assert (await keeper.find(handle)).address is None
        assert keeper.serves(handle), "a request would have to find it once more"
        await fake.close()
