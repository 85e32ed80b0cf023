"""The TLS context: unusable files are an error in one line that names them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hobbyhorse.server.front.authority import own_certificates
from hobbyhorse.server.front.certificates import CertificateError, Certificates, server_context


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files with and without a certificate."""
    (tmp_path / "garbage").write_text("nothing in PEM format")
    one, other = (own_certificates(tmp_path / name, ["localhost"]).chain for name in ("one", "other"))
    subprocess.run(
        ["openssl", "ec", "-in", one, "-out", tmp_path / "encrypted", "-aes256", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    names = ("garbage", "encrypted", "nowhere")
    return {"one": one, "other": other, **{name: tmp_path / name for name in names}}


def test_a_certificate_with_its_key_makes_a_context(files: dict[str, Path]) -> None:
    assert server_context(Certificates(files["one"], files["one"]))


@pytest.mark.parametrize(
    ("chain", "key", "message"),
    [
        ("nowhere", "one", "nowhere' cannot be read: No such file"),
        ("one", "nowhere", "nowhere' cannot be read: No such file"),
        ("garbage", "one", "are not a certificate and its key in PEM format"),
        ("one", "garbage", "are not a certificate and its key in PEM format"),
        ("one", "encrypted", "encrypted' cannot be used: the key is encrypted"),
    ],
)
def test_unusable_files_are_an_error(chain: str, key: str, message: str, files: dict[str, Path]) -> None:
    with pytest.raises(CertificateError, match=message):
        server_context(Certificates(files[chain], files[key]))


def test_the_key_of_another_certificate_is_an_error(files: dict[str, Path]) -> None:
    with pytest.raises(CertificateError, match="is the key of another certificate than"):
        server_context(Certificates(files["one"], files["other"]))
