"""Signed media links: a link grants access to its file until it expires. No HTTP."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hobbyhorse.contract.formats import whole_number


class LinkError(ValueError):
    """A link is not valid. `code` is the error code of the object store (S3)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """Signs and checks paths. The secret is derived from the server's seed, so links are the same in each run."""

    secret: bytes

    def query(self, path: str, expires: float | None) -> str:
        """Return the query that signs a path until the time `expires`, or forever if it is None."""
        if expires is None:
            return f"Signature={self._seal(path, '')}"
        # Rounded down, because responses show whole seconds, and a link must not be valid after the expiry shown.
        until = str(math.floor(expires))
        return f"Expires={until}&Signature={self._seal(path, until)}"

    def check(self, path: str, query: Mapping[str, str], now: float) -> None:
        """Raise LinkError unless the query signs this path and has not expired."""
        until = query.get("Expires", "")
        # As bytes, since compare_digest refuses text outside ASCII. Before the expiry, which is only as good as its
        # signature.
        if not hmac.compare_digest(self._seal(path, until).encode(), query.get("Signature", "").encode()):
            raise LinkError("SignatureDoesNotMatch", "The signature of the request does not match its path.")
        # Also a signed expiry may be no number: the secret of a seed is public.
        expiry = whole_number(until)
        if until and expiry is None:
            raise LinkError("AccessDenied", "Invalid date (should be seconds since epoch)")
        if expiry is not None and now > expiry:
            raise LinkError("AccessDenied", "Request has expired")

    def _seal(self, path: str, until: str) -> str:
        return hmac.new(self.secret, f"{path}\n{until}".encode(), hashlib.sha256).hexdigest()[:32]


def signer(seed: int) -> LinkSigner:
    """Return the signer of a server with this seed."""
    return LinkSigner(hashlib.sha256(f"hobbyhorse media {seed}".encode()).digest())
