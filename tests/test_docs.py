"""The README and the docs are true: each Python example runs, and each command and option exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_group
from typer.testing import CliRunner

from hobbyhorse.cli.main import app
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.lint import KEYWORDS
from hobbyhorse.contract.values import FALLBACKS
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.operations import ROLES
from hobbyhorse.server.run import serving
from hobbyhorse.worlds.jobs import VIEW_VALUES
from tests.conftest import ROOT

TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "contracts/README.md", "examples/README.md")
PAGES = [
    *(ROOT / name for name in TOP),
    *sorted((ROOT / "docs").glob("*.md")),
]
COMMAND = re.compile(r"\bhobbyhorse ((?:conformance |contracts )?[a-z]+)((?:\\\n|[^\n`|])*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
GROUP = get_group(app)
FORMAT = (ROOT / "contracts" / "README.md").read_text()
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_every_python_example_runs(code: str, tmp_path: Path) -> None:
    with serving(Fake(options=Options(strict=True))) as url:
        code = code.replace("http://127.0.0.1:8000", url)
        (tmp_path / "test_example.py").write_text(code)
        shutil.copy(ROOT / "examples" / "python" / "hiapi.py", tmp_path / "my_client.py")
        is_test = "def test_" in code or "client_suite(" in code
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if is_test else []
        command = [sys.executable, *tests, "test_example.py"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert found.returncode == 0, found.stderr + found.stdout
    assert found.stdout.strip()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_javascript_client_of_the_page_is_tested_with_one_command(tmp_path: Path) -> None:
    """The page's client is too simple: it knows only the stage `success`, and gives up at the first failed poll."""
    page = (ROOT / "docs" / "conformance.md").read_text()
    code = re.search(r"```js\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "client.mjs").write_text(code[1])
    suite = [str(Path(sys.executable).with_name("hobbyhorse")), "conformance"]
    client = ["--", "node", "client.mjs"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*suite, *words, *client], capture_output=True, text=True, timeout=240, cwd=tmp_path)

    found = run("client", "--provider", "hiapi", "--runs", "1", "--limit", "6", "--report", "report")
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    verdicts = {rule["id"]: rule["verdict"] for rule in report["rules"]}
    assert (verdicts["SCH-01"], verdicts["RTY-04"]) == ("passed", "not-observed")
    # One more run: the whole suite needs a minute for a client with so many findings.
    finding = {"rule": "RTY-04", "provider": "hiapi", "model": report["summary"]["model"]}
    finding["scenario"] = {"moves": {"status": [{"move": "server_error"}]}}
    (tmp_path / "finding.json").write_text(json.dumps(finding))
    found = run("replay", "finding.json", "--times", "1")
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout.startswith("RTY-04 still-broken")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@cache
def help_of(command: str) -> str:
    """Return the help text of a command."""
    env = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner(env=env).invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, f"hobbyhorse {command}: {result.output}"
    return result.output


def every_command(group: TyperGroup, before: str = "") -> Iterator[str]:
    """Yield each command with its group, such as `contracts lint`."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_option_in_a_command_line_of_the_pages_belongs_to_the_command() -> None:
    given = 0
    for page in PAGES:
        for command, rest in COMMAND.findall(page.read_text()):
            for option in OPTION.findall(re.split(r"\s--\s", rest)[0]):
                given += 1
                assert option in OPTION.findall(help_of(command)), f"{page.name}: hobbyhorse {command} {option}"
    assert given > 20


def test_every_option_that_the_pages_mention_exists() -> None:
    known = {option for name in every_command(GROUP) for option in OPTION.findall(help_of(name))}
    known |= set(OPTION.findall((ROOT / "mockserver" / "hobbyhorse" / "testing" / "pytest_plugin.py").read_text()))
    for page in PAGES:
        if page.parent.name == "examples":  # the options of the example clients
            continue
        for option in re.findall(r"`(--[a-z-]+)", page.read_text()):
            assert option in known, f"{page.name} mentions {option}"


def test_the_table_of_providers_has_a_row_for_each() -> None:
    readme = (ROOT / "README.md").read_text()
    for contract in load_all():
        row = re.search(rf"^\| `{contract.key}` \|.*$", readme, re.MULTILINE)
        assert row is not None
        assert contract.hosts[0] in row[0]
        assert ("signed" in row[0]) == (contract.callbacks is not None)
        assert ("replayed" in row[0]) == (contract.idempotency.mode == "replay")


def test_the_format_page_explains_every_role_value_keyword_and_fallback() -> None:
    for word in (*ROLES, *VIEW_VALUES, *KEYWORDS, *FALLBACKS):
        assert f"`{word}`" in FORMAT, f"contracts/README.md does not explain {word!r}"
