"""Read values that a client made, whose methods may raise, loop or return nonsense. No server.

`str()`, `repr()`, `getattr()` and even `isinstance()` may run a client's code. Invariants:

* Nothing that such code raises leaves this module, except RunOver and Stuck, with which the runner ends a run.
* Results are plain strings of bounded length. They can be encoded: a message may become JSON, HTML or XML.
* Code that never ends is not stopped here. Read values in the client's own thread, which its run's limits end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from hobbyhorse.runners.scheduler import RunOver, Stuck

# Maximum number of characters of a text that are searched. More than the longest response body in an error's message.
MOST_SEARCHED = 100_000
# Addresses differ between runs, and equal seeds give equal messages.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# The descriptors of `type` itself, because a metaclass may replace `__name__` and `__mro__`.
_name_of, _mro_of = vars(type)["__name__"].__get__, vars(type)["__mro__"].__get__

T = TypeVar("T")


def tried(call: Callable[[], T], default: T) -> T:
    """Return `call()`, or `default` if it raises."""
    try:
        return call()
    except (RunOver, Stuck):
        raise
    except BaseException:
        return default


def type_name(value: Any) -> str:
    """Return the name of a value's type."""
    name: str = _name_of(type(value))
    return name


def type_names(value: Any) -> list[str]:
    """Return the names of a value's type and its base types."""
    return [_name_of(kind) for kind in _mro_of(type(value))]


def is_a(value: Any, kind: type) -> bool:
    """Whether a value is an instance of a type by its real type: its `__class__` may be a property."""
    return kind in _mro_of(type(value))


def safe_str(value: Any) -> str:
    """Return `str(value)`; if it is long, only its first and last characters."""
    return _shortened(value, str)


def safe_repr(value: Any) -> str:
    """Return `repr(value)` without addresses; if it is long, only its first and last characters."""
    return _ADDRESS.sub("", _shortened(value, repr))


def _shortened(value: Any, convert: Callable[[Any], str]) -> str:
    # `str()` may return an instance of a subclass; `str.__str__` makes it a plain string.
    text = tried(lambda: str.__str__(convert(value)), f"<{type_name(value)} without a readable text>")
    half = MOST_SEARCHED // 2
    return text if len(text) <= MOST_SEARCHED else f"{text[:half]}...{text[-half:]}"


def printable(text: str) -> str:
    """Return a text without control characters and lone surrogates, which XML or UTF-8 cannot contain."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)
