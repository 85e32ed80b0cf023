"""The state machine, on random graphs: timelines have only legal transitions, and moments ascend."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hobbyhorse.contract.lifecycle import TERMINAL, Graph, LifecycleError, Stage, Timeline, cut, lay, reroute, stage_at
from hobbyhorse.contract.values import Contract

KINDS = ("pending", "running", "success", "failure", "cancelled", "expired")
MOMENTS = st.integers(-10, 200).map(lambda tenths: tenths / 10)
LENGTHS = st.integers(0, 30).map(lambda tenths: tenths / 10)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph: loops, dead ends, unreachable stages; only terminal stages are sure to have no successors."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    names = [f"s{number}" for number in range(len(kinds))]
    followers = st.lists(st.sampled_from(names), unique=True, max_size=4).map(tuple)
    stages = {
        name: Stage(name, kind, () if kind in TERMINAL else draw(followers))
        for name, kind in zip(names, kinds, strict=True)
    }
    return Graph(names[0], stages)


@st.composite
def lengths(draw: st.DrawFn, graph: Graph) -> Callable[[Stage], float]:
    """A duration for each stage of a graph."""
    drawn = {stage.name: draw(LENGTHS) for stage in graph}
    return lambda stage: drawn[stage.name]


@st.composite
def jobs(draw: st.DrawFn) -> tuple[Graph, Timeline]:
    """A graph and the timeline of a job in it, which ends in any reachable stage."""
    graph = draw(graphs())
    end = draw(st.sampled_from([None, *sorted(reachable(graph, graph.initial))]))
    return graph, lay(graph, draw(MOMENTS), draw(lengths(graph)), end)


def reachable(graph: Graph, start: str) -> set[str]:
    """Return all stages that can be reached from one, itself included, by plain iteration."""
    found = {start}
    while more := {to for name in found for to in graph[name].next} - found:
        found |= more
    return found


def is_legal(graph: Graph, path: tuple[str, ...]) -> bool:
    return all(after in graph[before].next for before, after in pairwise(path))


def stages(timeline: Timeline) -> tuple[str, ...]:
    return tuple(name for _, name in timeline)


def is_ascending(timeline: Timeline) -> bool:
    moments = [moment for moment, _ in timeline]
    return moments == sorted(moments)


# ---- paths


@given(graphs(), st.data())
def test_there_is_a_legal_path_to_every_reachable_stage_and_to_no_other(graph: Graph, data: st.DataObject) -> None:
    start, end = (data.draw(st.sampled_from(sorted(graph.stages))) for _ in range(2))
    if end in reachable(graph, start):
        path = graph.path(start, end)
        assert (path[0], path[-1]) == (start, end)
        assert is_legal(graph, path)
    else:
        with pytest.raises(LifecycleError) as raised:
            graph.path(start, end)
        allowed = list(graph[start].next)
        assert str(raised.value) == f"no path from {start!r} to {end!r}; allowed from {start!r}: {allowed}"


@given(graphs(), st.data())
def test_a_stage_leads_to_every_stage_reachable_from_it(graph: Graph, data: st.DataObject) -> None:
    start = data.draw(st.sampled_from(sorted(graph.stages)))
    assert {name for name in graph.stages if graph.leads_to(start, name)} == reachable(graph, start)


@given(graphs())
def test_the_path_of_a_successful_job_is_legal_and_takes_the_first_good_stage_each_time(graph: Graph) -> None:
    path = graph.path(graph.initial)
    assert path[0] == graph.initial
    for before, after in pairwise(path):
        good = [to for to in graph[before].next if graph[to].kind in ("pending", "running", "success")]
        assert after == good[0]
    assert len(set(path)) == len(path)


@given(graphs(), st.data())
def test_a_failing_job_follows_the_happy_path_as_long_as_it_can(graph: Graph, data: st.DataObject) -> None:
    end = data.draw(st.sampled_from(sorted(reachable(graph, graph.initial))))
    happy, path = graph.path(graph.initial), graph.path(graph.initial, end)
    shared = next(
        (number for number, pair in enumerate(zip(happy, path, strict=False)) if pair[0] != pair[1]), len(path)
    )
    if end not in happy:
        for later in happy[shared:]:
            assert end not in reachable(graph, later)


def test_a_failing_job_fails_late() -> None:
    graph = Graph(
        "queued",
        {
            "queued": Stage("queued", "pending", ("running", "failed")),
            "running": Stage("running", "running", ("saving", "failed")),
            "saving": Stage("saving", "running", ("done",)),
            "done": Stage("done", "success", ()),
            "failed": Stage("failed", "failure", ()),
        },
    )
    assert graph.path("queued") == ("queued", "running", "saving", "done")
    assert graph.path("queued", "failed") == ("queued", "running", "failed")
    assert graph.path("queued", "running") == ("queued", "running")
    assert graph.path("running", "running") == ("running",)


@given(graphs(), st.sampled_from(KINDS))
def test_the_ending_of_a_class_is_its_first_stage(graph: Graph, kind: str) -> None:
    having = [stage for stage in graph if stage.kind == kind]
    assert graph.ending(kind) == (having[0] if having else None)


@given(graphs())
def test_the_terminal_stages_are_those_of_a_terminal_class(graph: Graph) -> None:
    assert {stage.name for stage in graph.terminals()} == {stage.name for stage in graph if stage.kind in TERMINAL}
    assert all(stage.terminal == (stage.kind in TERMINAL) for stage in graph)


def test_every_ending_of_a_provider_can_be_laid(contract: Contract) -> None:
    graph = contract.graph
    for stage in graph.terminals():
        timeline = lay(graph, 0.0, lambda stage: 1.0, stage.name)
        assert stages(timeline)[-1] == stage.name
        assert is_legal(graph, stages(timeline))
    assert graph[stages(lay(graph, 0.0, lambda stage: 1.0))[-1]].kind == "success"


# ---- timelines


@given(graphs(), MOMENTS, st.data())
def test_a_timeline_begins_when_it_is_laid_and_has_legal_transitions_after_the_durations_of_its_stages(
    graph: Graph, start: float, data: st.DataObject
) -> None:
    lasting = data.draw(lengths(graph))
    end = data.draw(st.sampled_from([None, *sorted(reachable(graph, graph.initial))]))
    timeline = lay(graph, start, lasting, end)
    assert timeline[0] == (start, graph.initial)
    assert is_legal(graph, stages(timeline))
    assert end is None or stages(timeline)[-1] == end
    for (moment, name), (following, _) in pairwise(timeline):
        assert following == moment + lasting(graph[name])


@given(graphs(), st.data())
def test_a_timeline_to_an_unreachable_end_is_refused(graph: Graph, data: st.DataObject) -> None:
    others = sorted(set(graph.stages) - reachable(graph, graph.initial))
    assume(others)
    with pytest.raises(LifecycleError, match="no path from"):
        lay(graph, 0.0, lambda stage: 1.0, data.draw(st.sampled_from(others)))


@given(jobs(), MOMENTS)
def test_the_stage_at_a_moment_is_the_last_one_that_has_begun(job: tuple[Graph, Timeline], now: float) -> None:
    _, timeline = job
    begun = [name for moment, name in timeline if moment <= now]
    assert stage_at(timeline, now) == (begun[-1] if begun else timeline[0][1])


@given(jobs(), st.lists(MOMENTS, min_size=2, max_size=8).map(sorted))
def test_successive_polls_never_see_an_earlier_stage(job: tuple[Graph, Timeline], moments: list[float]) -> None:
    graph, timeline = job
    seen = [stage_at(timeline, now) for now in moments]
    for before, after in pairwise(seen):
        assert graph.leads_to(before, after)


# ---- cuts


@given(jobs(), MOMENTS, st.data())
def test_a_cut_needs_a_transition_of_the_graph(job: tuple[Graph, Timeline], now: float, data: st.DataObject) -> None:
    graph, timeline = job
    assume(now >= timeline[0][0])
    stage = data.draw(st.sampled_from(sorted(graph.stages)))
    current = stage_at(timeline, now)
    if stage not in graph[current].next:
        with pytest.raises(LifecycleError) as raised:
            cut(graph, timeline, now, stage)
        assert str(raised.value) == f"no transition from {current!r} to {stage!r}; allowed: {list(graph[current].next)}"
        return
    after = cut(graph, timeline, now, stage)
    assert after[-1] == (now, stage)
    assert stage_at(after, now) == stage
    assert is_legal(graph, stages(after))
    assert is_ascending(after)


@given(jobs(), st.data())
def test_a_cut_leaves_the_past_as_it_was(job: tuple[Graph, Timeline], data: st.DataObject) -> None:
    graph, timeline = job
    moments = [moment + more for moment, _ in timeline for more in (0.0, 0.05, 1.0)]
    now = data.draw(st.sampled_from(moments))
    followers = graph[stage_at(timeline, now)].next
    assume(followers)
    after = cut(graph, timeline, now, data.draw(st.sampled_from(followers)))
    for before in moments:
        if before < now:
            assert stage_at(after, before) == stage_at(timeline, before)


def test_nothing_is_cut_after_the_end() -> None:
    graph = Graph(
        "queued",
        {
            "queued": Stage("queued", "pending", ("done", "cancelled")),
            "done": Stage("done", "success", ()),
            "cancelled": Stage("cancelled", "cancelled", ()),
        },
    )
    timeline = lay(graph, 0.0, lambda stage: 10.0)
    assert cut(graph, timeline, 9.9, "cancelled") == ((0.0, "queued"), (9.9, "cancelled"))
    with pytest.raises(LifecycleError, match="no transition from 'done' to 'cancelled'"):
        cut(graph, timeline, 10.0, "cancelled")


# ---- rerouting


@given(jobs(), LENGTHS, st.data())
def test_a_rerouted_job_reaches_its_new_end_by_legal_transitions(
    job: tuple[Graph, Timeline], late: float, data: st.DataObject
) -> None:
    graph, timeline = job
    moment = timeline[-1][0] + late
    end = data.draw(st.sampled_from(sorted(reachable(graph, graph.initial))))
    after = reroute(graph, timeline, moment, end)
    assert after[-1] == (moment, end)
    assert stages(after)[0] == graph.initial
    assert is_legal(graph, stages(after))
    assert is_ascending(after)


def test_moments_ascend_if_the_new_end_follows_a_retry() -> None:
    graph = Graph(
        "queued",
        {
            "queued": Stage("queued", "pending", ("running", "failed")),
            "running": Stage("running", "running", ("done", "queued")),
            "done": Stage("done", "success", ()),
            "failed": Stage("failed", "failure", ()),
        },
    )
    timeline = lay(graph, 0.0, lambda stage: 1.0)
    assert timeline == ((0.0, "queued"), (1.0, "running"), (2.0, "done"))
    assert is_ascending(reroute(graph, timeline, 6.0, "failed"))
