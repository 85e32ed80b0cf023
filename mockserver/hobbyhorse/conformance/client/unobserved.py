"""Why a rule was not observed, and what would make it observable. Knows no server."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from hobbyhorse.conformance.client.cases import KILLED
from hobbyhorse.conformance.judge import NOT_OBSERVED, Verdict, has_channel
from hobbyhorse.conformance.rule import OUTCOME, RESTART, Rule
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace
from hobbyhorse.traces.trace import Trace

# The operation without which no rule of a family can be observed, and the reason to give.
_OPERATIONS = {
    "CAN": ("cancel", "the client never cancels a job"),
    "CBK": (
        CALLBACK,
        "no callback was sent: the client has to submit the callback URL that it is given",
    ),
    "RES": (MEDIA, "the client never downloads a video"),
    "SUB": ("submit", "the client never submits a job"),
}
# The rules of a family that do not need its operation: they judge how a job ends, not the download of its video.
_WITHOUT = frozenset({"RES-01", "RES-02", "RES-03", "RES-10", "RES-11"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a suite saw of a client: its operations, the ways in which it was run, and the faults without a run."""

    roles: Collection[str]
    kinds: Collection[str]
    untried: int = 0
    stopped: bool = False

    def why(self, rule: Rule) -> str:
        """Return why none of the suite's runs showed the subject of a rule."""
        if rule.channel == RESTART and KILLED not in self.kinds:
            return "no run was killed: give --resume-command (a Python callable cannot be killed; test it as a command)"
        if self.stopped:
            return "the suite was stopped before a run showed it: run the suite to its end"
        if reason := _missing(rule, self.roles):
            return reason
        if self.untried:
            return f"runs used up ({self.untried} single faults were not tried): raise --runs"
        return "no run led the client to its situation: raise --runs, or use --profile full"


def explained(verdicts: Iterable[Verdict], evidence: Evidence) -> tuple[Verdict, ...]:
    """Return the verdicts of a suite, with the reason for each rule that was not observed."""
    return tuple(
        replace(one, why=one.why or evidence.why(one.rule)) if one.verdict == NOT_OBSERVED else one for one in verdicts
    )


def explained_for(verdicts: Iterable[Verdict], trace: AnnotatedTrace) -> tuple[Verdict, ...]:
    """Return the verdicts on one trace, with the reason for each rule that was not observed."""
    roles = {step.role for step in trace.steps if step.role is not None} | ({CALLBACK} if trace.deliveries else set())
    return tuple(
        replace(one, why=_why_not_in(one.rule, trace.trace, roles)) if one.verdict == NOT_OBSERVED else one
        for one in verdicts
    )


def _why_not_in(rule: Rule, trace: Trace, roles: Collection[str]) -> str:
    if not has_channel(rule, trace):
        if rule.channel == OUTCOME:
            return "the trace has no outcome: run the client with `hobbyhorse conformance client`"
        return "the trace has no restart: use `hobbyhorse conformance client --resume-command CMD`"
    if reason := _missing(rule, roles):
        return reason
    return "the trace does not show its situation: `hobbyhorse conformance client` provokes it"


def _missing(rule: Rule, roles: Collection[str]) -> str | None:
    role, reason = _OPERATIONS.get(rule.family, (None, "")) if rule.id not in _WITHOUT else (None, "")
    seen = bool(SUBMISSIONS.intersection(roles)) if role in SUBMISSIONS else role in roles
    return reason if role is not None and not seen else None
