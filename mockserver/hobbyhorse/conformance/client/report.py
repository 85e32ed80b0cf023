"""What the suite found, as files: JSON, JUnit, and for each finding the scenario that shows it. Knows no server."""

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

REPORT_FORMAT = 1
CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\n\t"}


class ReportError(ValueError):
    """A file that is no finding, or no baseline, and why."""


def drill_of(trace: Trace) -> Case:
    """Return the drill that a trace was seen in."""
    return Case(trace.scenario, trace.drill, trace.point)


def report_json(result: Result) -> dict[str, Any]:
    """Return what was found: a verdict for each rule, and a summary."""
    words = [one.verdict for one in result.verdicts]
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
    said: dict[str, Any] = {
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
    return said | ({"accepted": accepted} if accepted is not None else {})


def _finding(finding: Finding) -> dict[str, Any]:
    drill = drill_of(finding.trace)
    return drill.to_json() | {"message": "; ".join(finding.messages), "in_words": str(drill)}


def judged(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Return the verdicts on one trace, as JSON: for traffic that was not made by the suite."""
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
    """Return a finding as JSON that can be replayed."""
    return {
        "format": REPORT_FORMAT,
        "rule": finding.rule,
        "provider": result.provider,
        "model": result.model,
        "seed": result.seed,
        "messages": list(finding.messages),
        **drill_of(finding.trace).to_json(),
    }


@dataclass(frozen=True, slots=True)
class Replay:
    """A finding that is to be tried again."""

    rule: str
    provider: str
    model: str
    seed: int
    drill: Case


def read_finding(path: Path) -> Replay:
    """Read a finding's file. Raises ReportError."""
    said = _read(path)
    try:
        drill = Case(said["scenario"], said.get("drill", "once"), int(said.get("point", 0)))
        found = Replay(said["rule"], said["provider"], said["model"], int(said.get("seed", 0)), drill)
    except KeyError as error:
        raise ReportError(f"{path} is no finding: it has no {error}; a report keeps its own in findings/") from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path} is no finding: {error}") from None
    if not isinstance(drill.scenario, dict) or drill.kind not in CASE_KINDS:
        raise ReportError(f"{path} is no finding: drill {drill.kind!r}; allowed are {', '.join(CASE_KINDS)}")
    return found


def read_baseline(path: Path, rules: Sequence[str]) -> dict[str, str]:
    """Read the findings that are known: an object from a rule's id to the reason. Raises ReportError."""
    said = _read(path)
    if unknown := sorted(set(said) - set(rules)):
        raise ReportError(f"{path}: there is no rule {unknown[0]!r}; `hobbyhorse rules` lists them")
    for rule, reason in said.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ReportError(f"{path}: {rule} has no reason; it is a text that says why the finding is accepted")
    return said


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    if not isinstance(said, dict):
        raise ReportError(f"{path} holds no JSON object")
    return said


def junit(result: Result) -> bytes:
    """Return the verdicts as JUnit XML: one test a rule; what was not observed or does not apply is skipped."""
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
        case = add_case(suite, f"hobbyhorse.{one.rule.family}", f"{one.rule.id} {one.rule.name}")
        if one.rule.id in broken:
            for finding in one.findings:
                words = "; ".join(finding.messages)
                failure = ElementTree.SubElement(case, "failure", message=printable(words), type=one.rule.id)
                failure.text = printable(f"{one.rule.statement}\n{drill_of(finding.trace)}\n{words}")
        elif one in skipped:
            ElementTree.SubElement(case, "skipped", message=one.verdict)
    for rule in result.stale:
        case = add_case(suite, "hobbyhorse.baseline", rule)
        ElementTree.SubElement(case, "failure", message="accepted in the baseline, and not found", type="stale")
    return xml(suite)


def add_case(suite: ElementTree.Element, family: str, name: str) -> ElementTree.Element:
    """Add a test to a suite; nothing is told of how long it took."""
    return ElementTree.SubElement(suite, "testcase", classname=family, name=name, time="0")


def xml(suite: ElementTree.Element) -> bytes:
    """Return a suite as the whole file."""
    root = ElementTree.Element("testsuites")
    root.append(suite)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def printable(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return text.translate(CONTROL).encode("utf-8", "replace").decode()


def write_report(result: Result, folder: Path) -> None:
    """Write everything into a folder: report.json, junit.xml, and a scenario and a trace for each finding."""
    findings = folder / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    for old in findings.glob("*.json"):
        old.unlink()
    dump(folder / "report.json", report_json(result))
    (folder / "junit.xml").write_bytes(junit(result))
    for one in result.verdicts:
        for finding in one.findings:
            dump(findings / f"{finding.rule}.scenario.json", finding_json(result, finding))
            dump(findings / f"{finding.rule}.trace.json", to_json(finding.trace))


def dump(path: Path, said: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write JSON for people to read; what is no Unicode is written as question marks."""
    text = json.dumps(said, indent=2, ensure_ascii=False, default=default) + "\n"
    path.write_text(text, encoding="utf-8", errors="replace")
