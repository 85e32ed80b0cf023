"""The search for faults that break a client. Knows no server: a callable runs each case and returns its trace.

How a finding is made:

1. The happy case. A client that gets no video from a faultless server cannot be tested (`CannotRun`): every other
   verdict would be about that failure. Together with a job that is stuck it shows which operations the client uses.
2. Enumeration. The ways to run the client, orders with telling parameters and texts, then every single fault on an
   operation that it uses. This comes first because one fault is the smallest explanation of a finding, and most bugs
   need no more.
3. Pairs of single faults, in random order, for a share of the runs that are left.
4. Hypothesis, for the rest: scenarios with several faults and options, every other one with
   a drawn order. `target()` prefers scenarios with more jobs and
   more requests, because clients lose money where they submit and poll again. Hypothesis only generates: its own
   shrinker would run the client an unbounded number of times.
5. Confirmation. A finding of a rule about timing counts only if the same case shows it each of TIMING_REPEATS times:
   a busy machine delays a request once, a bug delays it always.
6. Shrinking. From the smallest known case of each broken rule, remove faults and options as long as the rule stays
   broken, within SHRINKING runs for each rule.

What must hold:

* No case runs twice except to confirm timing. `seen` maps the key of each case to the rules that it broke, so that
  shrinking may use earlier results for free.
* The runs never exceed the plan, except for `spare` (shrinking) and for confirmations.
* Equal seeds give equal cases, findings and counts. So the order of cases depends on the contract and the seed alone,
  and `Case.size` is a total order.
* A tally counts a trace only if the rule's subject occurred in it: silence is no evidence (see `judge`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings, target
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import none, sampled_from

from hobbyhorse.conformance.client.cases import HAPPY, KILLED, MOVED, ONCE, RECOVERY, Case
from hobbyhorse.conformance.client.order_cases import drawn_orders, order_cases
from hobbyhorse.conformance.client.planning import (
    STUCK,
    believable,
    killings,
    last_polls,
    pairs,
    recoveries,
    repeated_roles,
    simplified,
    singles,
    used_roles,
)
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.scenario_space import scenarios
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict, check
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import CALLBACK
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

# Runs that must all show a finding about timing: three rule out the occasional pause of a busy machine.
TIMING_REPEATS = 3
# Cases that are handed to the runner together: enough to keep its parallel processes busy. A search that ends early
# wastes at most this many runs.
BATCH = 32
# Runs beyond the plan that may shrink each finding. More would shrink the rare scenario with many faults and options
# further, and cost every finding more runs of the client.
SHRINKING = 40
# The share of the remaining runs that tries pairs of single faults; Hypothesis gets the rest, because it also varies
# options and combines more than two faults.
PAIRS_PART = 0.3
# The fewest examples to request from Hypothesis: the first ones of a series are mostly the simplest scenario again.
FEW_SCENARIOS = 20
STUCK_JOB = Case({"timeline": STUCK})

CaseRunner = Callable[[Sequence[Case]], Iterable[Trace]]
"""Runs the client once for each case, and returns the traces in the same order."""


class CannotRun(RuntimeError):
    """The client cannot be tested at all."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a search: runs so far, runs planned, rules broken so far, and the current phase."""

    runs: int
    planned: int
    broken: tuple[str, ...]
    phase: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of a search: its runs, seed and rules, and the kinds of case that the client supports.

    No `rules` means all of them. The search ends early once all the rules in `until` are broken.
    """

    runs: int = 500
    seed: int = 0
    rules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = (ONCE,)
    until: frozenset[str] = frozenset()


@dataclass(slots=True)
class Tally:
    """The evidence about a rule so far."""

    rule: Rule
    observed: int = 0
    broken: int = 0
    smallest: tuple[Case, Finding] | None = None

    def verdict(self, contract: Contract) -> Verdict:
        """Return the verdict on the rule."""
        if not self.rule.applies(contract):
            return Verdict(self.rule, NOT_APPLICABLE)
        word = BROKEN if self.smallest else PASSED if self.observed else NOT_OBSERVED
        found = (self.smallest[1],) if self.smallest else ()
        return Verdict(self.rule, word, self.observed, self.broken, found)


@dataclass(slots=True)
class Search:
    """One search for the faults that break a client."""

    contract: Contract
    run_cases: CaseRunner
    plan: Plan
    on_progress: Callable[[Progress], None] = lambda progress: None
    runs: int = 0
    phase: str = ""
    tallies: list[Tally] = field(default_factory=list)
    seen: dict[str, frozenset[str]] = field(default_factory=dict)
    spare: int = 0
    """Runs that are allowed beyond the plan, to shrink one finding."""
    met: set[str] = field(default_factory=set)
    """Keys of the cases in which the client hit every fault."""

    def run(self, client: str, model: str) -> Result:
        """Search, and return the result. Raises CannotRun if the client gets no video from a faultless server."""
        started = time.monotonic()
        wanted = [rule for rule in all_rules() if not self.plan.rules or rule.id in self.plan.rules]
        self.tallies = [Tally(rule) for rule in wanted]
        happy = self._happy()
        # A stuck job shows what a client does at its deadline, such as cancel.
        stuck = self._run_one(STUCK_JOB)
        observed = [AnnotatedTrace(self.contract, trace) for trace in (happy, stuck) if trace is not None]
        roles = used_roles(observed)
        stuck_only = set(roles) - {*used_roles(observed[:1]), CALLBACK}
        ones = singles(self.contract, roles, stuck_only, repeated_roles(observed[0]))
        self._run_all("ways to run", self._ways(observed[0], ones))
        self._run_all("orders", order_cases(self.contract, found) if (found := self.contract.model(model)) else ())
        self._run_all("last polls", last_polls(self.contract, observed[-1]))
        self._run_all("single faults", ones)
        self._run_pairs(roles)
        self._run_random(drawn_orders(self.contract, found, self.left, self.plan.seed) if found and self.left else [])
        self._shrink()
        coverage = self._coverage(ones)
        seconds = time.monotonic() - started
        verdicts = tuple(tally.verdict(self.contract) for tally in self.tallies)
        return Result(self.contract.key, model, client, self.plan.seed, verdicts, coverage, self.runs, seconds)

    @property
    def left(self) -> int:
        """The number of remaining runs; 0 once the search may end early."""
        # Enough is known: the caller wanted these rules only.
        if self.plan.until and self.plan.until <= set(self.broken):
            return 0
        return max(self.plan.runs - self.runs, 0)

    def _happy(self) -> Trace:
        """Run the client against a faultless server. Raises CannotRun if it gets no video there."""
        self.on_progress(Progress(0, self.plan.runs, (), self.phase))
        trace = self._run_one(HAPPY)
        if trace is None:
            raise CannotRun("0 runs are allowed; allow at least one")
        annotated = AnnotatedTrace(self.contract, trace)
        if not annotated.submits:
            sent = [f"{step.exchange.method} {step.exchange.url} ({step.status})" for step in annotated.steps[:5]]
            sent += [f"and {len(annotated.steps) - 5} more"] if len(annotated.steps) > 5 else []
            raise CannotRun(
                f"the client submitted no job; its requests: {', '.join(sent) or 'none'}{_ending(annotated)}"
            )
        if annotated.outcome is not None and annotated.outcome.kind != "success":
            last = annotated.steps[-1]
            raise CannotRun(
                f"the client got no video from a server without faults; its last request was "
                f"{last.exchange.method} {last.exchange.url} ({last.status}){_ending(annotated)}"
            )
        return trace

    def _ways(self, happy: AnnotatedTrace, ones: Sequence[Case]) -> list[Case]:
        """Return the cases that vary how the client is run."""
        found = [Case({}, kind) for kind in self.plan.kinds if kind not in (ONCE, RECOVERY, KILLED, MOVED)]
        found += recoveries(ones) if RECOVERY in self.plan.kinds else ()
        points = killings(happy)
        if KILLED in self.plan.kinds:
            found += points
        if MOVED in self.plan.kinds:
            found += [replace(case, kind=MOVED) for case in points if "submit" not in case.scenario["moves"]][:1]
        return found

    def _run_one(self, case: Case) -> Trace | None:
        return next(iter(self._run_batch([case])), None)

    def _run_all(self, phase: str, cases: Iterable[Case]) -> None:
        """Run new cases in batches until the plan's runs are used up."""
        self.phase = phase
        waiting = iter(cases)
        while batch := list(islice((case for case in waiting if case.key not in self.seen), min(BATCH, self.left))):
            self._run_batch(batch)

    def _run_batch(self, cases: list[Case]) -> list[Trace]:
        """Run as many of the cases as the plan allows."""
        return self._run_and_judge(cases[: self.left])

    def _run_and_judge(self, cases: list[Case]) -> list[Trace]:
        """Run and judge cases, beyond the plan if need be; stop when the search may end early."""
        traces = []
        for case, trace in zip(cases, self.run_cases(cases), strict=True):
            self.runs += 1
            self._judge(case, trace)
            traces.append(trace)
            self.on_progress(Progress(self.runs, self.plan.runs, self.broken, self.phase))
            if not self.left:
                break
        return traces

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that are broken so far."""
        return tuple(tally.rule.id for tally in self.tallies if tally.smallest)

    def _judge(self, case: Case, trace: Trace) -> None:
        """Check a trace against every rule, and add the evidence to the tallies."""
        if not trace.unmet:
            self.met.add(case.key)
        annotated = AnnotatedTrace(self.contract, trace)
        broken = set()
        for tally in self.tallies:
            judgement = check(tally.rule, annotated)
            tally.observed += judgement.observed
            if judgement.breaches and (not tally.rule.timing or self._confirmed(tally.rule, case)):
                tally.broken += 1
                broken.add(tally.rule.id)
                if tally.smallest is None or case.size < tally.smallest[0].size:
                    tally.smallest = case, Finding(tally.rule.id, judgement.breaches, trace)
        self.seen[case.key] = frozenset(broken)

    def _confirmed(self, rule: Rule, case: Case) -> bool:
        """Whether further runs of a case all break a rule about timing."""
        for trace in self.run_cases([case] * (TIMING_REPEATS - 1)):
            self.runs += 1
            if not check(rule, AnnotatedTrace(self.contract, trace)).breaches:
                return False
        return True

    def _run_pairs(self, roles: Sequence[str]) -> None:
        """Run pairs of single faults."""
        random = Random(self.plan.seed)
        self._run_all("pairs", islice(pairs(self.contract, roles, random), int(self.left * PAIRS_PART)))

    def _run_random(self, orders: Sequence[dict[str, Any]]) -> None:
        """Run scenarios from Hypothesis until the runs are used up, or a whole series has nothing new."""
        self.phase = "random scenarios"
        random, seed, runs = Random(self.plan.seed), self.plan.seed, -1
        while self.left and self.runs > runs:
            runs = self.runs
            self._run_generated(seed, orders)
            seed = random.getrandbits(64)

    def _run_generated(self, seed: int, orders: Sequence[dict[str, Any]]) -> None:
        """Run one series of scenarios from Hypothesis, which prefers more jobs and more requests."""

        @seeded(seed)
        @settings(
            max_examples=max(self.left, FEW_SCENARIOS),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.target),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(scenarios(self.contract), none() | sampled_from(orders) if orders else none())
        def generated(scenario: dict[str, Any], order: dict[str, Any] | None) -> None:
            case = Case(believable(scenario, self.contract), order=order)
            if case.key in self.seen or not self.left:
                return  # not reject(): Hypothesis reports a repeated example that ends differently as flaky
            for trace in self._run_batch([case]):
                target(float(len(trace.jobs or ())), label="jobs")
                target(float(len(trace.exchanges)), label="requests")

        with suppress(Unsatisfiable):
            generated()

    def _shrink(self) -> None:
        """Replace the case of each finding by the simplest one that breaks the same rule."""
        self.phase = "smaller scenarios"
        for tally in self.tallies:
            self.spare = SHRINKING
            # Each success starts again from the new case: a fault that was needed before may be superfluous now.
            while tally.smallest is not None and self._shrink_once(tally, tally.smallest[0]):
                pass
        self.spare = 0

    def _shrink_once(self, tally: Tally, case: Case) -> bool:
        """Try the simpler neighbours of a case, and return whether one breaks the same rule.

        `_judge` has then made it the tally's smallest case.
        """
        for simpler in simplified(case, self.contract):
            if simpler.key not in self.seen and self.spare:
                self.spare -= 1
                self._run_and_judge([simpler])
            if tally.rule.id in self.seen.get(simpler.key, frozenset()):
                return tally.smallest is not None and tally.smallest[0].size < case.size
        return False

    def _coverage(self, ones: list[Case]) -> Coverage:
        """Return how many of the individual faults the client hit, whether once or always."""
        names: dict[str, list[str]] = {}
        for case in ones:
            name = str(case).replace(" (times=always)", "").replace(", times=always", "")
            names.setdefault(name, []).append(case.key)
        met = {name for name, keys in names.items() if not self.met.isdisjoint(keys)}
        tried = {name for name, keys in names.items() if not self.seen.keys().isdisjoint(keys)}
        unmet, untried = sorted(tried - met), sorted(names.keys() - tried)
        return Coverage(len(met), len(names), tuple(unmet), tuple(untried))


def _ending(annotated: AnnotatedTrace) -> str:
    """Describe how an untestable client ended, with the likely cause."""
    outcome, words = annotated.outcome, ""
    if any(step.status == 401 for step in annotated.steps):
        words = "; does the client send its API key in the provider's scheme?"
    elif annotated.accepted is not None and not annotated.fetches and any(step.video for step in annotated.steps):
        words = "; the client received the URL of its video, on the base URL's host, but did not fetch the video"
    if outcome is None:
        return words
    return f"{words}; the run ended as {outcome.kind!r}" + (f": {outcome.message}" if outcome.message else "")
