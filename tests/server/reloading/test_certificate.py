"""The given certificate of a running server, renewed in its files."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from hobbyhorse.server.app import Fake
from hobbyhorse.server.front.authority import own_certificates
from hobbyhorse.server.front.certificates import Certificates
from hobbyhorse.server.front.opening import make_front
from hobbyhorse.server.reloading.certificate import certificate_source
from hobbyhorse.server.reloading.watch import Watch
from hobbyhorse.server.run import ServerThread, bind
from tests.conftest import CONTRACTS

pytestmark = pytest.mark.anyio
NAMES = ("localhost", "127.0.0.1")


@dataclass
class Renewed:
    """A server with the certificate of one of several authorities, and the watch of its files."""

    folder: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = {name: own_certificates(self.folder / name, NAMES) for name in ("old", "new")}
        self.files = Certificates(self.folder / "tls.crt", self.folder / "tls.key")
        self.place("old")
        front = make_front(CONTRACTS, self.files, plain=(), tls=[bind("127.0.0.1", 0)], proxy=None)
        source = certificate_source(front.served)
        source.begin()
        self.watch = Watch([source], self.lines.append, self.lines.append)
        self.server = ServerThread(Fake(CONTRACTS[:1]), front=front)
        self.url = str(front.addresses["tls_url"])

    def place(self, chain: str, key: str | None = None) -> None:
        """Put a chain and a key into the files, as a program does that renews them."""
        for name, path in ((chain, self.files.chain), (key or chain, self.files.key)):
            new = path.with_suffix(".new")
            new.write_bytes(self.pairs[name].chain.read_bytes())
            new.rename(path)

    async def look(self) -> None:
        await self.watch.look()
        await self.watch.look()

    def client(self, name: str) -> httpx.Client:
        """Return a client that trusts one authority only."""
        trusted = ssl.create_default_context(cafile=str(self.pairs[name].authority))
        return httpx.Client(verify=trusted, trust_env=False)

    def serves(self, name: str) -> bool:
        """Whether a new connection gets the certificate of an authority."""
        with self.client(name) as client:
            try:
                return client.get(self.url).is_success
            except httpx.ConnectError:
                return False


@pytest.fixture
def renewed(tmp_path: Path) -> Iterator[Renewed]:
    found = Renewed(tmp_path)
    yield found
    found.server.stop()


async def test_a_renewed_certificate_is_for_new_connections_and_open_ones_stay(renewed: Renewed) -> None:
    with renewed.client("old") as open_before:
        assert open_before.get(renewed.url).is_success
        renewed.place("new")
        await renewed.look()
        assert (renewed.serves("new"), renewed.serves("old")) == (True, False)
        # On its connection: a new one would not be trusted.
        assert open_before.get(renewed.url).is_success
    assert renewed.lines == ["the certificate files were read again"]
    assert renewed.watch.problems() == []


@pytest.mark.parametrize("broken", ["no PEM", "no key", "another key"])
async def test_a_pair_that_cannot_be_used_keeps_the_old_one(broken: str, renewed: Renewed) -> None:
    if broken == "no PEM":
        renewed.files.chain.write_text("-----BEGIN CERTIFICATE-----")
    elif broken == "no key":
        renewed.files.key.unlink()
    else:
        renewed.place("new", "old")
    await renewed.look()
    assert renewed.serves("old")
    (problem,), (line,) = renewed.watch.problems(), renewed.lines
    assert problem.startswith("certificate files: 'tls.")
    assert str(renewed.folder) not in problem, "the health check shows it to everybody"
    assert line.startswith("the certificate files have changed and cannot be used; the old ones stay: ")
    renewed.place("new")
    await renewed.look()
    assert (renewed.serves("new"), renewed.watch.problems()) == (True, [])
