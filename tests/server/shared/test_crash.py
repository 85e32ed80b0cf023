"""Two processes on one state: one is killed, then Redis is, in the middle of orders; nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import CONTRACTS
from tests.server.kept import crash
from tests.state.redis_server import RedisServer, needs_redis

pytestmark = [
    needs_redis,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are listed in /proc"),
]

NIGHT = bool(os.environ.get("HOBBYHORSE_NIGHT"))
ROUNDS = 10 if NIGHT else 1
CLIENTS = 4
# What a server may respond while it cannot reach a world's owner or Redis, and while it still serves the first try.
PASSING = (409, 503)


def children(server: crash.Served) -> list[int]:
    """Return the processes that serve."""
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_nothing_is_lost_or_doubled_when_a_process_or_redis_is_killed(tmp_path: Path) -> None:
    contract = next(one for one in CONTRACTS if one.idempotency.mode == "replay" and one.callbacks is not None)
    redis = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    redis.start()
    receiver, balance, stop = crash.Receiver(), crash.Balance(contract), threading.Event()
    keys = [f"crash-client-{number}" for number in range(CLIENTS)]
    draw = random.Random(1)
    try:
        with crash.serving("--state", redis.url, "--processes", "2", "--seed", "3") as server:
            threads = [
                threading.Thread(target=crash.orders, args=(server, receiver, balance, key, stop), daemon=True)
                for key in keys
            ]
            for thread in threads:
                thread.start()
            for _ in range(ROUNDS):
                time.sleep(1.0)
                os.kill(draw.choice(children(server)), signal.SIGKILL)
                time.sleep(6.0)
                redis.kill()
                time.sleep(0.3)
                redis.start()
                time.sleep(1.0)
            stop.set()
            for thread in threads:
                thread.join(crash.READY_SECONDS)
            complaints = [f"{name} was another job later" for name in balance.changed]
            complaints += [f"refused with {status}" for status in balance.refused if status not in PASSING]
            complaints += crash.check(server, receiver, balance, keys)
            assert len(children(server)) == 2, "the killed process is replaced"
            said = server.said()
    finally:
        receiver.close()
        redis.kill()
    print(len(balance.told), "orders;", dict(balance.refused), "refused")
    assert complaints == []
    assert "Traceback" not in said, said
    assert len(balance.told) > 50 * ROUNDS
