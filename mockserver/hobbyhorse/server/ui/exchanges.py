"""An exchange as the page shows it: its mistakes, its bodies, and the curl line that repeats it. Knows no server."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, PATH_SAFE, Entry
from hobbyhorse.worlds.mistakes import INVALID, UNMATCHED

# Characters of a body on the page: a provider's JSON fits many times over.
MOST_SHOWN = 20_000
# The headers that curl makes itself, or that would break the request at another time.
OMITTED = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "te", "expect"})
MISTAKE, FAULT, NOTE = "mistake", "fault", "note"


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something about an exchange that is worth a look: a mistake of the client, a fault, or a note of the server."""

    kind: str
    text: str
    more: tuple[str, ...] = ()


def is_odd(entry: Entry) -> bool:
    """Whether an exchange in the journal was refused, met a fault, or was not delivered."""
    note = entry.note
    return bool(note.move or not 0 < note.status < 400 or not entry.whole)


def oddities(shown: Mapping[str, Any], whole: bool) -> Iterator[Oddity]:
    """Yield what is odd about an exchange, as the control plane shows it; `whole` is whether it was delivered."""
    near = shown["nearest"]
    if near is not None:
        yield Oddity(
            MISTAKE, near["text"], tuple(f"{one['at']}: {one['message']}" for one in near["differences"] if one["at"])
        )
    elif shown["situation"] in UNMATCHED | INVALID:
        yield Oddity(MISTAKE, "; ".join(shown["notes"]) or shown["situation"])
    if shown["move"] is not None:
        yield Oddity(FAULT, f"the fault {shown['move']} changed this exchange")
    if shown["status"] == 0:
        yield Oddity(NOTE, "no response was sent")
    elif not whole:
        yield Oddity(NOTE, "the client did not receive the whole response")
    if near is None and shown["situation"] not in UNMATCHED | INVALID:
        # The note of a scenario names the fault, which has been said.
        notes = (note for note in shown["notes"] if shown["move"] is None or not note.startswith("scenario: "))
        yield from (Oddity(NOTE, note) for note in notes)


def pretty(text: str) -> str:
    """Return a body for people: JSON with indentation, and a bounded number of characters."""
    with suppress(orjson.JSONDecodeError):
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}\n… ({len(text):,} characters)"


def curl(contract: Contract | None, exchange: Exchange, redactor: Redactor, headers: Iterable[tuple[str, str]]) -> str:
    """Return a shell command that repeats a request, with the key in the shell variable API_KEY."""
    security = contract.security if contract is not None else ()
    before = {name: start for part, name, start in security if part == "header"}
    words = ["curl", "-i"]
    if exchange.method == "HEAD":
        words.append("-I")
    elif exchange.method != ("POST" if exchange.body else "GET"):
        words += ["-X", shlex.quote(exchange.method)]
    query, key_parameters = [], {name for part, name, _ in security if part == "query"}
    for argument in filter(None, exchange.query.split("&")):
        name = argument.partition("=")[0]
        query.append((f"{name}=", '"$API_KEY"') if name in key_parameters else (redactor.text(argument), ""))
    path = quote(redactor.text(exchange.path), safe=PATH_SAFE)
    url = shlex.quote(redactor.text(exchange.root) + path + ("?" if query else ""))
    words.append(url + "\\&".join(shlex.quote(text) + variable for text, variable in query))
    for name, value in headers:
        if name in before:
            words.append(f'-H {shlex.quote(f"{name}: {before[name].capitalize()}")}"$API_KEY"')
        elif name not in OMITTED:
            words.append(f"-H {shlex.quote(f'{name}: {value}')}")
    if exchange.body:
        cut = len(exchange.body) >= MOST_JOURNAL_BODY_BYTES
        # A body that the journal has cut, or that is no text, is read from a file.
        text = None if cut else _text(redactor.content(exchange.body))
        words.append(f"--data-binary {'@body' if text is None else shlex.quote(text)}")
    return " ".join(words)


def _text(content: bytes) -> str | None:
    try:
        found = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in found else found
