"""Large request bodies, as a worker process reads them: parsed, and without the texts that make them large.

A body of megabytes is a picture in it, as a data URI. Reading it takes a quarter of a second, in which the server
could respond to nobody. So a worker process parses it, writes each long data URI to a file, and puts a short one in
its place that names the file: everything that follows, such as the validation, is then as cheap as for any body. The
names are random, and only those of the same request are known, so that no client can name the picture of another one.

Any other long text is kept to its first `LONG_TEXT` characters: no provider takes a prompt of that length.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from hobbyhorse.contract.request import Refusal, read_body

# Bodies up to this size are parsed at once, in a few milliseconds; four documented pictures of 10 MiB are larger.
MOST_INLINE_BYTES = 1 << 20
# Far more members and items than any documented request has; as Python objects they take a hundred megabytes.
MOST_COMMAS = 200_000
# Characters of a text that stays in a large body: a hundred times the longest documented prompt.
LONG_TEXT = 256 * 1024
# Characters before the data of a data URI: its media type with parameters.
MOST_URI_HEAD = 200
# Processor time that reading a body may take: 64 MiB take one.
BODY_SECONDS = 10.0

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# As many characters as base64 may have, so that the short URI is a valid one.
_MARK = "spooled+"
_SPOOLED = re.compile(rf"data:[^,]{{0,{MOST_URI_HEAD}}};base64,{re.escape(_MARK)}([0-9a-f]{{32}})", re.IGNORECASE)


class ReadBody(NamedTuple):
    """A body's object, or its refusal; the hash of the whole object; the files of its long data URIs by name."""

    value: Any
    fingerprint: bytes = b""
    spooled: Mapping[str, Path] = {}


def fingerprint_of(value: Any) -> bytes:
    """Return a hash of an object: equal for a retry that serializes the same object differently."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


def too_many(body: bytes) -> Refusal | None:
    """Refuse a body with too many members and items, before it is parsed."""
    # Commas in texts count for nothing; but most bodies do not even have enough with these.
    if body.count(b",") <= MOST_COMMAS or _STRING.sub(b"", body).count(b",") <= MOST_COMMAS:
        return None
    message = f"the body has more than {MOST_COMMAS} commas outside texts; this is a bound of the mock server"
    return Refusal("body_too_large", message, ("body",))


def read_large_body(content_type: str | None, body: bytes, directory: Path) -> ReadBody:
    """Read a body in a worker process; see above."""
    value = too_many(body) or read_body(content_type, body)
    if isinstance(value, Refusal):
        return ReadBody(value)
    spooled: dict[str, Path] = {}
    return ReadBody(_short(value, directory, spooled), fingerprint_of(value), spooled)


def _short(value: Any, directory: Path, spooled: dict[str, Path]) -> Any:
    """Return a value without long texts; its nesting is bounded already."""
    if isinstance(value, dict):
        return {name[:LONG_TEXT]: _short(one, directory, spooled) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one, directory, spooled) for one in value]
    if not isinstance(value, str) or len(value) <= LONG_TEXT:
        return value
    head, comma, _ = value[:MOST_URI_HEAD].partition(",")
    if not (comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64"):
        return value[:LONG_TEXT]
    name = secrets.token_hex(16)
    spooled[name] = directory / f"{name}.uri"
    spooled[name].write_text(value)
    return f"{head},{_MARK}{name}"


def spooled_name(url: str) -> str | None:
    """Return the name in a short data URI that stands for a long one, or None for any other."""
    found = _SPOOLED.fullmatch(url)
    return found[1] if found is not None else None
