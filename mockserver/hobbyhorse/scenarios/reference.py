"""The reference of scenarios, derived from the faults: the JSON schema of scenario files and the tables of the page.

`python -m tests.scenario_reference` writes both into the repository; a test compares them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, OPERATION, REFUSAL, TIMELINE, VARIATION, Fault, Option
from hobbyhorse.scenarios.options import ACCEPTED, NAME
from hobbyhorse.scenarios.registry import all_faults

ROLES = (
    *("submit", "run", "status", "result", "cancel", "operator_cancel", "redeliver", "list"),
    *("models", "model", "categories", "health"),
)
# The longest line of the schema file, as of all others.
LINE = 120
OPTIONS = "options"
"""The marker of the table of all options."""
TIMES: dict[str, Any] = {
    "description": "The number of consecutive requests that meet it; always: every request from then on.",
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000}, {"const": "always"}],
}
TABLES = {
    "operation": (REFUSAL, OPERATION),
    "media": (MEDIA,),
    "callback": (CALLBACK,),
    "timeline": (TIMELINE,),
}
"""The tables of faults by the name of their marker, and the places of their faults."""


def schema(faults: Iterable[Fault] | None = None) -> dict[str, Any]:
    """Return the JSON schema of scenario files; `faults` are all by default, here and below."""
    listed = _listed(faults)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scenario",
        "description": "A set of faults. The empty scenario has none: the server behaves as documented.",
        "type": "object",
        "properties": {
            "$schema": {"type": "string"},
            "why": {
                "type": "string",
                "minLength": 1,
                "maxLength": 400,
                "description": "One sentence: the real bug that the scenario finds.",
            },
            "moves": {
                "type": "object",
                "description": "By role: the faults that its requests meet, in order. After the last one, requests get "
                "the usual response.",
                "propertyNames": {"enum": [*ROLES, MEDIA, CALLBACK]},
                "additionalProperties": {"type": "array", "maxItems": 100, "items": {"$ref": "#/$defs/move"}},
            },
            "timeline": {"$ref": "#/$defs/timeline"},
        },
        "additionalProperties": False,
        "$defs": {
            "move": _definition(
                "One fault. Its name is in a table of docs/scenarios.md, or is a situation of the contract.",
                {"move": NAME, "times": TIMES, ACCEPTED.name: _property(ACCEPTED)},
                [fault for fault in listed if TIMELINE not in fault.stands],
            ),
            "timeline": _definition(
                "A fault of the job itself.",
                {"move": {"enum": [fault.name for fault in listed if TIMELINE in fault.stands]}},
                [fault for fault in listed if TIMELINE in fault.stands],
            ),
        },
    }


def _listed(faults: Iterable[Fault] | None) -> list[Fault]:
    return list(all_faults() if faults is None else faults)


def _definition(description: str, properties: dict[str, Any], faults: Iterable[Fault]) -> dict[str, Any]:
    """Return the schema of a fault: of its name, and of every option of some faults.

    Raises ValueError if two faults have an option of one name with different bounds.
    """
    for option in (option for fault in faults for option in fault.options):
        found = _property(option)
        if properties.setdefault(option.name, found) != found:
            raise ValueError(f"the option {option.name!r} has two meanings or bounds; give one of them another name")
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": ["move"],
        "additionalProperties": False,
    }


def _property(option: Option) -> dict[str, Any]:
    return {**option.schema, "description": option.says}


def rendered(value: Any, indent: str = "", before: int = 0) -> str:
    """Return a JSON value as text, with each object and list on one line if it fits; `before` is used of that line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + before + len(line) < LINE or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        names = {name: json.dumps(name) + ": " for name in value}
        parts = [inner + names[name] + rendered(item, inner, len(names[name])) for name, item in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + rendered(item, inner) for item in value) + f"\n{indent}]"


# ---- the page


def table(place: str, faults: Iterable[Fault] | None = None) -> str:
    """Return the table of the faults that stand at a place of TABLES, in Markdown."""
    rows = ["| move | effect | options |", "|---|---|---|"]
    for fault in at(place, faults):
        name = name_of(fault)
        says = fault.says + (" (a variation)" if fault.kind == VARIATION else "")
        rows.append(
            f"| {name} | {says} | {', '.join(f'`{one.name}`' for one in fault.options)} |".replace("|  |", "| |")
        )
    return "\n".join(rows)


def name_of(fault: Fault) -> str:
    """Return the name of a fault in Markdown, as code unless it only stands for other names."""
    return fault.name if REFUSAL in fault.stands else f"`{fault.name}`"


def at(place: str, faults: Iterable[Fault] | None = None) -> list[Fault]:
    """Return the faults that stand at a place of TABLES; among operations, any situation comes first."""
    listed = _listed(faults)
    return [fault for one in TABLES[place] for fault in listed if one in fault.stands]


def option_table(faults: Iterable[Fault] | None = None) -> str:
    """Return the table of all options, in Markdown: meanings, values, and defaults by fault if they differ."""
    rows = ["| option | meaning | values | default |", "|---|---|---|---|"]
    times = f"{_clause(TIMES['description'])}; not for the timeline"
    rows.append(f"| `times` | {times} | an integer from 1 to 1,000, or `always` | 1 |")
    # By option: the faults by meaning, and by default.
    says: dict[str, dict[str, list[str]]] = {}
    usual: dict[str, dict[str, list[str]]] = {}
    values: dict[str, str] = {}
    for fault in _listed(faults):
        for option in fault.options:
            values.setdefault(option.name, bounds(option))
            for table, text in ((says, _clause(option.says)), (usual, _default(option))):
                names = table.setdefault(option.name, {}).setdefault(text, [])
                names += [name_of(fault)] if name_of(fault) not in names else []
    rows += [f"| `{name}` | {'; or '.join(says[name])} | {values[name]} | {_by_fault(usual[name])} |" for name in says]
    return "\n".join(rows)


def _clause(sentence: str) -> str:
    """Return a sentence as a clause: without its full stop, and with a small letter unless it begins with a name."""
    bare = sentence.rstrip(".")
    return bare if bare.startswith("Retry-After") else bare[0].lower() + bare[1:]


def _default(option: Option) -> str:
    return f"`{option.default}`" if isinstance(option.default, str) else default_of(option)


def _by_fault(found: Mapping[str, list[str]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{', '.join(names)}: {default}" for default, names in found.items())


def default_of(option: Option) -> str:
    """Return the default of an option as text, in words if it is not constant."""
    if option.default is None:
        return option.usual
    return f"{option.default:,g}" if isinstance(option.default, float) else str(option.default).lower()


def bounds(option: Option) -> str:
    """Return the values that an option can have, in words."""
    schema = option.schema
    if schema["type"] == "boolean":
        return "`true` or `false`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if schema["type"] == "string":
        return f"text of at most {schema['maxLength']:,} characters"
    kind = "an integer" if schema["type"] == "integer" else "a number"
    if "minimum" not in schema:
        return f"{kind} of at most {schema['maximum']:,}"
    return f"{kind} from {schema['minimum']:,} to {schema['maximum']:,}"


def page(text: str, faults: Iterable[Fault] | None = None) -> str:
    """Return a page with its tables written anew, between `<!-- faults: PLACE -->` and `<!-- end of faults -->`."""
    listed = _listed(faults)

    def written(found: re.Match[str]) -> str:
        name = found[1]
        rows = option_table(listed) if name == OPTIONS else table(name, listed)
        return f"<!-- faults: {name} -->\n{rows}\n<!-- end of faults -->"

    return re.sub(r"<!-- faults: (\w+) -->\n.*?<!-- end of faults -->", written, text, flags=re.DOTALL)


def listing(faults: Iterable[Fault] | None = None) -> list[dict[str, Any]]:
    """Return every fault as JSON: its place, name, kind, effect, and options with their bounds and defaults."""
    listed = _listed(faults)
    return [
        {
            "place": place,
            "name": fault.name,
            "kind": fault.kind,
            "effect": fault.says,
            "options": {
                option.name: {**_property(option), "default": option.default, "usual": default_of(option)}
                for option in fault.options
            },
        }
        for place in TABLES
        for fault in at(place, listed)
    ]
