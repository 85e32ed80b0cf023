"""A result as files: JSON, JUnit, and a scenario and a trace for each finding. Knows no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import CASE_KINDS, Case
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, Finding, Verdict, judge
from hobbyhorse.conformance.report import JUnitSuite, ReportError, counted, dump, read_object, verdict_json
from hobbyhorse.conformance.report import junit as junit_xml
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace, to_json

# Raised when a reader of report.json or of a finding would misread the new form.
REPORT_FORMAT = 1


def case_of(trace: Trace) -> Case:
    """Return the case that a trace was recorded in."""
    return Case(trace.scenario, trace.drill, trace.point, trace.order)


def report_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON: a verdict for each rule, and a summary."""
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
        "rules": counted(result.verdicts),
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
    return verdict_json(one, accepted) | {
        "channel": one.rule.channel,
        "observed": one.observed,
        "broken": one.times_broken,
        "findings": [_finding(finding) for finding in one.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    case = case_of(finding.trace)
    return case.to_json() | {"message": "; ".join(finding.messages), "in_words": str(case)}


def judged(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Return the verdicts on one trace as JSON, for traffic that the suite did not make."""
    verdicts = judge(contract, [trace], rules())
    summary = {
        "provider": contract.key,
        "requests": len(trace.exchanges),
        "deliveries": len(trace.deliveries),
        "clean": not any(one.verdict == BROKEN for one in verdicts),
        "rules": counted(verdicts),
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
    fields = read_object(path)
    try:
        kind, point, order = fields.get("drill", "once"), int(fields.get("point", 0)), fields.get("order")
        case = Case(fields["scenario"], kind, point, order)
        found = Replay(fields["rule"], fields["provider"], fields["model"], int(fields.get("seed", 0)), case)
    except KeyError as error:
        raise ReportError(
            f"{path} is not a finding: {error} is missing; a report has its findings in findings/"
        ) from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path} is not a finding: {error}") from None
    if not isinstance(case.scenario, dict) or case.kind not in CASE_KINDS:
        raise ReportError(f"{path} is not a finding: 'drill' is {case.kind!r}; allowed: {', '.join(CASE_KINDS)}")
    if not isinstance(case.order, dict | None):
        raise ReportError(f"{path} is not a finding: 'order' is {case.order!r}; it must be an object")
    return found


def junit(result: Result) -> bytes:
    """Return the verdicts as JUnit XML; each failure names the test case of its finding."""
    suite = JUnitSuite(
        name=f"hobbyhorse {result.provider} {result.client}",
        seconds=result.seconds,
        accepted=result.accepted,
        stale=result.stale,
    )
    return junit_xml(suite, result.verdicts, lambda finding: str(case_of(finding.trace)))


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
