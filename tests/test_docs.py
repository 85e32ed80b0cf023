"""What the README and the docs print is true: every Python example runs, every command and option exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.app import Fake, Options
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.lint import KEYWORDS
from hobbyhorse.contract.values import FALLBACKS
from hobbyhorse.jobs import VALUES
from hobbyhorse.roles import ROLES
from hobbyhorse.server import serving
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "contracts" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if "def test_" in code else []
        command = [sys.executable, *tests, "test_example.py"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert found.returncode == 0, found.stderr + found.stdout
    assert found.stdout.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_option_that_the_pages_name_is_an_option() -> None:
    command = Path(sys.executable).with_name("hobbyhorse")
    helped = ""
    for name in ("serve", "demo", "providers", "scenarios", "env", "health", "video", "probe"):
        env = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        helped += subprocess.run([command, name, "--help"], capture_output=True, text=True, check=True, env=env).stdout
    for page in PAGES:
        for option in re.findall(r"`(?:hobbyhorse serve )?(--[a-z-]+)", page.read_text()):
            assert option in helped, f"{page.name} names {option}"


def test_the_table_of_providers_names_every_provider() -> None:
    readme = (ROOT / "README.md").read_text()
    for contract in load_all():
        row = re.search(rf"^\| `{contract.key}` \|.*$", readme, re.MULTILINE)
        assert row is not None
        assert contract.hosts[0] in row[0]
        assert ("signed" in row[0]) == (contract.callbacks is not None)
        assert ("replayed" in row[0]) == (contract.idempotency.mode == "replay")


def test_the_format_page_names_every_role_value_keyword_and_fallback() -> None:
    for word in (*ROLES, *VALUES, *KEYWORDS, *FALLBACKS):
        assert f"`{word}`" in FORMAT, f"contracts/README.md does not say what {word!r} is"
