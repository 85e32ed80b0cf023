"""Scenarios that are armed for one world, and what became of each; knows no HTTP."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hobbyhorse.contract.lifecycle import Graph, Lasting, Stage, Timeline, lay
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import CLASSES, Move, Scenario, ScenarioError, Trouble, misfits, stage_of

SUBMISSIONS = frozenset({"submit", "run"})
MOST_ARMED = 1_000
MOST_OPEN = 100
"""How many plays that have moves left for operations without a job are remembered."""


@dataclass(slots=True, eq=False)
class ArmedScenario:
    """A scenario that waits for jobs: for how many more (None: all), on which providers, and what was met so far.

    `met` counts by role and index of the move, such as `submit/0`, and `timeline`. `source` says how it was armed:
    by `control`, or for those requests only that name it in a `header` or in their `prompt`.
    """

    id: int
    scenario: Scenario
    fits: frozenset[str]
    provider: str | None = None
    left: int | None = 1
    seed: int = 0
    source: str = "control"
    begun: int = 0
    met: Counter[str] = field(default_factory=Counter)

    def unmet(self) -> list[str]:
        """Return what was armed and never met: the key of `met` and the move, in words."""
        found = [
            f"{role}/{index} {move}"
            for role, moves in self.scenario.moves.items()
            for index, move in enumerate(moves)
            if not self.met[f"{role}/{index}"]
        ]
        if self.scenario.timeline is not None and not self.met["timeline"]:
            found.append(f"timeline {self.scenario.timeline.kind}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything that is known of it."""
        return {
            "id": self.id,
            "scenario": self.scenario.name,
            "why": self.scenario.why,
            "provider": self.provider,
            "jobs_left": "all" if self.left is None else self.left,
            "jobs_begun": self.begun,
            "seed": self.seed,
            "source": self.source,
            "met": dict(self.met),
            "unmet": self.unmet(),
        }


class ActiveScenario:
    """One playing of an armed scenario: its moves by role, those that are used up, and its generator."""

    __slots__ = ("_used", "armed", "bound", "contract", "random")

    def __init__(self, armed: ArmedScenario, contract: Contract) -> None:
        self.armed = armed
        self.contract = contract
        self.random = Random(f"{armed.seed}:{armed.begun}")
        self.bound = False
        """Whether a submission has made a job of it."""
        self._used: dict[str, tuple[int, int]] = {}
        armed.begun += 1
        if armed.left is not None:
            armed.left -= 1

    @property
    def scenario(self) -> Scenario:
        """What is played."""
        return self.armed.scenario

    @property
    def wants(self) -> bool:
        """Whether the next submission belongs to it: none has made a job yet, or it has moves for more of them.

        A move for every submission is played on by the next play, if there will be one.
        """
        if not self.bound:
            return True
        moves = [move for role in SUBMISSIONS if (move := self.peek(role)) is not None]
        return any(move.times is not None or self.armed.left == 0 for move in moves)

    def peek(self, role: str) -> Move | None:
        """Return the move that the next request of a role meets, or None if it is answered as always."""
        index, _ = self._used.get(role, (0, 0))
        moves = self.scenario.moves.get(role, ())
        return moves[index] if index < len(moves) else None

    def use(self, role: str) -> None:
        """Note that a request has met the move that `peek` returned."""
        index, times = self._used.get(role, (0, 0))
        move = self.scenario.moves[role][index]
        self.armed.met[f"{role}/{index}"] += 1
        self._used[role] = (index + 1, 0) if move.times is not None and times + 1 >= move.times else (index, times + 1)

    def take(self, role: str) -> Move | None:
        """Return the move that a request of a role meets, and note it."""
        move = self.peek(role)
        if move is not None:
            self.use(role)
        return move

    def saw(self, stage: Stage) -> None:
        """Note that an answer or a callback has shown the job in a stage."""
        trouble = self.scenario.timeline
        if trouble is None:
            return
        if trouble.kind == "stuck":
            shown = stage is stage_of(trouble, self.contract.graph)
        else:
            at_once = trouble.options.get("seconds") == 0
            shown = stage.terminal if trouble.kind in CLASSES or at_once else not stage.terminal
        if shown:
            self.armed.met["timeline"] += 1


class ArmedScenarios:
    """The armed scenarios of one world, in order, and the plays that still want a submission."""

    def __init__(self) -> None:
        self._armed: dict[int, ArmedScenario] = {}
        self._open: list[ActiveScenario] = []
        self._recent: deque[ActiveScenario] = deque(maxlen=MOST_OPEN)
        self._number = 0
        self.active = False
        """Whether anything was armed since all was forgotten."""

    @property
    def armed(self) -> list[ArmedScenario]:
        """Everything that was armed, in order."""
        return list(self._armed.values())

    def arm(
        self,
        scenario: Scenario,
        contracts: Sequence[Contract],
        *,
        provider: str | None = None,
        jobs: int | None = 1,
        seed: int = 0,
        source: str = "control",
    ) -> ArmedScenario:
        """Arm a scenario for the next jobs (None: for all) of a provider, or of whichever provider it fits.

        Raises ScenarioError if it fits none of them, or if too many are armed.
        """
        meant = [contract for contract in contracts if provider in (None, contract.key)]
        if not meant:
            known = ", ".join(contract.key for contract in contracts)
            raise ScenarioError("not_applicable", f"no provider {provider!r}", f"there are {known}")
        found = {contract.key: misfits(scenario, contract) for contract in meant}
        fits = frozenset(key for key, why in found.items() if not why)
        if not fits:
            why = "; ".join(why[0] for why in found.values())
            raise ScenarioError("not_applicable", f"the scenario {scenario.name!r} cannot be played: {why}", "")
        if len(self._armed) >= MOST_ARMED:
            raise ScenarioError("too_many", f"{MOST_ARMED} scenarios are armed", "disarm those that are done")
        self._number += 1
        self.active = True
        armed = ArmedScenario(self._number, scenario, fits, provider, jobs, seed, source)
        self._armed[armed.id] = armed
        return armed

    def for_requests(self, scenario: Scenario, contracts: Sequence[Contract], source: str) -> ArmedScenario:
        """Return what is armed for those requests that name a scenario themselves; armed when first named."""
        for armed in self._armed.values():
            if armed.source == source and armed.scenario is scenario:
                return armed
        return self.arm(scenario, contracts, jobs=None, source=source)

    def disarm(self, number: int | None = None) -> int:
        """Disarm one scenario, or all; how many that were. Jobs that play it already go on with it."""
        gone = [number] if number in self._armed else list(self._armed) if number is None else []
        for one in gone:
            armed = self._armed.pop(one)
            self._open = [play for play in self._open if play.armed is not armed]
        if number is None:
            self._recent.clear()
        return len(gone)

    def unmet(self) -> list[tuple[ArmedScenario, str]]:
        """Return every move that was armed and never met."""
        return [(armed, what) for armed in self._armed.values() for what in armed.unmet()]

    def find(self, contract: Contract, role: str, only: ArmedScenario | None = None) -> ActiveScenario | None:
        """Return the play that a request without a job belongs to, begun if need be; None if it is a happy one.

        `only` is what the request itself names; without it, what was armed by control.
        """
        submits = role in SUBMISSIONS
        if submits:
            self._open = [play for play in self._open if play.wants]
        for play in self._open if submits else self._recent:
            if (
                play.contract is contract
                and _meant(play.armed, only)
                and (_begins(play.scenario, role) if submits else play.peek(role))
            ):
                return play
        for armed in self._armed.values():
            if armed.left != 0 and contract.key in armed.fits and _meant(armed, only) and _begins(armed.scenario, role):
                play = ActiveScenario(armed, contract)
                self._open.append(play)
                self._recent.append(play)
                return play
        return None

    def begin(self, armed: ArmedScenario, contract: Contract) -> ActiveScenario | None:
        """Begin a play for a job that exists already; None if it does not fit or is used up."""
        return ActiveScenario(armed, contract) if armed.left != 0 and contract.key in armed.fits else None

    def clear(self) -> None:
        """Forget everything."""
        self.disarm()
        self.active = False


def _meant(armed: ArmedScenario, only: ArmedScenario | None) -> bool:
    return armed is only if only is not None else armed.source == "control"


def _begins(scenario: Scenario, role: str) -> bool:
    """Whether a request of a role begins a scenario: one that it has moves for, or any submission where it has none."""
    if role not in SUBMISSIONS:
        return role in scenario.moves
    return role in scenario.moves or not SUBMISSIONS & scenario.moves.keys()


def lay_troubled(
    graph: Graph, start: float, lasting: Lasting, trouble: Trouble, longest_wait: float
) -> tuple[Timeline, tuple[str | None, str | None]]:
    """Lay the timeline of a job that something becomes of; also the code and the message of its error."""
    if trouble.kind in CLASSES or trouble.kind == "stuck":
        timeline = lay(graph, start, lasting, stage_of(trouble, graph).name)
    else:
        timeline = lay(graph, start, lasting)
    seconds = trouble.options.get("seconds")
    if seconds is None and trouble.kind == "late_success":
        seconds = longest_wait * 1.5
    if seconds is None and trouble.kind == "slow":
        seconds = longest_wait * 0.9
    if seconds is not None:
        timeline = _stretched(timeline, seconds)
    return timeline, (trouble.options.get("code"), trouble.options.get("message"))


def _stretched(timeline: Timeline, seconds: float) -> Timeline:
    """Return a timeline that ends so many seconds after its start."""
    start, end = timeline[0][0], timeline[-1][0]
    part = seconds / (end - start) if end > start else 0.0
    steps = [(start + (moment - start) * part, name) for moment, name in timeline[:-1]]
    return (*steps, (start + seconds, timeline[-1][1]))
