"""The comparison of two reports: new, gone and changed findings, and lost evidence. Knows no suite and no contract.

A finding is identified by its rule and, in the client suite, by what the client was doing. It is gone only if its rule
was observed again: a rule that was broken and is not observed now may still be broken, so its evidence is lost, as that
of a rule that passed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.judge import BROKEN, LESSON, PASSED
from hobbyhorse.conformance.report import ReportError, read_object

FILE = "report.json"
# The format of the reports of both suites that this module reads.
FORMAT = 1
# The members of a finding that say how it occurred, besides its message.
FACTS = ("drill", "scenario", "point", "order", "places")
# Words with digits: ids, times and counts differ in every run.
_VARYING = re.compile(r"[\w.:-]*\d[\w.:-]*")


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """A finding in a report: its name, such as `RES-08/download`, its situation in words, and its messages.

    `identity` is equal for findings that differ only in ids, times and counts. `accepted` is the reason if a baseline
    accepts the finding.
    """

    name: str
    situation: str
    messages: tuple[str, ...]
    identity: str
    accepted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report as read: the verdict of each rule, the findings by name, and why the suite did not finish, if so."""

    provider: str
    suite: str
    verdicts: Mapping[str, str]
    findings: Mapping[str, ReportedFinding]
    unfinished: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The differences between two reports. `lost` maps rules without evidence now to their old verdicts."""

    new: Sequence[ReportedFinding] = ()
    gone: Sequence[ReportedFinding] = ()
    changed: Sequence[tuple[ReportedFinding, ReportedFinding]] = ()
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_news(self) -> bool:
        """Whether a finding is new and no baseline accepts it."""
        return any(one.accepted is None for one in self.new)


def read_report(path: Path) -> Report:
    """Read a report: its folder, or its report.json. Raises ReportError."""
    file = path / FILE if path.is_dir() else path
    fields = read_object(file)
    if fields.get("format") != FORMAT:
        raise ReportError(f"{file} is not a report: 'format' is {fields.get('format')!r}; allowed: {FORMAT}")
    try:
        return _report(fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ReportError(f"{file} is not a report: {words}") from None


def _report(fields: Mapping[str, Any]) -> Report:
    summary = fields["summary"]
    # Of a server: why nothing could be judged. Of a client: the runs without a verdict, which leave the others valid.
    if isinstance(unjudged := summary.get("unjudged"), str):
        raise ValueError(f"nothing was judged: {unjudged}")
    findings = [found for one in fields["rules"] for found in _findings(one)]
    unfinished = ["it was interrupted"] if summary.get("interrupted") else []
    unfinished += [f"internal error: {error}" for error in summary.get("errors", ())]
    unfinished += [str(summary["unfit"])] if summary.get("unfit") is not None else []
    return Report(
        provider=str(summary["provider"]),
        suite="server" if "base_url" in summary else "client",
        verdicts={str(one["id"]): str(one["verdict"]) for one in fields["rules"]},
        findings={found.name: found for found in findings},
        unfinished="; ".join(unfinished) or None,
    )


def _findings(one: Mapping[str, Any]) -> Iterator[ReportedFinding]:
    """Yield the findings of a rule: one for each operation of a client, or one for a server."""
    rule, accepted, listed = str(one["id"]), one.get("accepted"), one["findings"]
    if one["verdict"] != BROKEN:
        return
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for found in listed:
        groups.setdefault(f"{rule}/{found['during']}" if found.get("during") else rule, []).append(found)
    for name, group in groups.items():
        messages = tuple(dict.fromkeys(str(found["message"]) for found in group))
        situation = str(group[0].get("in_words", ""))
        facts = {json.dumps([found.get(key) for key in FACTS], sort_keys=True) for found in group}
        identity = json.dumps([sorted(facts), sorted({_VARYING.sub("", message) for message in messages})])
        reason = accepted if accepted is not None else group[0].get("accepted")
        yield ReportedFinding(name, situation, messages, identity, reason)


def compared(old: Report, new: Report) -> Comparison:
    """Return the differences between two reports on the same provider. Raises ReportError."""
    for name, before, now in (("suite", old.suite, new.suite), ("provider", old.provider, new.provider)):
        if before != now:
            raise ReportError(f"the reports cannot be compared: the {name} of OLD is {before!r}, of NEW {now!r}")
    both = [(found, new.findings[name]) for name, found in old.findings.items() if name in new.findings]
    lost = {
        rule: word
        for rule, word in old.verdicts.items()
        if word in (PASSED, BROKEN, LESSON) and new.verdicts.get(rule) not in (PASSED, BROKEN, LESSON)
    }
    return Comparison(
        new=[found for name, found in new.findings.items() if name not in old.findings],
        gone=[
            found
            for name, found in old.findings.items()
            if name not in new.findings and name.partition("/")[0] not in lost
        ],
        changed=[(before, now) for before, now in both if _differ(before, now)],
        lost=lost,
    )


def _differ(old: ReportedFinding, new: ReportedFinding) -> bool:
    return old.identity != new.identity or (old.accepted is None) != (new.accepted is None)
