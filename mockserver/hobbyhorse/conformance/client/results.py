"""What a run of the suite came to: the verdicts, and how much of what was planned was met. Knows no server."""

from __future__ import annotations

from dataclasses import dataclass, field

from hobbyhorse.conformance.client.judge import BROKEN, Verdict


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the single deviations that a contract allows were met by the client, and which were not.

    The client did not come to those that are `unmet`; for the `untried` ones no run was left.
    """

    met: int
    total: int
    unmet: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What the suite found: `client` says who was tested, `runs` how often it ran, `seconds` how long that took.

    `accepted` are the rules whose findings are known, with the reason; `stale` are those that are known and not found.
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
        """Whether nothing is broken but what is accepted, and everything that is accepted was found."""
        return not self.broken and not self.stale
