"""Find and call clients that are Python callables, and read their outcomes. No server."""

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

# Maps `(base_url, api_key, request)` to a path, bytes or the video's URL. May be async, and take `callback`, `model`.
Client = Callable[..., Any]

# Words in an error's type or message that mean that the client gave up waiting. "did not finish successfully" does not.
TIMEOUT_WORDS = re.compile(
    r"tim(ed|e)[ -]?out|deadline|gave up waiting|still running|did not (end|finish)\b(?! success)", re.IGNORECASE
)
# Maximum number of characters of an error's message, and of each of its values, that are kept and searched. Enough for
# a response body, and a bound for a client that attaches a whole video.
MOST_CHARACTERS = 2_000
URL = re.compile(r"https?://", re.IGNORECASE)


class ClientError(Exception):
    """A client cannot be found, or its process has ended."""


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """The URL where a client may listen for callbacks, and the secret that signs them."""

    url: str
    secret: str


def find_client(text: str) -> Client:
    """Return the callable that `module:function` or `path/to/file.py:function` names. Raises ClientError."""
    where, mark, name = text.rpartition(":")
    if not mark or not where or not name:
        raise ClientError(f"{text!r} is not a client; write MODULE:FUNCTION or FILE.py:FUNCTION")
    try:
        module = _module_of(Path(where)) if where.endswith(".py") else _imported(where)
    except ClientError:
        raise
    except Exception as error:
        raise ClientError(f"{where!r} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise ClientError(f"{where!r} has no function {name!r}; known: {', '.join(names) or 'none'}")
    client: Client = found
    return client


def _imported(name: str) -> Any:
    """Import a module by name, also from the current directory, as `python -m` does."""
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
        raise ClientError(f"{str(path)!r} does not exist")
    # A unique name, because a client file may have the name of an installed module, such as `openai.py`.
    name = "hobbyhorse_client_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before execution, because dataclasses and pickle look up a class's module in sys.modules.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def takes(client: Client, name: str) -> bool:
    """Whether a client accepts a keyword argument."""
    try:
        parameters = inspect.signature(client).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature, such as one in C
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
    """Call a client and return its value. An awaitable value is run on a new event loop."""
    more: dict[str, Any] = {"model": model} if takes(client, "model") else {}
    if takes(client, "callback"):
        more["callback"] = callback
    value = client(base_url, api_key, request, **more)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value


def success(value: Any, ended: float) -> Outcome:
    """Return the outcome of a run that returned a path, bytes or a URL. Any other value counts as an empty video."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _with_bytes(bytes(value), ended)
    if isinstance(value, str) and URL.match(value):
        return Outcome("success", ended, by_reference=True, message=value[:MOST_CHARACTERS])
    if isinstance(value, str | PathLike):
        try:
            return _with_bytes(Path(value).read_bytes(), ended)
        except (OSError, ValueError) as error:
            return Outcome("success", ended, size=0, message=f"returned {value!r}, which cannot be read: {error}")
    message = f"returned {value!r:.200}; allowed: a path, bytes, or the video's URL"
    return Outcome("success", ended, size=0, message=message)


def _with_bytes(data: bytes, ended: float) -> Outcome:
    return Outcome("success", ended, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def failure(error: BaseException, ended: float) -> Outcome:
    """Return the outcome of a run that raised: `timeout` if every error's type or message means one, else `failed`."""
    message = f"{type(error).__name__}: {error}"
    members = _members(error)
    if members != [error]:
        message += f" ({'; '.join(f'{type(one).__name__}: {one}' for one in members)})"
    # Every error must be a time-out: a group with a time-out and a failure has failed.
    return Outcome("timeout" if all(map(_is_timeout, members)) else "failed", ended, message=message[:MOST_CHARACTERS])


def _members(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and its subgroups, or for any other error the error itself."""
    # Detected by attribute, because Python 3.10 has no ExceptionGroup and libraries have their own groups.
    inner = getattr(error, "exceptions", None)
    if isinstance(inner, list | tuple) and inner and all(isinstance(one, BaseException) for one in inner):
        return [member for one in inner for member in _members(one)]
    return [error]


def _is_timeout(error: BaseException) -> bool:
    kinds = type(error).__mro__
    return any(TIMEOUT_WORDS.search(kind.__name__) for kind in kinds) or TIMEOUT_WORDS.search(str(error)) is not None


def with_ids(outcome: Outcome, error: BaseException | None, jobs: Iterable[str]) -> Outcome:
    """Return the outcome with the first of `jobs` that the error exposes.

    The id may be in the message, the arguments, attributes or notes of the error, of its cause or context (unless
    hidden by `from None`), or of the members of a group. An argument may also be an object with the id in a public
    attribute.
    """
    if error is None:
        return outcome
    text = " ".join(_texts(error))
    named = next((job for job in jobs if job in text), None)
    return replace(outcome, job=named, id_exposed=named is not None)


def exposed_text(error: BaseException) -> str:
    """Return everything that an error tells its caller: types, texts and attributes; see `with_ids`."""
    return " ".join(_texts(error))


def _texts(error: BaseException) -> Iterable[str]:
    seen: set[int] = set()  # causes and contexts may form a cycle
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield f"{type(one).__name__}: {one}"
        values = (*one.args, *vars(one).values())
        attributes = (more for value in values for more in _public_attributes(value))
        yield " ".join(repr(value)[:MOST_CHARACTERS] for value in (*values, *attributes))
        yield " ".join(getattr(one, "__notes__", ()))
        members = [member for member in _members(one) if member is not one]
        waiting += [*members, one.__cause__ or (None if one.__suppress_context__ else one.__context__)]


def _public_attributes(value: Any) -> list[Any]:
    """Return the values of an object's public attributes: an SDK's job handle contains the id in one of them."""
    names = getattr(value, "__dict__", None)
    if isinstance(value, type) or not isinstance(names, dict):
        return []
    return [own for name, own in names.items() if isinstance(name, str) and not name.startswith("_")]
