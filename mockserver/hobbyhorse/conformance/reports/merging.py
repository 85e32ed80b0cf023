"""The reports of all shards of a search as one result. Runs no client.

What must hold:

* A rule is not observed only if no shard observed it, and passed only if no shard has it broken.
* Of equal findings (a rule, and what the client was doing), the simplest one that recurs is kept, as in one search.
* A shard that is missing is refused: the faults that it alone tries would be neither met nor missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import case_of
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.report import FINDINGS, REPORT_FORMAT, file_names, finding_json, read_finding
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.search import MOST_FINDINGS
from hobbyhorse.conformance.client.shard import Shard
from hobbyhorse.conformance.judge import (
    BROKEN,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    Finding,
    InternalError,
    Verdict,
)
from hobbyhorse.conformance.report import ReportError, dump, read_object
from hobbyhorse.conformance.rule import Breach, Rule
from hobbyhorse.traces.trace import TraceError, read_trace

FILE = "report.json"
# The verdicts on a client; each takes precedence over the following ones.
PRECEDENCE = (BROKEN, PASSED, NOT_OBSERVED, NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class _Found:
    """A finding, and how the test cases of its shard were adapted to the client."""

    finding: Finding
    fit: Fit

    @property
    def order(self) -> tuple[Any, ...]:
        """A sort key: findings that recur are first, then the simplest ones."""
        return (not self.finding.recurs, case_of(self.finding.trace).size, self.finding.name)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """The report of a shard as read: the result, and the findings of each rule with their fits."""

    folder: Path
    shard: Shard
    result: Result
    found: Mapping[str, tuple[_Found, ...]]


@dataclass(frozen=True, slots=True)
class Merged:
    """A result, and the fits of its findings by the names of their files."""

    result: Result
    fits: Mapping[str, Fit]


def read_shard_report(folder: Path) -> ShardReport:
    """Read the report of a shard. Raises ReportError."""
    file = folder / FILE
    fields = read_object(file)
    if fields.get("format") != REPORT_FORMAT:
        raise ReportError(f"{file} is not a report: 'format' is {fields.get('format')!r}; allowed: {REPORT_FORMAT}")
    try:
        return _read(folder, fields)
    except ReportError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ReportError(f"{file} is not the report of a client: {words}") from None


def _read(folder: Path, fields: Mapping[str, Any]) -> ShardReport:
    summary = fields["summary"]
    if "shard" not in summary:
        raise ReportError(f"{folder} is not the report of a shard; `conformance client --shard K/N` writes one")
    known = {rule.id: rule for rule in rules()}
    if unknown := sorted({one["id"] for one in fields["rules"]} - known.keys()):
        raise ReportError(f"{folder}: unknown rule {unknown[0]!r}; merge with the version that made the reports")
    found = {one["id"]: _findings(folder, one) for one in fields["rules"]}
    shard, faults = summary["shard"], summary["deviations"]
    coverage = Coverage(faults["met"], faults["total"], *(tuple(faults[name]) for name in ("unmet", "untried")))
    result = Result(
        provider=summary["provider"],
        model=summary["model"],
        client=summary["client"],
        seed=summary["seed"],
        verdicts=tuple(_verdict(known[one["id"]], one, found[one["id"]]) for one in fields["rules"]),
        coverage=replace(coverage, reached=tuple(shard["reached"])),
        runs=summary["runs"],
        seconds=summary["seconds"],
        accepted=dict(summary["accepted"]),
        interrupted=summary["interrupted"],
        errors=_errors(folder, summary["errors"]),
        unfit=summary["unfit"],
        operations=frozenset(shard["operations"]),
        notes=tuple(summary["notes"]),
        options=tuple(summary["options"]),
        required=frozenset(shard["required"]),
        unjudged=dict(summary.get("unjudged", {})),
    )
    return ShardReport(folder, Shard(int(shard["number"]), int(shard["of"])), result, found)


def _verdict(rule: Rule, one: Mapping[str, Any], found: Iterable[_Found]) -> Verdict:
    if one["verdict"] not in PRECEDENCE:
        raise ValueError(f"the verdict of {rule.id} is {one['verdict']!r}; allowed: {', '.join(PRECEDENCE)}")
    findings = tuple(each.finding for each in found)
    return Verdict(rule, one["verdict"], one["observed"], one["broken"], findings, why=one.get("why"))


def _findings(folder: Path, one: Mapping[str, Any]) -> tuple[_Found, ...]:
    names = [one["id"] if number == 1 else f"{one['id']}-{number}" for number in range(1, len(one["findings"]) + 1)]
    return tuple(_finding(folder / FINDINGS, name, fields) for name, fields in zip(names, one["findings"], strict=True))


def _finding(folder: Path, name: str, fields: Mapping[str, Any]) -> _Found:
    replayed, file = read_finding(folder / f"{name}.scenario.json"), folder / f"{name}.trace.json"
    try:
        trace = read_trace(read_object(file))
    except TraceError as error:
        raise ReportError(f"{file} is not a trace: {error}") from None
    breaches = tuple(map(Breach, replayed.messages))
    recurs = bool(fields.get("recurs", True))
    return _Found(Finding(replayed.rule, breaches, trace, fields.get("during"), replayed.after, recurs), replayed.fit)


def _errors(folder: Path, lines: Sequence[str]) -> tuple[InternalError, ...]:
    """Return the internal errors of a shard. The first one has the tracebacks of all."""
    file = folder / "internal-error.txt"
    text = file.read_text(encoding="utf-8", errors="replace") if lines and file.is_file() else ""
    return tuple(InternalError(str(folder), line, "" if number else text) for number, line in enumerate(lines))


def merged(reports: Sequence[ShardReport]) -> Merged:
    """Return the union of the reports of all shards of a search. Raises ReportError."""
    _check_same(reports)
    _check_complete(reports)
    results = [one.result for one in sorted(reports, key=lambda one: one.shard)]
    first = results[0]
    verdicts, fits = [], dict[str, Fit]()
    for number, one in enumerate(first.verdicts):
        found = _simplest([each for report in reports for each in report.found[one.rule.id]])
        verdicts.append(_union([result.verdicts[number] for result in results], found))
        fits |= {name: each.fit for (name, _), each in zip(file_names(verdicts[-1]), found, strict=True)}
    union = replace(
        first,
        verdicts=tuple(verdicts),
        coverage=_coverage([one.coverage for one in results]),
        runs=sum(one.runs for one in results),
        seconds=sum(one.seconds for one in results),
        accepted={name: why for one in results for name, why in one.accepted.items()},
        interrupted=any(one.interrupted for one in results),
        errors=tuple(error for one in results for error in one.errors),
        unfit=next((one.unfit for one in results if one.unfit is not None), None),
        operations=frozenset().union(*(one.operations for one in results)),
        notes=tuple(dict.fromkeys(note for one in results for note in one.notes)),
        required=frozenset().union(*(one.required for one in results)),
        unjudged=dict(sum((Counter(one.unjudged) for one in results), Counter[str]())),
    )
    return Merged(union, fits)


def _check_same(reports: Sequence[ShardReport]) -> None:
    """Raise ReportError unless all reports are about the same search."""
    first = reports[0]
    for one in reports[1:]:
        for name in ("provider", "model", "client", "seed"):
            here, there = getattr(one.result, name), getattr(first.result, name)
            if here != there:
                raise ReportError(f"{one.folder}: the {name} is {here!r}, that of {first.folder} is {there!r}")
        if [each.rule.id for each in one.result.verdicts] != [each.rule.id for each in first.result.verdicts]:
            raise ReportError(f"{one.folder} has other rules than {first.folder}")


def _check_complete(reports: Sequence[ShardReport]) -> None:
    """Raise ReportError unless each shard has one report."""
    count = reports[0].shard.count
    folders: dict[int, Path] = {}
    for one in reports:
        if one.shard.count != count:
            raise ReportError(f"{one.folder} is shard {one.shard}, {reports[0].folder} is shard {reports[0].shard}")
        if one.shard.number in folders:
            raise ReportError(f"{one.folder} and {folders[one.shard.number]} are both shard {one.shard}")
        folders[one.shard.number] = one.folder
    if missing := sorted(set(range(1, count + 1)) - folders.keys()):
        raise ReportError(f"the report of shard {missing[0]}/{count} is missing; name the reports of all shards")


def _simplest(found: Iterable[_Found]) -> list[_Found]:
    """Return the simplest finding of each name, at most as many as one search reports, the simplest ones first."""
    by_name: dict[str, _Found] = {}
    for one in sorted(found, key=lambda one: one.order):
        by_name.setdefault(one.finding.name, one)
    return list(by_name.values())[:MOST_FINDINGS]


def _union(verdicts: Sequence[Verdict], found: Sequence[_Found]) -> Verdict:
    words = {one.verdict for one in verdicts}
    word = next(word for word in PRECEDENCE if word in words)
    return Verdict(
        verdicts[0].rule,
        word,
        observed=sum(one.observed for one in verdicts),
        times_broken=sum(one.times_broken for one in verdicts),
        findings=tuple(one.finding for one in found),
        why=next((one.why for one in verdicts if one.why is not None), None) if word == NOT_OBSERVED else None,
    )


def _coverage(shards: Sequence[Coverage]) -> Coverage:
    # A fault that is tried once and always may be in two shards under the same name: one of them is enough to meet it.
    reached = {name for one in shards for name in one.reached}
    unmet = {name for one in shards for name in one.unmet} - reached
    untried = {name for one in shards for name in one.untried} - reached - unmet
    total = len(reached | unmet | untried)
    return Coverage(len(reached), total, *(tuple(sorted(names)) for names in (unmet, untried, reached)))


def write_fits(found: Merged, folder: Path) -> None:
    """Write the findings into a folder again, each with the fit of its shard."""
    for one in found.result.verdicts:
        for name, finding in file_names(one):
            fields = finding_json(replace(found.result, fit=found.fits[name]), finding)
            dump(folder / FINDINGS / f"{name}.scenario.json", fields)
