"""Run the server suite on one mutant, until its first finding."""

from __future__ import annotations

import logging
from typing import Any

from hobbyhorse.conformance.server.results import ServerResult

from .mutant import Mutant
from .plan import mutants_of, source
from .serving import run_suite

FOUND, LESSON, SURVIVED = "found", "lesson", "survived"
# The fake cannot serve such a contract; the plan has none.
CRASHED = "crashed"
# Recorded in place of a rule if the suite says why it could judge nothing.
UNJUDGED = "unjudged"
# Characters of a message that are kept: enough to recognise it.
MOST_SAID = 160


def judged(mutant: Mutant) -> dict[str, Any]:
    """Run the suite on a mutant, and return the result as JSON."""
    try:
        return summary(run_suite(source(mutant.provider).contract, mutant.make()))
    except Exception as error:
        return {"result": CRASHED, "said": f"{type(error).__name__}: {error}"[:MOST_SAID]}


def summary(result: ServerResult) -> dict[str, Any]:
    """Return whether a result has a finding, has lessons only, or has neither."""
    if result.unjudged is not None:
        # The suite ends with another exit status than 0, and with a sentence that names the reason.
        return {"result": FOUND, "rules": [UNJUDGED], "said": result.unjudged[:MOST_SAID]}
    broken = [(one.rule.id, one.breaches[0].message) for one in result.verdicts if one.breaches]
    if broken:
        return {"result": FOUND, "rules": [rule for rule, _ in broken], "said": broken[0][1][:MOST_SAID]}
    if result.lessons:
        rules = list(dict.fromkeys(one.rule for one in result.lessons))
        return {"result": LESSON, "rules": rules, "said": result.lessons[0].message[:MOST_SAID]}
    return {"result": SURVIVED}


def begin() -> None:
    """Prepare a worker process."""
    # uvicorn reports the requests that are cut off when a mutant hangs.
    logging.disable()


def by_key(which: tuple[str, str]) -> tuple[tuple[str, str], dict[str, Any]]:
    """Run the mutant of a provider with a key; the function of the worker processes."""
    provider, key = which
    return which, judged(mutants_of(provider)[key])
