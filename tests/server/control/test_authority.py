"""The certificate authority of a server with TLS: as open as health, and told apart from a given certificate."""

from __future__ import annotations

import pytest

from hobbyhorse.server.control.authority import CONNECT_PORT_HEADER, PEM_TYPE
from tests.server.control.plane import Plane

pytestmark = pytest.mark.anyio

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n..."
HEADER = CONNECT_PORT_HEADER.lower()


async def test_the_certificate_and_the_port_of_the_proxy_are_open_to_everybody() -> None:
    plane = Plane(authority=CERTIFICATE, connect_port=8888, api_keys=frozenset({"another"}), control_key="secret")
    for method, body in (("GET", CERTIFICATE), ("HEAD", CERTIFICATE)):
        reply = await plane.request(method, "/ca.pem", key=None)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, body, PEM_TYPE)
        assert reply.headers[HEADER] == "8888"


async def test_a_container_fetches_it_by_the_name_of_the_service_and_a_page_elsewhere_does_not() -> None:
    plane = Plane(authority=CERTIFICATE, connect_port=8888, loopback=False)
    assert (await plane.request("GET", "/ca.pem", key=None, host="mock:8000")).status == 200
    origin = {"origin": "http://evil.example"}
    assert (await plane.refused(403, "GET", "/ca.pem", headers=origin))["code"] == "foreign_origin"


async def test_a_server_without_tls_says_how_to_have_it() -> None:
    reply = await Plane().request("GET", "/ca.pem")
    assert (reply.status, reply.json["error"]["hint"]) == (404, "start it with --tls")
    assert HEADER not in reply.headers


async def test_a_server_with_a_given_certificate_has_a_proxy_and_no_authority() -> None:
    reply = await Plane(connect_port=8888).request("GET", "/ca.pem")
    assert (reply.status, reply.json["error"]["code"], reply.headers[HEADER]) == (404, "no_authority", "8888")
    assert "--tls-cert" in reply.json["error"]["hint"]
