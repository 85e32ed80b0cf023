"""The faults by place, found by listing the modules of `scenarios/faults/`; nothing else names a fault."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType

from hobbyhorse.scenarios import faults
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, OPERATION, REFUSAL, TIMELINE, Fault


def faults_in(package: ModuleType) -> tuple[Fault, ...]:
    """Return the faults of a folder by rank, then by module, and in the order in which they stand there.

    Raises ValueError if two faults of one place have the same name.
    """
    found: list[Fault] = []
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        members = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        found += [member for member in members.values() if isinstance(member, Fault)]
    taken: set[tuple[str, str]] = set()
    for place, name in ((place, fault.name) for fault in found for place in fault.stands):
        if (place, name) in taken:
            raise ValueError(f"two faults of the place {place!r} are named {name!r}; names are unique at a place")
        taken.add((place, name))
    return tuple(sorted(found, key=lambda fault: fault.rank))


def _at(place: str) -> Mapping[str, Fault]:
    return {fault.name: fault for fault in FAULTS if place in fault.stands}


FAULTS = faults_in(faults)
OPERATION_FAULTS, MEDIA_FAULTS, CALLBACK_FAULTS, TIMELINE_FAULTS = map(_at, (OPERATION, MEDIA, CALLBACK, TIMELINE))
"""The faults of each place by name. An operation has every situation of its contract in addition."""
(REFUSAL_FAULT,) = _at(REFUSAL).values()
"""The fault that stands for every situation of an operation."""


def faults_of(role: str) -> Mapping[str, Fault]:
    """Return the faults that a role can have, by name."""
    return {MEDIA: MEDIA_FAULTS, CALLBACK: CALLBACK_FAULTS}.get(role, OPERATION_FAULTS)


def operation_fault(name: str) -> Fault:
    """Return the fault of an operation; any other name is that of a situation."""
    return OPERATION_FAULTS.get(name, REFUSAL_FAULT)


def names_used_for(use: str, found: Iterable[Fault] = FAULTS) -> frozenset[str]:
    """Return the names of the faults that have a use."""
    return frozenset(fault.name for fault in found if use in fault.uses)


def name_used_for(use: str) -> str:
    """Return the name of the only fault that has a use. Raises LookupError if there is not exactly one."""
    names = sorted(names_used_for(use))
    if len(names) != 1:
        raise LookupError(f"{len(names)} faults have the use {use!r} ({', '.join(names)}); it needs exactly one")
    return names[0]
