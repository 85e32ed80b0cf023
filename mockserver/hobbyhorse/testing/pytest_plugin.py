"""The pytest fixture `hobbyhorse`: a new world on a server that the whole session shares."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from hobbyhorse.worlds.mistakes import COMPLAINTS

# pytest loads this plugin in every session where hobbyhorse is installed: it must not import the server.
if TYPE_CHECKING:
    from hobbyhorse.testing.local import MockServer
    from hobbyhorse.testing.remote import RemoteServer
    from hobbyhorse.testing.world import AnyWorld

MARKER = "hobbyhorse"
SERVER = ("clock", "pace", "speed", "seed", "strict")
MARKER_OPTIONS = (*SERVER, "scenario", "jobs", "limits", "complain")
FAILED_KEY = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for a running server, and the setting of the complaints."""
    group = parser.getgroup("hobbyhorse")
    group.addoption("--hobbyhorse-url", metavar="URL", help="use this running server instead of starting one")
    group.addoption("--hobbyhorse-control-key", metavar="KEY", help="the control key of that server, if it has one")
    parser.addini(
        "hobbyhorse_complain",
        f"the complaints ({', '.join(COMPLAINTS)}) that fail a test with the fixture `hobbyhorse`; empty: none",
        type="args",
        default=list(COMPLAINTS),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(scenario=None, jobs=1, pace='fast', clock='real', speed=1.0, seed=0, strict=True, limits=None, "
        "complain=True): options of the fixture `hobbyhorse`, and the complaints that fail the test",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Record whether a test has failed, so that complaints do not hide its own reason."""
    yield
    if call.excinfo is not None:
        item.stash[FAILED_KEY] = True


@pytest.fixture(scope="session")
def hobbyhorse_servers(request: pytest.FixtureRequest) -> Iterator[dict[tuple[Any, ...], MockServer | RemoteServer]]:
    """The servers of the session, one for each set of options."""
    servers: dict[tuple[Any, ...], MockServer | RemoteServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def hobbyhorse(
    request: pytest.FixtureRequest, hobbyhorse_servers: dict[tuple[Any, ...], MockServer | RemoteServer]
) -> Iterator[AnyWorld]:
    """A new world on a running server; complaints fail the test in its teardown."""
    wanted = _wanted(request)
    complain = wanted.pop("complain", True)
    scenarios, jobs, limits = wanted.pop("scenario", ()), wanted.pop("jobs", 1), wanted.pop("limits", None)
    # Tests with the same options share a server: starting one costs more than most tests.
    kind = tuple(sorted(wanted.items()))
    if kind not in hobbyhorse_servers:
        url = request.config.getoption("--hobbyhorse-url")
        if url:
            from hobbyhorse.testing.remote import RemoteServer  # noqa: PLC0415 - 100 ms, rarely used

            control_key = request.config.getoption("--hobbyhorse-control-key")
            hobbyhorse_servers[kind] = RemoteServer(url, control_key=control_key, **wanted)
        else:
            from hobbyhorse.testing.local import MockServer  # noqa: PLC0415 - 300 ms, for sessions that use it

            hobbyhorse_servers[kind] = MockServer(**wanted).start()
    world: AnyWorld = hobbyhorse_servers[kind].world()
    if limits:
        world.limit(**limits)
    for scenario in [scenarios] if isinstance(scenarios, str | Mapping) else scenarios:
        world.arm(scenario, jobs=jobs)
    yield world
    about = _about(request, complain)
    complaints = world.complaints(about) if about else []
    if not complaints:
        return
    # A failed test keeps its own reason; the complaints become a section of its report.
    if request.node.stash.get(FAILED_KEY, False):
        request.node.add_report_section("teardown", MARKER, "\n".join(complaints))
    else:
        allowed = (
            f"to choose what fails a test: @pytest.mark.{MARKER}(complain=...) with any of {', '.join(COMPLAINTS)}"
        )
        pytest.fail(
            "\n".join(["hobbyhorse saw what this test most likely did not intend:", *complaints, allowed]),
            pytrace=False,
        )


def _wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of a test's marks; the closest mark wins."""
    wanted: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(MARKER))):
        wanted |= mark.kwargs
    if unknown := sorted(set(wanted) - set(MARKER_OPTIONS)):
        raise pytest.UsageError(
            f"@pytest.mark.{MARKER} has no option {unknown[0]!r}; allowed: {', '.join(MARKER_OPTIONS)}"
        )
    return wanted


def _about(request: pytest.FixtureRequest, complain: bool | str | Collection[str]) -> Collection[str]:
    """Return the complaints that fail a test."""
    if complain is False:
        return ()
    names = request.config.getini("hobbyhorse_complain") if complain is True else complain
    names = (names,) if isinstance(names, str) else tuple(names)
    if unknown := sorted(set(names) - set(COMPLAINTS)):
        raise pytest.UsageError(f"there is no complaint {unknown[0]!r}; allowed: {', '.join(COMPLAINTS)}")
    return names
