"""Clients that are Python callables: how they are found, called, and how their end is read; knows no server."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from hobbyhorse.traces.trace import Outcome

Client = Callable[..., Any]
"""`(base_url, api_key, request)` to a path, bytes or the video's URL; may be async, may take `callback` and `model`."""

TIMEOUT_WORDS = re.compile(
    r"tim(ed|e)[ -]?out|deadline|gave up waiting|still running|did not (end|finish)\b(?! success)", re.IGNORECASE
)
MOST_WORDS = 2_000
URL = re.compile(r"https?://", re.IGNORECASE)


class ClientError(Exception):
    """A client that cannot be found or called, and why."""


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """Where a client may listen for callbacks, and the secret that signs them."""

    url: str
    secret: str


def find_client(text: str) -> Client:
    """Return the callable that `module:function` or `path/to/file.py:function` names. Raises ClientError."""
    where, mark, name = text.rpartition(":")
    if not mark or not where or not name:
        raise ClientError(f"{text!r} is no client; it is MODULE:FUNCTION or FILE.py:FUNCTION")
    try:
        module = _module_of(Path(where)) if where.endswith(".py") else _imported(where)
    except ClientError:
        raise
    except Exception as error:
        raise ClientError(f"{where!r} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise ClientError(f"{where!r} has no function {name!r}; it has {', '.join(names) or 'none'}")
    client: Client = found
    return client


def _imported(name: str) -> Any:
    """Import a module; one in the current directory counts, as it does for `python -m`."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        return importlib.import_module(name)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _module_of(path: Path) -> Any:
    if not path.is_file():
        raise ClientError(f"there is no file {str(path)!r}")
    name = "hobbyhorse_client_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def takes(client: Client, name: str) -> bool:
    """Whether a client takes an argument of that name."""
    try:
        parameters = inspect.signature(client).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.name == name or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def call(
    client: Client,
    base_url: str,
    api_key: str,
    request: Mapping[str, Any],
    *,
    model: str,
    callback: CallbackTarget | None = None,
) -> Any:
    """Call a client, and wait for it where it is asynchronous."""
    more: dict[str, Any] = {"model": model} if takes(client, "model") else {}
    if takes(client, "callback"):
        more["callback"] = callback
    value = client(base_url, api_key, request, **more)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value


def success(value: Any, ended: float) -> Outcome:
    """Return how a run ended that returned a value: a path, bytes, or an address; anything else is no video."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _with_bytes(bytes(value), ended)
    if isinstance(value, str) and URL.match(value):
        return Outcome("success", ended, by_reference=True, message=value[:MOST_WORDS])
    if isinstance(value, str | PathLike):
        try:
            return _with_bytes(Path(value).read_bytes(), ended)
        except (OSError, ValueError) as error:
            return Outcome("success", ended, size=0, message=f"returned {value!r}, which cannot be read: {error}")
    words = f"returned {value!r:.200}; a client returns a path, bytes, or the video's address"
    return Outcome("success", ended, size=0, message=words)


def _with_bytes(data: bytes, ended: float) -> Outcome:
    return Outcome("success", ended, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def failure(error: BaseException, ended: float) -> Outcome:
    """Return how a run ended that raised: `timeout` where the type or the words say so, `failed` elsewhere."""
    words = f"{type(error).__name__}: {error}"
    members = _members(error)
    if members != [error]:
        words += f" ({'; '.join(f'{type(one).__name__}: {one}' for one in members)})"
    return Outcome("timeout" if all(map(_late, members)) else "failed", ended, message=words[:MOST_WORDS])


def _members(error: BaseException) -> list[BaseException]:
    """Return the errors that a group is of, and those of the groups in it; of any other error, itself."""
    inner = getattr(error, "exceptions", None)
    if isinstance(inner, list | tuple) and inner and all(isinstance(one, BaseException) for one in inner):
        return [member for one in inner for member in _members(one)]
    return [error]


def _late(error: BaseException) -> bool:
    """Whether the type of an error, or its words, say that time was up."""
    kinds = type(error).__mro__
    return any(TIMEOUT_WORDS.search(kind.__name__) for kind in kinds) or TIMEOUT_WORDS.search(str(error)) is not None


def with_ids(outcome: Outcome, error: BaseException | None, jobs: Iterable[str]) -> Outcome:
    """Return an outcome that says which job the error named: in its words, its values, or those behind it.

    A value may be an object whose own public values name the job. Behind an error are its cause, what it was raised
    upon unless that is hidden (`from None`), and the members of a group.
    """
    if error is None:
        return outcome
    said = " ".join(_said(error))
    named = next((job for job in jobs if job in said), None)
    return replace(outcome, job=named, id_exposed=named is not None)


def _said(error: BaseException) -> Iterable[str]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield str(one)
        values = (*one.args, *vars(one).values())
        yield " ".join(repr(value)[:MOST_WORDS] for value in (*values, *(more for it in values for more in _own(it))))
        yield " ".join(getattr(one, "__notes__", ()))
        members = [member for member in _members(one) if member is not one]
        waiting += [*members, one.__cause__ or (None if one.__suppress_context__ else one.__context__)]


def _own(value: Any) -> list[Any]:
    """Return the public values that an object holds, as a job's handle holds its id."""
    names = getattr(value, "__dict__", None)
    if isinstance(value, type) or not isinstance(names, dict):
        return []
    return [own for name, own in names.items() if isinstance(name, str) and not name.startswith("_")]
