"""The costs of findings: jobs that were paid for twice, paid videos that were lost, and the first line of a report."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from hobbyhorse.conformance.impact import (
    Amount,
    Cost,
    amounts_of,
    cost_of,
    costs_of,
    grouped,
    headline,
    money,
    number_of,
    price_note,
)
from hobbyhorse.conformance.judge import BROKEN, Finding, Verdict
from hobbyhorse.conformance.rule import HARMS, MONEY, OTHER, SECURITY, VIDEO, Breach, Rule
from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.orders import order_of
from tests.conftest import CONTRACTS
from tests.judging import assuming, knowing, made_up, teller
from tests.tracing import Teller

ONE = Cost(1, 2, 1, Decimal("1.40"), Decimal("0.70"), Decimal("14"))


def price(contract: Contract) -> Decimal:
    """Return the price of the cheapest order of the first model."""
    told = teller(contract).submit()
    order = order_of(told.story(), told.story().submits[0])
    assert order is not None
    return order.model.cost(order.resolution, order.seconds)


def cost(contract: Contract, told: Teller, harm: str = MONEY) -> Cost | None:
    rule = made_up("XXX-01", harm=harm)
    trace = replace(told.trace(), model=contract.models[0].id)
    return cost_of([contract], rule, Finding(rule.id, (Breach("wrong"),), trace))


def test_a_finding_at_another_provider_has_no_price_of_this_one(contract: Contract) -> None:
    told = teller(contract).nothing("submit", made="one", body=b"").submit(job="two").end("success")
    trace = told.made(job="one").made(job="two").trace()
    rule = made_up("XXX-01", harm=MONEY)
    found = [replace(trace, provider=key) for key in (contract.key, "another")]
    costs = [cost_of([contract], rule, Finding(rule.id, (Breach("wrong"),), one)) for one in found]
    assert [one is None for one in costs] == [False, True]


def test_two_jobs_for_one_click_cost_twice_the_price(contract: Contract) -> None:
    told = teller(contract).nothing("submit", made="one", body=b"").submit(job="two").end("success")
    told.made(job="one").made(job="two")
    each = price(contract)
    found = cost(contract, told)
    assert found == Cost(1, 2, 1, 2 * each, each, 2 * worst(contract, contract.models[0]))
    assert str(found) == f"2 jobs for 1 click: {money(2 * each)} USD"
    assert found.to_json() == {
        "clicks": 1,
        "jobs": 2,
        "videos": 1,
        "usd": money(2 * each),
        "wasted_usd": money(each),
        "at_most_usd": money(2 * worst(contract, contract.models[0])),
        "certain": True,
    }


def test_in_the_worst_case_a_lost_submission_has_made_a_job(contract: Contract) -> None:
    told = teller(contract).nothing("submit", body=b"").submit(job="two").end("success").made(job="two")
    found = cost(contract, told)
    assert found is not None
    assert (found.jobs, found.certain) == (2, False)
    assert str(found) == f"2 jobs for 1 click: up to {money(2 * price(contract))} USD"
    assert cost(contract, told, VIDEO) is None


def test_in_the_worst_case_a_job_that_failed_is_billed(contract: Contract) -> None:
    told = teller(contract).submit(job="one").submit(job="two").end("success")
    found = cost(contract, told.made("failure", job="one", billable=False).made(job="two"))
    assert found is not None
    assert (found.jobs, found.certain) == (2, False)


def test_a_repetition_that_the_provider_replays_makes_no_second_job(contract: Contract) -> None:
    lost = {"status": 0, "whole": False, "answered": None, "made": None}
    told = teller(contract).submit(None, job=None, **lost).submit(job="two").end("success")
    found = cost(contract, told.made(job="two"))
    assert (found is None) is (contract.idempotency.mode == "replay")


def test_a_paid_job_without_a_video_is_lost(contract: Contract) -> None:
    told = teller(contract).submit().end("timeout").made()
    found = cost(contract, told, VIDEO)
    assert str(found) == f"1 paid video lost: {money(price(contract))} USD"


def test_a_success_with_another_file_than_the_paid_ones_has_no_video(contract: Contract) -> None:
    told = teller(contract).submit().end("success", sha256="page").made(sha256="film")
    assert cost(contract, told, VIDEO) is not None
    assert cost(contract, teller(contract).submit().end("success", sha256="film").made(sha256="film"), VIDEO) is None


def test_a_restarted_run_is_the_same_click(contract: Contract) -> None:
    told = teller(contract).submit(job="one").restart().submit(job="two").end("success")
    told.made(job="one").made(job="two")
    found = cost(contract, told)
    assert found is not None
    assert (found.clicks, found.jobs) == (1, 2)


def test_a_job_that_is_not_billed_a_rule_about_load_and_recorded_traffic_cost_nothing(contract: Contract) -> None:
    assert cost(contract, teller(contract).submit().end("failed").made("failure", billable=False)) is None
    lost = teller(contract).submit().end("timeout").made()
    assert cost(contract, lost, OTHER) is None
    assert cost(contract, lost, SECURITY) is None
    rule = made_up("XXX-01", harm=MONEY)
    recorded = replace(lost.trace(), jobs=None)
    assert cost_of([contract], rule, Finding(rule.id, (Breach("wrong"),), recorded)) is None


def test_an_amount_is_the_clause_of_a_cost_and_the_lost_sum() -> None:
    assert amounts_of({"AAA-01": ONE}) == {"AAA-01": Amount("2 jobs for 1 click: 1.40 USD", Decimal("0.70"))}


@pytest.mark.skipif(len(CONTRACTS) < 2, reason="needs two providers")
def test_the_jobs_of_both_providers_count() -> None:
    first, second = CONTRACTS[:2]
    lost = teller(first).nothing("submit", made="one", body=b"").submit(None, status=500, job=None, made=None)
    lost.end("success").made(job="one")
    partner = replace(teller(second).submit(job="two").end("success").made(job="two").trace(), rank=1)
    rule = made_up("XXX-01", harm=MONEY)
    finding = Finding(rule.id, (Breach("wrong"),), replace(lost.trace(), partner=partner))
    found = cost_of([first, second], rule, finding)
    assert found is not None
    # The job of each provider, and the one that the second attempt may have made.
    assert (found.clicks, found.jobs, found.certain) == (1, 3, False)
    assert found.usd == 2 * price(first) + price(second)
    assert cost_of([first], rule, finding) is None


def broken(id: str, harm: str, severity: str = "S1") -> Verdict:
    return Verdict(made_up(id, harm=harm, severity=severity), BROKEN)


def ids(rules: tuple[Verdict, ...]) -> list[str]:
    return [one.rule.id for one in rules]


def test_groups_have_money_first_and_the_most_severe_and_expensive_rules_first() -> None:
    verdicts = [
        broken("AAA-01", OTHER),
        broken("AAA-02", VIDEO, "S2"),
        broken("AAA-03", MONEY, "S2"),
        broken("AAA-04", MONEY),
        broken("AAA-05", MONEY),
        broken("AAA-06", SECURITY),
    ]
    groups = grouped(reversed(verdicts), amounts_of({"AAA-05": ONE}))
    assert [group.harm for group in groups] == list(HARMS)
    assert ids(groups[0].verdicts) == ["AAA-05", "AAA-04", "AAA-03"]
    assert [group.title for group in grouped([verdicts[1]])] == ["Lost or wrong video"]


def test_the_first_line_has_the_worst_cost_and_the_broken_rules_by_harm() -> None:
    verdicts = [broken("AAA-01", VIDEO), broken("AAA-02", MONEY), broken("AAA-03", MONEY)]
    loss = Cost(1, 1, 0, Decimal("0.70"), Decimal("0.70"), Decimal("0.70"))
    count = "3 rules broken: 2 money, 1 lost or wrong video"
    assert headline([], {}) == "no finding"
    assert headline(verdicts, {}) == count
    assert headline(verdicts, {"AAA-01": loss}) == f"1 paid video lost: 0.70 USD (AAA-01); {count}"
    # Of equal sums, that of a second job.
    paid = "2 jobs for 1 click: 1.40 USD (AAA-03), up to 14.00 USD with the most expensive order"
    assert headline(verdicts, {"AAA-01": loss, "AAA-03": ONE}) == f"{paid}; {count}"


def test_the_greatest_cost_of_a_rule_counts(contract: Contract) -> None:
    rule: Rule = made_up("XXX-01", harm=MONEY)
    one = teller(contract).submit().end("timeout").made()
    two = teller(contract).submit(job="one").submit(job="two").end("timeout").made(job="one").made(job="two")
    findings = tuple(Finding(rule.id, (Breach("wrong"),), told.trace()) for told in (one, two))
    found = costs_of([contract], [Verdict(rule, BROKEN, 2, 2, findings)])
    assert found[rule.id].jobs == 2
    assert costs_of([contract], [Verdict(rule, BROKEN)]) == {}


def test_an_assumed_price_is_said_to_be_one(contract: Contract) -> None:
    assert price_note(knowing(contract)) is None
    note = price_note(assuming(contract, "lifecycle.json#/models/0/price"))
    assert note == "The price is an assumption. the documents do not say"


def test_an_order_that_cannot_be_read_costs_nothing_known(contract: Contract) -> None:
    told = Teller(contract, order_for(contract, contract.models[0])).submit(body=b"{").end("timeout").made()
    found = cost(contract, told)
    assert found is not None
    assert found.usd == 0


@pytest.mark.parametrize(
    ("sum_", "text"), [("0.42", "0.42"), ("5", "5.00"), ("0.1425", "0.1425"), ("0.14250", "0.1425")]
)
def test_sums_have_cents_and_more_only_where_they_need_it(sum_: str, text: str) -> None:
    assert money(Decimal(sum_)) == text


def test_a_number_of_things_has_a_plural() -> None:
    assert [number_of(number, "job") for number in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
