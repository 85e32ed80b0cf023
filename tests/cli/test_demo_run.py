"""A documented job over HTTP: its calls and stages, and the error for each wrong response."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hobbyhorse import MockServer, MockWorld
from hobbyhorse.cli.demo_run import DemoError, DemoRun, run_job
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS

CONTRACT = CONTRACTS[0]


def demo(
    contract: Contract,
    world: MockWorld,
    out: Path,
    role: str = "submit",
    show_stage: Callable[[str], None] = lambda stage: None,
) -> DemoRun:
    jobs = {operation.role: (operation, model, body) for operation, model, body in documented_jobs(contract)}
    operation, model, body = jobs[role]
    url = world.url(contract.key).rpartition("/")[0]
    return run_job(
        contract,
        operation,
        model,
        body,
        url,
        key=world.api_key,
        out=out,
        show_stage=show_stage,
        wait=world.clock.advance,
    )


def test_each_call_and_stage_is_recorded_without_repetitions(contract: Contract, tmp_path: Path) -> None:
    shown: list[str] = []
    with MockServer(clock="manual") as server:
        run = demo(contract, server.world(), tmp_path, show_stage=shown.append)
    assert run.stages == shown
    assert [call for call, after in zip(run.calls, run.calls[1:], strict=False) if call == after] == []
    assert [stage for stage, after in zip(run.stages, run.stages[1:], strict=False) if stage == after] == []
    assert run.calls[0].startswith("POST ")
    assert run.calls[-1].startswith("GET /media/")
    assert run.path is not None
    assert run.path.parent == tmp_path
    assert run.facts is not None
    assert run.facts.nbytes == run.path.stat().st_size
    if "stage" in contract.operations["status"].bindings:
        assert set(contract.graph.path(contract.graph.initial)) <= set(shown)


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"moves": {"submit": [{"move": "rate_limited"}]}}, r"POST http\S+ returned 429: "),
        ({"moves": {"submit": [{"move": "reset_peer"}]}}, f"{CONTRACT.key} did not respond: "),
        ({"moves": {"media": [{"move": "truncate"}]}}, f"{CONTRACT.key} (served an incomplete MP4|did not respond): "),
        ({"moves": {"media": [{"move": "not_found"}]}}, r"GET http\S+ returned 404"),
        ({"timeline": {"move": "fail"}}, r"job \S+ ended as \['\w+'\] without a video"),
    ],
)
def test_a_wrong_response_is_an_error(scenario: dict[str, Any], message: str, tmp_path: Path) -> None:
    with MockServer(clock="manual") as server:
        world = server.world()
        world.arm(scenario)
        with pytest.raises(DemoError, match=message):
            demo(CONTRACT, world, tmp_path)


def test_a_job_that_does_not_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count(0, 20)
    monkeypatch.setattr("hobbyhorse.cli.demo_run.time", SimpleNamespace(monotonic=seconds.__next__))
    with MockServer(clock="manual") as server:
        world = server.world()
        world.arm({"timeline": {"move": "stuck"}})
        with pytest.raises(DemoError, match=r"job \S+ has not ended after 60.0 s; its stage is "):
            demo(CONTRACT, world, tmp_path)
