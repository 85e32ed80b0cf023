"""Checks of the state machine."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.contract.checks.subject import Problem, Subject


def ways(subject: Subject) -> Iterator[Problem]:
    """Every stage can be reached and can reach a terminal stage, and a terminal stage leads to no other stage."""
    graph = subject.contract.graph
    ends = [stage.name for stage in graph.terminals()]
    for stage in graph:
        if stage.terminal and stage.next:
            yield subject.problem(
                f"is terminal ({stage.kind}), but leads to {stage.next[0]!r}; remove 'next'", "stages", stage.name
            )
        if not stage.terminal and not stage.next:
            yield subject.problem(f"is {stage.kind}, but leads to no stage; add 'next'", "stages", stage.name)
        elif not stage.terminal and not any(graph.leads_to(stage.name, end) for end in ends):
            yield subject.problem(
                "no terminal stage follows; a job in this stage would never end", "stages", stage.name
            )
        if not graph.leads_to(graph.initial, stage.name):
            yield subject.problem(f"cannot be reached from {graph.initial!r}", "stages", stage.name)


def happy_way(subject: Subject) -> Iterator[Problem]:
    """The default path of a job ends in success."""
    graph = subject.contract.graph
    # The fake follows the first successor unless a scenario changes the job's path.
    end = graph[graph.path(graph.initial)[-1]]
    if end.kind != "success":
        message = f"the happy path ends in {end.name!r} ({end.kind}); put the stage of success first in `next`"
        yield subject.problem(message, "stages")


def lengths(subject: Subject) -> Iterator[Problem]:
    """The minimum duration of a stage is not above the maximum."""
    for stage in subject.contract.graph:
        least, most = stage.lasts
        if least > most:
            message = f"the minimum, {least} s, exceeds the maximum, {most} s"
            yield subject.problem(message, "stages", stage.name, "lasts")


def cancelling(subject: Subject) -> Iterator[Problem]:
    """A cancellable stage leads to a cancelled one, and a contract has cancellable stages if it can cancel."""
    graph, operations = subject.contract.graph, subject.contract.operations
    cancellable = [stage for stage in graph if stage.cancellable]
    for stage in cancellable:
        # A granted cancellation moves the job along this edge.
        if not any(graph[name].kind == "cancelled" for name in stage.next):
            yield subject.problem("is cancellable, but leads to no cancelled stage", "stages", stage.name)
        if "cancel" not in operations:
            yield subject.problem("is cancellable, but there is no cancel operation", "stages", stage.name)
    if "cancel" in operations and not cancellable:
        yield subject.problem("no stage is cancellable; mark at least one stage", "operations", "cancel")
