"""Hunt mutants of correct clients: `python -m tests.client_mutation [COUNT|all] [--seed N] [--minutes N] [--again]`.

Results are kept by mutant in results.json. Only survivors run again, unless `--again` runs all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from tests.mutation.page import change, stored
from tests.mutation.plan import ROOT, Mutant, sample

from .hunt import EQUIVALENT, SURVIVED, judged
from .page import BY_HAND, LEAST_SCORE, PAGE, RESULTS, page, score
from .plan import BY_PATH, CLIENTS, client_mutants

# About an hour on two cores.
COUNT = 400


def main() -> int:
    """Hunt mutants, store the results, and write the page. Returns 1 if the score is too low, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.client_mutation")
    parser.add_argument("count", nargs="?", default=str(COUNT))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    everything = [mutant for client in CLIENTS for mutant in client_mutants(client)]
    chosen = everything if asked.count == "all" else sample(everything, int(asked.count), asked.seed)
    known = {} if asked.again else stored(RESULTS)
    results = {one.key: known[one.key] for one in chosen if one.key in known and known[one.key]["result"] != SURVIVED}
    hunted = [one for one in chosen if one.key not in results]
    print(f"{len(everything)} mutants, {len(chosen)} chosen, {len(hunted)} to run", flush=True)
    for mutant, found in hunt(hunted, asked.minutes, asked.jobs):
        results[mutant.key] = entry(mutant, found)
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")
        print(f"{mutant.path}:{mutant.line} {found['result']} {' '.join(found.get('rules', ()))}", flush=True)
    by_hand = stored(BY_HAND)
    PAGE.write_text(page(results, by_hand))
    print(f"score {score(results, by_hand):.3f} of {len(results)} mutants")
    return int(score(results, by_hand) < LEAST_SCORE)


def entry(mutant: Mutant, found: dict[str, Any]) -> dict[str, Any]:
    """Return the stored result of a mutant."""
    kept: dict[str, Any] = {
        name: found[name] for name in ("result", "rules", "runs", "why", "finding") if name in found
    }
    place: dict[str, Any] = {"path": mutant.path, "line": mutant.line, "operator": mutant.operator}
    return {**place, "change": change(mutant), **kept}


def hunt(mutants: list[Mutant], minutes: float, jobs: int) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """Yield each mutant with its result, until all have run or the time is over."""
    end, left = time.monotonic() + 60 * minutes, list(mutants)
    running: dict[Future[dict[str, Any]], Mutant] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while left or running:
            while left and len(running) < jobs and time.monotonic() < end:
                mutant = left.pop()
                running[pool.submit(result, mutant)] = mutant
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


def result(mutant: Mutant) -> dict[str, Any]:
    """Run the suite on a mutant; a survivor whose traces are all those of the original is equivalent."""
    found = judged(BY_PATH[mutant.path], mutant.source())
    if found["result"] == SURVIVED and found["digest"] == original(mutant.path):
        return {"result": EQUIVALENT}
    return found


@cache
def original(path: str) -> str:
    """Return the digest of an unchanged client. Raises RuntimeError if the suite accuses it."""
    found = judged(BY_PATH[path], (ROOT / path).read_text())
    if found["result"] != SURVIVED:
        raise RuntimeError(f"the unchanged client {path}: {found}")
    return str(found["digest"])


if __name__ == "__main__":
    sys.exit(main())
