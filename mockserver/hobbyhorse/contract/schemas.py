"""The JSON Schemas of one contract folder, compiled on first use. No HTTP, no file access."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer, resolve
from hobbyhorse.contract.validators import validators

if TYPE_CHECKING:
    import jsonschema_rs

# Documents refer to each other by relative file name. A base URL with its own scheme keeps validators off the network.
BASE = "contract:///"
NO_CONTENT = False
# A violation is one line of a log or of a provider's error body. This length is enough to list an enum's values, but
# not to repeat a whole prompt or an inline image.
LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Violation:
    """One violation of a schema: its location in the value, and a one-line message.

    `places` are addresses in the contract: the violated keyword, the references that led to it, and the keywords of
    the `anyOf` branches that were tried.
    """

    location: tuple[str | int, ...]
    message: str
    places: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.location)) or 'value'}: {self.message}"


class Schemas:
    """A folder's documents by file name; schemas in them are addressed as `file.json#/pointer`."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self._documents = documents
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self._registry: jsonschema_rs.Registry | None = None

    @property
    def documents(self) -> Mapping[str, Any]:
        """The documents by file name."""
        return self._documents

    def equals(self, other: Schemas) -> bool:
        """Whether other schemas are of equal documents."""
        return self._documents == other._documents

    def document(self, file: str) -> Any:
        """Return a file's whole document. Raises KeyError."""
        return self._documents[file]

    def at(self, address: str) -> Any:
        """Return the value at an address, or MISSING."""
        file, _, pointer = address.partition("#")
        return resolve(self._documents.get(file, MISSING), parse_pointer(pointer))

    def deref(self, schema: Any, file: str) -> tuple[Any, str]:
        """Follow a schema's `$ref`s; return the final schema and its file. `file` contains the given schema."""
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            target, _, pointer = schema["$ref"].partition("#")
            file = posixpath.join(posixpath.dirname(file), target) if target else file
            schema = resolve(self._documents.get(file, MISSING), parse_pointer(unquote(pointer)))
        return schema, file

    def followed(self, address: str) -> Any:
        """Return the schema at an address, behind its `$ref`s, or MISSING."""
        return self.deref(self.at(address), address.partition("#")[0])[0]

    def validator(self, address: str) -> jsonschema_rs.Draft202012Validator:
        """Return the validator of the schema at an address."""
        # A server uses few of a contract's schemas, so compiling all of them would only delay its start.
        if (validator := self._validators.get(address)) is None:
            if self._registry is None:
                resources = [(BASE + file, document) for file, document in self._documents.items()]
                self._registry = validators().Registry(resources, draft=validators().Draft202012)
            file, _, pointer = address.partition("#")
            reference = f"{BASE}{file}#{quote(pointer, safe='/~')}"
            # Where no content is documented, no value is valid.
            schema = NO_CONTENT if self.at(address) is MISSING else {"$ref": reference}
            validator = validators().Draft202012Validator(schema, registry=self._registry)
            self._validators[address] = validator
        return validator

    def violations(self, address: str, value: Any, most: int = 10) -> list[Violation]:
        """Return up to `most` violations of the schema at an address."""
        if value is MISSING:  # no content, which is right only where none is documented
            return [] if self.at(address) is MISSING else [Violation((), "is missing", (address,))]
        validator = self.validator(address)
        found: list[Violation] = []
        try:
            # Nearly every value is valid, and is_valid() is much cheaper than collecting errors.
            if validator.is_valid(value):
                return []
            for error in _first(validator, value) if most == 1 else validator.iter_errors(value):
                found.append(replace(_violation(error), places=self._places(address, error)))
                if len(found) == most:
                    break
        except ValueError:  # the validator's own nesting limit; no documented schema accepts such a value
            return [Violation((), "is nested too deeply")]
        return found

    def text_violations(self, address: str, text: str, most: int = 10) -> list[Violation]:
        """Return up to `most` violations of the schema at an address by the text of a header."""
        schema = self.followed(address)
        kind = schema.get("type") if isinstance(schema, dict) else None
        return self.violations(address, from_text(kind, text), most)

    def _places(self, start: str, error: jsonschema_rs.ValidationError) -> tuple[str, ...]:
        """Return the addresses of an error's keywords, given the address of the root schema."""
        kind: Any = error.kind
        tried = [branch[0] for branch in kind.context if branch] if kind.name == "anyOf" else []
        paths = [self._evaluated(start, inner.evaluation_path) for inner in (error, *tried)]
        return tuple(dict.fromkeys((*paths[0], *(path[0] for path in paths[1:]))))

    def _evaluated(self, start: str, steps: Iterable[str | int]) -> tuple[str, ...]:
        """Return the address at the end of an evaluation path, then those of the references on it, last first."""
        file, _, text = start.partition("#")
        pointer, followed = parse_pointer(text), list[str]()
        for step in list(steps)[1:]:  # the first step is the `$ref` that `validator` adds around the address
            schema = resolve(self._documents.get(file, MISSING), pointer)
            # A property may be called "$ref": only a string in a schema object is a reference.
            if step == "$ref" and isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
                followed.append(address(file, pointer))
                target, _, text = schema["$ref"].partition("#")
                file = posixpath.join(posixpath.dirname(file), target) if target else file
                pointer = parse_pointer(unquote(text))
            else:
                pointer = (*pointer, str(step))
        return (address(file, pointer), *reversed(followed))


def _first(validator: jsonschema_rs.Draft202012Validator, value: Any) -> Iterator[jsonschema_rs.ValidationError]:
    """Yield the first error of a value. `iter_errors` makes all of them before that, which takes 30 us for each."""
    try:
        validator.validate(value)
    except validators().ValidationError as error:
        yield error


def from_text(kind: Any, text: str) -> Any:
    """Convert the text of a header or query to a declared type, or types. Other text stays: the schema refuses it."""
    kinds = kind if isinstance(kind, list) else [kind]
    # 18 digits fit into a signed 64-bit integer, and the limit protects int() and float() from very long strings.
    if "integer" in kinds and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if "number" in kinds and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", text):
        return float(text)
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    return text


def address(file: str, pointer: Pointer) -> str:
    """Return the address of a place in a file of the folder."""
    return f"{file}#{format_pointer(pointer)}"


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    """Convert a validator's error. The location of a missing member is the member; an enum lists all allowed values."""
    location = tuple(error.instance_path)
    # The validator reports a missing member at its parent, where two missing members would look the same.
    if error.kind.name == "required":
        return Violation((*location, str(error.kind.value)), "is missing")
    # The validator lists three values of an enum and then "2 other candidates".
    if error.kind.name == "enum":
        allowed = ", ".join(map(_json, error.kind.value))
        return Violation(location, _shorten(f"{_json(error.instance)} is not one of {allowed}"))
    kind: Any = error.kind
    if kind.name == "falseSchema":
        return Violation(location, _shorten(f"{_json(error.instance)} is not documented: the response has no content"))
    if kind.name == "propertyNames":
        return Violation(location, _violation(kind.error).message)
    if kind.name == "anyOf":
        branches = [_violation(branch[0]).message for branch in kind.context if branch]
        return Violation(location, _shorten(" and ".join(branches) or error.message))
    return Violation(location, _shorten(error.message))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _shorten(message: str) -> str:
    """Return a message as one line. If it is too long, its middle is cut, because its end states the rule."""
    line = " ".join(message.split())
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2
    return f"{line[:half]} … {line[-half:]}"
