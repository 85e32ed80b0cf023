"""The stored pictures of a server by their owners, in the order of their last use: says which have to go. No files.

One bound holds for all pictures together. The owner with the most bytes loses its least recently used picture first, so
that a key with thousands of pictures does not cost another key its only one. A picture belongs to the owner that stored
it last.
"""

from __future__ import annotations

from collections import defaultdict


class PictureShelf:
    """Names and sizes of pictures, of at most `most_bytes` bytes in all."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._owners: dict[str, str] = {}
        # Each with its least recently used picture first.
        self._sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self._bytes: dict[str, int] = defaultdict(int)
        self.total = 0
        """The bytes of all pictures."""

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, name: str, size: int, owner: str) -> list[str]:
        """Add a picture that is being used, or give it another owner; return the names that have to go."""
        self._remove(name)
        self._owners[name] = owner
        self._sizes[owner][name] = size
        self._bytes[owner] += size
        self.total += size
        gone = []
        while self.total > self._most_bytes and len(self._owners) > 1:
            largest = max(self._bytes, key=self._bytes.__getitem__)
            # The new one stays, even if it is the only one of its owner.
            first = next((one for one in self._sizes[largest] if one != name), None) or self._first_but(name)
            self._remove(first)
            gone.append(first)
        return gone

    def use(self, name: str) -> None:
        """Note that a picture is being used."""
        owner = self._owners.get(name)
        if owner is not None:
            sizes = self._sizes[owner]
            sizes[name] = sizes.pop(name)

    def _first_but(self, name: str) -> str:
        return next(one for one in self._owners if one != name)

    def _remove(self, name: str) -> None:
        owner = self._owners.pop(name, None)
        if owner is None:
            return
        size = self._sizes[owner].pop(name)
        self._bytes[owner] -= size
        self.total -= size
        if not self._sizes[owner]:
            del self._sizes[owner], self._bytes[owner]
