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
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.client_mutation.hunt import FOUND, RUNS, SURVIVED, in_child, recurs
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


def clean_twin(path: Path) -> str:
    """Return a name of the clean twin: equal for files whose twin is one imported class, else the file's own."""
    tree = ast.parse(path.read_text())
    imported = {one.name for node in tree.body if isinstance(node, ast.ImportFrom) for one in node.names}
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    pair = assigned.get("(broken, clean)")
    twin = pair.elts[1] if isinstance(pair, ast.Tuple) else None
    if isinstance(twin, ast.Call) and {one.id for one in ast.walk(twin) if isinstance(one, ast.Name)} <= imported:
        return ast.unparse(twin)
    return path.stem


def judged(path: Path, runs: int = RUNS, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the results of a clean twin and of the broken client.

    A broken client is found by a rule that its twin keeps. `known` are results of which the twin's is kept.
    """
    provider = provider_of(path)
    clean = known["clean"] if known else in_child(f"{path}:clean", provider, runs, None, TZ=ZONE)
    broken = in_child(f"{path}:broken", provider, runs, clean.get("rules", ()), TZ=ZONE)
    ends = {"broken": broken, "clean": clean}
    return {name: {key: one[key] for key in one if key != "digest"} for name, one in ends.items()}


def recurs_in(path: Path, finding: Mapping[str, Any]) -> bool:
    """Whether a broken client shows its stored finding again."""
    return recurs(f"{path}:broken", finding, TZ=ZONE)


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
    """Yield the name and the results of each client. A clean twin that several share is judged once."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(clean_twin(path), []).append(path)
    with ThreadPoolExecutor(jobs) as pool:
        firsts = {pool.submit(judged, one[0], runs, known.get(one[0].stem)): one for one in groups.values()}
        later = {}
        for first in as_completed(firsts):
            path, *others = firsts[first]
            yield path.stem, first.result()
            later.update({pool.submit(judged, one, runs, first.result()): one for one in others})
        yield from ((later[one].stem, one.result()) for one in as_completed(later))


if __name__ == "__main__":
    sys.exit(main())
