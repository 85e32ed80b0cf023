"""Faults of a job itself: it ends badly, late, or never; and its id."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.lifecycle import Graph, Stage, Timeline, lay
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.effects import ID_TAILS
from hobbyhorse.scenarios.fault import (
    ENDS,
    FAILS,
    SHOULD,
    STICKS,
    TIMELINE,
    VARIATION,
    Fault,
    Options,
    PlannedJob,
)
from hobbyhorse.scenarios.options import BOXES, CODE, END_SECONDS, ID_TAIL, LAST, MESSAGE, STAGE

# The only faults of their place.
RANK = 90
# The default end of a late success, in multiples of the longest wait that the contract documents for a client: safely
# after a deadline at that wait.
LATE_SHARE = 1.5
# The default end of a slow job, likewise: just before that wait, so that a client that is patient enough gets the
# video.
SLOW_SHARE = 0.9


OPAQUE_IDS, FILE_BOXES = "opaque ids", "boxes of a file"
Choice = Callable[[Graph, Options], Stage]


class NoStage(LookupError):
    """A contract has no stage for a fault; the arguments are the stage and the allowed ones."""


def stretched(timeline: Timeline, seconds: float | None) -> Timeline:
    """Return a timeline scaled to end `seconds` after its start; its stages keep their shares of the time."""
    if seconds is None:
        return timeline
    start, end = timeline[0][0], timeline[-1][0]
    scale = seconds / (end - start) if end > start else 0.0
    steps = [(start + (moment - start) * scale, name) for moment, name in timeline[:-1]]
    # The end is set, not scaled: rounding must not move it past a deadline that equals `seconds`.
    return (*steps, (start + seconds, timeline[-1][1]))


def _ended(job: PlannedJob, options: Options, stage: str | None = None, share: float | None = None) -> Timeline:
    """Return a timeline that ends in a stage after `seconds`, by default after a share of the longest wait."""
    seconds = options.get("seconds")
    if seconds is None and share is not None:
        seconds = job.longest_wait * share
    return stretched(lay(job.graph, job.start, job.lasting, stage), seconds)


def _first(found: list[Stage], wanted: str, allowed: list[Stage]) -> Stage:
    if found:
        return found[0]
    raise NoStage(wanted, ", ".join(stage.name for stage in allowed) or "none")


def _of_class(kind: str) -> Choice:
    """Return a function that chooses a stage of a class; it raises NoStage."""

    def choose(graph: Graph, options: Options) -> Stage:
        wanted = options.get("stage")
        allowed = [stage for stage in graph if stage.kind == kind]
        found = [stage for stage in allowed if wanted in (None, stage.name, stage.kind)]
        return _first(found, wanted or kind, allowed)

    return choose


def _kept(graph: Graph, options: Options) -> Stage:
    """Return the stage in which a job is stuck. Raises NoStage."""
    wanted = options.get("stage")
    path = [graph[name] for name in graph.path(graph.initial)]
    allowed = [stage for stage in graph if not stage.terminal]
    of_class = [stage for stage in path if stage.kind == (wanted or path[0].kind) and not stage.terminal]
    # A stage's own name wins over its class: a contract may call a stage of another class "running".
    named = [stage for stage in allowed if stage.name == wanted]
    return _first(named or (of_class[-1:] if options["last"] else of_class), wanted or "pending", allowed)


def _without(choose: Choice) -> Callable[[Fault, Contract, Operation | None, Options], Iterator[str]]:
    """Return the function that yields the reason why a contract has no stage for a fault."""

    def misfits(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
        try:
            choose(contract.graph, options)
        except NoStage as error:
            wanted, allowed = error.args
            yield f"{contract.key} has no stage {wanted!r} to {fault.name} in; allowed: {allowed}"

    return misfits


def _fixed_ids(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    """Yield the reason why a contract has no ids with other characters: its documents show the form."""
    if contract.assumption("lifecycle.json#/job_id/form") is None:
        yield f"{contract.key} documents the form of a job's id"
        return
    submit = contract.operations["submit"]
    pointers = [one.pointer for one in submit.bindings["job"].response if one.part == "body"]
    for situation in submit.situations.values():
        example = situation.template.example
        at = next((one for one in pointers if isinstance(resolve(example, one), str)), None)
        if at is None or situation.status >= 300:
            continue
        longer = replaced(example, at, resolve(example, at) + ID_TAILS[options["tail"]])
        if any(contract.schemas.violations(situation.schema, longer, most=1)):
            yield f"{contract.key} documents a form of a job's id that {fault.name!r} would break"
            return


def _unfinished(options: Options, stage: Stage, graph: Graph) -> bool:
    """Whether a response shows a slow or late job: one that has not ended, unless it ends at once."""
    return stage.terminal if options.get("seconds") == 0 else not stage.terminal


_failed, _expired, _cancelled = _of_class("failure"), _of_class("expired"), _of_class("cancelled")
_succeeded = _of_class("success")

SUCCEED_IN = Fault(
    name="succeed_in",
    stands=(TIMELINE,),
    says="the job succeeds, in any of the stages that mean success",
    effect=lambda job, options: _ended(job, options, _succeeded(job.graph, options).name),
    options=(STAGE, END_SECONDS),
    rank=RANK,
    misfits=_without(_succeeded),
)
FAIL = Fault(
    name="fail",
    stands=(TIMELINE,),
    says="the job fails",
    effect=lambda job, options: _ended(job, options, _failed(job.graph, options).name),
    options=(STAGE, CODE, MESSAGE, END_SECONDS),
    rank=RANK,
    misfits=_without(_failed),
    uses=frozenset({FAILS}),
)
EXPIRE = Fault(
    name="expire",
    stands=(TIMELINE,),
    says="the job expires",
    effect=lambda job, options: _ended(job, options, _expired(job.graph, options).name),
    options=(STAGE, CODE, MESSAGE, END_SECONDS),
    rank=RANK,
    misfits=_without(_expired),
)
CANCEL = Fault(
    name="cancel",
    stands=(TIMELINE,),
    says="the provider cancels the job",
    effect=lambda job, options: _ended(job, options, _cancelled(job.graph, options).name),
    options=(STAGE, END_SECONDS),
    rank=RANK,
    misfits=_without(_cancelled),
)
STUCK = Fault(
    name="stuck",
    stands=(TIMELINE,),
    says="the job never leaves a stage",
    effect=lambda job, options: lay(job.graph, job.start, job.lasting, _kept(job.graph, options).name),
    options=(STAGE, LAST),
    rank=RANK,
    misfits=_without(_kept),
    seen=lambda options, stage, graph: stage is _kept(graph, options),
    uses=frozenset({STICKS}),
)
LATE_SUCCESS = Fault(
    name="late_success",
    stands=(TIMELINE,),
    says="the job succeeds after the client's longest wait",
    effect=lambda job, options: _ended(job, options, share=LATE_SHARE),
    options=(END_SECONDS.usually(f"{LATE_SHARE:g} times the longest wait that the contract documents"),),
    rank=RANK,
    seen=_unfinished,
)
SLOW = Fault(
    name="slow",
    stands=(TIMELINE,),
    says="the job succeeds a given time after its start",
    effect=lambda job, options: _ended(job, options, share=SLOW_SHARE),
    options=(END_SECONDS.usually(f"{SLOW_SHARE:g} times the longest wait that the contract documents"),),
    rank=RANK,
    seen=_unfinished,
    uses=frozenset({ENDS}),
)
OPAQUE_ID = Fault(
    name="opaque_id",
    stands=(TIMELINE,),
    says="gives the job an id with further characters; the job succeeds",
    effect=lambda job, options: _ended(job, options),
    options=(ID_TAIL,),
    rank=RANK,
    kind=VARIATION,
    misfits=_fixed_ids,
    form=OPAQUE_IDS,
    source="RFC 3986, 2.2 and 3.3",
    level=SHOULD,
)
BOXED = Fault(
    name="file_boxes",
    stands=(TIMELINE,),
    says="ends the video with another form of box; the job succeeds",
    effect=lambda job, options: _ended(job, options),
    options=(BOXES,),
    rank=RANK,
    kind=VARIATION,
    form=FILE_BOXES,
    source="ISO/IEC 14496-12, 4.2",
    level=SHOULD,
)
