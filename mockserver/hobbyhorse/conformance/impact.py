"""The costs of findings to a user: jobs that were paid for twice, and paid videos that were lost. Knows no server.

A trace has the provider's own list of jobs, and the contract has the prices. So the cost of a finding is that of the
test case that shows it: its smallest scenario, usually with the cheapest order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hobbyhorse.conformance.judge import Finding, Verdict
from hobbyhorse.conformance.rule import HARMS, MONEY, OTHER, SEVERITIES, VIDEO, Rule
from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.orders import order_of
from hobbyhorse.traces.trace import Trace

# The harms whose findings have a cost.
COSTLY = frozenset({MONEY, VIDEO})
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Cost:
    """The worst cost of one test case: submissions by the user, paid jobs, videos that reached the user, USD.

    `certain` means that the provider bills these jobs; else some may not have been made, or may not be billed.
    `at_most` is the same sum with the most expensive order of the model: of all jobs if there is more than one for a
    click, else of the lost ones.
    """

    clicks: int
    jobs: int
    videos: int
    usd: Decimal
    wasted: Decimal
    at_most: Decimal
    certain: bool = True

    @property
    def is_repeated(self) -> bool:
        """Whether there are more jobs than submissions by the user."""
        return self.jobs > self.clicks

    @property
    def shown(self) -> Decimal:
        """The sum that the clause names."""
        return self.usd if self.is_repeated else self.wasted

    def to_json(self) -> dict[str, Any]:
        """Return the cost as JSON; sums are texts, so that no reader rounds them."""
        counts = {"clicks": self.clicks, "jobs": self.jobs, "videos": self.videos, "certain": self.certain}
        sums = {"usd": self.usd, "wasted_usd": self.wasted, "at_most_usd": self.at_most}
        return counts | {name: money(sum_) for name, sum_ in sums.items()}

    def __str__(self) -> str:
        """Return the cost in one clause, such as `2 jobs for 1 click: 1.40 USD`."""
        if self.is_repeated:
            up_to = "" if self.certain else "up to "
            return f"{number_of(self.jobs, 'job')} for {number_of(self.clicks, 'click')}: {up_to}{money(self.usd)} USD"
        return f"{number_of(self.jobs - self.videos, 'paid video')} lost: {money(self.wasted)} USD"


@dataclass(frozen=True, slots=True)
class Amount:
    """The cost of a rule's findings in one clause, and the USD by which findings are ordered."""

    clause: str
    usd: Decimal


@dataclass(frozen=True, slots=True)
class HarmGroup:
    """The verdicts whose rules have the same harm, the most severe and expensive ones first."""

    harm: str
    verdicts: tuple[Verdict, ...]

    @property
    def title(self) -> str:
        """The heading of the group."""
        return HARMS[self.harm]


def cost_of(contracts: Sequence[Contract], rule: Rule, finding: Finding) -> Cost | None:
    """Return the cost of a finding; None if it costs nothing, or if the trace does not have the provider's jobs.

    `contracts` belong to the client's providers. If there are two, the jobs of both count.
    """
    halves = [finding.trace, *([finding.trace.partner] if finding.trace.partner is not None else [])]
    known = {contract.key: contract for contract in contracts}
    if rule.harm not in COSTLY or any(half.jobs is None or half.provider not in known for half in halves):
        return None
    annotated = [AnnotatedTrace(known[half.provider], half) for half in halves]
    billed = [price for one in annotated for price in _prices(one, is_worst=False)]
    # A rule about money looks at the worst case: a lost submission has made a job, and each job is billed.
    every = [price for one in annotated for price in _prices(one, is_worst=rule.harm == MONEY)]
    clicks = sum(1 for run in finding.trace.runs if not run.resumed)
    prices = sorted(every if len(every) > clicks else billed)
    videos = min(_videos(halves), len(prices), clicks)
    if videos == len(prices):
        return None
    lost = prices[videos:]
    dearest = max(_dearest(one) for one in annotated) * (len(prices) if len(prices) > clicks else len(lost))
    sums = sum(prices, Decimal(0)), sum(lost, Decimal(0)), dearest
    return Cost(clicks, len(prices), videos, *sums, certain=len(prices) == len(billed))


def _prices(trace: AnnotatedTrace, is_worst: bool) -> list[Decimal]:
    """Return the prices of the billed jobs; in the worst case, of all jobs that may have been made."""
    jobs = trace.trace.jobs or ()
    if not is_worst:
        return [_price(trace, job.id) for job in jobs if job.billable]
    return [_price(trace, job) for job in (*(job.id for job in jobs), *_maybe_made(trace))]


def _dearest(trace: AnnotatedTrace) -> Decimal:
    model = trace.contract.model(trace.trace.model) if trace.trace.model is not None else None
    return worst(trace.contract, model)


def _videos(halves: Sequence[Trace]) -> int:
    """Return the number of runs that returned a paid video."""
    films = {job.sha256 for half in halves for job in half.jobs or () if job.billable}
    outcomes = [run.outcome for run in halves[0].runs if run.outcome is not None and run.outcome.kind == "success"]
    # A success without a checksum may have any video; one with another checksum has none of the paid ones.
    return sum(1 for outcome in outcomes if outcome.sha256 is None or outcome.sha256 in films)


def _maybe_made(trace: AnnotatedTrace) -> list[str]:
    """Return a name for each submission that may have made a job that the provider does not list."""
    known = {job.id for job in trace.trace.jobs or ()}
    unclear = (step for step in trace.submits if step.ambiguous and step.exchange.made not in known)
    # A repetition with the same key and body makes no second job.
    return [
        f"request {step.number}"
        for step in unclear
        if not any(trace.same(step, other) for other in trace.after(step, trace.submits))
    ]


def _price(trace: AnnotatedTrace, job: str) -> Decimal:
    """Return the price of a job; of one whose submission cannot be read, the price of any other submission."""
    made = [step for step in trace.submits if job in (step.exchange.made, step.job_told)]
    for step in (*made, *trace.submits):
        order = order_of(trace, step)
        if order is not None:
            return order.model.cost(order.resolution, order.seconds)
    return Decimal(0)


def grouped(verdicts: Iterable[Verdict], amounts: Mapping[str, Amount] | None = None) -> tuple[HarmGroup, ...]:
    """Return verdicts in groups by harm: money first; within a group, by severity, then by amount (by rule)."""
    amounts, severities = amounts or {}, list(SEVERITIES)

    def rank(one: Verdict) -> tuple[int, Decimal]:
        amount = amounts.get(one.rule.id)
        return severities.index(one.rule.severity), -(amount.usd if amount is not None else Decimal(0))

    by_harm: dict[str, list[Verdict]] = {harm: [] for harm in HARMS}
    for one in verdicts:
        by_harm[one.rule.harm if one.rule.harm in HARMS else OTHER].append(one)
    return tuple(HarmGroup(harm, tuple(sorted(found, key=rank))) for harm, found in by_harm.items() if found)


def costs_of(contracts: Sequence[Contract], verdicts: Iterable[Verdict]) -> dict[str, Cost]:
    """Return the greatest cost of each rule's findings, by rule; rules whose findings cost nothing are left out."""
    found: dict[str, Cost] = {}
    for one in verdicts:
        costs = [cost for finding in one.findings if (cost := cost_of(contracts, one.rule, finding)) is not None]
        if costs:
            found[one.rule.id] = max(costs, key=lambda cost: (cost.wasted, cost.usd))
    return found


def amounts_of(costs: Mapping[str, Cost]) -> dict[str, Amount]:
    """Return costs as amounts, by rule."""
    return {rule: Amount(str(cost), cost.wasted) for rule, cost in costs.items()}


def headline(broken: Sequence[Verdict], costs: Mapping[str, Cost]) -> str:
    """Return the first line of a report: the worst cost, and the number of broken rules of each harm."""
    if not broken:
        return "no finding"
    groups = [f"{len(group.verdicts)} {group.title.lower()}" for group in grouped(broken)]
    count = f"{number_of(len(broken), 'rule')} broken: {', '.join(groups)}"
    costly = [(costs[one.rule.id], one.rule.id) for one in broken if one.rule.id in costs]
    if not costly:
        return count
    # Paying twice is worse than an equally expensive loss: it repeats with every click.
    cost, rule = max(costly, key=lambda pair: (pair[0].wasted, pair[0].is_repeated, pair[0].certain))
    more = f", up to {money(cost.at_most)} USD with the most expensive order" if cost.at_most > cost.shown else ""
    return f"{cost} ({rule}){more}; {count}"


def price_note(contract: Contract) -> str | None:
    """Return the reason if the contract's prices are assumptions, else None."""
    for number in range(len(contract.models)):
        found = contract.assumption(f"lifecycle.json#/models/{number}/price")
        if found is not None:
            return f"The price is an assumption. {found.why}"
    return None


def money(sum_: Decimal) -> str:
    """Return a sum with cents, or with more digits if they are not zero."""
    # A price per second may have fractions of a cent; rounding them would hide the sum that was reserved.
    return f"{sum_:.2f}" if sum_ == sum_.quantize(CENT) else format(sum_.normalize(), "f")


def number_of(number: int, thing: str) -> str:
    """Return a number with its thing, in the plural unless the number is 1."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
