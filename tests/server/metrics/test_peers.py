"""The figures of other processes: who does not respond is left out, and clients cannot ask for them."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse.runners.surroundings import free_port
from hobbyhorse.server.metrics.peers import FIGURES_PATH, ask_all
from tests.conftest import CONTRACTS
from tests.world import Mock

FIGURES = {"counters": {"faults": [[["a", "b"], 3]]}, "gauges": {"worlds": 2}}


@pytest.mark.anyio
async def test_of_several_processes_those_that_respond_count(httpserver: HTTPServer) -> None:
    here = f"127.0.0.1:{httpserver.port}"
    httpserver.expect_ordered_request(FIGURES_PATH).respond_with_json(FIGURES)
    httpserver.expect_ordered_request(FIGURES_PATH).respond_with_data("<html>")
    httpserver.expect_ordered_request(FIGURES_PATH).respond_with_json({}, status=503)
    assert await ask_all([here, here, here, f"127.0.0.1:{free_port()}"]) == [FIGURES]
    assert await ask_all([]) == []


@pytest.mark.anyio
async def test_the_figures_of_a_process_are_not_for_clients() -> None:
    mock = Mock(CONTRACTS[:1])
    reply = await mock.send("GET", FIGURES_PATH, host="localhost")
    assert reply.status == 404
    await mock.fake.close()
