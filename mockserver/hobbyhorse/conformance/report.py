"""Reports of both suites: verdicts as JSON and JUnit, and the baseline of accepted findings. Knows no server."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, Finding, Verdict

# XML 1.0 cannot contain these characters, not even escaped.
CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\n\t"}


class ReportError(ValueError):
    """A file that is not a finding or not a baseline."""


def verdict_json(one: Verdict, accepted: str | None = None) -> dict[str, Any]:
    """Return the fields of a verdict that both suites report; each suite adds the findings."""
    rule = one.rule
    fields = {
        "id": rule.id,
        "name": rule.name,
        "level": rule.level,
        "severity": rule.severity,
        "statement": rule.says,
        "harm": rule.harm,
        "fix": rule.fix,
        "verdict": one.verdict,
    }
    return fields | ({"accepted": accepted} if accepted is not None else {})


def open_verdicts(verdicts: Iterable[Verdict], accepted: Collection[str]) -> list[Verdict]:
    """Return the broken rules with only the findings that the baseline does not accept."""
    broken = (one for one in verdicts if one.verdict == BROKEN and one.rule.id not in accepted)
    left = (replace(one, findings=tuple(_unaccepted(one, accepted))) for one in broken)
    return [one for one in left if one.findings]


def counted(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return the number of rules with each verdict, by name."""
    words = [one.verdict for one in verdicts]
    return {word: words.count(word) for word in sorted(set(words))}


def read_baseline(path: Path, rules: Sequence[str], operations: Sequence[str] = ()) -> dict[str, str]:
    """Read a baseline: an object that maps each accepted rule, or RULE/OPERATION, to a reason. Raises ReportError."""
    accepted = read_object(path)
    if unknown := unknown_names(accepted, rules, operations):
        raise ReportError(f"{path}: there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")
    for rule, reason in accepted.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ReportError(f"{path}: {rule} has no reason; write a text that explains why the finding is accepted")
    return accepted


def unknown_names(names: Iterable[str], rules: Sequence[str], operations: Sequence[str] = ()) -> list[str]:
    """Return the names that are neither a rule nor a rule with one of the operations, as in `RES-08/download`."""
    known = {*rules, *(f"{rule}/{operation}" for rule in rules for operation in operations)}
    return sorted(set(names) - known)


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object. Raises ReportError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ReportError(f"{path} is not a JSON object")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class JUnitSuite:
    """The facts about a run that JUnit shows beside its verdicts.

    `accepted` and `stale` are ids of rules in the baseline. `families` names the families of rules; a family without
    a name keeps its letters. `error` is a sentence that explains why nothing, or not everything, could be judged.
    """

    name: str
    seconds: float
    accepted: Iterable[str] = ()
    stale: Sequence[str] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


def junit(suite: JUnitSuite, verdicts: Sequence[Verdict], case_of: Callable[[Finding], str] | None = None) -> bytes:
    """Return verdicts as JUnit XML: one test per rule, skipped if it was not observed or does not apply.

    A lesson is a passed test with output. `case_of` describes the test case of a finding, if the suite has test cases.
    """
    accepted = set(suite.accepted)
    broken = [one for one in verdicts if _unaccepted(one, accepted)]
    skipped = [one for one in verdicts if one.verdict in (NOT_OBSERVED, NOT_APPLICABLE)]
    root = ElementTree.Element(
        "testsuite",
        name=printable(suite.name),
        tests=str(len(verdicts) + len(suite.stale) + (suite.error is not None)),
        failures=str(len(broken) + len(suite.stale)),
        errors=str(int(suite.error is not None)),
        skipped=str(len(skipped)),
        time=f"{suite.seconds:.3f}",
    )
    for one in verdicts:
        family = suite.families.get(one.rule.family, one.rule.family)
        element = _add_case(root, f"hobbyhorse.{family}", f"{one.rule.id} {one.rule.name}")
        if one in broken:
            _add_failures(element, one, _unaccepted(one, accepted), case_of)
        # Missing evidence is not a pass: an unobserved rule is skipped, never green.
        elif one in skipped:
            ElementTree.SubElement(element, "skipped", message=one.verdict).text = printable(one.why or "") or None
        if one.lessons:
            output = ElementTree.SubElement(element, "system-out")
            output.text = printable("\n".join(f"lesson: {lesson.message}" for lesson in one.lessons))
    # A baseline entry that no longer occurs fails too: otherwise it would hide the next regression.
    for rule in suite.stale:
        element = _add_case(root, "hobbyhorse.baseline", rule)
        words = "the baseline accepts this rule as broken, but it is not broken; remove the entry"
        ElementTree.SubElement(element, "failure", message=words, type="stale")
    if suite.error is not None:
        element = _add_case(root, "hobbyhorse.endpoint", "responds")
        ElementTree.SubElement(element, "error", message=printable(suite.error), type="unjudged")
    return _xml(root)


def _unaccepted(one: Verdict, accepted: Collection[str]) -> list[Finding]:
    """Return the findings that the baseline accepts neither by their rule nor by their name."""
    return [found for found in one.findings if found.rule not in accepted and found.name not in accepted]


def _add_failures(
    element: ElementTree.Element,
    one: Verdict,
    findings: Sequence[Finding],
    case_of: Callable[[Finding], str] | None,
) -> None:
    for finding in findings:
        words = printable("; ".join(finding.messages))
        failure = ElementTree.SubElement(element, "failure", message=words, type=one.rule.id)
        case = [case_of(finding)] if case_of is not None else []
        failure.text = printable("\n".join([one.rule.says, *case, words]))


def _add_case(suite: ElementTree.Element, family: str, name: str) -> ElementTree.Element:
    """Add a test to a suite. Its time is 0: a rule is judged over all runs."""
    return ElementTree.SubElement(suite, "testcase", classname=family, name=name, time="0")


def _xml(suite: ElementTree.Element) -> bytes:
    """Return a suite as a complete XML file."""
    root = ElementTree.Element("testsuites")
    root.append(suite)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def printable(text: str) -> str:
    """Return a text without the characters that XML cannot contain."""
    return text.translate(CONTROL).encode("utf-8", "replace").decode()


def dump(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write indented JSON. Lone surrogates are written as question marks."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=default) + "\n"
    path.write_text(text, encoding="utf-8", errors="replace")
