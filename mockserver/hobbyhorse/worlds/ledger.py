"""The ledger of one key: its jobs, their costs, and the duplicates among them. No HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One job. `usd` is the billed amount; the job is `billable` unless it ended without success.

    `duplicate_of` is an earlier billable job of the same order.
    """

    job: str
    provider: str
    model: str
    created: float
    stage: str
    usd: Decimal
    billed: bool
    billable: bool
    duplicate_of: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of one key, over all its jobs: see the properties of `Ledger`."""

    billable: int
    duplicates: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Ledger:
    """The jobs of one key, oldest first. It reveals, for example, one click that became four billed jobs."""

    entries: tuple[LedgerEntry, ...]

    @property
    def billable(self) -> int:
        """The number of jobs that were billed or still may be."""
        return sum(entry.billable for entry in self.entries)

    @property
    def duplicates(self) -> int:
        """The number of jobs that repeat an earlier billable order."""
        return sum(entry.duplicate_of is not None for entry in self.entries)

    @property
    def usd(self) -> Decimal:
        """The amount that was billed."""
        # From Decimal(0): an empty sum would be the integer 0.
        return sum((entry.usd for entry in self.entries), Decimal(0))
