"""The result of a suite: the verdicts, and the share of the planned faults that the client met. Knows no server."""

from __future__ import annotations

from dataclasses import dataclass, field

from hobbyhorse.conformance.judge import BROKEN, Verdict


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the contract's single faults the client met.

    `unmet` faults were armed, but the client made no request that they apply to. `untried` faults were not armed,
    because no run was left.
    """

    met: int
    total: int
    unmet: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a suite on one client.

    `accepted` maps the rules of the baseline to its reasons; `stale` are the rules of the baseline that are not broken
    any more.
    """

    provider: str
    model: str
    client: str
    seed: int
    verdicts: tuple[Verdict, ...]
    coverage: Coverage
    runs: int
    seconds: float
    accepted: dict[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The verdicts of rules that are broken and not accepted."""
        return tuple(one for one in self.verdicts if one.verdict == BROKEN and one.rule.id not in self.accepted)

    @property
    def clean(self) -> bool:
        """Whether every broken rule is in the baseline, and no baseline entry is stale."""
        # A stale entry would hide the next time that the rule breaks.
        return not self.broken and not self.stale
