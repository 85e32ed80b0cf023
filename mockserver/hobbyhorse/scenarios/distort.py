"""The faults that change a response's bytes: a table of pure functions. No connection, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.values import Operation
from hobbyhorse.scenarios.moves import MOVES
from hobbyhorse.scenarios.scenario import Move, field_of

HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head>"
    b"<body><h1>The service is not available</h1><p>This page is not a response to your request.</p></body></html>\n"
)
# Bytes of a page or picture that replaces a file: as large as a short video, so that its size alone does not reveal it.
LARGE = 48 * 1024
LARGE_HTML = HTML.replace(b"</body>", b"<!--" + b" nothing to see here;" * (LARGE // 21) + b" -->\n</body>")


def _large_png() -> bytes:
    """Return a one-pixel PNG, padded with a comment to about LARGE bytes."""
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154"
        "789c6360606060000000050001a5f645400000000049454e44ae426082"
    )
    comment = b"tEXtComment\0" + b"nothing to see here; " * (LARGE // 21)
    chunk = (len(comment) - 4).to_bytes(4, "big") + comment + zlib.crc32(comment).to_bytes(4, "big")
    # After the signature (8 bytes) and IHDR (25): a tEXt chunk may stand anywhere between IHDR and IEND.
    return pixel[:33] + chunk + pixel[33:]


PNG = _large_png()
"""A valid picture of about LARGE bytes."""
UNKNOWN_WORD = "reticulating"
EXTRA_FIELD = "x_unexpected"
LINK_ORIGINS: Mapping[str, str] = {"foreign": "http://foreign.invalid", "private": "http://169.254.169.254"}
"""The default origins of the address faults: a reserved name (RFC 2606), and the metadata service of cloud hosts."""
PRIVATE_PATH = "/latest/meta-data"


@dataclass(frozen=True, slots=True)
class Sent:
    """A response to send: status, headers (lower-case names, no Content-Length), body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def typed(self, media_type: str) -> Sent:
        """Return a copy with another Content-Type."""
        return self.headed("content-type", media_type)

    def headed(self, name: str, value: str) -> Sent:
        """Return a copy with a header, which replaces every header of its name."""
        bare = name.lower().encode("latin-1")
        others = tuple(header for header in self.headers if header[0] != bare)
        return replace(self, headers=(*others, (bare, value.encode("latin-1"))))


def places(move: Move, operation: Operation) -> list[Pointer]:
    """Return the pointers, in the operation's responses, to the fields that a fault changes."""
    kind = MOVES[move.kind]
    names = kind.names or (kind.needs or field_of(move, operation.role) or "",)
    bound = [operation.bindings[name] for name in names if name in operation.bindings]
    return [place.pointer for binding in bound for place in binding.response if place.part == "body"]


def has_field(move: Move, operation: Operation, body: bytes) -> bool:
    """Whether a response has a field that the fault changes."""
    value = as_json(body)
    found = [resolve(value, pointer) for pointer in places(move, operation)]
    return any(isinstance(here, str) if move.kind in ADDRESSES else here is not MISSING for here in found)


def distort(
    move: Move, sent: Sent, operation: Operation, random: Random, elsewhere: Mapping[str, str] = LINK_ORIGINS
) -> Sent:
    """Apply a body fault to a response. Other faults leave it unchanged.

    `elsewhere` overrides LINK_ORIGINS.
    """
    if move.kind in FIELDS:
        value = as_json(sent.body)
        for pointer in places(move, operation):
            here = resolve(value, pointer)
            if here is not MISSING:
                value = (
                    _removed(value, pointer)
                    if move.kind == "missing_field"
                    else replaced(value, pointer, FIELDS[move.kind](here, move))
                )
        return replace(sent, body=orjson.dumps(value))
    if (change := ADDRESSES.get(move.kind)) is not None:
        value = as_json(sent.body)
        for pointer in places(move, operation):
            if isinstance(here := resolve(value, pointer), str):
                value = replaced(value, pointer, change(here, random, {**LINK_ORIGINS, **elsewhere}))
        return replace(sent, body=orjson.dumps(value))
    make = BODIES.get(move.kind)
    return make(sent, move, random) if make is not None else sent


def retry_after(sent: Sent, options: Mapping[str, Any], now: float) -> Sent:
    """Return a response with the Retry-After of a fault's options; `now` is the moment on the client's clock."""
    if (seconds := options.get("retry_after")) is not None:
        return sent.headed("retry-after", str(seconds))
    if (seconds := options.get("retry_after_date")) is not None:
        return sent.headed("retry-after", formatdate(now + seconds, usegmt=True))
    return sent


def _removed(document: Any, pointer: Pointer) -> Any:
    """Return a document without the value at a pointer; list items after it move up."""
    holder = resolve(document, pointer[:-1])
    if isinstance(holder, list):
        index = int(pointer[-1])
        return replaced(document, pointer[:-1], [item for at, item in enumerate(holder) if at != index])
    return replaced(document, pointer, MISSING)


def _other_type(here: Any, move: Move) -> Any:
    if isinstance(here, str):
        return {"value": here}
    return [] if isinstance(here, dict) else str(here)


FIELDS: Mapping[str, Callable[[Any, Move], Any]] = {
    "unknown_status": lambda here, move: move.options.get("word", UNKNOWN_WORD),
    "missing_field": lambda here, move: MISSING,
    "null_field": lambda here, move: None,
    "empty_field": lambda here, move: "",
    "wrong_type": _other_type,
}
"""The new value of a field under each field fault, from the old one."""


def elsewhere_at(origin: str, address: str) -> str:
    """Return a URL with another origin and the same path and query."""
    # Joined as text, so that path and query stay the same byte for byte.
    parts = urlsplit(address)
    return origin.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def redirection(path: str, elsewhere: Mapping[str, str]) -> Sent:
    """Return a redirect to the same path and query on another origin."""
    location = elsewhere.get("foreign", LINK_ORIGINS["foreign"]).rstrip("/") + path
    return Sent(307, ((b"location", location.encode("latin-1")),), b"")


def _ticketed(here: str, random: Random, elsewhere: Mapping[str, str]) -> str:
    # Random for each URL: a query cannot be guessed from another one.
    return f"{here}{'&' if '?' in here else '?'}ticket={random.getrandbits(64):016x}"


ADDRESSES: Mapping[str, Callable[[str, Random, Mapping[str, str]], str]] = {
    "opaque_links": _ticketed,
    "foreign_links": lambda here, random, elsewhere: elsewhere_at(elsewhere["foreign"], here),
    "private_links": lambda here, random, elsewhere: elsewhere["private"].rstrip("/") + PRIVATE_PATH,
}
"""The new URL under each address fault, from the old one."""


def _malformed(sent: Sent, move: Move, random: Random) -> Sent:
    # At least half is kept, so that the body still looks like JSON, and at least one byte is lost.
    most = max(1, len(sent.body) - 1)
    return replace(sent, body=(sent.body or b"{")[: random.randint((most + 1) // 2, most)])


def _html(sent: Sent, move: Move, random: Random) -> Sent:
    # Without the headers of the usual response: such a page comes from a gateway, which does not know them.
    return Sent(move.options.get("status", 200), (), HTML).typed("text/html; charset=utf-8")


def _large_html(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(_html(sent, move, random), body=LARGE_HTML)


def _empty(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(sent, status=move.options.get("status", 200), body=b"")


def _extra(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(sent, body=orjson.dumps(_each(as_json(sent.body), lambda found: {**found, EXTRA_FIELD: [None]})))


def _reordered(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(sent, body=orjson.dumps(_each(as_json(sent.body), lambda found: dict(reversed(found.items())))))


def _no_bytes(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(sent, body=b"")


def _picture(sent: Sent, move: Move, random: Random) -> Sent:
    return replace(sent, body=PNG)


def _as_type(sent: Sent, move: Move, random: Random) -> Sent:
    return sent.typed(move.options.get("type", "application/octet-stream"))


BODIES: Mapping[str, Callable[[Sent, Move, Random], Sent]] = {
    "malformed_json": _malformed,
    "html_page": _html,
    "empty_body": _empty,
    "extra_field": _extra,
    "reordered": _reordered,
}
"""The response of an operation under each body fault."""

MEDIA_BODIES: Mapping[str, Callable[[Sent, Move, Random], Sent]] = {
    "html_page": _large_html,
    "zero_bytes": _no_bytes,
    "not_video": _picture,
    "wrong_type": _as_type,
}
"""The response for a file under each media fault that replaces it."""


def _each(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return a JSON value with `change` applied to every object, inner objects first."""
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    if isinstance(value, dict):
        return change({name: _each(item, change) for name, item in value.items()})
    return value
