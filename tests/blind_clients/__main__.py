"""Run the client suite on the broken clients and their clean twins: `python -m tests.blind_clients [NUMBER...]`.

Each broken client has one bug from a public issue tracker or a standard, named in its first line. Results are kept in
results.json; without numbers, all run.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.client_mutation.hunt import FOUND, RUNS, SURVIVED, in_child
from tests.mutation.page import stored

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
# The clients are judged in a zone away from Greenwich, where a date without a zone is misread.
ZONE = "America/New_York"
TWINS = ("broken", "clean")


def cases() -> list[Path]:
    """Return the files of the broken clients."""
    return sorted((HERE / "broken").glob("[0-9]*.py"), key=lambda path: int(path.name.partition("_")[0]))


def provider_of(path: Path) -> str:
    """Return the provider that a client is for, without importing the client."""
    values = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign))
    return next(str(ast.literal_eval(one.value)) for one in values if ast.unparse(one.targets[0]) == "PROVIDER")


def judged(path: Path, runs: int = RUNS, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the results of a clean twin and of the broken client.

    A broken client is found by a rule that its twin keeps. `known` are earlier results, of which the twin's is kept.
    """
    provider = provider_of(path)
    clean = known["clean"] if known else in_child(f"{path}:clean", provider, runs, None, TZ=ZONE)
    broken = in_child(f"{path}:broken", provider, runs, clean.get("rules", ()), TZ=ZONE)
    ends = {"broken": broken, "clean": clean}
    return {name: {key: one[key] for key in one if key != "digest"} for name, one in ends.items()}


def counted(results: dict[str, Any]) -> str:
    """Return the counts of results in one line."""
    ends = {name: [one[name]["result"] for one in results.values() if name in one] for name in TWINS}
    found, accused = ends["broken"].count(FOUND), ends["clean"].count(FOUND)
    unclear = sum(one not in (FOUND, SURVIVED) for found in ends.values() for one in found)
    return f"{found} of {len(results)} found, {accused} clean twins accused, {unclear} could not be tested"


def main() -> int:
    """Judge the clients and store the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.blind_clients")
    parser.add_argument("numbers", nargs="*")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-clean", action="store_true", help="do not run the clean twins again")
    asked = parser.parse_args()
    chosen = [one for one in cases() if not asked.numbers or one.name.partition("_")[0] in asked.numbers]
    results: dict[str, Any] = stored(RESULTS)
    known = results if asked.keep_clean else {}
    for name, found in run(chosen, asked.runs, asked.jobs, known):
        results[name] = found
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")
        print(name, *(f"{key}: {one['result']} {one.get('rules', one.get('why', ''))}" for key, one in found.items()))
        sys.stdout.flush()
    print(counted(results))
    return 0


def run(paths: Iterable[Path], runs: int, jobs: int, known: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the name and the results of each client."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [(path.stem, pool.submit(judged, path, runs, known.get(path.stem))) for path in paths]
        yield from ((name, one.result()) for name, one in waiting)


if __name__ == "__main__":
    sys.exit(main())
