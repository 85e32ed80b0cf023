"""The idempotency keys of one world, and the jobs that they made; knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A used idempotency key: what was asked with it, the job that it made, and until when it holds."""

    fingerprint: bytes
    job: str
    until: float


class IdempotencyKeys:
    """The idempotency keys of one world, those of requests that are still being read among them."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], UsedKey] = {}
        self._in_flight: set[tuple[str, str]] = set()

    def begin(self, provider: str, key: str) -> bool:
        """Claim a key for a request that is being read; False if another request holds it."""
        if (provider, key) in self._in_flight:
            return False
        self._in_flight.add((provider, key))
        return True

    def end(self, provider: str, key: str) -> None:
        """Give up the claim."""
        self._in_flight.discard((provider, key))

    def recall(self, provider: str, key: str, now: float) -> UsedKey | None:
        """Return what a key was used for, while that holds."""
        found = self._remembered.get((provider, key))
        if found is not None and found.until <= now:
            del self._remembered[provider, key]
            return None
        return found

    def remember(self, provider: str, key: str, used: UsedKey) -> None:
        """Keep what a key was used for."""
        self._remembered[provider, key] = used
