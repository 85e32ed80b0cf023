"""All mutants of the contracts, and a seeded sample of them. Serves nothing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from random import Random

from hobbyhorse.contract.folder import data_directory, find_folders

from .behaviour import behaviour
from .constraints import constraints
from .messages import messages
from .mutant import Mutant, Source


def providers() -> list[str]:
    """Return the keys of all contracts."""
    return [folder.name for folder in find_folders(data_directory("contracts"))]


@cache
def source(provider: str) -> Source:
    """Return a provider's documents and contract."""
    return Source.of(provider)


@cache
def mutants_of(provider: str) -> dict[str, Mutant]:
    """Return every mutant of a provider by its key; of several that are equal, one."""
    return {one.key: one for one in _each(source(provider))}


def _each(source: Source) -> Iterator[Mutant]:
    yield from messages(source)
    yield from constraints(source)
    yield from behaviour(source)


def all_mutants() -> list[Mutant]:
    """Return every mutant of every contract."""
    return [mutant for provider in providers() for mutant in mutants_of(provider).values()]


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return about `count` mutants: from each stratum its share, but at least one.

    The order inside a stratum depends on the seed and the mutants' keys, so a changed fact changes only its mutants.
    """
    strata: dict[tuple[str, str, bool], list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        strata[mutant.stratum].append(mutant)
    total = sum(map(len, strata.values()))
    found: list[Mutant] = []
    for stratum in sorted(strata):
        ordered = sorted(strata[stratum], key=lambda one: hashlib.sha256(f"{seed}:{one.key}".encode()).digest())
        found += ordered[: max(1, round(count * len(ordered) / total))]
    Random(seed).shuffle(found)
    return found
