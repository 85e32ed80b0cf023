"""The search for faults that break a client. Knows no server: a callable runs each case and returns its trace.

How a finding is made:

1. The happy case. A client that gets no video from a faultless server cannot be tested (`CannotRun`): every other
   verdict would be about that failure. Together with a job that is stuck it shows which operations the client uses.
2. Enumeration. The ways to run the client, orders with telling parameters and texts, then every single fault on an
   operation that it uses. This comes first because one fault is the smallest explanation of a finding, and most bugs
   need no more.
3. Pairs of single faults, in random order, for a share of the runs that are left.
4. Hypothesis, for the rest: scenarios with several faults and options, every other one with a drawn order. Hypothesis
   only generates: its own shrinker would run the client an unbounded number of times, and its `target()` waits for the
   result of each scenario before it draws the next one, so that parallel processes would idle.
5. Confirmation. A finding of a rule about timing counts only if the same case shows it each of TIMING_REPEATS times:
   a busy machine delays a request once, a bug delays it always. Only a case that would become the smallest one is
   repeated: no other case is reported.
6. Shrinking. A rule may be broken by several parts of a client, so findings are grouped by what the client was doing
   (`during`). From the smallest known case of each group, remove faults and options as long as the group stays broken,
   within SHRINKING runs for each group.
7. Recurrence. Each finding is replayed in a fresh process, because a client may keep state between its cases
   (`recurrence`).

What must hold:

* No case runs twice except to confirm a finding. `seen` maps the key of each case to the names of the findings that it
  showed, so that shrinking may use earlier results for free.
* The runs never exceed the plan, except for `spare` (shrinking) and for confirmations.
* A shard runs all of its planned cases: extra runs, such as confirmations, are taken from its random cases only.
* Nothing that a client does ends the search without a result: an interruption or an unexpected error ends the runs, and
  the result has what was judged until then.
* Equal seeds give equal cases, findings and counts. So the order of cases depends on the contract and the seed alone,
  and `Case.size` is a total order.
* A tally counts a trace only if the rule's subject occurred in it: silence is no evidence (see `judge`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, starmap
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from hobbyhorse.conformance.client.cases import (
    BEHIND,
    EQUAL,
    HAPPY,
    KILLED,
    MOVED,
    ONCE,
    RECOVERY,
    TOGETHER,
    TWICE,
    Case,
    case_of,
)
from hobbyhorse.conformance.client.diagnosis import Fit, own_deadline, refused, without_video
from hobbyhorse.conformance.client.during import during
from hobbyhorse.conformance.client.order_cases import drawn_orders, order_cases
from hobbyhorse.conformance.client.planning import (
    STUCK,
    believable,
    failures_apart,
    killings,
    last_polls,
    overlapping_downloads,
    pairs,
    recoveries,
    repeated_roles,
    singles,
    used_roles,
    varied,
)
from hobbyhorse.conformance.client.recurrence import BUDGET, Candidate, FreshRunner, Recurrence
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.scenario_space import scenarios, varied_scenarios
from hobbyhorse.conformance.client.shard import LAST_POLLS, PhaseCases, Shard
from hobbyhorse.conformance.client.unobserved import Evidence, explained
from hobbyhorse.conformance.client.variations import usual_case, variations
from hobbyhorse.conformance.fallback import Half, check_halves, second_cases, simpler, turns
from hobbyhorse.conformance.judge import (
    BROKEN,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    Finding,
    InternalError,
    Verdict,
)
from hobbyhorse.conformance.rule import MONEY, MUST, PROVIDERS, SECURITY, Breach, Rule
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.scenarios.fault import CALLBACK
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.pair import annotated
from hobbyhorse.traces.trace import Outcome, Trace

# Runs that must all show a finding about timing: three rule out the occasional pause of a busy machine.
TIMING_REPEATS = 3
# Cases that are handed to the runner together: enough to keep its parallel processes busy. A search that ends early
# wastes at most this many runs.
BATCH = 64
# Runs beyond the plan that may shrink each finding. More would shrink the rare scenario with many faults and options
# further, and cost every finding more runs of the client.
SHRINKING = 40
# The share of the remaining runs that tries pairs of single faults; Hypothesis gets the rest, because it also varies
# options and combines more than two faults.
PAIRS_PART = 0.3
# The fewest examples to request from Hypothesis: the first ones of a series are mostly the simplest scenario again.
FEW_SCENARIOS = 20
# The most examples of a series: what the cases of one series show decides what the next one draws.
MANY_SCENARIOS = 200
# Findings reported of one rule: an SDK and its wrapper are two parts of a client; a third one is rare.
MOST_FINDINGS = 3
# Internal errors reported: a rule that fails once fails in most traces.
MOST_ERRORS = 5
# The single faults that come before the variations: the timelines, and the first faults of each operation, which lose
# jobs and money.
GRAVEST = 60
# The family of the rules about variations.
VARIATIONS = "VAR"
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

    No `rules` means all of them. The search ends early once all the rules in `until` are broken. A search that is split
    runs the cases of one `shard`, and `runs` counts all shards.
    """

    runs: int = 500
    seed: int = 0
    rules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = (ONCE,)
    until: frozenset[str] = frozenset()
    shard: Shard | None = None

    @property
    def random_seed(self) -> int:
        """The seed of the pairs and the random scenarios, which each shard has for itself."""
        return self.seed + (self.shard.number if self.shard is not None else 0)


@dataclass(slots=True)
class Group:
    """The findings of a rule while a client does one thing: the smallest known one, and the first case that showed it.

    `before` are the cases that ran in the same process before the first case.
    """

    case: Case
    finding: Finding
    first: Case
    before: Sequence[Case] = ()


@dataclass(slots=True)
class Tally:
    """The evidence about a rule so far. `groups` maps what the client was doing to the findings."""

    rule: Rule
    observed: int = 0
    broken: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    error: InternalError | None = None

    @property
    def smallest_first(self) -> list[Group]:
        """The groups to report, those with the smallest cases first."""
        return sorted(self.groups.values(), key=lambda group: (group.case.size, group.finding.name))[:MOST_FINDINGS]

    @property
    def smallest(self) -> tuple[Case, Finding] | None:
        """The smallest case that broke the rule, and its finding."""
        return next(((group.case, group.finding) for group in self.smallest_first), None)

    def verdict(self, *contracts: Contract) -> Verdict:
        """Return the verdict on the rule. `contracts` belong to the client's providers."""
        lacks_second = self.rule.channel == PROVIDERS and len(contracts) < 2  # it compares two
        if lacks_second or not any(map(self.rule.applies, contracts)):
            return Verdict(self.rule, NOT_APPLICABLE)
        found = tuple(group.finding for group in self.smallest_first)
        if self.error is not None and not found:
            return Verdict(self.rule, NOT_OBSERVED, self.observed, why=f"internal error: {self.error.message}")
        word = BROKEN if found else PASSED if self.observed else NOT_OBSERVED
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
    fresh: FreshRunner | None = None
    """Runs cases in a fresh process, to confirm findings. Without it, as for commands, each run has its own process.
    Raises CannotRun if the client cannot be run there.
    """
    before: Callable[[Case], Sequence[Case]] | None = None
    """Returns the cases that ran before a case in its process; by default, all of them."""
    ran: list[Case] = field(default_factory=list)
    ones: list[Case] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    unfit: str | None = None
    interrupted: bool = False
    errors: list[InternalError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    endings: dict[str, Outcome | None] = field(default_factory=dict)
    """The outcome of the last run of each case."""
    fit: Fit = field(default_factory=Fit)
    """How the runner's test cases are adapted to the client."""
    patience: float | None = None
    """The time in seconds after which the client gives up a job that never ends, if it does."""
    second: Contract | None = None
    """The contract of the provider that the client falls back to, if it has two."""
    second_patience: float | None = None
    broken_forms: set[str] = field(default_factory=set)
    """The forms of variations that the client does not survive alone."""
    allowed: int = field(init=False)
    """The runs that the plan allows; for a shard, its own."""
    is_extra_free: bool = False
    """Whether runs that the plan does not have, such as confirmations, take no run from it."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """How many runs were not judged, by what the client used that virtual time does not cover."""

    def __post_init__(self) -> None:
        self.allowed = self.plan.runs

    def run(self, client: str, model: str) -> Result:
        """Search, and return the result. Raises CannotRun if the client gets no video from a faultless server.

        An interruption or an unexpected error ends the search; before the first run, it is raised.
        """
        started = time.monotonic()
        wanted = [rule for rule in all_rules() if not self.plan.rules or rule.id in self.plan.rules]
        self.tallies = [Tally(rule) for rule in wanted]
        try:
            self._search(self.contract.model(model))
        except CannotRun:
            raise
        except KeyboardInterrupt:
            if not self.runs:
                raise
            self.interrupted = True
        except Exception as error:
            if not self.runs:
                raise
            self._note(f"the search, {self.phase or 'first runs'}", error)
        return self._result(client, model, time.monotonic() - started)

    def _search(self, model: Model | None) -> None:
        happy = self._happy()
        if self.unfit is not None:
            return
        # A stuck job shows what a client does at its deadline, such as cancel.
        stuck = self._run_one(STUCK_JOB)
        observed = [self._read(trace)[0] for trace in (happy, stuck) if trace is not None]
        roles = self.roles = used_roles(observed)
        stuck_only = set(roles) - {*used_roles(observed[:1]), CALLBACK}
        ones = singles(self.contract, roles, stuck_only, repeated_roles(observed[0]))
        varying, at_second = varied(self.contract, roles), self._second_faults()
        self.ones = [*ones, *varying, *at_second]
        # An order has the form of one provider.
        model = model if self.second is None else None
        self._run_planned(
            [
                ("ways to run", self._ways(observed[0], ones)),
                ("orders", list(order_cases(self.contract, model)) if model else []),
                (LAST_POLLS, [*last_polls(self.contract, observed[-1]), *failures_apart(self.contract, observed[-1])]),
                ("single faults", ones[:GRAVEST]),
                ("faults of the second provider", at_second[:GRAVEST]),
                ("variations", varying),
                ("single faults", ones[GRAVEST:]),
                ("faults of the second provider", at_second[GRAVEST:]),
            ]
        )
        self._run_pairs(roles)
        self._run_random(
            drawn_orders(self.contract, model, self.left, self.plan.random_seed) if model and self.left else []
        )
        self._shrink()
        self._confirm()

    def _run_planned(self, phases: Sequence[PhaseCases]) -> None:
        """Run the planned cases; of a shard, its own ones, all of them."""
        if self.plan.shard is None:
            for phase, cases in phases:
                self._run_all(phase, cases)
            return
        shard, before = self.plan.shard, self.runs
        part = shard.part(phases, self.seen, self.left)
        own = {case.key for case in (*part.cases, *part.untried)}
        # The other shards report the faults that are theirs.
        self.ones = [case for case in self.ones if case.key in own or case.key in self.seen]
        limit = before + len(part.cases) + shard.share(self.left - part.planned)
        self.allowed, self.is_extra_free = before + len(part.cases), True
        for phase, cases in part.phases:
            self._run_all(phase, cases)
        self.allowed, self.is_extra_free = limit, False

    @property
    def contracts(self) -> list[Contract]:
        """The contracts of the client's providers."""
        return [self.contract] if self.second is None else [self.contract, self.second]

    def _read(self, trace: Trace) -> tuple[AnnotatedTrace, ...]:
        """Read a trace, and that of the second provider, each through its contract."""
        return annotated(self.contracts, trace)

    def _second_faults(self) -> list[Case]:
        """Return the single faults of the second provider, in a case in which the client turns to it."""
        if self.second is None:
            return []
        for turn in turns(self.contract):
            trace = self._run_one(turn)
            if trace is None:
                return []
            partner = self._read(trace)[-1]
            if partner.accepted is not None:
                stuck = self._run_one(replace(turn, second=STUCK_JOB.scenario))
                self.second_patience = own_deadline(self._read(stuck)[-1]) if stuck is not None else None
                return second_cases(turn, self.second, used_roles([partner]), repeated_roles(partner))
        why = "neither after a failed job nor after a refusal"
        self.notes.append(f"the client never submitted to the second provider, {self.second.key}, {why} by the first")
        return []

    def _result(self, client: str, model: str, seconds: float) -> Result:
        coverage = self._coverage(self.ones)
        stopped = self.interrupted or bool(self.errors) or self.unfit is not None
        evidence = Evidence(self.roles, self.plan.kinds, len(coverage.untried), stopped)
        verdicts = explained((tally.verdict(*self.contracts) for tally in self.tallies), evidence)
        return Result(
            provider=",".join(one.key for one in self.contracts),
            model=model,
            client=client,
            seed=self.plan.seed,
            verdicts=verdicts,
            coverage=coverage,
            runs=self.runs,
            seconds=seconds,
            interrupted=self.interrupted,
            errors=tuple(self.errors[:MOST_ERRORS]),
            unfit=self.unfit,
            notes=tuple(self.notes),
            fit=self.fit,
            operations=frozenset(f"{one.rule.id}/{name}" for one in self.tallies for name in one.groups),
            shard=self.plan.shard,
            unjudged=dict(self.unjudged),
        )

    def _note(self, doing: str, error: Exception) -> InternalError:
        """Keep an unexpected error for the result."""
        found = InternalError.of(doing, error)
        self.errors.append(found)
        return found

    @property
    def left(self) -> int:
        """The number of remaining runs; 0 once the search may end early."""
        # Enough is known: the caller wanted these rules only.
        if self.plan.until and self.plan.until <= set(self.broken):
            return 0
        return max(self.allowed - self.runs, 0)

    def _happy(self) -> Trace:
        """Run the client against a faultless server. Raises CannotRun if it gets no video there."""
        self.on_progress(Progress(0, self.allowed, (), self.phase))
        trace = self._run_one(HAPPY)
        if trace is None:
            raise CannotRun("0 runs are allowed; allow at least one")
        first = self._read(trace)[0]
        reason = without_video(first)
        if reason is None:
            return trace
        # A request that the server refuses is a finding in itself, but the other rules cannot be judged. So is a client
        # that runs well once only: the runner has run it before.
        is_refused = refused(first) or bool(first.with_other_keys)
        if not (is_refused and self.broken) and not self._runs_only_once():
            raise CannotRun(reason)
        self.roles, self.unfit = used_roles([first]), reason
        return trace

    def _runs_only_once(self) -> bool:
        """Whether a client gets its video in a fresh process, and breaks a rule in its next run there.

        The next run has another order, or the same one, which a client may remember.
        """
        if self.fresh is None:
            return False
        for case in (Case({}, kind) for kind in (TWICE, EQUAL) if kind in self.plan.kinds):
            (trace,) = self.fresh([case])
            first = trace.runs[0].outcome if trace.runs else None
            if first is None or first.kind != "success":
                return False
            before = set(self.broken)
            self.ran.append(case)
            self._judge(case, trace)
            if set(self.broken) > before:
                return True
        return False

    def _ways(self, happy: AnnotatedTrace, ones: Sequence[Case]) -> list[Case]:
        """Return the cases that vary how the client is run."""
        found = [Case({}, kind) for kind in self.plan.kinds if kind not in (ONCE, RECOVERY, KILLED, MOVED)]
        if happy.deliveries:
            # A receiver whose clock is wrong must refuse genuine callbacks.
            found = [case for case in found if case.kind != BEHIND]
        if TOGETHER in self.plan.kinds and happy.fetches:
            found.append(overlapping_downloads())
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
            self.ran.append(case)
            self._judge(case, trace)
            traces.append(trace)
            self.on_progress(Progress(self.runs, self.allowed, self.broken, self.phase))
            if not self.left:
                break
        return traces

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that are broken so far."""
        return tuple(tally.rule.id for tally in self.tallies if tally.smallest)

    def _judge(self, case: Case, trace: Trace) -> None:
        """Check a trace against every rule, and add the evidence to the tallies."""
        if trace.unjudged:
            self.unjudged[trace.unjudged] = self.unjudged.get(trace.unjudged, 0) + 1
            self.seen[case.key] = frozenset()
            return
        varying = variations(case.scenario)
        # The same variation is armed for every role, and a client may use some of them only at its deadline.
        unmet = trace.unmet if trace.partner is None else (*trace.unmet, *trace.partner.unmet)
        if len(unmet) < case.moves if varying else not unmet:
            self.met.add(case.key)
        if trace.runs:
            self.endings.setdefault(case.key, trace.runs[-1].outcome)
        if case == STUCK_JOB:
            self.patience = own_deadline(self._read(trace)[0])
        halves = self._read(self._compared(case, trace))
        broken: set[str] = set()
        for tally, found in self._findings(halves):
            if found and tally.rule.timing:
                found = self._confirmed(tally, case, found)
            tally.broken += bool(found)
            broken |= {finding.name for finding in found.values()}
            for name, finding in found.items():
                self._keep(tally, name, case, finding)
        self.seen[case.key] = frozenset(broken)
        if len({one.form for one in varying}) == 1 and any(rule.startswith(f"{VARIATIONS}-") for rule in broken):
            self.broken_forms.add(varying[0].form)

    def _findings(self, halves: Sequence[AnnotatedTrace]) -> list[tuple[Tally, dict[str, Finding]]]:
        """Return the findings of a trace by rule, and count the rules that it shows something about."""
        judged = []
        for tally in self.tallies:
            checked = self._check(tally, halves)
            tally.observed += any(half.judgement.observed for half in checked)
            judged.append((tally, _grouped(tally.rule, checked)))
        excused = self._excused(halves, [tally.rule for tally, found in judged if found])
        return [(tally, {} if tally.rule.id in excused else found) for tally, found in judged]

    def _excused(self, halves: Sequence[AnnotatedTrace], broken: Sequence[Rule]) -> frozenset[str]:
        """Return which of the broken rules are not told of a trace; also if its rules about forms are not wanted."""
        if not broken or not variations(halves[0].trace.scenario):
            return frozenset()
        wanted = {tally.rule.id for tally in self.tallies}
        others = (rule for rule in all_rules() if rule.id.startswith(f"{VARIATIONS}-") and rule.id not in wanted)
        return excused_rules([*broken, *(one for one in others if _grouped(one, self._check(Tally(one), halves)))])

    def _compared(self, case: Case, trace: Trace) -> Trace:
        """Return a trace with what other runs have shown: the client's deadline, and the outcome without variations.

        The latter may take a run.
        """
        partner = None if trace.partner is None else replace(trace.partner, patience=self.second_patience)
        trace = replace(trace, patience=self.patience, partner=partner)
        usual = usual_case(case)
        if usual is None:
            return trace
        if usual.key not in self.endings:
            for one in self.run_cases([usual]):
                self._count_extra(usual)
                self.endings[usual.key] = one.runs[-1].outcome if one.runs and not one.unjudged else None
                self._judge(usual, one)
        return replace(trace, plain=self.endings[usual.key])

    def _count_extra(self, case: Case) -> None:
        """Count a run that is not one of the planned cases."""
        self.runs += 1
        self.ran.append(case)
        self.allowed += self.is_extra_free

    def _check(self, tally: Tally, halves: Sequence[AnnotatedTrace]) -> list[Half]:
        """Return the evidence of a trace about a rule; none if the rule fails, or the trace proves nothing."""
        if halves[0].trace.unjudged:
            return []
        try:
            return check_halves(tally.rule, halves)
        except Exception as error:
            # The other rules can be judged. One error for each rule, because the next trace will show it again.
            doing = f"judging {tally.rule.id} with {case_of(halves[0].trace)}"
            tally.error = tally.error or self._note(doing, error)
            return []

    def _keep(self, tally: Tally, name: str, case: Case, finding: Finding) -> None:
        """Keep a finding if it is the first or the smallest of its group."""
        group = tally.groups.get(name)
        if group is None:
            before = self.ran[: self.ran.index(case)] if self.before is None else self.before(case)
            tally.groups[name] = Group(case, finding, case, tuple(before))
        elif case.size < group.case.size:
            group.case, group.finding = case, finding

    def _confirmed(self, tally: Tally, case: Case, found: Mapping[str, Finding]) -> dict[str, Finding]:
        """Return the findings about timing that further runs of a case all show."""
        better = [name for name in found if name not in tally.groups or case.size < tally.groups[name].case.size]
        # A case that is not reported needs no confirmation: the rule is known to be broken.
        if not better:
            return dict(found)
        left = dict(found)
        for trace in self.run_cases([case] * (TIMING_REPEATS - 1)):
            self._count_extra(case)
            again = _grouped(tally.rule, self._check(tally, self._read(self._compared(case, trace))))
            left = {name: finding for name, finding in left.items() if name in again}
            if not left:
                break
        return left

    def _run_pairs(self, roles: Sequence[str]) -> None:
        """Run pairs of single faults."""
        random = Random(self.plan.random_seed)
        self._run_all("pairs", islice(pairs(self.contract, roles, random), int(self.left * PAIRS_PART)))

    def _run_random(self, orders: Sequence[dict[str, Any]]) -> None:
        """Run scenarios from Hypothesis until the runs are used up, or a whole series has nothing new."""
        random, seed, runs = Random(self.plan.random_seed), self.plan.random_seed, -1
        while self.left and self.runs > runs:
            runs = self.runs
            self._run_all("random scenarios", self._generated(seed, orders))
            seed = random.getrandbits(64)

    def _generated(self, seed: int, orders: Sequence[dict[str, Any]]) -> Iterator[Case]:
        """Yield a series of new cases from Hypothesis; before each, the case that it is compared with."""
        drawn: list[tuple[dict[str, Any], dict[str, Any] | None]] = []

        @seeded(seed)
        @settings(
            max_examples=min(max(self.left, FEW_SCENARIOS), MANY_SCENARIOS),
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(
            st.one_of(scenarios(self.contract), varied_scenarios(self.contract, self.broken_forms)),
            self._additions(orders),
        )
        def draw(scenario: dict[str, Any], addition: dict[str, Any] | None) -> None:
            drawn.append((scenario, addition))

        with suppress(Unsatisfiable):
            draw()
        found: dict[str, Case] = {}
        for case in starmap(self._drawn_case, drawn):
            usual = usual_case(case)
            if usual is not None and usual.key not in self.endings:
                found.setdefault(usual.key, usual)
            found.setdefault(case.key, case)
        yield from found.values()

    def _drawn_case(self, scenario: dict[str, Any], addition: dict[str, Any] | None) -> Case:
        """Return the case of a drawn scenario, and of what it comes with."""
        case = Case(believable(scenario, self.contract))
        if self.second is None:
            return replace(case, order=addition)
        return replace(case, second=believable(addition or {}, self.second))

    def _additions(self, orders: Sequence[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any] | None]:
        """Return what a drawn scenario comes with: an order, or faults of the second provider, or nothing."""
        if self.second is not None:
            return st.none() | scenarios(self.second)
        return st.none() | st.sampled_from(orders) if orders else st.none()

    def _shrink(self) -> None:
        """Replace the case of each finding by the simplest one that shows the same."""
        self.phase = "smaller scenarios"
        for tally in self.tallies:
            for group in tally.smallest_first:
                self.spare = SHRINKING
                # Each success starts again from the new case: a fault that was needed before may be superfluous now.
                while self._shrink_once(group, group.case):
                    pass
        self.spare = 0

    def _shrink_once(self, group: Group, case: Case) -> bool:
        """Try the simpler neighbours of a case, and return whether one shows the same finding.

        `_judge` has then made it the group's smallest case.
        """
        for neighbour in simpler(case, self.contracts):
            if neighbour.key not in self.seen and self.spare:
                self.spare -= 1
                self._run_and_judge([neighbour])
            if group.finding.name in self.seen.get(neighbour.key, frozenset()):
                return group.case.size < case.size
        return False

    def _confirm(self) -> None:
        """Replay each finding in a fresh process, and replace it by what recurs there."""
        if self.fresh is None:
            return
        self.phase = "fresh processes"
        try:
            self._confirm_with(self.fresh)
        except CannotRun as error:
            self.notes.append(f"the findings were not confirmed in a fresh process: {error}")

    def _confirm_with(self, fresh: FreshRunner) -> None:
        def run(cases: Sequence[Case]) -> Iterator[Trace]:
            for trace in fresh(cases):
                self.runs += 1
                self.on_progress(Progress(self.runs, self.allowed, self.broken, self.phase))
                yield trace

        recurrence = Recurrence(run, self._same_finding, self._simpler, BUDGET + self.plan.runs)
        for tally in self.tallies:
            for group in tally.smallest_first:
                group.finding = recurrence.confirmed(Candidate(group.case, group.finding, group.first, group.before))
                group.case = case_of(group.finding.trace)

    def _same_finding(self, finding: Finding, trace: Trace) -> Finding | None:
        """Return what a trace shows of the same rule and operation as a finding."""
        tally = next(one for one in self.tallies if one.rule.id == finding.rule)
        halves = self._read(self._compared(case_of(trace), trace))
        return _grouped(tally.rule, self._check(tally, halves)).get(finding.during or "")

    def _simpler(self, case: Case) -> Iterator[Case]:
        return simpler(case, self.contracts)

    def _coverage(self, ones: list[Case]) -> Coverage:
        """Return how many of the individual faults the client hit, whether once or always."""
        names: dict[str, list[str]] = {}
        for case in ones:
            name = str(case).replace(" (times=always)", "").replace(", times=always", "")
            names.setdefault(name, []).append(case.key)
        met = {name for name, keys in names.items() if not self.met.isdisjoint(keys)}
        tried = {name for name, keys in names.items() if not self.seen.keys().isdisjoint(keys)}
        unmet, untried = sorted(tried - met), sorted(names.keys() - tried)
        return Coverage(len(met), len(names), tuple(unmet), tuple(untried), tuple(sorted(met)))


def excused_rules(broken: Sequence[Rule]) -> frozenset[str]:
    """Return the ids of the rules that a run breaks only because the client does not know a form that it need not know.

    The rule about the form says so, in the words of what the client should do. What costs money or a secret is told
    in any case.
    """
    forms = [rule for rule in broken if rule.id.startswith(f"{VARIATIONS}-")]
    if not forms or any(rule.level == MUST for rule in forms):
        return frozenset()
    return frozenset(rule.id for rule in broken if rule not in forms and rule.harm not in (MONEY, SECURITY))


def _grouped(rule: Rule, halves: Iterable[Half]) -> dict[str, Finding]:
    """Return the findings of a trace by what the client was doing. Of two providers, the first one's count."""
    found: dict[str, Finding] = {}
    for half in halves:
        trace, groups = half.trace.trace, dict[str, list[Breach]]()
        for breach in half.judgement.breaches:
            groups.setdefault(during(breach, trace), []).append(breach)
        made = {name: Finding(rule.id, tuple(breaches), trace, name) for name, breaches in groups.items()}
        found = made | found
    return found
