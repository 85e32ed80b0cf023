"""A result as files: JSON, JUnit, SARIF, Markdown, and a scenario and a trace for each finding. Knows no server."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import CASE_KINDS, Case, case_of
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.results import Result, why_accepted
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.unobserved import explained_for
from hobbyhorse.conformance.examples import example_for
from hobbyhorse.conformance.impact import amounts_of, cost_of, costs_of, grouped, headline
from hobbyhorse.conformance.judge import BROKEN, Finding, Verdict, judge
from hobbyhorse.conformance.report import (
    JUnitSuite,
    ReportError,
    counted,
    dump,
    open_verdicts,
    read_object,
    verdict_json,
)
from hobbyhorse.conformance.report import junit as junit_xml
from hobbyhorse.conformance.reports.sarif import SarifFinding, SarifRun
from hobbyhorse.conformance.reports.sarif import sarif as sarif_log
from hobbyhorse.conformance.reports.summary import Summary, SummaryRow, counts_in_words, first_line, markdown
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace, to_json

# Raised when a reader of report.json or of a finding would misread the new form.
REPORT_FORMAT = 1
FINDINGS = "findings"


def report_json(result: Result, *contracts: Contract, folder: Path | None = None) -> dict[str, Any]:
    """Return a result as JSON: a verdict for each rule, and a summary.

    With the `contracts` of the client's providers, it also has the costs of the findings. `folder` is that of the
    report, for replay commands.
    """
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
        "interrupted": result.interrupted,
        "errors": [str(error) for error in result.errors],
        "unfit": result.unfit,
        "notes": list(result.notes),
        "unjudged": dict(result.unjudged),
        "options": list(result.options),
        **_shard(result),
    }
    verdicts = verdicts_json(result.verdicts, result.accepted)
    for one, fields in zip(result.verdicts, verdicts, strict=True):
        _add_help(result, one, fields, contracts, folder)
    if contracts:
        summary["headline"] = client_headline(result, contracts)
    return {"format": REPORT_FORMAT, "rules": verdicts, "summary": summary}


def _add_help(
    result: Result, one: Verdict, fields: dict[str, Any], contracts: Sequence[Contract], folder: Path | None
) -> None:
    """Add to a verdict's JSON its example, and to each finding its cost and the command that replays it."""
    example = example_for(one.rule, contracts[0]) if contracts and one.findings else None
    if example is not None:
        fields["example"] = example.to_json()
    for (name, finding), written in zip(file_names(one), fields["findings"], strict=True):
        written["replay"] = replay_command(result, name, folder)
        cost = cost_of(contracts, one.rule, finding)
        if cost is not None:
            written["cost"] = cost.to_json()


def replay_command(result: Result, name: str, folder: Path | None = None) -> str:
    """Return the command that replays a finding, given the name of its file without its ending."""
    file = (folder or Path()) / FINDINGS / f"{name}.scenario.json"
    words = shlex.join(["hobbyhorse", "conformance", "replay", str(file), *result.options])
    return words if result.options else f"{words} -- COMMAND"


def client_headline(result: Result, contracts: Sequence[Contract]) -> str:
    """Return the first line of the report: the worst cost, if the `contracts` are known, and the broken rules."""
    broken = open_verdicts(result.verdicts, result.accepted)
    return headline(broken, costs_of(contracts, broken) if contracts else {})


def _shard(result: Result) -> dict[str, Any]:
    """Return what the reports of several shards need to be merged."""
    if result.shard is None:
        return {}
    fields = {"of": result.shard.count, "number": result.shard.number, "required": sorted(result.required)}
    return {"shard": fields | {"reached": list(result.coverage.reached), "operations": sorted(result.operations)}}


def verdicts_json(verdicts: Sequence[Verdict], accepted: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return verdicts as JSON, in the order of the rules."""
    return [_verdict(one, accepted or {}) for one in verdicts]


def _verdict(one: Verdict, accepted: Mapping[str, str]) -> dict[str, Any]:
    fields = verdict_json(one, accepted.get(one.rule.id)) | {
        "channel": one.rule.channel,
        "observed": one.observed,
        "broken": one.times_broken,
        "findings": [_finding(finding, accepted) for finding in one.findings],
    }
    return fields | ({"why": one.why} if one.why is not None else {})


def _finding(finding: Finding, accepted: Mapping[str, str]) -> dict[str, Any]:
    case = case_of(finding.trace)
    fields = case.to_json() | {"message": "; ".join(finding.messages), "in_words": str(case)} | _circumstances(finding)
    reason = accepted.get(finding.name)
    return fields | ({"accepted": reason} if reason is not None else {})


def _circumstances(finding: Finding) -> dict[str, Any]:
    """Return what the client was doing, and what has to precede the finding; without default values."""
    fields: dict[str, Any] = {} if finding.during is None else {"during": finding.during}
    if finding.after:
        fields["after"] = [case.to_json() for case in finding.after]
    return fields if finding.recurs else fields | {"recurs": False}


def file_names(one: Verdict) -> Iterator[tuple[str, Finding]]:
    """Yield the findings of a verdict with the names of their files: RULE, RULE-2, RULE-3."""
    for number, finding in enumerate(one.findings, 1):
        yield finding.rule if number == 1 else f"{finding.rule}-{number}", finding


def preconditions(finding: Finding) -> list[str]:
    """Return the sentences that say when a finding occurs, if the scenario alone is not enough."""
    if not finding.recurs:
        return ["it did not recur in a fresh process, not even after the runs that preceded it"]
    if not finding.after:
        return []
    runs = f"{len(finding.after)} other run{'s' if len(finding.after) > 1 else ''} of the same process"
    return [f"only after {runs}: the client keeps state between its runs", *(f"after: {one}" for one in finding.after)]


def judged(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Return the verdicts on one trace as JSON, for traffic that the suite did not make."""
    verdicts = explained_for(judge(contract, [trace], rules()), AnnotatedTrace(contract, trace))
    return judged_json(contract, trace, verdicts)


def judged_json(contract: Contract, trace: Trace, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the verdicts on one trace as JSON."""
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
    partner = finding.trace.partner
    first = partner if partner is not None and finding.trace.rank else finding.trace
    return {
        "format": REPORT_FORMAT,
        "rule": finding.rule,
        "provider": result.provider,
        "model": result.model,
        "seed": result.seed,
        "messages": list(finding.messages),
        **case_of(finding.trace).to_json(),
        **result.fit.to_json(),
        **({"patience": first.patience} if first.patience is not None else {}),
        **_circumstances(finding),
    }


@dataclass(frozen=True, slots=True)
class Replay:
    """A finding to be replayed; `after` are the cases to run before it in the same process.

    `messages` say how the client broke the rule. `fit` says how the test cases are adapted to the client, `patience` is
    its deadline in seconds, if known.
    """

    rule: str
    provider: str
    model: str
    seed: int
    case: Case
    after: tuple[Case, ...] = ()
    fit: Fit = field(default_factory=Fit)
    patience: float | None = None
    messages: tuple[str, ...] = ()


def read_finding(path: Path) -> Replay:
    """Read a finding's file. Raises ReportError."""
    fields = read_object(path)
    try:
        after = tuple(_case(one, path) for one in fields.get("after", []))
        patience = fields.get("patience")
        return Replay(
            rule=fields["rule"],
            provider=fields["provider"],
            model=fields["model"],
            seed=int(fields.get("seed", 0)),
            case=_case(fields, path),
            after=after,
            fit=Fit(float(fields.get("share", 1.0)), str(fields.get("role", Fit().role))),
            patience=None if patience is None else float(patience),
            messages=tuple(map(str, fields.get("messages", ()))),
        )
    except KeyError as error:
        raise ReportError(
            f"{path} is not a finding: {error} is missing; a report has its findings in findings/"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{path} is not a finding: {error}") from None


def _case(fields: Mapping[str, Any], path: Path) -> Case:
    kind, point = fields.get("drill", "once"), int(fields.get("point", 0))
    case = Case(fields["scenario"], kind, point, fields.get("order"), fields.get("second", {}))
    if not isinstance(case.second, dict):
        raise ReportError(f"{path} is not a finding: 'second' is {case.second!r}; it must be an object")
    if not isinstance(case.scenario, dict) or case.kind not in CASE_KINDS:
        raise ReportError(f"{path} is not a finding: 'drill' is {case.kind!r}; allowed: {', '.join(CASE_KINDS)}")
    if not isinstance(case.order, dict | None):
        raise ReportError(f"{path} is not a finding: 'order' is {case.order!r}; it must be an object")
    return case


def junit(result: Result) -> bytes:
    """Return the verdicts as JUnit XML; each failure names the test case of its finding."""
    suite = JUnitSuite(
        name=f"hobbyhorse {result.provider} {result.client}",
        seconds=result.seconds,
        accepted=result.accepted,
        stale=result.stale,
        error=_unfinished(result),
    )
    return junit_xml(suite, result.verdicts, _in_words)


def _in_words(finding: Finding) -> str:
    return "\n".join([str(case_of(finding.trace)), *preconditions(finding)])


def _unfinished(result: Result) -> str | None:
    """Return why a suite did not run to its end, or None."""
    words = ["the suite was interrupted"] if result.interrupted else []
    words += [f"internal error: {error}" for error in result.errors]
    return "; ".join(words) or None


def sarif(result: Result, contracts: Sequence[Contract] = ()) -> dict[str, Any]:
    """Return the findings as SARIF; each is at its scenario's file."""
    run = SarifRun(
        name=f"{result.provider}/{result.client}",
        status=result.exit_status,
        headline=client_headline(result, contracts),
        error=_unfinished(result),
        stale=result.stale,
    )
    findings = [
        SarifFinding(
            rule=one.rule,
            name=finding.name,
            message="; ".join([*finding.messages, f"server: {case_of(finding.trace)}", *preconditions(finding)]),
            file=f"{FINDINGS}/{name}.scenario.json",
            accepted=why_accepted(finding, result.accepted),
        )
        for one in result.verdicts
        for name, finding in file_names(one)
    ]
    return sarif_log(run, result.verdicts, findings)


def summary(result: Result, folder: Path, contracts: Sequence[Contract] = ()) -> str:
    """Return the result as a short page of Markdown; `folder` is the report's. The `contracts` are for the costs."""
    reason = "; ".join(text for text in (_unfinished(result), result.unfit) if text is not None)
    part = f", shard {result.shard}" if result.shard is not None else ""
    return markdown(
        Summary(
            verdict=first_line(client_headline(result, contracts), result.stale, reason or None),
            runs=f"{result.client} with {result.provider} ({result.model}): {counts_in_words(result.verdicts)}; "
            f"{result.runs} runs, seed {result.seed}{part}.",
            notes=[
                *(f"{name} is accepted: {why}" for name, why in result.accepted.items()),
                *(f"{name} is stale in the baseline: remove it" for name in result.stale),
                *result.notes,
            ],
            rows=list(_rows(result, folder, contracts)),
        )
    )


def _rows(result: Result, folder: Path, contracts: Sequence[Contract]) -> Iterator[SummaryRow]:
    """Yield the findings that the baseline does not accept, in the order of the other reports."""
    broken = open_verdicts(result.verdicts, result.accepted)
    names = {id(finding): name for one in result.verdicts for name, finding in file_names(one)}
    amounts = amounts_of(costs_of(contracts, broken)) if contracts else {}
    for one in (one for group in grouped(broken, amounts) for one in group.verdicts):
        for finding in one.findings:
            cost = cost_of(contracts, one.rule, finding) if contracts else None
            doing = f" (during {finding.during})" if finding.during is not None else ""
            yield SummaryRow(
                one.rule,
                f"{case_of(finding.trace)}{doing}",
                "; ".join(finding.messages),
                replay_command(result, names[id(finding)], folder),
                None if cost is None else str(cost),
            )


def write_report(result: Result, folder: Path, *contracts: Contract) -> None:
    """Write the files of a report, except for its page, into a folder.

    They are report.json, junit.xml, report.sarif, summary.md, and a scenario and a trace for each finding; after an
    internal error, also internal-error.txt with the tracebacks. With `contracts`, they have the costs of the
    findings.
    """
    findings = folder / FINDINGS
    findings.mkdir(parents=True, exist_ok=True)
    # Findings of an earlier run would look like findings of this one.
    for old in findings.glob("*.json"):
        old.unlink()
    dump(folder / "report.json", report_json(result, *contracts, folder=folder))
    (folder / "junit.xml").write_bytes(junit(result))
    dump(folder / "report.sarif", sarif(result, contracts))
    (folder / "summary.md").write_text(summary(result, folder, contracts), encoding="utf-8", errors="replace")
    for one in result.verdicts:
        for name, finding in file_names(one):
            dump(findings / f"{name}.scenario.json", finding_json(result, finding))
            dump(findings / f"{name}.trace.json", to_json(finding.trace))
    errors = folder / "internal-error.txt"
    errors.unlink(missing_ok=True)
    if result.errors:
        text = "\n".join(f"{error}\n{error.traceback}" for error in result.errors)
        errors.write_text(text, encoding="utf-8", errors="replace")
