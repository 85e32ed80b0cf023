"""Routing: find a contract's operation for a method and a path. No HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import Message
from hobbyhorse.contract.values import Contract, Operation, Situation

# Matched paths are cached, because a job is polled at the same path many times. 1,024 covers the jobs that are polled
# concurrently, and bounds the memory that requests for random paths can use.
MOST_CACHED_PATHS = 1024


@dataclass(frozen=True, slots=True)
class Route:
    """An operation prepared for dispatch: its path's literal prefix and parameter names, its situations by stage.

    `plain` means that no query parameter, header or body affects the response.
    """

    operation: Operation
    beginning: str
    names: tuple[str, ...]
    by_stage: Mapping[str, tuple[Situation, ...]]
    plain: bool

    def situation(self, stage: str, message: Message) -> Situation:
        """Return a stage's situation: the first whose condition the message satisfies, else the unconditional one."""
        candidates = self.by_stage[stage]
        for situation in candidates:
            if not situation.when or all(place.get(message) == value for place, value in situation.when):
                return situation
        return candidates[-1]


class Routes:
    """The routes of one contract, by method."""

    def __init__(self, contract: Contract) -> None:
        routes = [_route(operation) for operation in contract.operations.values()]
        # Concrete paths first (OpenAPI 3.1, "Path Templating Matching"), then longer literal prefixes, then longer
        # templates: a parameter may span several segments, so /jobs/{id} can also match /jobs/7/result.
        routes.sort(key=lambda route: (bool(route.names), -len(route.beginning), -len(route.operation.path)))
        self._by_method: dict[str, list[Route]] = {}
        for route in routes:
            self._by_method.setdefault(route.operation.method, []).append(route)
        # One cache for each instance: a cache on the method itself would keep every contract alive.
        self.match = lru_cache(maxsize=MOST_CACHED_PATHS)(self._match)

    def _match(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """Return the route of a request and its path parameters, or None."""
        for route in self._by_method.get(method, ()):
            # The prefix test skips most routes without running their pattern.
            if path.startswith(route.beginning):
                found = route.operation.pattern.fullmatch(path)
                if found is not None:
                    return route, dict(zip(route.names, found.groups(), strict=True))
        return None

    def allowed(self, path: str) -> list[str]:
        """Return the methods that a path supports, sorted."""
        return sorted(method for method in self._by_method if self.match(method, path))


def _route(operation: Operation) -> Route:
    return Route(
        operation=operation,
        beginning=operation.path.partition("{")[0],
        names=tuple(path_names(operation.path)),
        by_stage=_by_stage(operation.situations.values()),
        plain=all(parameter.part == "path" for parameter in operation.parameters)
        and not any(situation.when for situation in operation.situations.values()),
    )


def _by_stage(situations: Iterable[Situation]) -> dict[str, tuple[Situation, ...]]:
    by_stage: dict[str, list[Situation]] = {}
    # Conditional situations come first, so the last situation of a stage is the default.
    for situation in sorted(situations, key=lambda situation: not situation.when):
        for stage in situation.stages:
            by_stage.setdefault(stage, []).append(situation)
    return {stage: tuple(found) for stage, found in by_stage.items()}
