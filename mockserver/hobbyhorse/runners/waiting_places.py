"""Name the places where threads and asyncio tasks wait: the innermost function of the client's own code. No server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

# Number of places that a message names: a client with more has the same few places many times.
MOST_PLACES = 8
_PYTHON = os.path.dirname(os.__file__) + os.sep
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def is_client_file(file: str) -> bool:
    """Whether a file belongs to the client: not to Python, an installed package, or hobbyhorse."""
    return "site-packages" not in file and not file.startswith((_PYTHON, _PACKAGE, "<"))


def waiting_places(idents: Iterable[int]) -> str:
    """Return where threads wait, such as `in generate (client.py:12); 3 tasks in poll (client.py:40)`."""
    frames = sys._current_frames()
    places = Counter(place for ident in idents if ident in frames for place in _places(frames[ident]))
    # Sorted, because tasks have no order, and equal runs give equal messages.
    words = [_in_words(*place, number) for place, number in sorted(places.items())]
    more = [f"and {len(words) - MOST_PLACES} more"] if len(words) > MOST_PLACES else []
    return "; ".join([*words[:MOST_PLACES], *more])


def _in_words(kind: str, place: str, number: int) -> str:
    return f"{f'{number} {kind}s ' if number > 1 else '' if kind == 'thread' else f'{kind} '}in {place}"


def _places(frame: FrameType) -> Iterator[tuple[str, str]]:
    """Yield the places of a thread's tasks, or of the thread itself if it has none."""
    tasks = [task for loop in _loops(frame) for task in asyncio.all_tasks(loop)]
    for task in tasks:
        yield "task", _innermost([(one.f_code, one.f_lineno) for one in _task_frames(task)])
    if not tasks:
        yield "thread", _innermost([(one.f_code, one.f_lineno) for one in _outward(frame)])


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _loops(frame: FrameType) -> Iterator[asyncio.AbstractEventLoop]:
    for one in _outward(frame):
        loop = one.f_locals.get("self") if one.f_code.co_name == "run_forever" else None
        if isinstance(loop, asyncio.AbstractEventLoop):
            yield loop


def _task_frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Return the frames of the coroutines that a task awaits, the innermost first."""
    found, awaited = [], task.get_coro()
    while awaited is not None:
        frame = _attribute(awaited, "cr_frame", "gi_frame", "ag_frame")
        if isinstance(frame, FrameType):
            found.append(frame)
        awaited = _attribute(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return found[::-1]


def _attribute(value: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(value, name, None)) is not None), None)


def _innermost(frames: list[tuple[CodeType, int]]) -> str:
    """Return the first place in the client's own code, or else in an installed package, or else the first of all."""
    own = [one for one in frames if is_client_file(one[0].co_filename)]
    packages = [one for one in frames if "site-packages" in one[0].co_filename]
    for code, line in (own or packages or frames)[:1]:
        return f"{code.co_name} ({_short(code.co_filename)}:{line})"
    return "code that is not written in Python"


def _short(file: str) -> str:
    """Return a file's path relative to the current directory, or only its name."""
    with suppress(OSError, ValueError):  # the current directory may not exist
        return str(Path(file).relative_to(os.getcwd()))
    return os.path.basename(file)
