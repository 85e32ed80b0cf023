"""Certificates are loaded when a TLS context is used, not when it is made."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path

import certifi
import httpx
import pytest

from hobbyhorse.runners.deferred_certificates import deferred_certificates

LOAD, GET_CERTIFICATES = ssl.SSLContext.load_verify_locations, ssl.SSLContext.get_ca_certs


@pytest.fixture(autouse=True)
def nothing_waits() -> None:
    """Collect the contexts of earlier tests."""
    gc.collect()
    with deferred_certificates():
        pass


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The files that contexts load, in order."""
    found: list[object] = []

    def load(
        context: ssl.SSLContext, cafile: str | None = None, capath: object = None, cadata: str | None = None
    ) -> None:
        found.append(cafile or cadata)
        LOAD(context, cafile, None, cadata)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load, raising=False)
    return found


def test_a_client_for_plain_http_loads_no_certificate(loaded: list[object]) -> None:
    with deferred_certificates():
        for _ in range(3):
            httpx.Client().close()
        assert loaded == []


@pytest.mark.parametrize("use", [lambda context: context.get_ca_certs(), lambda context: context.cert_store_stats()])
def test_a_context_that_is_used_loads_its_certificates_once(use: object, loaded: list[object]) -> None:
    with deferred_certificates():
        context = ssl.create_default_context(cafile=certifi.where())
        assert loaded == []
        assert callable(use)
        assert use(context)
        use(context)
    assert loaded == [certifi.where()]


def test_a_tls_connection_has_the_certificates() -> None:
    with deferred_certificates():
        context = ssl.create_default_context(cafile=certifi.where())
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert context.cert_store_stats()["x509_ca"] > 0


def test_a_context_that_outlives_the_run_has_its_certificates() -> None:
    with deferred_certificates():
        context = ssl.create_default_context(cafile=certifi.where())
    assert context.cert_store_stats()["x509_ca"] > 0


def test_an_unreadable_file_is_an_error_of_the_call(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with deferred_certificates(), pytest.raises(FileNotFoundError):
        context.load_verify_locations(str(tmp_path / "missing.pem"))


def test_a_file_without_certificates_fails_only_if_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with deferred_certificates():
        context.load_verify_locations(str(tmp_path / "empty.pem"))
    with pytest.raises(ssl.SSLError):
        context.get_ca_certs()


def test_a_context_that_is_garbage_after_the_run_loads_nothing(loaded: list[object]) -> None:
    with deferred_certificates():
        context = ssl.create_default_context(cafile=certifi.where())
    assert loaded == []
    del context
    with deferred_certificates():
        pass
    assert loaded == []
    assert ssl.SSLContext.get_ca_certs is GET_CERTIFICATES


def test_after_the_run_certificates_load_at_once(loaded: list[object]) -> None:
    with deferred_certificates(), deferred_certificates():
        waiting = ssl.create_default_context(cafile=certifi.where())
    ssl.create_default_context(cafile=certifi.where())
    assert loaded == [certifi.where()]
    assert waiting.get_ca_certs()
    assert loaded == [certifi.where()] * 2


def test_the_methods_are_restored() -> None:
    before = {name: getattr(ssl.SSLContext, name) for name in ("load_verify_locations", "wrap_bio", "get_ca_certs")}
    with deferred_certificates():
        assert ssl.SSLContext.wrap_bio is not before["wrap_bio"]
    assert {name: getattr(ssl.SSLContext, name) for name in before} == before
    assert "load_verify_locations" not in vars(ssl.SSLContext)
