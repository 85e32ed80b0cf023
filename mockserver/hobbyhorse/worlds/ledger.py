"""The ledger: what one key ordered, and what was billed; knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A job in the ledger: `usd` is what was billed; `billable` is what was billed or still may be.

    `duplicate_of` is an earlier billable job that ordered the same.
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
class Ledger:
    """What one key has ordered, oldest first: one click that became four jobs shows here."""

    entries: tuple[LedgerEntry, ...]

    @property
    def billable(self) -> int:
        """How many jobs were billed, or still may be."""
        return sum(entry.billable for entry in self.entries)

    @property
    def duplicates(self) -> int:
        """How many of them order what another one orders, too."""
        return sum(entry.duplicate_of is not None for entry in self.entries)

    @property
    def usd(self) -> Decimal:
        """What was billed."""
        return sum((entry.usd for entry in self.entries), Decimal(0))
