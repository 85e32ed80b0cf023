"""The search for what breaks a client: every single deviation, pairs, then whatever Hypothesis thinks of.

Knows no server: whoever plays a drill hands back a trace.
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

from hobbyhorse.conformance.client.cases import HAPPY, KILLED, MOVED, ONCE, Case
from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict, check
from hobbyhorse.conformance.client.planning import (
    believable,
    killings,
    last_polls,
    pairs,
    repeated_roles,
    simplified,
    singles,
    used_roles,
)
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.conformance.client.rules import rules as all_rules
from hobbyhorse.conformance.client.scenario_space import scenarios
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.moves import CALLBACK
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace

TIMING_REPEATS = 3
"""How often a finding that is about time must come about."""
BATCH = 32
SHRINKING = 40
"""How many runs each finding may take beyond the plan, to become smaller."""
PAIRS_PART = 0.3
"""The part of the runs behind the single deviations that tries pairs of them."""
FEW_SCENARIOS = 20
"""Of fewer scenarios that Hypothesis thinks of, most are the simplest one again."""
STUCK = Case({"timeline": {"move": "stuck"}})

Play = Callable[[Sequence[Case]], Iterable[Trace]]
"""Runs the client once for each drill, and gives what was seen, in the same order."""


class CannotRun(RuntimeError):
    """The client cannot be tested at all, and why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: runs of how many, which rules are broken so far, what is being tried."""

    runs: int
    planned: int
    broken: tuple[str, ...]
    phase: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search may do: how many runs, from which seed, which rules, which kinds of drill the client can do.

    It ends before its runs are used up when all the rules of `until` are broken.
    """

    runs: int = 500
    seed: int = 0
    rules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = (ONCE,)
    until: frozenset[str] = frozenset()


@dataclass(slots=True)
class Tally:
    """What has become of a rule so far."""

    rule: Rule
    observed: int = 0
    broken: int = 0
    smallest: tuple[Case, Finding] | None = None

    def verdict(self, contract: Contract) -> Verdict:
        """Return the verdict."""
        if not self.rule.applies(contract):
            return Verdict(self.rule, NOT_APPLICABLE)
        word = BROKEN if self.smallest else PASSED if self.observed else NOT_OBSERVED
        found = (self.smallest[1],) if self.smallest else ()
        return Verdict(self.rule, word, self.observed, self.broken, found)


@dataclass(slots=True)
class Search:
    """One search: `play` runs the client, `tell` is told how far it is."""

    contract: Contract
    play: Play
    plan: Plan
    tell: Callable[[Progress], None] = lambda progress: None
    runs: int = 0
    phase: str = ""
    tallies: list[Tally] = field(default_factory=list)
    seen: dict[str, frozenset[str]] = field(default_factory=dict)
    spare: int = 0
    """Runs that are allowed beyond the plan, to make a finding smaller."""
    met: set[str] = field(default_factory=set)
    """Keys of the single deviations that the client has met."""

    def run(self, client: str, model: str) -> Result:
        """Search, and return what was found. Raises CannotRun if the client gets no video from a happy server."""
        begun = time.monotonic()
        wanted = [rule for rule in all_rules() if not self.plan.rules or rule.id in self.plan.rules]
        self.tallies = [Tally(rule) for rule in wanted]
        happy = self._happy()
        stuck = self._one(STUCK)
        stories = [AnnotatedTrace(self.contract, trace) for trace in (happy, stuck) if trace is not None]
        roles = used_roles(stories)
        stuck_only = set(roles) - {*used_roles(stories[:1]), CALLBACK}
        ones = singles(self.contract, roles, stuck_only, repeated_roles(stories[0]))
        self._all("ways to run", self._ways(stories[0]))
        self._all("last polls", last_polls(self.contract, stories[-1]))
        self._all("single deviations", ones)
        self._pairs(roles)
        self._random()
        self._shrink()
        coverage = self._coverage(ones)
        seconds = time.monotonic() - begun
        verdicts = tuple(tally.verdict(self.contract) for tally in self.tallies)
        return Result(self.contract.key, model, client, self.plan.seed, verdicts, coverage, self.runs, seconds)

    @property
    def left(self) -> int:
        """How many runs are left."""
        if self.plan.until and self.plan.until <= set(self.broken):
            return 0
        return max(self.plan.runs - self.runs, 0)

    def _happy(self) -> Trace:
        """Run the client against a happy server: one that fails there cannot be tested."""
        self.tell(Progress(0, self.plan.runs, (), self.phase))
        trace = self._one(HAPPY)
        if trace is None:
            raise CannotRun("no run is allowed; give at least one")
        story = AnnotatedTrace(self.contract, trace)
        if not story.submits:
            asked = [f"{step.exchange.method} {step.exchange.url} ({step.status})" for step in story.steps[:5]]
            asked += [f"and {len(story.steps) - 5} more"] if len(story.steps) > 5 else []
            raise CannotRun(f"the client ordered nothing; it asked for {', '.join(asked) or 'nothing'}{_ended(story)}")
        if story.outcome is not None and story.outcome.kind != "success":
            last = story.steps[-1]
            raise CannotRun(
                f"the client does not get its video from a server that does everything right; its last request was "
                f"{last.exchange.method} {last.exchange.url} ({last.status}){_ended(story)}"
            )
        return trace

    def _ways(self, happy: AnnotatedTrace) -> list[Case]:
        """Return the drills that are not about the server."""
        found = [Case({}, kind) for kind in self.plan.kinds if kind not in (ONCE, KILLED, MOVED)]
        points = killings(happy)
        if KILLED in self.plan.kinds:
            found += points
        if MOVED in self.plan.kinds:
            found += [replace(drill, kind=MOVED) for drill in points if "submit" not in drill.scenario["moves"]][:1]
        return found

    def _one(self, drill: Case) -> Trace | None:
        return next(iter(self._batch([drill])), None)

    def _all(self, phase: str, drills: Iterable[Case]) -> None:
        """Play drills in batches until the runs are used up."""
        self.phase = phase
        waiting = iter(drills)
        while batch := list(islice((drill for drill in waiting if drill.key not in self.seen), min(BATCH, self.left))):
            self._batch(batch)

    def _batch(self, drills: list[Case]) -> list[Trace]:
        """Play as many of some drills as the plan has runs left."""
        return self._played(drills[: self.left])

    def _played(self, drills: list[Case]) -> list[Trace]:
        """Play drills and judge what is seen, until nothing more is to be found."""
        traces = []
        for drill, trace in zip(drills, self.play(drills), strict=True):
            self.runs += 1
            self._judge(drill, trace)
            traces.append(trace)
            self.tell(Progress(self.runs, self.plan.runs, self.broken, self.phase))
            if not self.left:
                break
        return traces

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that are broken so far."""
        return tuple(tally.rule.id for tally in self.tallies if tally.smallest)

    def _judge(self, drill: Case, trace: Trace) -> None:
        """Hold what was seen against every rule."""
        if not trace.unmet:
            self.met.add(drill.key)
        story = AnnotatedTrace(self.contract, trace)
        broken = set()
        for tally in self.tallies:
            messages = check(tally.rule, story)
            if messages is None:
                continue
            tally.observed += 1
            if messages and (not tally.rule.timing or self._again(tally.rule, drill)):
                tally.broken += 1
                broken.add(tally.rule.id)
                if tally.smallest is None or drill.size < tally.smallest[0].size:
                    tally.smallest = drill, Finding(tally.rule.id, tuple(messages), trace)
        self.seen[drill.key] = frozenset(broken)

    def _again(self, rule: Rule, drill: Case) -> bool:
        """Whether a finding that is about time comes about each time."""
        for trace in self.play([drill] * (TIMING_REPEATS - 1)):
            self.runs += 1
            if not check(rule, AnnotatedTrace(self.contract, trace)):
                return False
        return True

    def _pairs(self, roles: Sequence[str]) -> None:
        """Play pairs of single deviations."""
        random = Random(self.plan.seed)
        self._all("pairs", islice(pairs(self.contract, roles, random), int(self.left * PAIRS_PART)))

    def _random(self) -> None:
        """Play what Hypothesis thinks of, until the runs are used up or nothing new comes to it."""
        self.phase = "random scenarios"
        random, seed, runs = Random(self.plan.seed), self.plan.seed, -1
        while self.left and self.runs > runs:
            runs = self.runs
            self._think(seed)
            seed = random.getrandbits(64)

    def _think(self, seed: int) -> None:
        """Play as many as are left, less those that were played before; Hypothesis looks for jobs, and for requests."""

        @seeded(seed)
        @settings(
            max_examples=max(self.left, FEW_SCENARIOS),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.target),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(scenarios(self.contract))
        def think(scenario: dict[str, Any]) -> None:
            drill = Case(believable(scenario, self.contract))
            if drill.key in self.seen or not self.left:
                return  # and not reject(): what is thought of again must not end in another way
            for trace in self._batch([drill]):
                target(float(len(trace.jobs or ())), label="jobs")
                target(float(len(trace.exchanges)), label="requests")

        with suppress(Unsatisfiable):
            think()

    def _shrink(self) -> None:
        """Make the drill of each finding as simple as it can be, within some runs more."""
        self.phase = "smaller scenarios"
        for tally in self.tallies:
            self.spare = SHRINKING
            while tally.smallest is not None and self._smaller(tally, tally.smallest[0]):
                pass
        self.spare = 0

    def _smaller(self, tally: Tally, drill: Case) -> bool:
        """Look for a simpler drill that breaks the same rule."""
        for simpler in simplified(drill, self.contract):
            if simpler.key not in self.seen and self.spare:
                self.spare -= 1
                self._played([simpler])
            if tally.rule.id in self.seen.get(simpler.key, frozenset()):
                return tally.smallest is not None and tally.smallest[0].size < drill.size
        return False

    def _coverage(self, ones: list[Case]) -> Coverage:
        """Return how many of the single deviations were met, once or for ever."""
        names: dict[str, list[str]] = {}
        for drill in ones:
            name = str(drill).replace(" (times=always)", "").replace(", times=always", "")
            names.setdefault(name, []).append(drill.key)
        met = {name for name, keys in names.items() if not self.met.isdisjoint(keys)}
        tried = {name for name, keys in names.items() if not self.seen.keys().isdisjoint(keys)}
        unmet, untried = sorted(tried - met), sorted(names.keys() - tried)
        return Coverage(len(met), len(names), tuple(unmet), tuple(untried))


def _ended(story: AnnotatedTrace) -> str:
    """Return how a client ended that cannot be tested, and what may be the matter with it."""
    outcome, words = story.outcome, ""
    if any(step.status == 401 for step in story.steps):
        words = "; does it send the API key that it is given, as this provider wants it?"
    elif story.accepted is not None and not story.fetches and any(step.video for step in story.steps):
        words = "; it was told of its video, which is on the host of its base URL, and did not fetch it"
    if outcome is None:
        return words
    return f"{words}; it ended with {outcome.kind}" + (f": {outcome.message}" if outcome.message else "")
