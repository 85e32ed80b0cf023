"""The faults by place, found by listing the modules of `scenarios/faults/`; nothing else names a fault."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType

from hobbyhorse.scenarios import faults
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, OPERATION, REFUSAL, Fault


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


@cache
def all_faults() -> tuple[Fault, ...]:
    """Return all faults; found on first use, so that a server without scenarios does not import them."""
    return faults_in(faults)


@cache
def faults_at(place: str) -> Mapping[str, Fault]:
    """Return the faults of a place by name. An operation has every situation of its contract in addition."""
    return {fault.name: fault for fault in all_faults() if place in fault.stands}


def refusal_fault() -> Fault:
    """Return the fault that stands for every situation of an operation."""
    (found,) = faults_at(REFUSAL).values()
    return found


def faults_of(role: str) -> Mapping[str, Fault]:
    """Return the faults that a role can have, by name."""
    return faults_at(role if role in (MEDIA, CALLBACK) else OPERATION)


def operation_fault(name: str) -> Fault:
    """Return the fault of an operation; any other name is that of a situation."""
    return faults_at(OPERATION).get(name) or refusal_fault()


def names_used_for(use: str) -> frozenset[str]:
    """Return the names of the faults that have a use."""
    return frozenset(fault.name for fault in all_faults() if use in fault.uses)


def name_used_for(use: str) -> str:
    """Return the name of the only fault that has a use. Raises LookupError if there is not exactly one."""
    names = sorted(names_used_for(use))
    if len(names) != 1:
        raise LookupError(f"{len(names)} faults have the use {use!r} ({', '.join(names)}); it needs exactly one")
    return names[0]
