"""A mutant of a server: one documented fact that the served contract has changed, as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hobbyhorse.conformance.server.expected import home_of
from hobbyhorse.contract.documents.defaults import complete
from hobbyhorse.contract.documents.marks import unmarked
from hobbyhorse.contract.folder import build_whole, data_directory, read_documents
from hobbyhorse.contract.forms.expressions import format_pointer, parse_pointer, replaced
from hobbyhorse.contract.values import Callbacks, Contract, Operation, Situation

from .serving import Served, adapted


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fact that is changed: its place in the contract, the change in words, and the server that has it.

    `assumed` is the reason why no document states the fact, or None. A change of a fact gives its mutants other keys.
    """

    provider: str
    operator: str
    place: str
    change: str
    assumed: str | None
    make: Callable[[], Served] = field(compare=False, repr=False)

    @property
    def key(self) -> str:
        """The hash under which the result is kept."""
        parts = "\0".join((self.provider, self.operator, self.place, self.change))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def stratum(self) -> tuple[str, str, bool]:
        """Each provider and operator is sampled separately, and so are facts that are only assumed."""
        return self.provider, self.operator, self.assumed is not None


@dataclass(frozen=True, slots=True)
class Source:
    """One provider: its complete documents, and the contract that both sides have."""

    documents: dict[str, Any]
    marks: list[Any]
    contract: Contract

    @classmethod
    def of(cls, provider: str) -> Source:
        """Read a provider's folder."""
        clean, marks, _ = unmarked(read_documents(data_directory("contracts") / provider))
        documents = complete(clean)
        return cls(documents, marks, adapted(build_whole(data_directory("contracts") / provider, documents, marks)))

    def edited(self, file: str, pointer: str, value: Any) -> Contract:
        """Return the contract with another value at one place of its documents."""
        documents = {**self.documents, file: replaced(self.documents[file], parse_pointer(pointer), value)}
        return adapted(build_whole(data_directory("contracts") / self.contract.key, documents, self.marks))

    def mutant(
        self,
        operator: str,
        places: str | Iterable[str],
        change: str,
        served: Contract | Served | Callable[[], Contract | Served],
    ) -> Mutant:
        """Return a mutant; the first of its places names it, and each can be marked as assumed."""
        listed = [places] if isinstance(places, str) else list(places)
        assumed = next((one.why for place in listed if (one := self.contract.assumption(place)) is not None), None)

        def make() -> Served:
            found = served() if callable(served) else served
            return found if isinstance(found, Served) else Served(found)

        return Mutant(self.contract.key, operator, listed[0], change, assumed, make)


def shown(value: Any) -> str:
    """Return a value as short JSON."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def with_situation(contract: Contract, role: str, situation: Situation) -> Contract:
    """Return a contract with one situation of an operation, or of the callbacks, replaced."""
    if role == "callback":
        assert contract.callbacks is not None
        known = {**contract.callbacks.situations, situation.name: situation}
        return replace(contract, callbacks=replace(contract.callbacks, situations=known))
    operation = contract.operations[role]
    return with_operation(contract, replace(operation, situations={**operation.situations, situation.name: situation}))


def with_operation(contract: Contract, operation: Operation) -> Contract:
    """Return a contract with one operation replaced."""
    return replace(contract, operations={**contract.operations, operation.role: operation})


# The situations that anybody can bring about. Others, such as an empty balance, need a scenario.
SUBMISSIONS = (
    "accepted",
    "replayed",
    "unauthenticated",
    "key_refused",
    "malformed_body",
    "unsupported_media_type",
    "invalid_request",
    "unknown_model",
    "key_mismatch",
    "key_used",
)
READS = ("unauthenticated", "key_refused", "unknown_job", "foreign_job")
LISTS = ("unauthenticated", "key_refused", "invalid_request")


def provoked(contract: Contract) -> Iterator[tuple[str, Operation | Callbacks, Situation]]:
    """Yield each situation that a client can bring about, with its role and its operation."""
    reached = reachable(contract)
    for role, operation in contract.operations.items():
        for situation in operation.situations.values():
            if _is_provoked(operation, situation, reached):
                yield role, operation, situation
    for situation in contract.callbacks.situations.values() if contract.callbacks else ():
        if situation.stages & reached:
            assert contract.callbacks is not None
            yield "callback", contract.callbacks, situation


def _is_provoked(operation: Operation, situation: Situation, reached: frozenset[str]) -> bool:
    if operation.role in ("submit", "run"):
        return situation.name in SUBMISSIONS or (bool(situation.stages & reached) and operation.role == "run")
    if operation.role in ("status", "result", "cancel"):
        return situation.name in READS or bool(situation.stages & reached)
    if situation.name == "invalid_request":
        return any(one.part == "query" for one in operation.parameters)
    return situation.name in LISTS or situation.status < 300


def reachable(contract: Contract) -> frozenset[str]:
    """Return the stages that a job passes through if it succeeds, fails late, or is cancelled by its owner."""
    graph = contract.graph
    found = set(graph.path(graph.initial))
    failure, cancelled = graph.ending("failure"), graph.ending("cancelled")
    found |= {failure.name} if failure else set()
    if "cancel" in contract.operations and cancelled:
        found.add(cancelled.name)
    return frozenset(found)


def member_places(contract: Contract, role: str, situation: Situation, pointer: tuple[str, ...]) -> list[str]:
    """Return the places that document a member of a situation: in its example, and the situation itself."""
    there = home(contract, role, situation.name)
    return [situation.example_at + format_pointer(pointer), situation.schema, there]


def home(contract: Contract, role: str, name: str) -> str:
    """Return where lifecycle.json defines a situation of an operation, or of the callbacks."""
    if role == "callback":
        return f"lifecycle.json#{format_pointer(('callbacks', 'situations', name))}"
    return home_of(contract, contract.operations[role], name)
