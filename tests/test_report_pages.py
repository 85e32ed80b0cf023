"""The HTML reports in a browser: they fit each width, can be read in both schemes, and work without scripts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from hobbyhorse.conformance import server_page as server_html
from hobbyhorse.conformance.client import html_report as client_html
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict
from hobbyhorse.conformance.rule import HARMS, OBSERVED, Breach
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import BudgetEntry, Note
from hobbyhorse.contract.values import Contract
from tests.conformance.server.test_report import CONTRACT, LEARNED
from tests.conformance.server.test_report import result as server_result
from tests.conftest import CONTRACTS, ROOT
from tests.judging import made_up, teller

CHROMIUM = Path("/usr/bin/chromium")
# A phone, a laptop, and a desktop.
WIDTHS = (390, 1280, 1920)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
AXE = ROOT / "build" / "npm"
# Milliseconds of one step of the browser, on a busy machine.
LONGEST_STEP = 180_000
# A word without a place to break.
LONG = "x" * 300

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's package chromium")

OPEN = "() => document.querySelectorAll('details').forEach(one => one.open = true)"
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# The contrast of each text with the nearest background that is not transparent, as WCAG defines it.
CONTRASTS = """() => {
  const linear = one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const pair = [luminance(numbers(getComputedStyle(element).color)), luminance(ground(element))];
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), walker.currentNode.data.slice(0, 40)]);
  }
  return found;
}"""
LEAST_CONTRAST = 4.5


def client_page(contract: Contract) -> str:
    """Return a report with a finding of each harm, many polls, and long words."""
    told = teller(contract).nothing("submit", made="one", move="accept_then_drop").submit(job="two")
    for _ in range(40):
        told.wait(5).status("found")
    told.media(url=f"http://127.0.0.1:8001/{LONG}").end("timeout", message=f"gave up: {LONG}")
    trace = told.made(job="one").made(job="two").trace()
    trace = replace(trace, scenario={"moves": {"submit": [{"move": "accept_then_drop"}]}})
    verdicts, left = [], list(HARMS)
    for number, rule in enumerate(rules()):
        if rule.harm in left:
            left.remove(rule.harm)
            breaches = (Breach(f"request 2 repeats request 1: {LONG}"), Breach("the client gave up"))
            finding = Finding(rule.id, breaches, trace, during="submit")
            verdicts.append(Verdict(rule, BROKEN, 5, 2, (finding, replace(finding, during="poll", recurs=False))))
        else:
            word = (PASSED, NOT_OBSERVED, NOT_APPLICABLE)[number % 3]
            verdicts.append(Verdict(rule, word, 3, why=f"give {LONG}" if word == NOT_OBSERVED else None))
    coverage = Coverage(1, 3, (f"submit: {LONG}",), ("status: reset",))
    found = Result(contract.key, contract.models[0].id, f"/home/{LONG}.py", 7, tuple(verdicts), coverage, 12, 3.0)
    known = next(one.rule.id for one in reversed(verdicts) if one.findings)
    return client_html.page(
        replace(found, accepted={known: "known"}, options=("--python", LONG)), contract, folder=Path("r")
    )


def server_page() -> str:
    """Return a report with a finding of each harm, a lesson, a ledger and long words."""
    breach = Breach(f"request 1 has {LONG}", ("lifecycle.json#/name", f"openapi.json#/{LONG}"), LONG)
    broken = [made_up(f"SHA-9{number}", breach, harm=harm, fix="Mend it.") for number, harm in enumerate(HARMS)]
    entry = BudgetEntry("job", Decimal("0.42"), True, 200, "job-1")
    found = server_result(
        *broken,
        made_up("SHA-95", LEARNED, fix="Mend it."),
        made_up("SHA-96", OBSERVED),
        ledger=(entry,),
        notes=(Note("identity:foreign", f"give {LONG}"),),
        base_url=f"http://127.0.0.1/{LONG}",
        known={"SHA-93": "known"},
    )
    return server_html.server_page(found, CONTRACT)


PAGES: dict[str, Callable[[], str]] = {"client": lambda: client_page(CONTRACTS[0]), "server": server_page}

pages = pytest.mark.parametrize("name", PAGES)
schemes = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # The tests may run as root, for whom Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"], timeout=LONGEST_STEP)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in PAGES}
    for name, write in PAGES.items():
        found[name].write_text(write(), encoding="utf-8", errors="replace")
    return found


@contextmanager
def opened(browser: Browser, file: Path, width: int, scheme: Scheme, *, script: bool = True) -> Iterator[Page]:
    """Open a file in a window of some width."""
    viewport: Any = {"width": width, "height": 900}
    with browser.new_context(viewport=viewport, color_scheme=scheme, java_script_enabled=script) as context:
        context.set_default_timeout(LONGEST_STEP)
        page = context.new_page()
        page.goto(file.as_uri())
        yield page


@pages
@schemes
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(
    name: str, scheme: Scheme, width: int, browser: Browser, files: dict[str, Path]
) -> None:
    with opened(browser, files[name], width, scheme) as page:
        assert page.evaluate(OVERFLOW) <= 0
        page.evaluate(OPEN)
        assert page.evaluate(OVERFLOW) <= 0
        edges = page.evaluate(
            "() => [...document.querySelectorAll('main *')].filter(one => one.getClientRects().length)"
            ".map(one => one.getBoundingClientRect().right)"
        )
        assert max(edges) <= width


@pages
@schemes
def test_each_text_has_the_contrast_of_wcag_aa(
    name: str, scheme: Scheme, browser: Browser, files: dict[str, Path]
) -> None:
    with opened(browser, files[name], WIDTHS[1], scheme) as page:
        page.evaluate(OPEN)
        found = page.evaluate(CONTRASTS)
        ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert len(found) > 100
    assert [pair for pair in found if pair[0] < LEAST_CONTRAST] == []
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")


@pages
@pytest.mark.parametrize("script", [True, False])
def test_the_filter_shows_one_group_of_findings(
    name: str, script: bool, browser: Browser, files: dict[str, Path]
) -> None:
    with opened(browser, files[name], WIDTHS[0], "light", script=script) as page:
        sections = page.locator("section.harm")
        assert sections.count() > 1
        assert page.locator("section.harm:visible").count() == sections.count()
        page.locator("#harm-money").check()
        assert page.locator("section.harm:visible").count() == 1
        assert page.locator("section.harm-money").is_visible()
        page.locator("#harm-all").check()
        assert page.locator("section.harm:visible").count() == sections.count()


@pages
def test_the_table_of_rules_can_be_filtered_by_verdict(name: str, browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files[name], WIDTHS[1], "light") as page:
        page.evaluate(OPEN)
        every = page.locator("tr.row:visible").count()
        page.locator("#verdict-broken").check()
        broken = page.locator("tr.row:visible").count()
        assert 0 < broken < every
        assert broken == page.locator("tr.row-broken").count()


@pages
def test_a_page_requests_nothing_and_reports_no_error(name: str, browser: Browser, files: dict[str, Path]) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        requested: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(files[name].as_uri())
        page.evaluate(OPEN)
    assert (requested, errors) == ([files[name].as_uri()], [])


def test_a_request_in_a_message_leads_to_its_row(browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files["client"], WIDTHS[0], "light") as page:
        link = page.locator("article a").first
        link.click()
        target = page.locator(f"[id='{page.url.partition('#')[2]}']")
        assert target.count() == 1
        assert target.is_visible()


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the source of axe-core, which npm installs on first use."""
    file = AXE / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("needs npm, which installs axe-core")
        command = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(AXE), "axe-core@4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install axe-core: {done.stderr.strip()[-300:]}")
    return file.read_text(encoding="utf-8")


@pages
@schemes
def test_axe_finds_no_serious_violation(
    name: str, scheme: Scheme, browser: Browser, files: dict[str, Path], axe: str
) -> None:
    with opened(browser, files[name], WIDTHS[0], scheme) as page:
        page.evaluate(OPEN)
        page.evaluate(axe)
        found = page.evaluate("() => axe.run()")
    assert found["passes"]
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


def test_the_listed_rules_exist() -> None:
    assert {rule.harm for rule in (*rules(), *server_rules())} == set(HARMS)
