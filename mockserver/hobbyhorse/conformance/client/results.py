"""The result of a suite: the verdicts, and the share of the planned faults that the client met. Knows no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.shard import Shard
from hobbyhorse.conformance.exit_status import exit_status
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, Finding, InternalError, Verdict


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of the contract's single faults the client met.

    `unmet` faults were armed, but the client made no request that they apply to. `untried` faults were not armed,
    because no run was left. `reached` are the names of the faults that the client met.
    """

    met: int
    total: int
    unmet: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a suite on one client.

    `accepted` maps the findings of the baseline to its reasons; `stale` are the entries of the baseline that were not
    found any more. A suite that did not finish is `interrupted`, or has `errors`. `unfit` says why the client could be
    run against the faultless server only. `operations` names all findings, of which the report has the smallest ones.
    `notes` are remarks on the runs. `fit` says how the test cases were adapted to the client. `shard` is the part of a
    search that was split. `options` are the words that name the client to `conformance replay`, such as `--python
    client.py:generate`. The rules in `required` have to be observed; of a search that was split, in one of its shards.
    `unjudged` counts the runs without a verdict, by what the client used that virtual time does not cover.
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
    interrupted: bool = False
    errors: tuple[InternalError, ...] = ()
    unfit: str | None = None
    operations: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    fit: Fit = field(default_factory=Fit)
    shard: Shard | None = None
    options: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    unjudged: Mapping[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The verdicts of rules that are broken and not accepted."""
        return tuple(one for one in self.verdicts if one.verdict == BROKEN and not self._accepts(one))

    def _accepts(self, one: Verdict) -> bool:
        return one.rule.id in self.accepted or (
            bool(one.findings) and all(is_accepted(finding, self.accepted) for finding in one.findings)
        )

    @property
    def clean(self) -> bool:
        """Whether the suite finished, every finding is in the baseline, and no baseline entry is stale."""
        # A stale entry would hide the next time that the rule breaks.
        return not (self.broken or self.stale or self.interrupted or self.errors)

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        # A rule that one shard does not observe may be observed by another one.
        return self.status(self.required if self.shard is None else frozenset())

    def status(self, required: frozenset[str] = frozenset()) -> int:
        """Return the exit status. The rules in `required` have to be observed."""
        unobserved = {one.rule.id for one in self.verdicts if one.verdict == NOT_OBSERVED}
        return exit_status(
            interrupted=self.interrupted,
            internal_error=bool(self.errors),
            finding=bool(self.broken or self.stale),
            not_observed=bool(required & unobserved),
        )


def is_accepted(finding: Finding, accepted: Mapping[str, str]) -> bool:
    """Whether a baseline accepts a finding: by its rule, or by its rule and operation."""
    return why_accepted(finding, accepted) is not None


def why_accepted(finding: Finding, accepted: Mapping[str, str]) -> str | None:
    """Return the reason of the baseline for a finding, or None."""
    return accepted.get(finding.name, accepted.get(finding.rule))


def with_baseline(result: Result, baseline: Mapping[str, str]) -> Result:
    """Return the result with the findings in the baseline accepted, and the baseline's other observed entries stale."""
    broken = {one.rule.id for one in result.verdicts if one.verdict == BROKEN}
    observed = broken | {one.rule.id for one in result.verdicts if one.verdict == PASSED}
    found = {finding.name for one in result.verdicts for finding in one.findings} | broken | result.operations
    # A rule that was not observed in this run is neither: the client may still break it.
    stale = tuple(sorted(name for name in baseline if name not in found and name.partition("/")[0] in observed))
    return replace(result, accepted={name: why for name, why in baseline.items() if name in found}, stale=stale)
