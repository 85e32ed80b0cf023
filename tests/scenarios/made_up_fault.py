"""Uses a fault that only its own module names, and prints where it appears and what it does, as JSON.

`test_registry` runs this in a process whose folder of faults has one more module.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO

from hobbyhorse import MockServer
from hobbyhorse.cli import main as cli
from hobbyhorse.conformance.client.planning import singles
from hobbyhorse.conformance.client.scenario_space import deviations
from hobbyhorse.scenarios import reference
from hobbyhorse.scenarios.scenario import ScenarioError, read_scenario
from tests.conftest import CONTRACTS
from tests.raw_client import RawClient
from tests.scenario_reference import derived
from tests.world import Mock, documented

NAME = "stutter"
CONTRACT = CONTRACTS[0]
SCENARIO = {"moves": {"status": [{"move": NAME, "beats": 3}]}}


def listed() -> str:
    """Return the list of faults that the command prints."""
    sys.argv = ["hobbyhorse", "scenarios", "--faults"]
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        cli.main()
    return printed.getvalue()


def refused(scenario: object) -> str:
    """Return the reason why a scenario is refused."""
    try:
        read_scenario(scenario)
    except ScenarioError as error:
        return str(error)
    return ""


def wire() -> list[object]:
    """Return how two requests for the status of a job end on a socket, under the fault and after it."""
    with MockServer(CONTRACTS, pace="fast") as server:
        world = server.world()
        world.arm(SCENARIO)
        operation, model, body = documented(CONTRACT)
        headers = {"Authorization": f"Bearer {world.api_key}", "Content-Type": "application/json"}
        path = operation.path
        for place in operation.bindings["model"].request if "model" in operation.bindings else ():
            path = path.replace("{" + place.name + "}", model.id)
        base = f"{server.url}/{CONTRACT.key}"
        with RawClient(operation.method, base + path, headers, json.dumps(body).encode()) as client:
            assert client.read().status in (200, 201, 202), client.seen
        (job,) = server.run(lambda: list(world._world.jobs))
        status = CONTRACT.operations["status"]
        (place, *_) = status.bindings["job"].request
        ends: list[object] = []
        for _ in range(2):
            with RawClient("GET", base + status.path.replace("{" + place.name + "}", job), headers) as client:
                seen = client.read()
                ends.append([seen.end, seen.status, len(seen.body) < seen.length])
        return [ends, [exchange.move for exchange in server.run(lambda: list(world._world.journal))]]


async def in_process() -> str:
    """Return the error of a request in process."""
    mock = Mock([CONTRACT])
    job = await mock.submit(CONTRACT)
    mock.world.scenarios.arm(read_scenario(SCENARIO), [CONTRACT])
    found = mock.world.jobs[job]
    found.active_scenario = mock.world.scenarios.begin(mock.world.scenarios.armed[0], CONTRACT)
    try:
        await mock.call_plain(CONTRACT, "status", path={"job": job})
    except ConnectionError as error:
        return str(error)
    return ""


def report() -> dict[str, object]:
    """Return where the fault appears, and what it does."""
    schema = reference.schema()["$defs"]["move"]["properties"]
    texts = {path.name: text for path, text in derived().items()}
    cases = [str(case) for case in singles(CONTRACT, ["submit", "status"], (), ["status"])]
    return {
        "schema": schema.get("beats"),
        "schema file": '"beats"' in texts["scenario.schema.json"],
        "page": [line for line in texts["scenarios.md"].splitlines() if NAME in line or "`beats`" in line],
        "listed": [line for line in listed().splitlines() if NAME in line],
        "refused": [
            refused({"moves": {"status": [{"move": NAME, **more}]}}) for more in ({"beats": 99}, {"keep": 0.5}, {})
        ],
        "search": [scenario for scenario in deviations(CONTRACT) if NAME in json.dumps(scenario)],
        "planned": [case for case in cases if NAME in case and "status" in case],
        "wire": wire(),
        "in process": asyncio.run(in_process()),
    }


if __name__ == "__main__":
    print(json.dumps(report()))
