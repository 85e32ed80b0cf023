"""The contracts and the scenarios of a server as sources of a watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import Catalogue, ScenarioError, load_catalogue
from hobbyhorse.server.reloading.watch import ReloadError, Source, Watch

if TYPE_CHECKING:
    from hobbyhorse.server.app import Fake


def watch_of(
    fake: Fake,
    *,
    contracts: Path,
    read_contracts: Callable[[], Sequence[Contract]],
    report: Callable[[str], None],
    complain: Callable[[str], None],
    more: Sequence[Source[Any]] = (),
) -> Watch:
    """Return the watch of a server's contracts, which are in a directory, of its scenarios, and of more sources.

    `read_contracts` raises ReloadError.
    """
    # Otherwise the scenarios would be read by the first request that needs one, and could be broken by then.
    fake.catalogue()
    scenarios = (data_directory("fixtures") / "scenarios", *fake.options.scenarios)

    def read_scenarios() -> Catalogue:
        try:
            return load_catalogue(fake.options.scenarios)
        except ScenarioError as error:
            raise ReloadError(str(error)) from None

    return Watch(
        (
            Source("contracts", (contracts,), read_contracts, fake.adopt_contracts),
            Source("scenarios", scenarios, read_scenarios, fake.adopt_scenarios),
            *more,
        ),
        report,
        complain,
    )
