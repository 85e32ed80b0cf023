"""The page about mutation testing: the score, and each surviving mutant with the reason why it may survive."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .plan import ROOT, Mutant

RESULTS = Path(__file__).with_name("results.json")
REASONS = Path(__file__).with_name("reasons.json")
PAGE = ROOT / "docs" / "mutation.md"
# How the reason of a mutant begins that changes nothing that can be seen; other survivors count against the score.
EQUIVALENT = "equivalent: "
# The share of the mutants that are not equivalent that some test must notice. It may only rise.
LEAST_SCORE = 0.85


def stored(path: Path) -> dict[str, Any]:
    """Return a stored table, or an empty one."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def score(results: Mapping[str, Any], reasons: Mapping[str, str]) -> float:
    """Return the fraction of mutants that were noticed, without those that are equivalent."""
    counted = [one for key, one in results.items() if one["noticed"] or not reasons.get(key, "").startswith(EQUIVALENT)]
    return sum(one["noticed"] for one in counted) / len(counted) if counted else 0.0


def change(mutant: Mutant) -> str:
    """Return the line of a mutant, before and after."""
    lines = difflib.unified_diff(
        (ROOT / mutant.path).read_text().splitlines(), mutant.source().splitlines(), lineterm="", n=0
    )
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " → ".join(line[1:].strip() for line in changed)


def page(results: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    survivors = {key: one for key, one in results.items() if not one["noticed"]}
    count = len(results)
    rows = [
        f"| {one['path'].removeprefix('mockserver/hobbyhorse/')}:{one['line']} | `{one['change'].replace('|', '∣')}` | "
        f"{reasons.get(key, 'not yet explained')} |"
        for key, one in sorted(survivors.items(), key=lambda item: (item[1]["path"], item[1]["line"]))
    ]
    return "\n".join(
        [
            "# Mutation testing",
            "",
            "`make mutation` changes the code of `contract/`, `scenarios/`, `worlds/` and `conformance/` in one place",
            "at a time, and runs the tests. A change that no test notices shows a hole, unless it changes nothing that",
            "can be seen. Cosmic Ray provides the changes; mutmut cannot, because it needs a layout of its own and",
            "mutates functions only. The sample is seeded and stratified by folder and operator. Results are kept by",
            "the text of the enclosing definition, so only changed code runs again.",
            "",
            f"Of {count} mutants, {count - len(survivors)} are noticed. The survivors are below, each with a reason.",
            f"Without the equivalent ones, the score is {score(results, reasons):.3f} (at least {LEAST_SCORE}).",
            "",
            "| place | change | why it may survive |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
