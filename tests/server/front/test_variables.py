"""The variables of clients with fixed hosts: each name that a client reads."""

from __future__ import annotations

from hobbyhorse.server.front.variables import proxy_variables


def test_the_proxy_and_the_authority_have_the_name_of_each_kind_of_client() -> None:
    found = proxy_variables("http://127.0.0.1:8888", "/tmp/ca.pem", ["mock", "localhost"])
    trusting = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
    assert {found[name] for name in (*trusting, "DENO_CERT")} == {"/tmp/ca.pem"}
    assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://127.0.0.1:8888"
    assert found["NO_PROXY"] == found["no_proxy"] == "127.0.0.1,localhost,::1,mock"
    assert found["NODE_USE_ENV_PROXY"] == "1"
    assert "HTTP_PROXY" not in found


def test_without_an_authority_clients_trust_what_they_trust_already() -> None:
    found = proxy_variables("http://127.0.0.1:8888", None)
    assert sorted(found) == ["HTTPS_PROXY", "NODE_USE_ENV_PROXY", "NO_PROXY", "https_proxy", "no_proxy"]
