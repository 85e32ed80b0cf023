"""Test cases for a client that falls back from one provider to a second one, and the judgement of both. No server.

The first provider has faults, as for any client. The second one has faults only in cases in which the client turns to
it: the first provider then refuses the order, or its job fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.planning import REFUSED, simpler_scenarios, simplified, singles
from hobbyhorse.conformance.client.scenario_space import fits
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import PROVIDERS, Judgement, Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import FAILS
from hobbyhorse.scenarios.registry import name_used_for
from hobbyhorse.traces.annotated import AnnotatedTrace

# Ways to lead a client to its second provider that are tried: a failed job and some refusals. A client that turns to it
# after none of them has another reason to.
MOST_TURNS = 6
# The lowest status of a server's error, and refusals after which a client tries again or looks for an earlier job.
SERVER_ERROR, PASSING = 500, frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Half:
    """The trace of one provider, and its evidence about a rule."""

    trace: AnnotatedTrace
    judgement: Judgement


def check_halves(rule: Rule, halves: Sequence[AnnotatedTrace]) -> list[Half]:
    """Check each provider's traffic against a rule. If there are two providers, messages name theirs."""
    return [Half(one, _named(rule, one, check(rule, one))) for one in halves]


def _named(rule: Rule, trace: AnnotatedTrace, judgement: Judgement) -> Judgement:
    # A rule about two providers names them itself.
    if trace.partner is None or rule.channel == PROVIDERS:
        return judgement
    named = (replace(one, message=f"{trace.contract.key}: {one.message}") for one in judgement.breaches)
    return replace(judgement, breaches=tuple(named))


def turns(contract: Contract) -> list[Case]:
    """Return cases in which the first provider certainly has no job of the order, or only a failed one."""
    situations = contract.operations["submit"].situations.items()
    # After a rate limit, and other refusals for now, a client may try again at the same provider.
    refusals = [name for name, one in situations if REFUSED <= one.status < SERVER_ERROR and one.status not in PASSING]
    failing = Case({"timeline": {"move": name_used_for(FAILS)}})
    found = [failing, *(Case({"moves": {"submit": [{"move": name}]}}) for name in refusals)]
    return [case for case in found if fits(dict(case.scenario), contract)][:MOST_TURNS]


def second_cases(turn: Case, contract: Contract, used: Collection[str], repeated: Collection[str]) -> list[Case]:
    """Return the single faults of the second provider, each in a case in which the client turns to it."""
    return [replace(turn, second=one.scenario) for one in singles(contract, used, (), repeated)]


def simpler(case: Case, contracts: Sequence[Contract]) -> Iterator[Case]:
    """Yield the simpler neighbours of a case, at either provider; each is strictly smaller."""
    yield from simplified(case, contracts[0])
    for scenario in simpler_scenarios(dict(case.second)) if case.second else ():
        found = replace(case, second=scenario)
        if not scenario or fits(scenario, contracts[1]):
            yield found
