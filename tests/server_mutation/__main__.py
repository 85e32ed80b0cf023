"""Hunt mutants of the contracts: `python -m tests.server_mutation [COUNT|all] [--seed N] [--minutes N] [--again]`.

Results are kept by mutant in results.json. Only those without the best result run again, unless `--again` runs all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.mutation.page import stored

from .hunt import FOUND, LESSON, begin, by_key
from .mutant import Mutant
from .page import INVISIBLE, LEAST_SCORE, PAGE, RESULTS, page, score
from .plan import all_mutants, sample

# About five minutes on two cores.
COUNT = 250
# A process may keep threads of servers that hang; a new one takes about two seconds to start.
RUNS_OF_A_PROCESS = 100


def main() -> int:
    """Hunt mutants, store the results, and write the page. Returns 1 if the score is too low, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.server_mutation")
    parser.add_argument("count", nargs="?", default=str(COUNT))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true", help="run nothing, and rewrite the page")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    everything = all_mutants()
    chosen = everything if asked.count == "all" else sample(everything, int(asked.count), asked.seed)
    # Results of mutants that no contract has any more are dropped. A known survivor runs again, chosen or not.
    planned = {one.key: one for one in everything}
    results = {key: entry(planned[key], one) for key, one in stored(RESULTS).items() if key in planned}
    wanted = {one.key: one for one in chosen} | {key: planned[key] for key in results}
    hunted = [one for key, one in wanted.items() if asked.again or not is_right(one, results.get(key))]
    # Documented facts first: they alone count for the score.
    hunted = [] if asked.page else sorted(hunted, key=lambda one: one.assumed is not None)
    print(f"{len(everything)} mutants, {len(chosen)} chosen, {len(hunted)} to run", flush=True)
    for mutant, found in hunt(hunted, asked.minutes, asked.jobs):
        results[mutant.key] = entry(mutant, found)
        store(results)
        print(f"{mutant.key} {mutant.provider} {mutant.operator} {mutant.place} {mutant.change}: {found}", flush=True)
    store(results)
    invisible = stored(INVISIBLE)
    PAGE.write_text(page(results, invisible))
    print(f"score {score(results, invisible):.3f} of {len(results)} mutants")
    return int(score(results, invisible) < LEAST_SCORE)


def is_right(mutant: Mutant, known: Mapping[str, Any] | None) -> bool:
    """Whether a stored result is the best possible one: found, or a lesson about a fact that is only assumed."""
    best = (FOUND,) if mutant.assumed is None else (FOUND, LESSON)
    return known is not None and known["result"] in best


def store(results: dict[str, Any]) -> None:
    """Write the results; called after each mutant, so that an interrupted hunt keeps the results it has."""
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


def entry(mutant: Mutant, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored result of a mutant. What was said has ids and times, so it is not kept."""
    kept: dict[str, Any] = {name: found[name] for name in ("result", "rules") if name in found}
    assumed = {"assumed": mutant.assumed} if mutant.assumed is not None else {}
    place = {"provider": mutant.provider, "operator": mutant.operator, "place": mutant.place, "change": mutant.change}
    return {**place, **assumed, **kept}


def hunt(mutants: list[Mutant], minutes: float, jobs: int) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """Yield each mutant with its result, until all have run or the time is over."""
    by_name = {(one.provider, one.key): one for one in mutants}
    end = time.monotonic() + 60 * minutes
    if not mutants:
        return
    with multiprocessing.get_context("spawn").Pool(jobs, begin, maxtasksperchild=RUNS_OF_A_PROCESS) as pool:
        for which, found in pool.imap_unordered(by_key, by_name):
            yield by_name[which], found
            if time.monotonic() > end:
                return


if __name__ == "__main__":
    sys.exit(main())
