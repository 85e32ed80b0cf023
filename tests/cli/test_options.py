"""The options that commands share: providers, models, contracts, scenarios."""

from __future__ import annotations

import pytest

from tests.conftest import CONTRACTS, Run


def test_a_provider_is_found_by_its_name_in_whatever_case_and_guessed_where_it_is_misspelt(run: Run) -> None:
    assert run("env", CONTRACTS[0].key.upper()).out == run("env", CONTRACTS[0].key).out
    done = run("env", CONTRACTS[0].key[:-1])
    assert done.status == 2
    assert f"{CONTRACTS[0].key}?" in done.err


@pytest.mark.parametrize("command", ["providers", "env", "demo", "scenarios --provider"])
def test_an_unknown_provider_is_one_line_that_names_those_there_are(command: str, run: Run) -> None:
    done = run(*command.split(), "nobody")
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("hobbyhorse: ")
    assert all(word in line for word in ("'nobody'", *(contract.key for contract in CONTRACTS)))
