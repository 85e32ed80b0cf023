"""Signatures of callbacks: made by the fake, verified by receivers; knows no contract and no HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

DEFAULT_SECRET = "whsec_aG9iYnlob3JzZS1ub3Qtc2VjcmV0"


@dataclass(frozen=True, slots=True)
class Signature:
    """How a message is signed: what goes into the digest, how it is written, and in which headers."""

    scheme: str
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
    found: dict[str, str] = {}
    for name, pattern in signature.headers.items():
        if (value := headers.get(name.lower())) is None:
            return False
        found.update(_fields(pattern, value))
    timestamp = found.get("timestamp", "")
    dated = any("{timestamp}" in pattern for pattern in signature.headers.values())
    if now is not None and signature.tolerance is not None and dated:
        if not re.fullmatch("[0-9]{1,18}", timestamp):
            return False
        if abs(now - int(timestamp)) > signature.tolerance:
            return False
    digest = _digest(signature, secret, body, timestamp, found.get("id", ""))
    expected = _ENCODINGS[signature.encoding](digest)
    return hmac.compare_digest(expected.encode(), found.get("signature", "").encode())


def _fields(pattern: str, value: str) -> dict[str, str]:
    """Return the field of a pattern such as `v1,{signature}` in a value, as a one-entry mapping."""
    for field in ("timestamp", "id", "signature"):
        before, mark, after = pattern.partition("{" + field + "}")
        if mark and value.startswith(before) and value.endswith(after):
            return {field: value[len(before) : len(value) - len(after)]}
    return {}


def _digest(signature: Signature, secret: str, body: bytes, timestamp: str, message_id: str) -> bytes:
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
