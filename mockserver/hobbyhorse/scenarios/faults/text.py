"""Variations of JSON as text: the same value in other characters (RFC 8259)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from hobbyhorse.contract.forms.expressions import Pointer, replaced
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.values import Callbacks
from hobbyhorse.scenarios.effects import Rewritten, Sent
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    MUST,
    OPERATION,
    TEXT,
    VARIATION,
    DecidedOperation,
    Fault,
    Options,
)
from hobbyhorse.scenarios.options import JSON_NUMBER, JSON_TEXT

# After the variations on the wire.
RANK = 52
JSON_FORM, SIGNED_BYTES = "JSON text", "signed bytes"
# Half of a unit shows whether the contract allows a fraction, in one direction or the other.
HALF = 0.5


def _units(character: str) -> str:
    """Return a character as its UTF-16 code units in the form `\\uXXXX`."""
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at]:02X}{data[at + 1]:02x}" for at in range(0, len(data), 2))


def _strings(change: Callable[[str], str]) -> Callable[[Any], str]:
    """Return a writer of JSON that writes each string, also each name, with a function."""

    def write(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{change(name)}:{write(item)}" for name, item in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(write, value)) + "]"
        return change(value) if isinstance(value, str) else orjson.dumps(value).decode()

    return write


def _plain(text: str) -> str:
    return orjson.dumps(text).decode()


def _html_safe(text: str) -> str:
    # As the encoders of Go and PHP write it.
    return _plain(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _spaced(value: Any) -> str:
    """Write JSON with every kind of white space, wherever it may stand."""
    return "\r\n\t " + json.dumps(value, indent=2, separators=(" , ", " :\t"), ensure_ascii=False) + " \n"


def _reversed(value: Any) -> Any:
    if isinstance(value, list):
        return [_reversed(item) for item in value]
    if isinstance(value, dict):
        return {name: _reversed(item) for name, item in reversed(value.items())}
    return value


WRITERS: Mapping[str, Callable[[Any], str]] = {
    "spaced": _spaced,
    "escaped": _strings(lambda text: '"' + "".join(map(_units, text)) + '"'),
    "html_safe": _strings(_html_safe),
    "slashes": _strings(lambda text: _plain(text).replace("/", "\\/")),
    "ascii": lambda value: json.dumps(value, separators=(",", ":")),
    "reversed": lambda value: orjson.dumps(_reversed(value)).decode(),
}
"""The writers of JSON by the value of the option `text`."""


def rewritten_json(body: bytes, text: str) -> bytes:
    """Return a JSON body in other characters; a body that is not JSON stays as it is."""
    value = as_json(body)
    return WRITERS[text](value).encode() if isinstance(value, dict | list) else body


def _in_text(decided: DecidedOperation, options: Options) -> Sent:
    return replace(decided.sent, body=rewritten_json(decided.sent.body, options["text"]))


def _text_differs(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
    return decided.method != "HEAD" and _in_text(decided, options).body != decided.sent.body


def integers(value: Any, at: Pointer = ()) -> Iterator[tuple[Pointer, int]]:
    """Yield the integers of a JSON value, each after its pointer."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from integers(item, (*at, str(name)))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield at, value


def _is_number(value: Any, at: Pointer, here: int, valid: Callable[[Any], bool]) -> bool:
    """Whether the contract documents a `number` at a pointer: a fraction is valid there, and a text is not."""
    fraction = any(valid(replaced(value, at, here + half)) for half in (HALF, -HALF))
    return fraction and not valid(replaced(value, at, "text"))


def _with_numbers(decided: DecidedOperation, options: Options) -> Sent:
    value = as_json(decided.sent.body)
    form = {"float": "{}.0", "exponent": "{}e0"}[options["number"]]
    found = [(at, here) for at, here in integers(value) if _is_number(value, at, here, decided.valid)]
    # JSON has no marker for a number's form, so a text that occurs nowhere stands for each number at first.
    for index, (at, _) in enumerate(found):
        value = replaced(value, at, f"\0{index}")
    body = orjson.dumps(value)
    for index, (_, here) in enumerate(found):
        body = body.replace(orjson.dumps(f"\0{index}"), form.format(here).encode())
    return replace(decided.sent, body=body)


def _numbers_differ(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
    return decided.method != "HEAD" and _with_numbers(decided, options).body != decided.sent.body


def _callback_text(callbacks: Callbacks, options: Options) -> Rewritten:
    # The body is rewritten before it is signed: the signature covers the bytes that are sent.
    return Rewritten(lambda body: rewritten_json(body, options["text"]))


TEXTS = Fault(
    name="json_text",
    stands=(OPERATION,),
    says="writes the same JSON in other characters",
    effect=_in_text,
    options=(JSON_TEXT,),
    rank=RANK,
    kind=VARIATION,
    applies=_text_differs,
    layer=TEXT,
    form=JSON_FORM,
    source="RFC 8259, 2 to 7",
    level=MUST,
)
NUMBERS = Fault(
    name="json_number",
    stands=(OPERATION,),
    says="writes whole numbers with a fraction or an exponent, where the contract documents a number",
    effect=_with_numbers,
    options=(JSON_NUMBER,),
    rank=RANK,
    kind=VARIATION,
    applies=_numbers_differ,
    layer=TEXT,
    form=JSON_FORM,
    source="RFC 8259, 6",
    level=MUST,
)
CALLBACK_TEXTS = Fault(
    name="json_text",
    stands=(CALLBACK,),
    says="writes the same JSON in other characters, and signs these",
    effect=_callback_text,
    options=(JSON_TEXT,),
    rank=RANK,
    kind=VARIATION,
    layer=TEXT,
    form=SIGNED_BYTES,
    source="RFC 8259, 2 to 7",
    level=MUST,
)
