"""Hunt the broken clients, store the findings in caught.json, and regenerate docs/rules.md.

Names of rules or mutants restrict the hunt to these. `--page` only regenerates the page. `--whole` continues after the
rule is broken, to show which other rules the mutant breaks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from functools import partial

from .hunt import hunted
from .mutants import MUTANTS
from .page import CAUGHT, PAGE, caught, page, summary


def main() -> int:
    """Hunt, and print the result for each mutant; return 1 if one was not caught."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    whole = "--whole" in sys.argv
    names = [one.name for one in MUTANTS if not wanted or one.rule in wanted or one.name in wanted]
    found = caught()
    if "--page" in sys.argv:
        names = []
    # Spawned, and one process per mutant: each patches modules and compiles a client, which must not affect the next.
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for name, one in pool.imap_unordered(partial(hunted, whole=whole), names):
            others = one.pop("others")
            found[name] = one
            word = "caught" if one["caught"] else "NOT CAUGHT"
            CAUGHT.write_text(json.dumps(found, indent=1) + "\n")
            print(
                f"{name}: {word} after {one['runs']} runs",
                *(f"    also {other}" for other in others),
                sep="\n",
                flush=True,
            )
    known = [one.name for one in MUTANTS]
    found = {name: found[name] for name in known if name in found}
    CAUGHT.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(found))
    print(summary(found))
    return int(not all(one["caught"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
