"""The values that a test reads from a world, local or remote. Knows no server.

Moments are seconds since 1970 on the world's clock, money is Decimal (USD), bodies are bytes. A record shows its object
at the moment of reading; read again for the present state. `worlds.ledger` and `worlds.limits` have the records
`Ledger`, `LedgerEntry` and `Limits`, which both worlds share as they are.

The `_live` fields are the server's objects, only so that names of earlier releases stay readable for one more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from hobbyhorse.contract.forms.nearest import Difference
from hobbyhorse.contract.lifecycle import TERMINAL, stage_at
from hobbyhorse.testing.old_names import formerly_value, old_names, warn_of

GENUINE = "genuine"


@old_names(live=("next", "cancellable", "lasts"))
@dataclass(frozen=True, slots=True)
class JobStage:
    """A stage of a job; `kind` is its class, such as `running` or `success`."""

    name: str
    kind: str
    _live: Any = field(default=None, repr=False, compare=False)

    @property
    def terminal(self) -> bool:
        """Whether a job stays in this stage forever."""
        return self.kind in TERMINAL


@old_names({"at": ("moment", lambda step: step.moment)})
class Step(NamedTuple):
    """One entry of a timeline: the moment at which a stage begins."""

    moment: float
    stage: str


@old_names()
class JobError(NamedTuple):
    """The error of a job that fails; None for a part that is not set."""

    code: str | None
    message: str | None


@old_names(live=("model", "echoed", "identity"))
@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """The parameters of a job, with the contract's defaults applied. A remote world shortens long image URLs."""

    prompt: str
    first_frame: str | None
    references: tuple[str, ...]
    resolution: str | None
    seconds: int
    ratio: str | None
    seed: int | None
    watermark: bool
    _live: Any = field(default=None, repr=False, compare=False)


@old_names(
    {"class": ("stage().kind", lambda job: job.stage().kind)},
    live=("contract", "active_scenario", "submission", "begins", "ahead", "show", "moved", "move", "release"),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job. `model` is the id of its model, `scenario` the name of the scenario that applies to it.

    `cost` is the price of its video, which is billed if it succeeds. It is `collected` when the client knows its end:
    from a response, or from an acknowledged callback. It is `held` while its pictures are checked: it does not end
    before that. `expires` is the moment at which the links to its files expire. `curl` submits it again.
    """

    id: str
    provider: str
    model: str
    order: JobOrder
    timeline: tuple[Step, ...]
    error: JobError
    cost: Decimal
    seed: int
    held: bool
    collected: bool
    scenario: str | None
    expires: float | None
    curl: str
    read: float = field(compare=False)
    """The moment of reading."""
    kinds: Mapping[str, str] = field(repr=False, hash=False)
    """The classes of the timeline's stages, by name."""
    _live: Any = field(default=None, repr=False, compare=False)

    @property
    def created(self) -> float:
        """The moment of acceptance."""
        return self.timeline[0].moment

    @property
    def finished(self) -> float:
        """The moment of the last entry of the timeline: the end, or the last stage of a stuck job."""
        return self.timeline[-1].moment

    @property
    def ends(self) -> bool:
        """Whether the timeline leads to a terminal stage; that of a stuck job does not."""
        return self._stage(self.timeline[-1].stage).terminal

    @formerly_value("stage().name", lambda job: job.stage().name)
    def stage(self, now: float | None = None) -> JobStage:
        """Return the stage at a moment; by default, when the job was read."""
        stage = self._stage(stage_at(self.timeline, self.read if now is None else now))
        # A cancellation does not wait for the pictures: the client wants no result.
        waits = self.held and stage.terminal and stage.kind != "cancelled"
        return self._stage(self.timeline[-2].stage) if waits else stage

    def _stage(self, name: str) -> JobStage:
        live = self._live.contract.graph[name] if self._live is not None else None
        return JobStage(name, self.kinds[name], live)


@old_names()
@dataclass(frozen=True, slots=True)
class NearestOperation:
    """The operation that a refused request was probably meant for; `text` is a message about the differences."""

    role: str
    method: str
    path: str
    differences: tuple[Difference, ...]
    text: str


@old_names(
    {"raw_query": ("query", lambda exchange: exchange.query.encode("latin-1"))},
    live=("raw_headers", "root", "handover"),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its response, without secrets.

    `job` is the job that it is about, `made` the job of a submission, even if the response did not report it. `move` is
    the fault that was applied to the response; a `status` of 0 means that none was sent. `notes` explain refusals. A
    remote world has replaced the bytes of a body that are not UTF-8.
    """

    moment: float
    provider: str | None
    role: str | None
    situation: str | None
    job: str | None
    made: str | None
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int
    answer: bytes
    notes: tuple[str, ...]
    move: str | None
    nearest: NearestOperation | None
    _live: Any = field(default=None, repr=False, compare=False)


@old_names(live=("world",))
@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackAttempt:
    """One attempt to deliver a callback, and its outcome.

    `moment` is when it was sent, `answered` when the response arrived (None without one). `number` counts from 1; 0 is
    outside the schedule, such as a redelivery. `note` names the fault that changed it. `kind` is `genuine`, or why the
    receiver must not act on it, such as `forged`; `job` is then the job that it imitates.
    """

    moment: float
    job: str
    number: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    error: str | None
    note: str
    kind: str
    answered: float | None
    _live: Any = field(default=None, repr=False, compare=False)

    @property
    def false(self) -> bool:
        """Whether the receiver must not act on it."""
        return self.kind != GENUINE

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver responded 2xx."""
        return self.status is not None and 200 <= self.status < 300


@old_names(live=("moves", "timeline", "to_json"))
@dataclass(frozen=True, slots=True)
class ScenarioName:
    """A scenario by name; `why` is the bug that it finds."""

    name: str
    why: str
    _live: Any = field(default=None, repr=False, compare=False)

    def __eq__(self, other: object) -> bool:
        # A remote world once had the name here.
        if isinstance(other, str):
            warn_of("ArmedScenario.scenario as text", "scenario.name")
            return self.name == other
        return isinstance(other, ScenarioName) and (self.name, self.why) == (other.name, other.why)

    def __hash__(self) -> int:
        return hash((self.name, self.why))


@old_names(
    {
        "why": ("scenario.why", lambda armed: armed.scenario.why),
        "jobs_left": ("left", lambda armed: "all" if armed.left is None else armed.left),
        "jobs_begun": ("begun", lambda armed: armed.begun),
    }
)
@dataclass(frozen=True, slots=True, kw_only=True)
class ArmedScenario:
    """A scenario that applies to the next `left` jobs (None: all) of the providers in `fits`; `begun` have had it.

    `met` counts the requests that met a fault, by role and index (`submit/0`), and `timeline`. `source` is `control`,
    or `header` or `prompt` if only requests that name the scenario there meet it.
    """

    id: int
    scenario: ScenarioName
    fits: frozenset[str]
    provider: str | None
    left: int | None
    seed: int
    source: str
    begun: int
    met: Mapping[str, int] = field(hash=False)
    _unmet: tuple[str, ...]

    @formerly_value("unmet()", lambda armed: armed.unmet())
    def unmet(self) -> list[str]:
        """Return the faults that no request has met, each as its key of `met` and its description."""
        return list(self._unmet)
