"""Large request bodies, as a worker process reads them: parsed, and without the pictures that make them large.

A body of megabytes is a picture in it, as a data URI. Reading it takes a quarter of a second, in which the server
could respond to nobody. So a worker process parses it, writes each data URI to a file, and puts a short one in its
place that names the file: everything that follows, such as the validation, is then as cheap as for any body. The names
are random, and a request knows only its own, so that no client can name the picture of another one.

The rest of a body has a bound, `MOST_REST_BYTES`, because everything else that the server does with an order takes a
time, and a memory, in proportion to it: to validate it, to keep it with its job, to repeat its metadata in a list.
Members and items cost more than long texts, so the bytes outside texts have the bound of a body that is read at once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from hobbyhorse.contract.request import Order, Refusal, read_body

# Bytes of a body that is read at once, and of the rest of any body outside its texts. The largest documented order has
# a tenth of it; as empty lists, it holds the event loop for 30 ms.
MOST_INLINE_BYTES = 64 * 1024
# Bytes of the rest of a body with its texts: a prompt that is far too long still gets the provider's own refusal.
MOST_REST_BYTES = 256 * 1024
# Characters of a data URI from which it is written to a file: a smaller one is no larger than a prompt.
LONG_URI = 1024
# Data URIs that are written to files: ten times as many as an order has pictures.
MOST_SPOOLED = 100
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


def too_large(size: int, part: str, most: int) -> Refusal | None:
    """Refuse a body of which a part has too many bytes."""
    if size <= most:
        return None
    message = f"the body has {size} bytes {part}; at most {most}; this is a bound of the mock server"
    return Refusal("body_too_large", message, ("body",))


def read_large_body(content_type: str | None, body: bytes, directory: Path) -> ReadBody:
    """Read a body in a worker process; see above."""
    # Before it is parsed: as Python objects, millions of members would take gigabytes.
    outside = len(_STRING.sub(b"", body))
    value = too_large(outside, "outside texts", MOST_INLINE_BYTES) or read_body(content_type, body)
    if isinstance(value, Refusal):
        return ReadBody(value)
    spooled: dict[str, Path] = {}
    short = _short(value, directory, spooled)
    rest = f"without data URIs of at least {LONG_URI} characters"
    return ReadBody(too_large(len(orjson.dumps(short)), rest, MOST_REST_BYTES) or short, fingerprint_of(value), spooled)


def _short(value: Any, directory: Path, spooled: dict[str, Path]) -> Any:
    """Return a value without long data URIs; its nesting is bounded already."""
    if isinstance(value, dict):
        return {name: _short(one, directory, spooled) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one, directory, spooled) for one in value]
    if not isinstance(value, str) or len(value) < LONG_URI or len(spooled) == MOST_SPOOLED:
        return value
    head, comma, _ = value[:MOST_URI_HEAD].partition(",")
    if not (comma and head[:5].lower() == "data:" and head[-7:].lower() == ";base64"):
        return value
    name = secrets.token_hex(16)
    spooled[name] = directory / f"{name}.uri"
    spooled[name].write_text(value)
    return f"{head},{_MARK}{name}"


def unkept_echo(order: Order, spooled: Collection[str]) -> Refusal | None:
    """Refuse an order with a spooled data URI in a value that responses repeat as it was sent."""
    # The common case: a body without large pictures.
    if not spooled:
        return None
    # In an input it is a picture, for which a provider shows another URL.
    repeated = orjson.dumps([order.prompt, *(value for name, value in order.echoed.items() if name != "input")])
    if not any(name.encode() in repeated for name in spooled):
        return None
    message = f"a data URI of at least {LONG_URI} characters may only be a picture; this is a bound of the mock server"
    return Refusal("body_too_large", message, ("body",))


def spooled_name(url: str) -> str | None:
    """Return the name in a short data URI that stands for a long one, or None for any other."""
    found = _SPOOLED.fullmatch(url)
    return found[1] if found is not None else None
