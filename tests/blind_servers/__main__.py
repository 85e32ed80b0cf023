"""Run the server suite on the blind servers: `python -m tests.blind_servers [PROVIDER:DEFECT...] [--again] [--all]`.

Each defect runs until the first finding, each honest server to its end. Results are kept in results.json by a hash of
the server's file. A defect without a result, or without a finding, runs again; with `--again` all of them do. Without
`--all`, only the defects that were drawn by lot or added by hand run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.mutation.page import stored
from tests.server_mutation.hunt import FOUND, begin

from .hunt import HERE, HONEST, MODULES, Case, cases, with_result

RESULTS = HERE / "results.json"
INVISIBLE = HERE / "invisible.json"
# The seeds with which each honest server is judged.
SEEDS = 3


def honest(seeds: int = SEEDS) -> list[Case]:
    """Return the honest servers, each with several seeds."""
    return [Case(provider, HONEST, "honest", seed=seed) for provider in MODULES for seed in range(seeds)]


def entry(case: Case, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored result of a case. What was said has ids and times, so it is not kept."""
    place = {"provider": case.provider, "defect": case.defect, "seed": case.seed, "kind": case.kind}
    return place | {name: result[name] for name in ("result", "rules", "seconds") if name in result}


def hunt(chosen: Iterable[Case], jobs: int, cache: Path) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Yield each case with its result. Each runs in one of several processes, because it mostly waits."""
    with multiprocessing.get_context("spawn").Pool(jobs, begin) as pool:
        yield from pool.imap_unordered(partial(with_result, cache), list(chosen))


def counts(results: Iterable[Mapping[str, Any]], invisible: Mapping[str, str]) -> Counter[str]:
    """Return how many results are found, listed as invisible, or neither."""
    return Counter(
        "found" if one["result"] == FOUND else "listed" if name_of(one) in invisible else "missed" for one in results
    )


def name_of(one: Mapping[str, Any]) -> str:
    """Return the name of a defect, with its provider."""
    return f"{one['provider']}:{one['defect']}"


def summary(results: Mapping[str, Mapping[str, Any]], invisible: Mapping[str, str]) -> str:
    """Return the counts of each kind of defect in a few lines."""
    lines = []
    for kind in ("chosen", "further", "other"):
        ones = [one for one in results.values() if one["kind"] == kind]
        number = counts(ones, invisible)
        lines.append(f"{kind}: {number['found']} of {len(ones)} found, {number['listed']} listed as invisible")
    accused = [one for one in results.values() if one["kind"] == "honest" and one["result"] == FOUND]
    runs = sum(one["kind"] == "honest" for one in results.values())
    return "\n".join([*lines, f"honest: {len(accused)} of {runs} runs have a finding"])


def main() -> int:
    """Judge the servers and store the results. Returns 1 if an honest server has a finding, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.blind_servers")
    parser.add_argument("names", nargs="*", help="PROVIDER:DEFECT, or PROVIDER: for the honest server")
    parser.add_argument("--again", action="store_true", help="also run the defects that were found")
    parser.add_argument("--all", action="store_true", help="also run the defects that were not drawn")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each honest server")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    everything = {one.key: one for one in (*honest(asked.seeds), *cases())}
    # Results of servers that are not the present ones any more are dropped, but honest ones of further seeds are kept.
    known = {one.key: one for one in (*honest(1000), *cases())}
    results: dict[str, Any] = {key: one for key, one in stored(RESULTS).items() if key in known}
    chosen = [one for one in everything.values() if is_chosen(one, asked.names, whole=asked.all)]
    wanted = [one for one in chosen if asked.again or asked.names or not is_right(one, results.get(one.key))]
    print(f"{len(everything)} servers, {len(chosen)} chosen, {len(wanted)} to run", flush=True)
    with tempfile.TemporaryDirectory(prefix="blind-servers-") as cache:
        for case, found in hunt(wanted, asked.jobs, Path(cache)):
            results[case.key] = entry(case, found)
            order = sorted(results.items(), key=lambda pair: (name_of(pair[1]), pair[1]["seed"]))
            RESULTS.write_text(json.dumps(dict(order), indent=1, ensure_ascii=False) + "\n")
            print(f"{case.provider}:{case.defect}:{case.seed} {found}", flush=True)
    print(summary(results, stored(INVISIBLE)))
    return int(any(one["kind"] == "honest" and one["result"] == FOUND for one in results.values()))


def is_chosen(case: Case, names: list[str], *, whole: bool) -> bool:
    """Whether a case is asked for by name, or belongs to the usual ones."""
    return f"{case.provider}:{case.defect}" in names if names else whole or case.kind != "other"


def is_right(case: Case, known: Mapping[str, Any] | None) -> bool:
    """Whether a stored result is the best possible one."""
    return known is not None and (known["result"] == FOUND) is (case.kind != "honest")


if __name__ == "__main__":
    sys.exit(main())
