"""TLS and the forward proxy in two processes: each request reaches its world, with links to where the client is."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import CONTRACTS
from tests.server.kept import crash
from tests.server.shared.test_routing import CONNECTIONS, PATIENCE, caller, submit
from tests.state.redis_server import RedisServer, needs_redis
from tests.world import ContractClient

pytestmark = needs_redis

CONTRACT = next(one for one in CONTRACTS if one.hosts)
OPTIONS = ("--processes", "2", "--pace", "instant", "--tls", "--tls-port", "0", "--connect-port", "0")


@pytest.fixture(scope="module")
def server(redis: RedisServer) -> Iterator[crash.Served]:
    with crash.serving("--state", redis.url, *OPTIONS) as found:
        yield found


@contextmanager
def clients(server: crash.Served, proxy: str | None = None) -> Iterator[list[httpx.Client]]:
    """Yield clients that trust the server's authority, each with a connection of its own."""
    trusted = ssl.create_default_context(cafile=str(server.ready["ca"]))
    found = [httpx.Client(trust_env=False, verify=trusted, proxy=proxy, timeout=PATIENCE) for _ in range(CONNECTIONS)]
    yield found
    for client in found:
        client.close()


def link_of(client: ContractClient, job: str) -> str:
    """Return the link to the video of a job."""
    shown = client.call("status", path={"job": job})
    if "video_url" not in shown.reading.values:
        shown = client.call("result", path={"job": job})
    return str(shown.reading.values["video_url"])


def test_each_connection_over_tls_sees_the_same_jobs_and_https_links(server: crash.Served) -> None:
    url = str(server.ready["tls_url"])
    assert url.startswith("https://")
    with clients(server) as found:
        callers = [ContractClient(CONTRACT, f"{url}/{CONTRACT.key}", "over-tls", client) for client in found]
        jobs = [submit(one) for one in callers]
        assert len(set(jobs)) == CONNECTIONS
        links = {link_of(one, jobs[0]) for one in callers}
        assert {link.partition("/media/")[0] for link in links} == {url}, "also through a process that is not the owner"
        link = link_of(callers[0], jobs[0])
        assert {client.get(link).status_code for client in found} == {200}
        # On the same connection, the plain port is another origin.
        plain = link_of(caller(CONTRACT, server, "over-tls", found[0]), jobs[0])
        assert plain.startswith(server.url)


def test_each_connection_through_the_proxy_reaches_the_provider(server: crash.Served) -> None:
    host = f"https://{CONTRACT.hosts[0]}"
    with clients(server, str(server.ready["connect_proxy"])) as found:
        callers = [ContractClient(CONTRACT, host, "by-proxy", client) for client in found]
        jobs = [submit(one) for one in callers]
        for client, one in zip(found, callers, strict=True):
            link = link_of(one, jobs[0])
            assert link.startswith(f"{host}/media/")
            assert client.get(link).status_code == 200


def test_each_connection_to_the_proxy_in_absolute_form_reaches_the_provider(server: crash.Served) -> None:
    # httpx sends http:// URLs to a proxy in absolute form.
    host = f"http://{CONTRACT.hosts[0]}"
    with clients(server, str(server.ready["connect_proxy"])) as found:
        callers = [ContractClient(CONTRACT, host, "absolute", client) for client in found]
        jobs = [submit(one) for one in callers]
        for one in callers:
            assert link_of(one, jobs[-1]).startswith(f"{host}/media/")


def test_a_connection_to_the_proxy_keeps_its_rules_after_a_request_for_another_process(server: crash.Served) -> None:
    for _ in range(CONNECTIONS):
        line = http.client.HTTPConnection(str(server.ready["connect_proxy"]).removeprefix("http://"), timeout=PATIENCE)
        statuses = []
        for url in (f"http://{CONTRACT.hosts[0]}/unknown", "http://example.com/"):
            line.request("GET", url, headers={"authorization": "Bearer rules"})
            response = line.getresponse()
            response.read()
            statuses.append(response.status)
        line.close()
        assert statuses == [404, 403]


def test_a_fault_on_the_connection_reaches_the_client_over_tls(server: crash.Served) -> None:
    url = str(server.ready["tls_url"])
    with clients(server) as found:
        scenario = {"moves": {"status": [{"move": "reset_peer", "times": CONNECTIONS}]}}
        armed = found[0].post(
            f"{url}/_mock/scenarios/arm",
            json={"scenario": scenario, "jobs": "all"},
            headers={"authorization": "Bearer tls-faults"},
        )
        assert armed.status_code < 300, armed.text
        callers = [ContractClient(CONTRACT, f"{url}/{CONTRACT.key}", "tls-faults", client) for client in found]
        job = submit(callers[0])
        for one in callers:
            with pytest.raises(httpx.TransportError):
                one.call("status", path={"job": job})


def test_the_authority_is_that_of_the_state(redis: RedisServer, server: crash.Served) -> None:
    authority = Path(str(server.ready["ca"])).read_bytes()
    with crash.serving("--state", redis.url, *OPTIONS) as other:
        assert Path(str(other.ready["ca"])).read_bytes() == authority
        with clients(server) as found:
            assert found[0].get(f"{other.ready['tls_url']}/_mock/health").status_code == 200
