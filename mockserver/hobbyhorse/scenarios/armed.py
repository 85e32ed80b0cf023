"""The armed scenarios of one world, and which of their faults requests have met. No HTTP.

An `ArmedScenario` is a scenario with a number of jobs left. The first submission (or another request that it has a
fault for) begins an `ActiveScenario`, which that submission's job keeps: it counts down the faults of each role for
this one job. It stays *open* to further submissions until one has made a job and no fault for submissions is left, so
that a client that submits again after a lost response meets the next fault of the list instead of the first one again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hobbyhorse.contract.lifecycle import Graph, Lasting, Stage, Timeline
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import ID_TAILS
from hobbyhorse.scenarios.fault import LAYERS, TIMELINE, Options, PlannedJob
from hobbyhorse.scenarios.registry import faults_at, faults_of
from hobbyhorse.scenarios.scenario import Move, Scenario, ScenarioError, Trouble, misfits

SUBMISSIONS = frozenset({"submit", "run"})
# Armed scenarios per world. Each submission walks the list; a test that arms more has forgotten to disarm.
MOST_ARMED = 1_000
# Active scenarios kept for requests without a job (list, models, health): the oldest one can no longer be met by them.
MOST_RECENT = 100
# Active scenarios of several jobs that a world keeps itself, and jobs of one of these that are known: each request that
# meets one writes at most so many. With more jobs than that, a scenario stays with its world.
MOST_SHARED, MOST_JOBS = 100, 100


@dataclass(slots=True, eq=False)
class ArmedScenario:
    """A scenario that applies to the next `left` jobs (None: all) of the providers in `fits`.

    `met` counts the requests that met a fault, by role and index (`submit/0`), and `timeline`. `source` is `control`,
    or `header` or `prompt` if only requests that name the scenario there meet it.
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
        """Return the faults that no request has met, each as its key of `met` and its description."""
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
        """Return the state as the control plane shows it."""
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
    """One application of an armed scenario, usually to one job: its used faults by role, and its random generator."""

    __slots__ = ("_used", "armed", "bound", "contract", "jobs", "links", "number", "random")

    def __init__(self, armed: ArmedScenario, contract: Contract) -> None:
        self.armed = armed
        self.contract = contract
        # One generator per job: with a shared one, concurrent jobs would draw in the order of their requests.
        self.random = Random(f"{armed.seed}:{armed.begun}")
        self.bound = False
        """Whether a submission has made a job under it."""
        self.links: dict[str, str] = {}
        """The query of each link that a variation has changed, by the link's path: it must come back as it was."""
        self.jobs: list[str] = []
        """The ids of the first jobs that were submitted under it, at most one more than `MOST_JOBS`."""
        self.number = armed.begun
        """Counts the applications of its armed scenario."""
        self._used: dict[str, list[int]] = {}
        armed.begun += 1
        if armed.left is not None:
            armed.left -= 1

    def add_job(self, job_id: str) -> None:
        """Note a job that was submitted under it."""
        # A further submission belongs to it only while it has faults for submissions left.
        self.bound = True
        if len(self.jobs) <= MOST_JOBS:
            self.jobs.append(job_id)

    @property
    def scenario(self) -> Scenario:
        """The scenario itself."""
        return self.armed.scenario

    @property
    def wants(self) -> bool:
        """Whether the next submission belongs to it: none has made a job yet, or faults for submissions are left.

        A fault for *every* submission does not keep it open while more jobs are left: their active scenario has it too.
        """
        if not self.bound:
            return True
        moves = [move for role in SUBMISSIONS if (move := self.peek(role)) is not None]
        return any(move.times is not None or self.armed.left == 0 for move in moves)

    def peek(self, role: str) -> Move | None:
        """Return the fault that the next request of a role meets, or None."""
        return next((move for _, move in self._left(role)), None)

    def _left(self, role: str) -> Iterator[tuple[int, Move]]:
        """Yield the faults of a role that are not used up, each after its index."""
        moves = self.scenario.moves.get(role, ())
        used = self._used.setdefault(role, [0] * len(moves)) if moves else ()
        for index, (move, times) in enumerate(zip(moves, used, strict=True)):
            if move.times is None or times < move.times:
                yield index, move

    def together(self, role: str) -> tuple[tuple[int, Move], ...]:
        """Return the faults that the next request of a role meets, each after its index, in the order of the layers.

        Consecutive variations of different layers meet the same request; any other fault is alone.
        """
        found: dict[str, tuple[int, Move]] = {}
        for index, move in self._left(role):
            layer = faults_of(role)[move.kind].layer if move.kind in faults_of(role) else ""
            if found and (not layer or layer in found):
                break
            found[layer] = index, move
            if not layer:
                break
        return tuple(found[layer] for layer in sorted(found, key=_place_of_layer))

    def use(self, role: str, index: int | None = None) -> None:
        """Record that a request has met the fault at an index, or the one that `peek` returned."""
        if index is None:
            index = next(self._left(role))[0]
        self.armed.met[f"{role}/{index}"] += 1
        self._used[role][index] += 1

    def take(self, role: str) -> Move | None:
        """Return the fault that a request of a role meets, and record it."""
        move = self.peek(role)
        if move is not None:
            self.use(role)
        return move

    @property
    def used(self) -> dict[str, list[int]]:
        """How often each fault was met, by role."""
        return self._used

    def record_stage(self, stage: Stage) -> None:
        """Record that a response or a callback has shown the job in a stage: that may meet the timeline's fault."""
        trouble = self.scenario.timeline
        if trouble is None:
            return
        fault = faults_at(TIMELINE)[trouble.kind]
        if fault.seen(fault.complete(trouble.options), stage, self.contract.graph):
            self.armed.met["timeline"] += 1


class ArmedScenarios:
    """The armed scenarios of one world, in order, and the active ones that still take requests without a job."""

    def __init__(self) -> None:
        self._armed: dict[int, ArmedScenario] = {}
        self._open: list[ActiveScenario] = []
        self._recent: deque[ActiveScenario] = deque(maxlen=MOST_RECENT)
        # The scenarios of several jobs, the one that was met last at the end.
        self._shared: dict[ActiveScenario, None] = {}
        self._number = 0
        self.active = False
        """Whether anything was armed since the last `clear`: spares most requests a walk through the list."""

    @property
    def armed(self) -> list[ArmedScenario]:
        """The armed scenarios, in order."""
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
        """Arm a scenario for the next `jobs` (None: all) of a provider, or of any provider that it fits.

        Raises ScenarioError if it fits none, or if too many are armed.
        """
        wanted = [contract for contract in contracts if provider in (None, contract.key)]
        if not wanted:
            known = ", ".join(contract.key for contract in contracts)
            raise ScenarioError("not_applicable", f"there is no provider {provider!r}", f"allowed: {known}")
        found = {contract.key: misfits(scenario, contract) for contract in wanted}
        fits = frozenset(key for key, why in found.items() if not why)
        if not fits:
            why = "; ".join(why[0] for why in found.values())
            raise ScenarioError("not_applicable", f"the scenario {scenario.name!r} does not apply: {why}", "")
        if len(self._armed) >= MOST_ARMED:
            raise ScenarioError("too_many", f"{MOST_ARMED} scenarios are armed already", "disarm finished ones")
        self._number += 1
        self.active = True
        armed = ArmedScenario(self._number, scenario, fits, provider, jobs, seed, source)
        self._armed[armed.id] = armed
        return armed

    def for_requests(self, scenario: Scenario, contracts: Sequence[Contract], source: str) -> ArmedScenario:
        """Return the armed scenario of requests that name it themselves, armed on first use."""
        for armed in self._armed.values():
            # Equal, if it was armed in an earlier process.
            if armed.source == source and (armed.scenario is scenario or armed.scenario == scenario):
                return armed
        return self.arm(scenario, contracts, jobs=None, source=source)

    def active_ones(self) -> list[ActiveScenario]:
        """Return the active scenarios that may still take a submission or a request without a job, or are shared."""
        return [*dict.fromkeys((*self._open, *self._recent, *self._shared))]

    def meet(self, active: ActiveScenario) -> Sequence[str]:
        """Note that a request has met an active scenario; return the jobs that have to be kept again, by id.

        A job keeps the state of its scenario. If several jobs share the scenario, the world keeps it for all of them.
        """
        if len(active.jobs) < 2:
            return active.jobs
        self._shared.pop(active, None)
        self._shared[active] = None
        if len(self._shared) > MOST_SHARED:
            for oldest in self._shared:
                if len(oldest.jobs) <= MOST_JOBS:
                    del self._shared[oldest]
                    return oldest.jobs
        return ()

    def forget_jobs(self) -> None:
        """Forget the jobs of active scenarios, because the world has forgotten all jobs."""
        for active in self.active_ones():
            active.jobs.clear()
        self._shared.clear()

    def restore(
        self,
        number: int,
        armed: Iterable[ArmedScenario],
        opened: Iterable[ActiveScenario],
        recent: Iterable[ActiveScenario],
        shared: Iterable[ActiveScenario] = (),
    ) -> None:
        """Take over what was armed and active in an earlier process; `number` is the id of the last armed one."""
        self._number = number
        self._armed = {one.id: one for one in armed}
        self._open, self.active = [*opened], bool(self._armed)
        self._recent.extend(recent)
        self._shared = dict.fromkeys(shared)

    @property
    def number(self) -> int:
        """The id of the last armed scenario."""
        return self._number

    def is_open(self, active: ActiveScenario) -> bool:
        """Whether a further submission may belong to an active scenario."""
        return active in self._open

    def is_recent(self, active: ActiveScenario) -> bool:
        """Whether an active scenario takes requests without a job."""
        return active in self._recent

    def disarm(self, number: int | None = None) -> int:
        """Disarm one scenario or all; return their number. Jobs that are under one keep it."""
        disarmed = [number] if number in self._armed else list(self._armed) if number is None else []
        for one in disarmed:
            armed = self._armed.pop(one)
            self._open = [active for active in self._open if active.armed is not armed]
            self._recent = deque((active for active in self._recent if active.armed is not armed), MOST_RECENT)
        return len(disarmed)

    def unmet(self) -> list[tuple[ArmedScenario, str]]:
        """Return every armed fault that no request has met."""
        return [(armed, fault) for armed in self._armed.values() for fault in armed.unmet()]

    def find(self, contract: Contract, role: str, only: ArmedScenario | None = None) -> ActiveScenario | None:
        """Return the active scenario of a request without a job, begun if necessary, or None.

        `only` is the scenario that the request names; without it, scenarios armed by `control` apply.
        """
        submits = role in SUBMISSIONS
        if submits:
            self._open = [active for active in self._open if active.wants]
        for active in self._open if submits else self._recent:
            if (
                active.contract is contract
                and _applies(active.armed, only)
                and (_begins(active.scenario, role) if submits else active.peek(role))
            ):
                return active
        for armed in self._armed.values():
            fits = armed.left != 0 and contract.key in armed.fits and _applies(armed, only)
            if fits and _begins(armed.scenario, role):
                active = ActiveScenario(armed, contract)
                self._open.append(active)
                self._recent.append(active)
                return active
        return None

    def begin(self, armed: ArmedScenario, contract: Contract) -> ActiveScenario | None:
        """Return an active scenario for an existing job, or None if it does not fit or no jobs are left."""
        return ActiveScenario(armed, contract) if armed.left != 0 and contract.key in armed.fits else None

    def clear(self) -> None:
        """Disarm every scenario and end the active ones."""
        self.disarm()
        self.active = False


def _place_of_layer(layer: str) -> int:
    return LAYERS.index(layer) if layer in LAYERS else 0


def _applies(armed: ArmedScenario, only: ArmedScenario | None) -> bool:
    return armed is only if only is not None else armed.source == "control"


def _begins(scenario: Scenario, role: str) -> bool:
    """Whether a request of a role begins a scenario: it has faults for the role, or none for any submission."""
    if role not in SUBMISSIONS:
        return role in scenario.moves
    return role in scenario.moves or not SUBMISSIONS & scenario.moves.keys()


def id_tail(trouble: Trouble | None) -> str:
    """Return the characters that a timeline fault adds to a job's id; mostly none."""
    options = _options(trouble)
    return ID_TAILS[options["tail"]] if "tail" in options else ""


def last_boxes(active: ActiveScenario | None) -> str:
    """Return the form of the last boxes of a job's video under its active scenario; empty for the usual one."""
    return str(_options(active.scenario.timeline if active is not None else None).get("boxes", ""))


def _options(trouble: Trouble | None) -> Options:
    return faults_at(TIMELINE)[trouble.kind].complete(trouble.options) if trouble is not None else {}


def lay_troubled(
    graph: Graph, start: float, lasting: Lasting, trouble: Trouble, longest_wait: float
) -> tuple[Timeline, tuple[str | None, str | None]]:
    """Return the timeline of a job under a timeline fault, and the code and message of its error."""
    fault = faults_at(TIMELINE)[trouble.kind]
    options = fault.complete(trouble.options)
    timeline: Timeline = fault.effect(PlannedJob(graph, start, lasting, longest_wait), options)
    return timeline, (options.get("code"), options.get("message"))
