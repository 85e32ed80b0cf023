"""The result of a server suite run, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from hobbyhorse.conformance.exit_status import exit_status
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, InternalError, Lesson, Verdict, judge
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.conformance.server.rules import family_of
from hobbyhorse.conformance.server.session import BudgetEntry, Note, Session
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Stopped:
    """What stopped the probes: an interruption, errors of the suite, or neither."""

    interrupted: bool = False
    errors: tuple[InternalError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResult:
    """The verdicts, the lessons, the ledger, and the probes left out.

    A suite that did not finish is `interrupted`, or has `errors`.

    `unjudged` is a sentence that explains why nothing could be judged, or None. `accepted` maps broken rules of the
    baseline to their reasons; `stale` lists rules of the baseline that are not broken. `options` are the words of the
    command that ran the suite, without secrets.
    """

    provider: str
    model: str
    base_url: str
    seed: int
    budget: Decimal | None
    spent: Decimal
    seconds: float
    verdicts: tuple[Verdict, ...]
    trace: Trace
    ledger: tuple[BudgetEntry, ...] = ()
    notes: tuple[Note, ...] = ()
    unjudged: str | None = None
    accepted: Mapping[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    interrupted: bool = False
    errors: tuple[InternalError, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """Every assumption of the contract that the endpoint contradicts."""
        return tuple(lesson for one in self.verdicts for lesson in one.lessons)

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The broken rules that the baseline does not accept."""
        return tuple(one for one in self.verdicts if one.verdict == BROKEN and one.rule.id not in self.accepted)

    @property
    def clean(self) -> bool:
        """Whether every broken rule is in the baseline, and no baseline entry is stale."""
        finished = self.unjudged is None and not self.interrupted and not self.errors
        return not self.broken and not self.stale and finished

    @property
    def status(self) -> int:
        """The exit status of the command, if no rule has to be observed."""
        return self.status_with(frozenset())

    def status_with(self, required: frozenset[str]) -> int:
        """Return the exit status of the command. The rules in `required` have to be observed."""
        unobserved = {one.rule.id for one in self.verdicts if one.verdict == NOT_OBSERVED}
        return exit_status(
            unjudged=self.unjudged is not None,
            interrupted=self.interrupted,
            internal_error=bool(self.errors),
            finding=bool(self.broken or self.stale),
            not_observed=bool(required & unobserved),
        )


def concluded(
    session: Session,
    contract: Contract,
    rules: Sequence[Rule],
    seconds: float,
    *,
    known: Mapping[str, str] | None = None,
    diagnosis: str | None = None,
    stopped: Stopped | None = None,
) -> ServerResult:
    """Judge the trace of a session; `known` is the baseline, `diagnosis` explains an endpoint that does not respond."""
    stopped = stopped or Stopped()
    trace, errors = session.trace(), list(stopped.errors)
    unjudged = None if session.judgeable else why_unjudged(session, diagnosis)
    judged = [] if unjudged is not None else judge(contract, [trace], rules, errors)
    verdicts = tuple(_explained(one, session, stopped) for one in judged)
    broken = {one.rule.id for one in verdicts if one.verdict == BROKEN}
    budget = session.endpoint.budget
    return ServerResult(
        provider=contract.key,
        model=", ".join(model.id for model in session.models),
        base_url=session.endpoint.base_url,
        seed=session.seed,
        budget=budget.limit,
        spent=budget.spent,
        seconds=seconds,
        verdicts=verdicts,
        trace=trace,
        ledger=tuple(session.ledger),
        notes=tuple(session.notes),
        unjudged=unjudged,
        accepted={rule: why for rule, why in (known or {}).items() if rule in broken},
        # A rule that was not judged may still be broken, so no entry is stale.
        stale=() if unjudged is not None else tuple(sorted(set(known or {}) - broken)),
        interrupted=stopped.interrupted,
        errors=tuple(errors),
    )


def _explained(one: Verdict, session: Session, stopped: Stopped) -> Verdict:
    """Return a verdict, with the reason if the rule was not observed."""
    if one.verdict != NOT_OBSERVED or one.why is not None:
        return one
    if stopped.interrupted or stopped.errors:
        return replace(one, why="the suite was stopped before a probe showed it: run it to its end")
    if session.endpoint.budget.limit is None:
        return replace(one, why="no job was submitted: give --budget")
    family = family_of(one.rule)
    reasons = [note.why for note in session.notes if note.probe.partition(":")[0] == family]
    return replace(
        one, why=f"left out: {reasons[0]}" if reasons else "no response of the endpoint showed its situation"
    )


def why_unjudged(session: Session, diagnosis: str | None = None) -> str:
    """Return one sentence that explains why no rule could be judged."""
    where, seen = session.endpoint.base_url, [one for one in session.endpoint.exchanges if one.status]
    # A refused key is expected in the probes that send a wrong one or none.
    own = [one for one in seen if not (one.probe or "").startswith("auth:")]
    if not seen:
        return diagnosis or f"{where} gave no response"
    # The order is from the most specific reason to the most general one.
    if session.has_no_operations:
        return f"{where} responds {seen[0].status} to every request: is it the base URL of the API?"
    refused = [one for one in own if session.key_refused(one)]
    if refused:
        return f"{where} refuses the key: every request with it got {refused[0].status}"
    if own and all(300 <= one.status < 400 for one in own):
        to = next((one.answer_header("location") for one in own if one.answer_header("location")), "elsewhere")
        return (
            f"{where} redirects every request to {to!r}; redirects are not followed, because the key would go with them"
        )
    if any(not one.whole for one in own) and not any(one.whole for one in own):
        return f"no response of {where} completed within 16 MB and the request's timeout"
    if any(one.answer.lstrip()[:1] == b"<" for one in own):
        return f"{where} responds with HTML, never with JSON: is it the base URL of the API?"
    return f"{where} never responds with JSON: is it the base URL of the API?"
