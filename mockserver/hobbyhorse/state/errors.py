"""The errors of a state, and how its place is written. Small, because every server imports it, also without a state."""

from __future__ import annotations

REDIS_SCHEMES = ("redis://", "rediss://")
"""How the URL of a state begins that servers share; any other place of a state is a folder."""


SEE = "; `hobbyhorse state check` lists all damage"


class StateError(Exception):
    """The state cannot be used, for a reason that the user can correct; the message is one line."""


def unreadable(what: str, error: Exception) -> StateError:
    """Return the error for a part of a state that is damaged."""
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return StateError(f"{what} cannot be read: {why}{SEE}")


class StoreFailure(Exception):
    """A store has not done what it was asked for; it may do it later."""


class NotKept(Exception):
    """A change was not kept, and will not be: the world in memory is no more true."""
