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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from hobbyhorse.runners.command import Target
from hobbyhorse.runners.last_words import TIMEOUT_WORDS
from hobbyhorse.runners.safe_text import is_a, printable, safe_repr, safe_str, tried, type_name, type_names
from hobbyhorse.runners.saved_file import read_saved
from hobbyhorse.runners.scheduler import RunOver, Stuck
from hobbyhorse.traces.trace import Outcome

# Maps `(base_url, api_key, request)` to a path, bytes or the video's URL. May be async, and take `callback`, `model`.
Client = Callable[..., Any]

# Maximum number of characters of an error's message, and of each of its values, that are kept and searched. Enough for
# a response body, and a bound for a client that attaches a whole video.
MOST_CHARACTERS = 2_000
# Maximum number of errors in a group, and of values of an error, that are read: a client may attach a whole list.
MOST_ERRORS = 1_000
# Maximum number of characters of an error, with its causes and contexts, that are searched for a job's id.
MOST_EXPOSED = 10_000_000
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
    except (ClientError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit: a module may end its process when imported
        raise ClientError(f"{where!r} cannot be imported: {_described(error)}") from error
    found = tried(lambda: getattr(module, name, None), None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
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
        with suppress(ValueError):  # the module may have changed the path itself
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
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
    return module


def takes(client: Client, name: str) -> bool:
    """Whether a client accepts a keyword argument."""
    # A callable in C may have no signature.
    parameters: list[inspect.Parameter] = tried(lambda: list(inspect.signature(client).parameters.values()), [])
    return any(one.name == name or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def call(
    client: Client,
    base_url: str | Mapping[str, str],
    api_key: str | Mapping[str, str],
    request: Mapping[str, Any],
    *,
    model: str | Mapping[str, str],
    callback: CallbackTarget | Mapping[str, CallbackTarget | None] | None = None,
) -> Any:
    """Call a client and return its value. An awaitable value is run on a new event loop."""
    more: dict[str, Any] = {"model": model} if takes(client, "model") else {}
    if takes(client, "callback"):
        more["callback"] = callback
    value = client(base_url, api_key, request, **more)
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


def call_at(client: Client, targets: Sequence[Target]) -> Any:
    """Call a client with its target; a client of two providers gets dictionaries keyed by the providers."""
    callbacks = {one.provider: _callback(one) for one in targets}
    if len(targets) == 1:
        (one,) = targets
        task = (one.base_url, one.api_key, one.request)
        return call(client, *task, model=one.model, callback=callbacks[one.provider])
    bases = {one.provider: one.base_url for one in targets}
    keys = {one.provider: one.api_key for one in targets}
    requests = {one.provider: one.request for one in targets}
    models = {one.provider: one.model for one in targets}
    return call(client, bases, keys, requests, model=models, callback=callbacks)


def _callback(target: Target) -> CallbackTarget | None:
    if target.callback_url is None:
        return None
    return CallbackTarget(target.callback_url, target.callback_secret or "")


async def _awaited(value: Any) -> Any:
    return await value


def success(value: Any, ended: float) -> Outcome:
    """Return the outcome of a run that returned a path, bytes or a URL. Any other value counts as an empty video."""
    unreadable = f"returned a value of type {type_name(value)}, which cannot be read"
    return tried(lambda: _success(value, ended), _without_video(unreadable, ended))


def _success(value: Any, ended: float) -> Outcome:
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return Outcome("success", ended, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    if isinstance(value, str) and URL.match(value):
        return Outcome("success", ended, by_reference=True, message=printable(value[:MOST_CHARACTERS]))
    if isinstance(value, str | PathLike):
        try:
            found = read_saved(value)
        except (OSError, ValueError) as error:
            return _without_video(f"returned {safe_repr(value)}, which cannot be read: {error}", ended)
        saved = printable(os.fspath(value)[:MOST_CHARACTERS])
        return Outcome("success", ended, sha256=found.sha256, size=found.size, saved=saved, replaced=False)
    return _without_video(f"returned {safe_repr(value):.200}; allowed: a path, bytes, or the video's URL", ended)


def _without_video(message: str, ended: float) -> Outcome:
    return Outcome("success", ended, size=0, message=printable(message[:MOST_CHARACTERS]))


def failure(error: BaseException, ended: float, secrets: Iterable[str] = ()) -> Outcome:
    """Return the outcome of a run that raised: `timeout` if every error's type or message means one, else `failed`.

    It tells whether one of the `secrets` is in what Python prints of the error.
    """
    message = _described(error)
    members = _members(error)
    if members[0] is not error:
        message += f" ({'; '.join(map(_described, members))})"
    # Every error must be a time-out: a group with a time-out and a failure has failed.
    kind = "timeout" if all(map(_is_timeout, members)) else "failed"
    shows_key = any(secret in text for text in islice(_printed(error), MOST_ERRORS) for secret in secrets)
    return Outcome(kind, ended, message=printable(message[:MOST_CHARACTERS]), shows_key=shows_key)


def _printed(error: BaseException) -> Iterator[str]:
    """Yield the messages and notes of an error, of its members, causes and contexts, as a traceback shows them."""
    for one in _chain(error):
        yield safe_str(one)
        yield from map(safe_str, _items(one, "__notes__"))


def reason(error: BaseException | None) -> str:
    """Return the message of a run that did not end by itself: its error, if any."""
    if error is None:
        return ""
    # The runner's own message is complete without its type's name.
    message = str(error) if isinstance(error, (RunOver, Stuck)) else _described(error)
    return printable(message[:MOST_CHARACTERS])


def _described(error: BaseException) -> str:
    return f"{type_name(error)}: {safe_str(error)[:MOST_CHARACTERS]}"


def _members(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and its subgroups, or for any other error the error itself."""
    found: list[BaseException] = []
    # A stack, because groups may be nested deeper than calls may be, and a set, because a group may contain itself.
    seen, waiting = set(), [error]
    while waiting and len(found) < MOST_ERRORS:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        inner = _inner(one)
        waiting += reversed(inner)
        if not inner:
            found.append(one)
    return found or [error]


def _inner(error: BaseException) -> list[BaseException]:
    """Return the direct members of a group, or nothing for any other error."""
    # Detected by attribute, because Python 3.10 has no ExceptionGroup and libraries have their own groups.
    inner: list[BaseException] = _items(error, "exceptions")
    return inner if all(is_a(one, BaseException) for one in inner) else []


def _is_timeout(error: BaseException) -> bool:
    return any(map(TIMEOUT_WORDS.search, (*type_names(error), safe_str(error))))


def with_ids(outcome: Outcome, text: str | None, jobs: Iterable[str]) -> Outcome:
    """Return the outcome with the first of `jobs` that the `exposed_text` of an error contains."""
    if text is None:
        return outcome
    named = next((job for job in jobs if job in text), None)
    return replace(outcome, job=named, id_exposed=named is not None)


def exposed_text(error: BaseException) -> str:
    """Return the text in which the catcher of an error can find the job's id.

    The id may be in the message, the arguments, attributes or notes of the error, of its cause or context (unless
    hidden by `from None`), or of the members of a group. An argument may also be an object with the id in a public
    attribute.
    """
    texts: list[str] = []
    size = 0
    for text in _texts(error):
        texts.append(text)
        size += len(text)
        if size > MOST_EXPOSED:
            break
    return " ".join(texts)


def _texts(error: BaseException) -> Iterable[str]:
    for one in _chain(error):
        yield f"{type(one).__name__}: {safe_str(one)}"
        values = [*_items(one, "args"), *_attributes(one)]
        values += [more for value in values for more in _public_attributes(value)]
        for value in values:
            yield safe_repr(value)[:MOST_CHARACTERS]
        yield from map(safe_str, _items(one, "__notes__"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its members, and the causes and contexts of each, unless hidden by `from None`."""
    seen: set[int] = set()  # causes and contexts may form a cycle
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen or not is_a(one, BaseException):
            continue
        seen.add(id(one))
        yield one
        waiting += _inner(one)
        waiting.append(tried(partial(_earlier, one), None))


def _earlier(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _items(value: Any, name: str) -> list[Any]:
    return tried(lambda: list(islice(getattr(value, name, ()), MOST_ERRORS)), [])


def _attributes(value: Any, *, public: bool = False) -> list[Any]:
    """Return the values of an object's own attributes."""

    def read() -> list[Any]:
        names = getattr(value, "__dict__", None)
        items = dict.items(names) if isinstance(names, dict) else ()
        return [own for name, own in islice(items, MOST_ERRORS) if not public or not str(name).startswith("_")]

    return tried(read, [])


def _public_attributes(value: Any) -> list[Any]:
    """Return the values of an object's public attributes: an SDK's job handle contains the id in one of them."""
    return [] if is_a(value, type) else _attributes(value, public=True)
