"""The authority: its files are made once, used again, and made anew when they are of no use."""

from __future__ import annotations

import ssl
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from hobbyhorse.server.front.authority import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    ISSUED,
    LIFETIME,
    SPARE,
    own_certificates,
)
from hobbyhorse.server.front.certificates import CertificateError, server_context

NAMES = ("api.example.com", "localhost", "127.0.0.1")
NOW = datetime.now(timezone.utc)
# macOS accepts no longer one.
MOST_DAYS = 825


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shake_hands(folder: Path, name: str, authority: Path | None = None) -> dict[str, object]:
    """Connect a client that trusts the authority, in memory; return the certificate that it saw. Raises SSLError."""
    server = server_context(own_certificates(folder, NAMES))
    client = ssl.create_default_context(cafile=str(authority or folder / AUTHORITY))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one, other):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(one.getpeercert() or {})


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_connects_by_each_name(name: str, tmp_path: Path) -> None:
    assert shake_hands(tmp_path, name)["subjectAltName"]


def test_no_client_connects_by_another_name_or_with_another_authority(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tmp_path, "example.com")
    own_certificates(tmp_path / "other", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, NAMES[0], tmp_path / "other" / AUTHORITY)


def test_the_certificate_is_valid_now_and_no_longer_than_every_system_accepts(tmp_path: Path) -> None:
    seen = shake_hands(tmp_path, NAMES[0])
    begin, end = (ssl.cert_time_to_seconds(str(seen[name])) for name in ("notBefore", "notAfter"))
    assert begin < NOW.timestamp() < end
    assert end - begin <= timedelta(days=MOST_DAYS).total_seconds()


def test_the_files_are_made_once(tmp_path: Path) -> None:
    first = own_certificates(tmp_path, NAMES)
    made = content(tmp_path)
    assert own_certificates(tmp_path, NAMES[::-1]) == first
    assert own_certificates(tmp_path, ["LOCALHOST"], NOW + LIFETIME - SPARE - timedelta(days=1)) == first
    assert content(tmp_path) == made


def test_another_name_changes_the_certificate_and_not_the_authority(tmp_path: Path) -> None:
    own_certificates(tmp_path, NAMES)
    made = content(tmp_path)
    own_certificates(tmp_path, [*NAMES, "api.example.org"])
    now = content(tmp_path)
    assert now[CERTIFICATE] != made[CERTIFICATE]
    assert (now[AUTHORITY], now[AUTHORITY_KEY]) == (made[AUTHORITY], made[AUTHORITY_KEY])


def test_a_certificate_whose_time_is_nearly_over_is_issued_anew(tmp_path: Path) -> None:
    own_certificates(tmp_path, NAMES)
    made = content(tmp_path)
    own_certificates(tmp_path, NAMES, NOW + LIFETIME - SPARE + timedelta(days=1))
    now = content(tmp_path)
    assert (now[CERTIFICATE] != made[CERTIFICATE], now[AUTHORITY] == made[AUTHORITY]) == (True, True)


@pytest.mark.parametrize("name", [AUTHORITY, AUTHORITY_KEY, CERTIFICATE, ISSUED])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "[]"])
def test_damaged_files_are_made_anew(name: str, damage: str, tmp_path: Path) -> None:
    own_certificates(tmp_path, NAMES)
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text("" if damage == "empty" else damage)
    assert shake_hands(tmp_path, NAMES[0])


def test_the_authority_of_another_folder_replaces_the_certificate_too(tmp_path: Path) -> None:
    own_certificates(tmp_path / "one", NAMES)
    own_certificates(tmp_path / "other", NAMES)
    for name in (AUTHORITY, AUTHORITY_KEY):
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert shake_hands(tmp_path / "one", NAMES[0])


def test_only_the_owner_reads_the_keys(tmp_path: Path) -> None:
    own_certificates(tmp_path, NAMES)
    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    assert (modes[AUTHORITY_KEY], modes[CERTIFICATE]) == (0, 0)
    assert modes[AUTHORITY] & 0o044


def test_starts_at_one_time_in_one_folder_make_one_authority(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def start() -> None:
        own_certificates(tmp_path, NAMES)
        seen.append((tmp_path / AUTHORITY).read_bytes() + (tmp_path / CERTIFICATE).read_bytes())

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), len(set(seen))) == (6, 1)


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match=r"the certificates in '.*file' cannot be made: "):
        own_certificates(tmp_path / "file", NAMES)


def test_a_name_that_no_certificate_can_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot be made: "):
        own_certificates(tmp_path, ["no name"])
