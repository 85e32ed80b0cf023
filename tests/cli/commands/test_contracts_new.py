"""`hobbyhorse contracts new`: a folder that passes lint, or one line and exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.lint import lint
from tests.conftest import DIRECTORY, Run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_contract_is_written_to_its_name_and_passes_lint(tmp_path: Path, run: Run) -> None:
    done = run("contracts", "new", "acme")
    assert (done.status, done.err) == (0, "")
    assert "acme written" in done.out
    assert lint(tmp_path / "acme") == []


def test_each_guess_is_one_line_on_stderr(tmp_path: Path, run: Run) -> None:
    done = run("contracts", "new", "acme", "--from", DIRECTORY / "runcomfy" / "openapi.json")
    assert done.status == 0
    assert "submit: submitRequest, the first POST whose response has an id" in done.err.splitlines()
    assert "status: getStatus, a GET with one path parameter" in done.err.splitlines()
    assert lint(tmp_path / "acme") == []


def test_a_role_that_is_given_is_not_guessed(run: Run) -> None:
    source = DIRECTORY / "runcomfy" / "openapi.json"
    roles = ("--role", "submit=submitRequest", "--role", "status=getResult")
    done = run("contracts", "new", "acme", "--from", source, *roles)
    assert done.status == 0
    assert "guess" not in done.err
    assert not any(line.startswith(("submit: submitRequest", "status: getStatus")) for line in done.err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["there"], "there already exists; choose another name for the new contract"),
        (["No"], "'No' becomes a path prefix"),
        (["x", "--from", "nothing.yaml"], "nothing.yaml cannot be read"),
        (["x", "--from", "there/swagger.yaml"], "is not an OpenAPI 3 document"),
        (["x", "--role", "submit=a"], "--role needs --from"),
        (["x", "--from", "there/swagger.yaml", "--role", "submit"], "--role is 'submit'; allowed: ROLE=OPERATION_ID"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    arguments: list[str], says: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "swagger.yaml").write_text("swagger: '2.0'\n")
    done = run("contracts", "new", *arguments)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert says in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["swagger.yaml", "there"]
