"""A result as files: JSON, JUnit, and a scenario and a trace for each finding. Knows no server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hobbyhorse.conformance.client.cases import CASE_KINDS, Case
from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, Finding, Verdict
from hobbyhorse.conformance.client.judge import judge as judge_traces
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace, to_json

# Raised when a reader of report.json or of a finding would misread the new form.
REPORT_FORMAT = 1
# XML 1.0 cannot contain these characters, not even escaped.
CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\n\t"}


class ReportError(ValueError):
    """A file that is not a finding or not a baseline."""


def case_of(trace: Trace) -> Case:
    """Return the case that a trace was recorded in."""
    return Case(trace.scenario, trace.drill, trace.point)


def report_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON: a verdict for each rule, and a summary."""
    words = [one.verdict for one in result.verdicts]
    # `deviations` is the older name of single faults; readers of reports depend on it.
    summary = {
        "provider": result.provider,
        "model": result.model,
        "client": result.client,
        "seed": result.seed,
        "runs": result.runs,
        "seconds": round(result.seconds, 3),
        "runs_per_second": round(result.runs / result.seconds, 2) if result.seconds else None,
        "clean": result.clean,
        "rules": {word: words.count(word) for word in sorted(set(words))},
        "deviations": {
            "met": result.coverage.met,
            "total": result.coverage.total,
            "unmet": list(result.coverage.unmet),
            "untried": list(result.coverage.untried),
        },
        "accepted": dict(result.accepted),
        "stale": list(result.stale),
    }
    return {"format": REPORT_FORMAT, "rules": verdicts_json(result.verdicts, result.accepted), "summary": summary}


def verdicts_json(verdicts: Sequence[Verdict], accepted: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return verdicts as JSON, in the order of the rules."""
    return [_verdict(one, (accepted or {}).get(one.rule.id)) for one in verdicts]


def _verdict(one: Verdict, accepted: str | None) -> dict[str, Any]:
    rule = one.rule
    fields: dict[str, Any] = {
        "id": rule.id,
        "name": rule.name,
        "level": rule.level,
        "severity": rule.severity,
        "channel": rule.channel,
        "statement": rule.statement,
        "verdict": one.verdict,
        "observed": one.observed,
        "broken": one.times_broken,
        "findings": [_finding(finding) for finding in one.findings],
    }
    return fields | ({"accepted": accepted} if accepted is not None else {})


def _finding(finding: Finding) -> dict[str, Any]:
    case = case_of(finding.trace)
    return case.to_json() | {"message": "; ".join(finding.messages), "in_words": str(case)}


def judged(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Return the verdicts on one trace as JSON, for traffic that the suite did not make."""
    verdicts = judge_traces(contract, [trace])
    words = [one.verdict for one in verdicts]
    summary = {
        "provider": contract.key,
        "requests": len(trace.exchanges),
        "deliveries": len(trace.deliveries),
        "clean": BROKEN not in words,
        "rules": {word: words.count(word) for word in sorted(set(words))},
    }
    return {"format": REPORT_FORMAT, "rules": verdicts_json(verdicts), "summary": summary}


def finding_json(result: Result, finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON; `read_finding` reads it."""
    return {
        "format": REPORT_FORMAT,
        "rule": finding.rule,
        "provider": result.provider,
        "model": result.model,
        "seed": result.seed,
        "messages": list(finding.messages),
        **case_of(finding.trace).to_json(),
    }


@dataclass(frozen=True, slots=True)
class Replay:
    """A finding to be replayed."""

    rule: str
    provider: str
    model: str
    seed: int
    case: Case


def read_finding(path: Path) -> Replay:
    """Read a finding's file. Raises ReportError."""
    fields = _read(path)
    try:
        case = Case(fields["scenario"], fields.get("drill", "once"), int(fields.get("point", 0)))
        found = Replay(fields["rule"], fields["provider"], fields["model"], int(fields.get("seed", 0)), case)
    except KeyError as error:
        raise ReportError(
            f"{path} is not a finding: {error} is missing; a report has its findings in findings/"
        ) from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path} is not a finding: {error}") from None
    if not isinstance(case.scenario, dict) or case.kind not in CASE_KINDS:
        raise ReportError(f"{path} is not a finding: 'drill' is {case.kind!r}; allowed: {', '.join(CASE_KINDS)}")
    return found


def read_baseline(path: Path, rules: Sequence[str]) -> dict[str, str]:
    """Read a baseline: an object that maps the id of each accepted rule to a reason. Raises ReportError."""
    accepted = _read(path)
    if unknown := sorted(set(accepted) - set(rules)):
        raise ReportError(f"{path}: there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")
    for rule, reason in accepted.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ReportError(f"{path}: {rule} has no reason; write a text that explains why the finding is accepted")
    return accepted


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ReportError(f"{path} is not a JSON object")
    return found


def junit(result: Result) -> bytes:
    """Return the verdicts as JUnit XML: one test per rule, skipped if it was not observed or does not apply."""
    broken = {one.rule.id for one in result.broken}
    skipped = [one for one in result.verdicts if one.verdict in (NOT_OBSERVED, NOT_APPLICABLE)]
    suite = ElementTree.Element(
        "testsuite",
        name=printable(f"hobbyhorse {result.provider} {result.client}"),
        tests=str(len(result.verdicts) + len(result.stale)),
        failures=str(len(broken) + len(result.stale)),
        errors="0",
        skipped=str(len(skipped)),
        time=f"{result.seconds:.3f}",
    )
    for one in result.verdicts:
        element = add_case(suite, f"hobbyhorse.{one.rule.family}", f"{one.rule.id} {one.rule.name}")
        if one.rule.id in broken:
            for finding in one.findings:
                words = "; ".join(finding.messages)
                failure = ElementTree.SubElement(element, "failure", message=printable(words), type=one.rule.id)
                failure.text = printable(f"{one.rule.statement}\n{case_of(finding.trace)}\n{words}")
        elif one in skipped:
            ElementTree.SubElement(element, "skipped", message=one.verdict)
    # A baseline entry that no longer occurs fails too: otherwise it would hide the next regression.
    for rule in result.stale:
        element = add_case(suite, "hobbyhorse.baseline", rule)
        ElementTree.SubElement(element, "failure", message="accepted in the baseline, but not found", type="stale")
    return xml(suite)


def add_case(suite: ElementTree.Element, family: str, name: str) -> ElementTree.Element:
    """Add a test to a suite. Its time is 0: a rule is judged over all runs."""
    return ElementTree.SubElement(suite, "testcase", classname=family, name=name, time="0")


def xml(suite: ElementTree.Element) -> bytes:
    """Return a suite as a complete XML file."""
    root = ElementTree.Element("testsuites")
    root.append(suite)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def printable(text: str) -> str:
    """Return a text without the characters that XML cannot contain."""
    return text.translate(CONTROL).encode("utf-8", "replace").decode()


def write_report(result: Result, folder: Path) -> None:
    """Write report.json, junit.xml, and a scenario and a trace for each finding into a folder."""
    findings = folder / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    # Findings of an earlier run would look like findings of this one.
    for old in findings.glob("*.json"):
        old.unlink()
    dump(folder / "report.json", report_json(result))
    (folder / "junit.xml").write_bytes(junit(result))
    for one in result.verdicts:
        for finding in one.findings:
            dump(findings / f"{finding.rule}.scenario.json", finding_json(result, finding))
            dump(findings / f"{finding.rule}.trace.json", to_json(finding.trace))


def dump(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write indented JSON. Lone surrogates are written as question marks."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=default) + "\n"
    path.write_text(text, encoding="utf-8", errors="replace")
