"""Run the suite on the broken servers, and write caught.json and docs/server-rules.md.

Arguments select rules or mutants by name; `--page` runs none and only rewrites the page.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

from .hunt import by_name
from .mutants import MUTANTS
from .page import CAUGHT, PAGE, caught, page, summary


def main() -> int:
    """Run the mutants and print each result; return 1 if one was not caught."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    names = [mutant.name for mutant in MUTANTS if not wanted or mutant.rule in wanted or mutant.name in wanted]
    found = caught()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for name, seen in pool.imap(by_name, [] if "--page" in sys.argv else names):
            found[name] = {"caught": seen.caught, "word": seen.word, "others": list(seen.others)}
            print(f"{name}: {'caught' if seen.caught else 'NOT CAUGHT'}, {seen.word}: {seen.finding}", flush=True)
    found = {mutant.name: found[mutant.name] for mutant in MUTANTS if mutant.name in found}
    CAUGHT.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(found))
    print(summary(found))
    return int(not all(found.get(mutant.name, {}).get("caught") for mutant in MUTANTS))


if __name__ == "__main__":
    sys.exit(main())
