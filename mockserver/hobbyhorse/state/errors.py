"""The errors of a state, and how its place is written. Small, because every server imports it, also without a state."""

from __future__ import annotations

REDIS_SCHEMES = ("redis://", "rediss://")
"""How the URL of a state begins that servers share; any other place of a state is a folder."""


class StateError(Exception):
    """The state cannot be used, for a reason that the user can correct; the message is one line."""


class StoreFailure(Exception):
    """A store has not done what it was asked for; it may do it later."""


class NotKept(Exception):
    """A change was not kept, and will not be: the world in memory is no more true."""
