"""Signatures of callbacks, for the fake and for receivers. Knows no contract and no HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FIELDS = ("timestamp", "id", "signature")
"""What a header of a signed message can carry."""

_PART = re.compile(r"[^={},;]+=(\{(timestamp|id|signature)\})")

DEFAULT_SECRET = "whsec_aG9iYnlob3JzZS1ub3Qtc2VjcmV0"


@dataclass(frozen=True, slots=True)
class Signature:
    """How a message is signed with HMAC-SHA256: what is signed, how the digest is written, and in which headers.

    A header has one field, such as `v1,{signature}`, or is a list of fields, such as `t={timestamp},v1={signature}`.
    """

    encoding: str
    secret: str
    content: str
    headers: Mapping[str, str]
    tolerance: float | None = None


def sign(signature: Signature, secret: str, body: bytes, *, timestamp: int, message_id: str) -> dict[str, str]:
    """Return the headers that a signed message carries."""
    seal = _ENCODINGS[signature.encoding](_digest(signature, secret, body, str(timestamp), message_id))
    return {
        name: value.format(timestamp=timestamp, id=message_id, signature=seal)
        for name, value in signature.headers.items()
    }


def verify(
    signature: Signature, secret: str, body: bytes, headers: Mapping[str, str], *, now: float | None = None
) -> bool:
    """Whether the headers (names in lower case) are those of this body and, with `now`, fresh enough."""
    found: dict[str, list[str]] = {}
    for name, pattern in signature.headers.items():
        if (value := headers.get(name.lower())) is None:
            return False
        for field, values in read_header(pattern, value).items():
            found.setdefault(field, []).extend(values)
    # Of a repeated field the first counts. A signature may be repeated, because a sender that is changing its secret
    # signs with the old and the new one.
    timestamp, message_id = found.get("timestamp", [""])[0], found.get("id", [""])[0]
    dated = any("{timestamp}" in pattern for pattern in signature.headers.values())
    if now is not None and signature.tolerance is not None and dated:
        # int() accepts other digits and spaces, and takes long for very many digits.
        if not re.fullmatch("[0-9]{1,18}", timestamp):
            return False
        if abs(now - int(timestamp)) > signature.tolerance:
            return False
    expected = _ENCODINGS[signature.encoding](_digest(signature, secret, body, timestamp, message_id)).encode()
    return any(hmac.compare_digest(expected, one.encode()) for one in found.get("signature", [""]))


def list_of_fields(pattern: str) -> tuple[str, list[str]] | None:
    """Return the separator and the parts of a header that lists named fields, or None if it is not such a list."""
    separator = "," if "," in pattern else ";"
    parts = pattern.split(separator)
    listed = len(parts) > 1 and all(_PART.fullmatch(part) for part in parts)
    return (separator, parts) if listed else None


def read_header(pattern: str, value: str) -> dict[str, list[str]]:
    """Return the fields of a header's value by name; nothing if the value does not fit the pattern."""
    if (listed := list_of_fields(pattern)) is None:
        return _field(pattern, value)
    separator, parts = listed
    found: dict[str, list[str]] = {}
    for item in value.split(separator):
        # A truncated or joined header must not verify by the fields that survived.
        if "=" not in item:
            return {}
        for part in parts:
            for field, values in _field(part, item).items():
                found.setdefault(field, []).extend(values)
    return found


def _field(pattern: str, value: str) -> dict[str, list[str]]:
    """Return the one field of a pattern such as `v1,{signature}` in a value."""
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
