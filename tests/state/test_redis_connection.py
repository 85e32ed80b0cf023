"""The connection to Redis: batches, replies in order, lost connections, scripts, the ways to enter."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.state.redis_connection import (
    RedisAddress,
    RedisConnection,
    RedisError,
    RedisRefused,
    RedisUnavailable,
    Script,
    read_address,
)
from tests.state.redis_server import RedisServer, needs_redis

pytestmark = pytest.mark.anyio

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
ONCE = Script("if redis.call('SETNX', KEYS[2], '1') == 1 then return redis.call('INCR', KEYS[1]) end return 'kept'")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.kill()


async def opened(server: RedisServer, **more: Any) -> RedisConnection:
    connection = RedisConnection(read_address(server.url), **more)
    await connection.open()
    return connection


# ---- addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", RedisAddress("cache")),
        ("redis://cache:7000/2", RedisAddress("cache", 7000, database=2)),
        ("redis://:s%40crt@cache", RedisAddress("cache", password="s@crt")),
        ("rediss://anna:secret@[::1]:7000", RedisAddress("::1", 7000, "anna", "secret", tls=True)),
    ],
)
def test_an_address_is_read(url: str, address: RedisAddress) -> None:
    assert read_address(url) == address
    assert "secret" not in f"{address} {address!r}"
    assert str(address).startswith(url[:8])


@pytest.mark.parametrize(
    "url", ["http://cache", "redis://", "redis://a:x", "redis://u:secret@a:99999", "redis://a/b", "redis://a?x=1"]
)
def test_another_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="allowed: redis://") as refused:
        read_address(url)
    assert "secret" not in str(refused.value)


# ---- commands


@needs_redis
async def test_what_one_turn_asks_for_leaves_in_one_write(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await opened(redis)
    writes: list[bytes] = []
    transport = connection._transport
    assert transport is not None
    write = transport.write

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            writes.append(data)
            write(data)

    monkeypatch.setattr(connection, "_transport", Watched())
    replies = await asyncio.gather(*(connection.call("ECHO", number) for number in range(50)))
    assert replies == [str(number).encode() for number in range(50)]
    assert len(writes) == 1
    await connection.close()


@needs_redis
async def test_an_error_belongs_to_its_command_only(redis: RedisServer) -> None:
    connection = await opened(redis)
    first, wrong, last = connection.call("SET", "a", "text"), connection.call("INCR", "a"), connection.call("GET", "a")
    assert await first == b"OK"
    with pytest.raises(RedisError, match="not an integer"):
        await wrong
    assert await last == b"text"
    await connection.close()


@needs_redis
async def test_a_script_that_redis_has_forgotten_is_sent_in_full(redis: RedisServer) -> None:
    connection = await opened(redis)
    assert await connection.run(ADD, ["n"], [2]) == 2
    await connection.call("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(connection.run(ADD, ["n"], [1]) for _ in range(3))) == [3, 4, 5]
    assert await connection.call("EVALSHA", ADD.sha, 1, "n", 1) == 6
    await connection.close()


@needs_redis
async def test_a_task_that_gives_up_leaves_the_replies_in_order(redis: RedisServer) -> None:
    connection = await opened(redis)
    first, second, third = (connection.call("ECHO", word) for word in ("a", "b", "c"))
    await asyncio.sleep(0)
    second.cancel()
    assert (await first, await third) == (b"a", b"c")
    await connection.close()


# ---- lost connections


@needs_redis
async def test_commands_whose_replies_were_lost_are_repeated_in_order(redis: RedisServer) -> None:
    connection = await opened(redis)
    found: list[Any] = []
    # An unknown script is sent again in full, behind the commands that have followed it.
    await connection.call("SCRIPT", "LOAD", ONCE.source)
    for number in range(200):
        found.append(connection.run(ONCE, ["count", f"done:{number}"], []))
        if number % 20 == 10:
            # Cuts the connection with some replies on their way, and some commands unwritten.
            connection.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
            await asyncio.sleep(0.001)
    replies = await asyncio.gather(*found)
    assert await connection.call("GET", "count") == b"200"
    counted = [reply for reply in replies if reply != b"kept"]
    assert counted == sorted(counted), "a later command must not overtake an earlier one"
    await connection.close()


@needs_redis
async def test_a_command_that_may_not_be_repeated_fails(redis: RedisServer) -> None:
    connection = await opened(redis)
    redis.send(signal.SIGSTOP)
    once, again = connection.call("INCR", "n", again=False), connection.call("GET", "n")
    await asyncio.sleep(0)
    assert connection._transport is not None
    connection._transport.abort()
    with pytest.raises(RedisUnavailable, match="lost"):
        await once
    redis.send(signal.SIGCONT)
    assert await again in (None, b"1")
    await connection.close()


@needs_redis
async def test_it_waits_for_a_redis_that_restarts_and_goes_on(redis: RedisServer) -> None:
    connection = await opened(redis)
    await connection.call("SET", "a", "kept")
    redis.kill()
    waiting = connection.call("GET", "a")
    await asyncio.sleep(0.1)
    redis.start()
    assert await waiting == b"kept"
    await connection.close()


@needs_redis
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["away", "silent"])
async def test_a_redis_that_does_not_reply_fails_the_commands_after_the_wait(redis: RedisServer, number: int) -> None:
    connection = await opened(redis, wait=0.3)
    redis.send(number)
    for _ in range(2):
        with pytest.raises(RedisUnavailable, match="did not reply in time"):
            await asyncio.wait_for(connection.call("PING"), 2)
    await connection.close()
    with pytest.raises(RedisUnavailable, match="closed"):
        await connection.call("PING")


async def test_something_else_than_redis_is_not_waited_for_forever() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    connection = RedisConnection(RedisAddress("127.0.0.1", port), wait=0.3)
    with pytest.raises(RedisUnavailable):
        await connection.open()
    await connection.close()
    other.close()


# ---- entering


def make_certificate(certificate: Path, key: Path) -> None:
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *more], check=True, capture_output=True)


@needs_redis
async def test_a_password_a_user_and_a_database_open_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--requirepass", "se cret")
    server.start()
    try:
        for credentials in (":se%20cret", "anna:pass"):
            url = f"redis://{credentials}@127.0.0.1:{server.port}/3"
            connection = RedisConnection(read_address(url))
            await connection.open()
            assert b" db=3 " in await connection.call("CLIENT", "INFO")
            await connection.call("ACL", "SETUSER", "anna", "on", ">pass", "~*", "+@all")
            await connection.close()
        for credentials in ("", ":wrong@", "nobody:pass@"):
            refusals: list[Exception] = []
            url = f"redis://{credentials}127.0.0.1:{server.port}"
            connection = RedisConnection(read_address(url), on_refused=refusals.append)
            with pytest.raises(RedisRefused, match="refuses the connection"):
                await connection.open()
            assert len(refusals) == 1
            await connection.close()
    finally:
        server.kill()


@needs_redis
async def test_its_owner_may_refuse_a_redis_that_came_back_empty(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    refusals: list[Exception] = []

    def accept(replies: Any) -> None:
        if replies != [b"here"]:
            raise RedisRefused("it came back empty")

    try:
        setting = await opened(server)
        await setting.call("SET", "mark", "here")
        await setting.close()
        connection = await opened(server, checks=[("GET", "mark")], accept=accept, on_refused=refusals.append)
        server.kill()
        waiting = connection.call("PING")
        server.start()
        with pytest.raises(RedisRefused, match="came back empty"):
            await waiting
        assert [str(one) for one in refusals] == ["it came back empty"]
        await connection.close()
    finally:
        server.kill()


@needs_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    server = RedisServer(tmp_path / "redis", "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    tls_port = server.port
    server.options += ("--tls-port", str(tls_port), "--tls-auth-clients", "no", "--port", "0")
    server.start()
    url = f"rediss://localhost:{tls_port}"
    try:
        connection = RedisConnection(read_address(url), wait=0.5)
        with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
            await connection.open()
        await connection.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        connection = RedisConnection(read_address(url))
        await connection.open()
        assert await connection.call("ECHO", "safe") == b"safe"
        await connection.close()
    finally:
        server.kill()
