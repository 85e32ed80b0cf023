"""The idempotency keys of one world, and the jobs that they made. No HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

# Used keys kept per world, the newest ones: as many as `serve` keeps jobs of a world. Each takes some 300 bytes.
MOST_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class UsedKey:
    """A used idempotency key: the fingerprint of its request, its job, and its expiry time."""

    fingerprint: bytes
    job: str
    until: float


class IdempotencyKeys:
    """The used keys of one world, and the keys that requests in flight have claimed.

    Because of the claims, two concurrent requests with one key conflict instead of making two jobs.
    """

    def __init__(
        self, most: int = MOST_KEYS, kept: Callable[[str, str], UsedKey | None] = lambda provider, key: None
    ) -> None:
        """Make the keys of a world; `kept` returns the use of a key in an earlier process, by provider and key."""
        self._most, self._kept = most, kept
        self._remembered: dict[tuple[str, str], UsedKey] = {}
        self._in_flight: set[tuple[str, str]] = set()

    def begin(self, provider: str, key: str) -> bool:
        """Claim a key for a request; return False if another request holds the claim."""
        if (provider, key) in self._in_flight:
            return False
        self._in_flight.add((provider, key))
        return True

    def end(self, provider: str, key: str) -> None:
        """Release the claim on a key."""
        self._in_flight.discard((provider, key))

    def recall(self, provider: str, key: str, now: float) -> UsedKey | None:
        """Return the use of a key that has not expired, or None."""
        found = self._remembered.get((provider, key)) or self._kept(provider, key)
        if found is not None and found.until <= now:
            # Removed on access, because a timer for each key would prevent the clock from being idle.
            self._remembered.pop((provider, key), None)
            return None
        return found

    def remember(self, provider: str, key: str, used: UsedKey) -> None:
        """Record the use of a key."""
        self._remembered[provider, key] = used
        if len(self._remembered) > self._most:
            # Many at once: to find the first of a dictionary takes longer, the more were removed before it.
            for old in [*islice(self._remembered, 1 + self._most // 1_000)]:
                del self._remembered[old]
