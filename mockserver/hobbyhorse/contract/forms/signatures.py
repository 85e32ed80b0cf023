"""Signatures of callbacks, for the fake and for receivers. Knows neither contracts nor HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FIELDS = ("timestamp", "id", "signature")
"""The fields that a header of a signed message can carry."""

_PART = re.compile(r"[^={},;]+=(\{(timestamp|id|signature)\})")

DEFAULT_SECRET = "whsec_aG9iYnlob3JzZS1ub3Qtc2VjcmV0"


@dataclass(frozen=True, slots=True)
class Signature:
    """A scheme to sign messages with HMAC-SHA256: the signed content, the digest's encoding, and the headers.

    A header has one field, such as `v1,{signature}`, or a list of fields, such as `t={timestamp},v1={signature}`.
    """

    encoding: str
    secret: str
    content: str
    headers: Mapping[str, str]
    tolerance: float | None = None


def sign(signature: Signature, secret: str, body: bytes, *, timestamp: int, message_id: str) -> dict[str, str]:
    """Sign a message; return the headers that carry the signature."""
    seal = _ENCODINGS[signature.encoding](_digest(signature, secret, body, str(timestamp), message_id))
    return {
        name: value.format(timestamp=timestamp, id=message_id, signature=seal)
        for name, value in signature.headers.items()
    }


def verify(
    signature: Signature, secret: str, body: bytes, headers: Mapping[str, str], *, now: float | None = None
) -> bool:
    """Whether headers (with lower-case names) sign this body and, with `now`, have a timestamp within the tolerance."""
    found: dict[str, list[str]] = {}
    for name, pattern in signature.headers.items():
        if (value := headers.get(name.lower())) is None:
            return False
        for field, values in read_header(pattern, value).items():
            found.setdefault(field, []).extend(values)
    # Only the first occurrence of a repeated field counts, except for signatures: during a change of its secret, a
    # sender signs with the old and the new one.
    timestamp, message_id = found.get("timestamp", [""])[0], found.get("id", [""])[0]
    dated = any("{timestamp}" in pattern for pattern in signature.headers.values())
    if now is not None and signature.tolerance is not None and dated:
        # int() also accepts other scripts' digits and spaces, and is slow for very long numbers.
        if not re.fullmatch("[0-9]{1,18}", timestamp):
            return False
        if abs(now - int(timestamp)) > signature.tolerance:
            return False
    expected = _ENCODINGS[signature.encoding](_digest(signature, secret, body, timestamp, message_id)).encode()
    return any(hmac.compare_digest(expected, one.encode()) for one in found.get("signature", [""]))


def list_of_fields(pattern: str) -> tuple[str, list[str]] | None:
    """Return the separator and parts of a header pattern that is a list of named fields, or None for other patterns."""
    separator = "," if "," in pattern else ";"
    parts = pattern.split(separator)
    listed = len(parts) > 1 and all(_PART.fullmatch(part) for part in parts)
    return (separator, parts) if listed else None


def read_header(pattern: str, value: str) -> dict[str, list[str]]:
    """Return the fields of a header's value by name, or {} if the value does not match the pattern."""
    if (listed := list_of_fields(pattern)) is None:
        return _field(pattern, value)
    separator, parts = listed
    found: dict[str, list[str]] = {}
    for item in value.split(separator):
        # A truncated or joined header must not pass verification with its intact fields.
        if "=" not in item:
            return {}
        for part in parts:
            for field, values in _field(part, item).items():
                found.setdefault(field, []).extend(values)
    return found


def _field(pattern: str, value: str) -> dict[str, list[str]]:
    """Return the value's field for a pattern with one field, such as `v1,{signature}`, or {}."""
    for field in FIELDS:
        before, mark, after = pattern.partition("{" + field + "}")
        if mark and value.startswith(before) and value.endswith(after):
            return {field: [value[len(before) : len(value) - len(after)]]}
    return {}


def _digest(signature: Signature, secret: str, body: bytes, timestamp: str, message_id: str) -> bytes:
    # The body is bytes and may contain braces, so it is never formatted as text.
    before, mark, after = signature.content.partition("{body}")
    frame = [part.format(timestamp=timestamp, id=message_id).encode() for part in (before, after)]
    signed = frame[0] + (body if mark else b"") + frame[1]
    return hmac.new(_SECRETS[signature.secret](secret), signed, hashlib.sha256).digest()


_ENCODINGS: Mapping[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "base64": lambda digest: base64.b64encode(digest).decode(),
}

_SECRETS: Mapping[str, Callable[[str], bytes]] = {
    "text": str.encode,
    "whsec-text": lambda secret: secret.removeprefix("whsec_").encode(),
    "whsec-base64": lambda secret: base64.b64decode(secret.removeprefix("whsec_")),
}
