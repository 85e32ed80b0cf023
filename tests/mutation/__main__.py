"""Hunt mutants that no test notices: `python -m tests.mutation [COUNT|all] [--seed N] [--minutes N]`.

Results are kept by mutant in results.json. Mutants that were noticed do not run again, but survivors do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from typing import Any

from .covering import Covering, measured
from .hunt import copied_tree, work
from .page import LEAST_SCORE, PAGE, REASONS, RESULTS, change, page, score, stored
from .plan import Mutant, all_mutants, sample

# About an hour on two cores if nothing is known yet.
COUNT = 600


def main() -> int:
    """Hunt mutants, store the results, and write the page. Returns 1 if the score is too low, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("count", nargs="?", default=str(COUNT))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    asked = parser.parse_args()
    known, everything = stored(RESULTS), all_mutants()
    chosen = everything if asked.count == "all" else sample(everything, int(asked.count), asked.seed)
    results = {one.key: known[one.key] for one in chosen if one.key in known and known[one.key]["noticed"]}
    hunted = [one for one in chosen if one.key not in results]
    print(f"{len(everything)} mutants, {len(chosen)} chosen, {len(hunted)} to run", flush=True)
    for mutant, noticed in hunt(hunted, asked.minutes):
        results[mutant.key] = entry(mutant, noticed)
        store(results)
        print(f"{mutant.path}:{mutant.line} {'noticed' if noticed else 'survives'}", flush=True)
    store(results)
    reasons = stored(REASONS)
    PAGE.write_text(page(results, reasons))
    print(f"score {score(results, reasons):.3f} of {len(results)} mutants")
    return int(score(results, reasons) < LEAST_SCORE)


def store(results: dict[str, Any]) -> None:
    """Write the results; called after each mutant, so that an interrupted hunt keeps the results it has."""
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


def entry(mutant: Mutant, noticed: bool) -> dict[str, Any]:
    """Return the stored result of a mutant."""
    return {
        "path": mutant.path,
        "line": mutant.line,
        "operator": mutant.operator,
        "change": change(mutant),
        "noticed": noticed,
    }


def hunt(mutants: list[Mutant], minutes: float) -> Any:
    """Yield each mutant and whether a test notices it, until all have run or the time is over."""
    if not mutants:
        return
    with copied_tree() as tree:
        covering = measured(tree)
    yield from hunted_with(covering, mutants, minutes)


def hunted_with(covering: Covering, mutants: list[Mutant], minutes: float) -> Any:
    """Yield each mutant and whether a test that covers it notices it."""
    context = multiprocessing.get_context("spawn")
    waiting, found = context.Queue(), context.Queue()
    count = os.cpu_count() or 1
    workers = [context.Process(target=work, args=(waiting, found, covering), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    end, left = time.monotonic() + 60 * minutes, list(mutants)
    under_way = 0
    for _ in range(min(count, len(left))):
        waiting.put(left.pop())
        under_way += 1
    while under_way:
        yield found.get()
        under_way -= 1
        if left and time.monotonic() < end:
            waiting.put(left.pop())
            under_way += 1
    for _ in workers:
        waiting.put(None)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    sys.exit(main())
