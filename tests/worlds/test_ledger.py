"""The ledger: what is billable, what was billed, and which orders repeat an earlier one."""

from __future__ import annotations

from decimal import Decimal

from hobbyhorse.worlds.ledger import Ledger, LedgerEntry


def entry(job: str, stage: str, usd: str = "0", duplicate_of: str | None = None) -> LedgerEntry:
    billed, lost = stage == "success", stage == "fail"
    return LedgerEntry(job, "acme", "model", 0.0, stage, Decimal(usd), billed, not lost, duplicate_of)


def test_an_empty_ledger_is_worth_nothing() -> None:
    assert (Ledger(()).billable, Ledger(()).duplicates, Ledger(()).usd) == (0, 0, Decimal(0))


def test_jobs_under_way_are_billable_and_only_billed_ones_cost() -> None:
    ledger = Ledger(
        (entry("a", "success", "1.40"), entry("b", "queued"), entry("c", "fail"), entry("d", "success", "0.1", "a"))
    )
    assert (ledger.billable, ledger.duplicates, ledger.usd) == (3, 1, Decimal("1.50"))
