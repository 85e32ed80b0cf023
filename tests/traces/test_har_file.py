"""The files that recordings come in: archives, compressed files, and files that would harm the reader."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.traces import har_file
from hobbyhorse.traces.har import read_har
from hobbyhorse.traces.har_file import HarError, open_har, parse_har
from hobbyhorse.traces.trace import Trace
from tests.traces.recorders import ACME, archive, poll, submission

PLAIN = json.dumps(archive(submission(), poll(at=5, state="done"))).encode()


def zipped(**files: bytes) -> bytes:
    """Return a ZIP archive; `__` in a name stands for a dot."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "."), content)
    return found.getvalue()


def read(tmp_path: Path, data: bytes) -> Trace:
    path = tmp_path / "recording"
    path.write_bytes(data)
    opened = open_har(path)
    return read_har(opened.document, ACME, None, opened.attached).trace


def attached_form() -> dict[str, Any]:
    """Return a recording whose bodies are in files, as Playwright writes with `content: attach`."""
    one, other = submission(), poll(at=5)
    one["request"]["postData"] = {"mimeType": "application/json", "text": "", "params": [], "_file": "order.json"}
    other["response"]["content"] = {"size": 35, "mimeType": "application/json", "_file": "poll.json"}
    return archive(one, other, creator="Playwright")


BODIES = {
    "order.json": submission()["request"]["postData"]["text"].encode(),
    "poll.json": poll()["response"]["content"]["text"].encode(),
}

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16 with a byte order mark": lambda data: data.decode().encode("utf-16"),
    "UTF-16 without one": lambda data: data.decode().encode("utf-16-le"),
    "gzip": gzip.compress,
    "gzip in two parts": lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]),
    "gzip with padding": lambda data: gzip.compress(data) + b"\0" * 9,
    "zlib, as .zhar": lambda data: zlib.compress(data, 9),
    "zlib, without effort": lambda data: zlib.compress(data, 0),
    "zip": lambda data: zipped(har__har=data),
    "zip in a folder": lambda data: zipped(**{"a/har__har": data, "a/x": b"", "__MACOSX/a/x": b""}),
    "gzip in a zip": lambda data: zipped(har__har=gzip.compress(data)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_a_file_is_the_same_recording(form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    assert read(tmp_path, form(PLAIN)) == read_har(json.loads(PLAIN), ACME).trace


def test_bodies_attached_in_a_zip_are_read(tmp_path: Path) -> None:
    har = json.dumps(attached_form()).encode()
    trace = read(
        tmp_path, zipped(**{"har__har": har, "order.json": BODIES["order.json"], "poll.json": BODIES["poll.json"]})
    )
    assert trace.exchanges[0].body == BODIES["order.json"]
    assert trace.exchanges[1].answer == BODIES["poll.json"]
    assert [one.unrecorded for one in trace.exchanges] == [(), ()]


def test_bodies_attached_beside_a_file_are_read(tmp_path: Path) -> None:
    for name, content in BODIES.items():
        (tmp_path / name).write_bytes(content)
    trace = read(tmp_path, json.dumps(attached_form()).encode())
    assert [one.unrecorded for one in trace.exchanges] == [(), ()]
    assert trace.exchanges[1].answer == BODIES["poll.json"]


@pytest.mark.parametrize("packed", [True, False])
def test_attached_bodies_that_are_missing_are_not_recorded(packed: bool, tmp_path: Path) -> None:
    har = json.dumps(attached_form()).encode()
    trace = read(tmp_path, zipped(har__har=har) if packed else har)
    assert [one.unrecorded for one in trace.exchanges] == [("body",), ("answer",)]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "a\\b", "..", ".env", "C:x", "a\0b", " a"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_recording_cannot_name_files_elsewhere(name: str, packed: bool, tmp_path: Path) -> None:
    (tmp_path.parent / "secret").write_text("hush")
    har = attached_form()
    har["log"]["entries"][1]["response"]["content"]["_file"] = name
    data = json.dumps(har).encode()
    with pytest.raises(HarError, match="allowed: a file in the directory of the recording") as caught:
        read(tmp_path, zipped(har__har=data) if packed else data)
    assert str(caught.value).startswith("/log/entries/1/response/content/_file: ")


def test_a_link_or_a_pipe_beside_a_recording_is_not_read(tmp_path: Path) -> None:
    (tmp_path.parent / "hush").write_text('{"id": "job-7"}')
    (tmp_path / "order.json").symlink_to(tmp_path.parent / "hush")
    os.mkfifo(tmp_path / "poll.json")
    trace = read(tmp_path, json.dumps(attached_form()).encode())
    assert [one.unrecorded for one in trace.exchanges] == [("body",), ("answer",)]


@pytest.mark.parametrize("name", ["../har.har", "/har.har", "a/../../x", "..\\har.har", "C:har.har"])
def test_an_archive_with_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HarError, match="leads out of it"):
        read(tmp_path, zipped(**{"har__har": PLAIN, name: b""}))


@pytest.mark.parametrize(("files", "found"), [({}, "none"), ({"a__har": PLAIN, "b__har": PLAIN}, "a.har, b.har")])
def test_an_archive_has_one_recording(files: dict[str, bytes], found: str, tmp_path: Path) -> None:
    with pytest.raises(HarError, match=rf"has {len(files)} HAR files \({found}\); allowed: 1; unpack it"):
        read(tmp_path, zipped(**files))


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zip": lambda data: zipped(har__har=data),
    "gzip in a zip": lambda data: zipped(har__har=gzip.compress(data)),
}


@pytest.mark.parametrize("form", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_is_in_memory(
    form: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(har_file, "MOST_HAR_BYTES", 3_000_000)
    with pytest.raises(HarError, match=r"has more than 3,000,000 bytes \(unpacked\); record less, or without videos"):
        read(tmp_path, form(b" " * 50_000_000))


def test_attached_bodies_count_towards_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    har = json.dumps(attached_form()).encode()
    monkeypatch.setattr(har_file, "MOST_HAR_BYTES", len(har) + 1_000)
    files = {"har__har": har, "order.json": b"x" * 600, "poll.json": b"x" * 600}
    for name in BODIES:
        (tmp_path / name).write_bytes(b"x" * 600)
    for data in (har, zipped(**files)):
        with pytest.raises(HarError, match="has more than"):
            read(tmp_path, data)


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har_file, "MOST_HAR_BYTES", 10)
    with pytest.raises(HarError, match="has more than 10 bytes"):
        read(tmp_path, PLAIN)


def encrypted() -> bytes:
    data = bytearray(zipped(har__har=PLAIN))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def of_unknown_method() -> bytes:
    data = bytearray(zipped(har__har=PLAIN))
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 97
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(zipped(har__har=PLAIN))
    data[60] ^= 255
    return bytes(data)


BROKEN_FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "white space": (b" \n", "is empty"),
    "rubbish": (bytes(range(128, 256)) * 9, "is not"),
    "zeros": (b"\0" * 99, "is not"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "is not"),
    "half a gzip": (gzip.compress(PLAIN)[:-30], "breaks off"),
    "a damaged gzip": (gzip.compress(PLAIN)[:20] + b"\xff" * 50, "cannot be unpacked"),
    "half a zip": (zipped(har__har=PLAIN)[:200], "is not a readable ZIP archive"),
    "an encrypted zip": (encrypted(), "cannot be unpacked"),
    "an unknown method": (of_unknown_method(), "cannot be unpacked"),
    "a damaged zip": (damaged(), "cannot be unpacked"),
    "half a JSON": (PLAIN[:-5], "is not valid JSON"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN_FILES.values(), ids=BROKEN_FILES.keys())
def test_a_broken_file_is_refused_with_its_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(HarError, match=reason):
        read(tmp_path, data)


def test_a_directory_and_a_missing_file_are_errors_of_the_system(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError, match="directory"):
            open_har(path)


def test_bytes_are_parsed_without_a_file() -> None:
    assert parse_har(zlib.compress(b'{"log": 1}')) == {"log": 1}
