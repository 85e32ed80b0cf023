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

from hobbyhorse.traces import Outcome

Client = Callable[..., Any]
"""`(base_url, api_key, request)` to a path, bytes or the video's URL; may be async, may take `callback` and `model`."""

PATIENCE = re.compile(r"tim(ed|e)[ -]?out|deadline|gave up waiting|still running|did not (end|finish)", re.IGNORECASE)
MOST_WORDS = 2_000
URL = re.compile(r"https?://", re.IGNORECASE)


class ClientError(Exception):
    """A client that cannot be found or called, and why."""


@dataclass(frozen=True, slots=True)
class Callback:
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
    callback: Callback | None = None,
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
    words = f"{type(error).__name__}: {error}"[:MOST_WORDS]
    late = any(PATIENCE.search(kind.__name__) for kind in type(error).__mro__) or PATIENCE.search(str(error))
    return Outcome("timeout" if late else "failed", ended, message=words)


def with_ids(outcome: Outcome, error: BaseException | None, jobs: Iterable[str]) -> Outcome:
    """Return an outcome that says which job the error named: in its words, its values, or those behind it."""
    if error is None:
        return outcome
    said = " ".join(_said(error))
    named = next((job for job in jobs if job in said), None)
    return replace(outcome, job=named, id_exposed=named is not None)


def _said(error: BaseException | None) -> Iterable[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield str(error)
        yield " ".join(repr(value)[:MOST_WORDS] for value in (*error.args, *vars(error).values()))
        yield " ".join(getattr(error, "__notes__", ()))
        error = error.__cause__ or error.__context__
