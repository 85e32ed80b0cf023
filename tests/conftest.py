"""Fixtures and settings of all tests. The contracts under test are found by listing their directory."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hobbyhorse.cli import main as cli
from hobbyhorse.contract.folder import data_directory, load_all
from hobbyhorse.contract.values import Contract
from tests.world import HTTP, MADE

pytest_plugins = ["pytester"]

# The project's contracts, unless a test of made-up ones runs this suite with its own.
DIRECTORY = Path(os.environ.get("HOBBYHORSE_TEST_CONTRACTS") or data_directory("contracts"))
CONTRACTS = load_all(DIRECTORY)
ROOT = Path(__file__).resolve().parent.parent
# Set for a run that may take hours: all cases of all tests, and larger numbers of examples.
NIGHT = bool(os.environ.get("HOBBYHORSE_NIGHT"))
# Of each test, each n-th case is enough for a second environment, as that of the lowest versions is.
EACH = int(os.environ.get("HOBBYHORSE_EACH", "1"))


def many(by_night: int, by_day: int) -> int:
    """Return the number of examples for a test that finds more with more of them."""
    return by_night if NIGHT else by_day


settings.register_profile(
    "project",
    max_examples=many(100, 30),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


# Slow files. Unless HOBBYHORSE_NIGHT is set, a run of the whole suite has only each n-th case of their tests. The first
# case of each test always runs, and so does a test without cases.
BY_DAY = {
    "conformance/client/test_scenario_space.py": 4,
    "conformance/test_strategies.py": 3,
    "conformance/server/test_bodies.py": 4,
    "conformance/server/pictures/test_orders.py": 3,
    "contract/authoring/test_upgrade.py": 4,
    "cli/commands/test_contracts_lint.py": 2,
    "cli/commands/test_demo.py": 2,
    "cli/commands/test_health.py": 2,
    "cli/commands/test_serve.py": 2,
    "cli/commands/test_video.py": 2,
    "contract/test_generate.py": 5,
    "conformance/server/test_suite.py": 6,
    "contract/test_lint.py": 3,
    "contract/test_roundtrip.py": 4,
    "server/control/test_app.py": 2,
    "server/control/test_handlers.py": 2,
    "test_examples.py": 5,
    "server/files/test_image_checks.py": 2,
    "server/files/test_image_store.py": 2,
    "media/test_video.py": 4,
    "test_broken_clients.py": 10,
    "test_broken_programs.py": 3,
    "proxy/test_live_judge.py": 2,
    "proxy/test_proxy.py": 2,
    "server/test_world_trace.py": 4,
    "test_scenario_catalogue.py": 3,
    "test_schemathesis.py": 2,
    "test_two_providers.py": 3,
    "test_variations.py": 2,
    "server/test_run.py": 2,
    "test_made_up_provider.py": 2,
    "conformance/client/test_search.py": 4,
    "test_broken_servers.py": 10,
    "server/test_trouble.py": 3,
    "runners/test_hostile_clients.py": 2,
    "runners/test_patches.py": 2,
    "runners/test_virtual_time.py": 2,
}
# A run of more tests than this is one of the whole suite. Fewer are a selection, of which each case is meant.
WHOLE_SUITE = 2_000
# The files with the longest tests. They start first: otherwise one process would still run them after the others ended.
LONG = {
    "test_reference_clients.py",
    "test_made_up_provider.py",
    "test_docs.py",
    "runners/test_against_fake.py",
    "runners/test_client_suite.py",
    "runners/test_process_pool.py",
}


def _file(item: pytest.Item) -> str:
    """Return the path of a test's file, relative to `tests/`; empty for a file elsewhere."""
    return _in_tests(item.path)


@cache
def _in_tests(path: Path) -> str:
    return path.relative_to(ROOT / "tests").as_posix() if path.is_relative_to(ROOT / "tests") else ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, from a run of the whole suite, the cases that only a night run has time for."""
    if NIGHT or len(items) < WHOLE_SUITE:
        return
    seen: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        test, cases, _ = item.nodeid.partition("[")
        # Of tests without cases, each second one of a file is enough for a second environment.
        group, share = (test, max(EACH, BY_DAY.get(_file(item), 1))) if cases else (_file(item), min(EACH, 2))
        (deselected if seen[group] % share else kept).append(item)
        seen[group] += 1
    config.hook.pytest_deselected(items=deselected)
    items[:] = _spread(kept, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _spread(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order in which each of `workers` equal parts begins with long ones."""
    early = [item for item in items if _file(item) in LONG]
    rest = [item for item in items if _file(item) not in LONG]
    found: list[pytest.Item] = []
    for at in range(workers):
        found += rest[len(rest) * at // workers :][:workers]  # a margin: the parts are not quite equal
        found += early[at::workers]
        found += rest[len(rest) * at // workers + workers : len(rest) * (at + 1) // workers]
    return found


def contracts_that(are_meant: Callable[[Contract], bool]) -> pytest.MarkDecorator:
    """Parametrize a test by the contracts that it applies to, instead of skipping the others."""
    meant = [contract for contract in CONTRACTS if are_meant(contract)]
    assert meant or "HOBBYHORSE_TEST_CONTRACTS" in os.environ, "a test that applies to no contract proves nothing"
    return pytest.mark.parametrize("contract", meant, ids=lambda contract: contract.key)


def documented(contract: Contract) -> Contract:
    """Return a contract as if documents had all of it, so that clients can know its polling times."""
    return replace(contract, assumptions=())


@pytest.fixture(params=CONTRACTS, ids=lambda contract: contract.key)
def contract(request: pytest.FixtureRequest) -> Contract:
    """Each contract of the project. A new provider is tested as soon as its directory exists."""
    found: Contract = request.param
    return found


@dataclass(frozen=True)
class Done:
    """The exit status and output of a command."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, on a terminal wide enough that no line wraps."""
    monkeypatch.setenv("COLUMNS", "10000")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["hobbyhorse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, printed.out, printed.err)

    return run


@pytest.fixture
def contracts_directory() -> Path:
    return DIRECTORY


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, which the server uses."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _close_mocks() -> Iterator[None]:
    """Close the test clients that a test has opened."""
    yield
    while MADE:
        MADE.pop().close()


@pytest.fixture(autouse=True, scope="session")
def _close_http() -> Iterator[None]:
    """Close the shared HTTP client."""
    yield
    HTTP.close()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache directory out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
