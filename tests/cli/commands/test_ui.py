"""`hobbyhorse ui` prints the page's address, and its demo has something in every part of the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hobbyhorse.cli.commands.ui import KEY, run_demo
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests.conftest import CONTRACTS
from tests.world import HTTP


@pytest.fixture(scope="module")
def demo() -> Iterator[Fake]:
    fake = Fake(CONTRACTS, Options(pace="realistic"))
    with serving(fake) as url:
        run_demo(CONTRACTS, url)
        yield fake


def test_the_demo_has_something_in_each_part_of_the_page(demo: Fake) -> None:
    world = demo.worlds.of(KEY)
    assert world is not None
    totals, now = world.totals(), world.clock.now()
    kinds = {job.stage(now).kind for job in world.jobs.values()}
    assert {"success", "failure"} < kinds
    assert totals.duplicates > 0
    assert {one.situation for one in world.journal} >= {"unknown_path", "unknown_job"}
    assert [one for one in world.journal if one.move == "server_error"]
    attempts = demo.callback_dispatcher().of_world(world)
    assert {one.outcome for one in attempts} == {"acknowledged", "refused"}
    armed = [not one.unmet() for one in world.scenarios.armed]
    assert set(armed) == {True, False}
    assert (world.label, world.clock.speed) == ("demo", 1)
    assert {job.contract.key for job in world.jobs.running.values()} == {contract.key for contract in CONTRACTS}


def test_the_command_prints_the_address_of_the_page(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("hobbyhorse")), "ui", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = json.loads(process.stdout.readline())
            line = process.stderr.readline()
            assert line.startswith(f"The page: {ready['ui']}/worlds/")
            assert HTTP.get(line.split()[-1]).status_code == 200
        finally:
            process.terminate()
        assert process.wait(20) == 0
