"""The page in a browser: a job moves, its video plays, a scenario is met, the clock moves, all by keyboard."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page

from hobbyhorse.cli.commands.ui import run_demo
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests import test_report_pages
from tests.conftest import CONTRACTS
from tests.test_report_pages import CHROMIUM, CONTRASTS, LEAST_CONTRAST, LONGEST_STEP, OVERFLOW, SCHEMES, WIDTHS, Scheme
from tests.world import HTTP

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's package chromium")

axe, browser = test_report_pages.axe, test_report_pages.browser
SERIOUS = ("serious", "critical")
KEY = "the-key-of-the-browser-test"
CONTRACT = CONTRACTS[0]
SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"'></textarea><svg onload=hacked=3>"
"""A text that would run a script in each place where it is not escaped."""


@dataclass(frozen=True)
class Running:
    """A server, the page of one world, and a client with that world's key."""

    fake: Fake
    url: str
    key: str = KEY

    @property
    def page(self) -> str:
        world = self.fake.worlds.of(self.key)
        assert world is not None
        return f"{self.url}/_mock/ui/worlds/{world.handle}"

    @property
    def client(self) -> ContractClient:
        return ContractClient(CONTRACT, f"{self.url}/{CONTRACT.key}", self.key, HTTP)

    def submit(self) -> str:
        operation, model, body = next(iter(documented_jobs(CONTRACT)))
        response = self.client.call(operation.role, path={"model": model.id}, body=body)
        return str(response.reading.values.get("job"))

    def control(self, method: str, path: str, body: Any) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        HTTP.request(method, f"{self.url}/_mock/{path}", json=body, headers=headers).raise_for_status()


@pytest.fixture
def running() -> Iterator[Running]:
    fake = Fake(CONTRACTS, Options(pace="realistic"))
    with serving(fake) as url:
        yield Running(fake, url)


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    fake = Fake(CONTRACTS, Options(pace="realistic"))
    with serving(fake) as url:
        run_demo(CONTRACTS, url)
        yield Running(fake, url, "demo")


@contextmanager
def opened(browser: Browser, width: int = WIDTHS[1], scheme: Scheme = "light") -> Iterator[Page]:
    viewport: Any = {"width": width, "height": 900}
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
        yield watched(context)


def watched(context: BrowserContext) -> Page:
    """Return a page; what its console reports fails the test."""
    context.set_default_timeout(LONGEST_STEP)
    page = context.new_page()

    def report(message: ConsoleMessage) -> None:
        assert message.type not in ("error", "warning"), message.text

    def fail(error: Error) -> None:
        raise AssertionError(str(error))

    page.on("console", report)
    page.on("pageerror", fail)
    return page


def press_until(page: Page, key: str, selector: str) -> None:
    """Press a key until an element has the focus."""
    for _ in range(80):
        if page.evaluate("one => document.activeElement?.matches(one)", selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not reach {selector}")


def test_a_job_moves_is_watched_and_is_played_with_the_keyboard_alone(browser: Browser, running: Running) -> None:
    job = running.submit()
    with opened(browser) as page:
        page.goto(running.page)
        row = page.locator("#jobs > li > a")
        assert job in row.inner_text()
        assert page.locator("#jobs .stage.success").count() == 0
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/**")
        # A mark that a reload would remove.
        page.evaluate("() => { window.same = true }")
        assert page.locator("video").count() == 0
        press_until(page, "Tab", "button[name=seconds][value='3600']")
        page.keyboard.press("Enter")
        page.locator(".detail .stage.success").wait_for()
        page.locator("video").wait_for()
        page.wait_for_function("() => document.querySelector('video').readyState >= 1")
        assert page.evaluate("() => document.querySelector('video').videoWidth") > 100
        press_until(page, "Tab", "video")
        page.keyboard.press("Space")
        page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
        # The page goes on being refreshed below the video, which is not disturbed.
        running.client.call("status", path={"job": job})
        page.locator(".timeline .lane:text-is('status')").wait_for()
        assert page.evaluate("() => document.querySelector('video').currentTime") > 0.2
        assert page.evaluate("() => window.same")
    world = running.fake.worlds.of(KEY)
    assert world is not None
    assert [one.role for one in world.journal] == ["submit", "status"], "the page is not the client"


def test_from_the_address_of_the_ready_line_to_the_video_with_the_keyboard_alone(
    browser: Browser, running: Running
) -> None:
    """The whole way in one piece: whatever the API does is seen live, and no mouse is needed for the rest."""
    with opened(browser) as page:
        page.goto(f"{running.url}/_mock/ui")
        page.locator(".live:text-is('live')").wait_for()
        job = running.submit()
        # The world of a new key appears by itself.
        page.locator("#worlds > li").wait_for()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/worlds/*")
        page.keyboard.press("4")
        page.wait_for_url("**/scenarios")
        page.keyboard.press("/")
        page.keyboard.type("status_server_error")
        press_until(page, "Tab", "button[value='status_server_error']")
        page.keyboard.press("Enter")
        page.locator("#armed > li:has-text('not met')").wait_for()
        page.keyboard.press("1")
        page.wait_for_url("**/jobs")
        page.locator(".live:text-is('live')").wait_for()
        page.evaluate("() => { window.same = true }")
        running.client.call("status", path={"job": running.submit()})
        page.locator("nav .count.good:text-is('all met')").wait_for()
        page.locator("#jobs > li").nth(1).wait_for()
        assert page.locator("#jobs .stage.success").count() == 0
        running.control("POST", "clock/advance", {"seconds": 3600})
        page.locator("#jobs .stage.success").nth(1).wait_for()
        assert page.evaluate("() => window.same"), "seen live, without a reload"
        press_until(page, "j", f"#jobs a[href$='{job}']")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/**")
        press_until(page, "Tab", "video")
        page.keyboard.press("Space")
        page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
        found = page.evaluate(
            "() => { const one = document.querySelector('video'); return [one.readyState, one.videoWidth] }"
        )
        assert found[0] >= 2
        assert found[1] > 100
        before = float(page.get_attribute("[data-clock]", "data-clock") or 0)
        page.keyboard.press("a")
        page.wait_for_function(
            "now => Number(document.querySelector('[data-clock]').dataset.clock) > now + 59", arg=before
        )


def test_a_scenario_is_found_armed_and_met_with_the_keyboard_alone(browser: Browser, running: Running) -> None:
    with opened(browser) as page:
        page.goto(running.page)
        page.keyboard.press("4")
        page.wait_for_url("**/scenarios")
        page.evaluate("() => { window.same = true }")
        page.keyboard.press("/")
        page.keyboard.type("status server_error always")
        visible = page.locator("#catalogue > li:visible")
        page.wait_for_function("() => document.querySelectorAll('#catalogue > li:not([hidden])').length < 3")
        assert "status_server_error_always" in visible.first.inner_text()
        press_until(page, "Tab", "button[value='status_server_error_always']")
        page.keyboard.press("Enter")
        armed = page.locator("#armed > li")
        armed.wait_for()
        assert "not met" in armed.inner_text()
        # The search still stands there, and the page was not loaded anew.
        assert page.input_value("#q") == "status server_error always"
        job = running.submit()
        running.client.call("status", path={"job": job})
        page.locator("#armed .tag.good").wait_for()
        assert "met once" in armed.inner_text()
        assert page.evaluate("() => window.same")
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        page.wait_for_url("**/exchanges")
        assert "fault server_error" in page.locator("#exchanges > li").first.inner_text()


def test_the_clock_is_paused_and_advanced(browser: Browser, running: Running) -> None:
    world = running.fake.worlds.of(KEY)
    assert world is not None
    with opened(browser) as page:
        page.goto(running.page)
        page.keyboard.press("p")
        page.locator(".clock .speed:text-is('paused')").wait_for()
        assert world.clock.speed == 0
        before = world.clock.now()
        page.keyboard.press("a")
        page.wait_for_function(
            "now => Number(document.querySelector('[data-clock]').dataset.clock) > now + 59", arg=before
        )
        assert world.clock.now() == pytest.approx(before + 60)
        # Moved by somebody else.
        running.control("PUT", "clock", {"speed": 60})
        page.locator(".clock .speed:text-is('60×')").wait_for()
        shown = page.locator("[data-clock]").inner_text()
        page.wait_for_function("text => document.querySelector('[data-clock]').textContent !== text", arg=shown)


def test_a_script_in_any_field_does_not_run(browser: Browser, running: Running) -> None:
    operation, model, body = next(iter(documented_jobs(CONTRACT)))
    running.control("PATCH", "settings", {"label": SCRIPT[:100]})
    scenario = {"why": SCRIPT, "moves": {"status": [{"move": "reset_peer"}]}}
    running.control("POST", "scenarios/arm", {"scenario": scenario})
    failure = CONTRACT.graph.ending("failure")
    assert failure is not None
    running.control("POST", "jobs/end-next", {"stage": failure.name, "code": SCRIPT, "message": SCRIPT})
    filled = filled_with_script(body)
    (place, *_) = operation.bindings["callback_url"].request
    filled = replaced(filled, place.pointer, f"http://127.0.0.1:1/?{SCRIPT}")
    running.client.call(operation.role, path={"model": model.id}, body=filled)
    for _ in range(2):
        running.submit()
    headers = {"authorization": f"Bearer {KEY}", "x-script": SCRIPT, "user-agent": SCRIPT}
    HTTP.get(f"{running.url}/{CONTRACT.key}/{SCRIPT.replace('/', '')}?q={SCRIPT}", headers=headers)
    HTTP.post(f"{running.url}/{CONTRACT.key}/v1", content=SCRIPT.encode(), headers=headers)
    running.control("POST", "clock/advance", {"seconds": 3600})
    with opened(browser) as page:
        addresses = [running.page, f"{running.url}/_mock/ui"]
        addresses += [f"{running.page}/{one}" for one in ("exchanges", "callbacks", "scenarios", "ledger")]
        addresses += [f"{running.page}/exchanges?q={SCRIPT}&role={SCRIPT}", f"{running.page}/scenarios?q={SCRIPT}"]
        page.goto(running.page)
        addresses += [f"{running.url}{one.get_attribute('href')}" for one in page.locator("#jobs > li > a").all()]
        page.goto(f"{running.page}/exchanges")
        addresses += [f"{running.url}{one.get_attribute('href')}" for one in page.locator("#exchanges > li > a").all()]
        shown = 0
        for address in addresses:
            page.goto(address)
            shown += "window.hacked" in page.inner_text("main") + page.inner_text("body")
            assert page.evaluate("() => window.hacked") is None
            assert page.locator("main script, main img, svg[onload]").count() == 0
        assert shown > 6
        page.goto(f"{running.page}/callbacks")
        assert "window.hacked" in page.inner_text("#callbacks"), "the address of the receiver"


def filled_with_script(body: Any) -> Any:
    """Return a body with a script in each of its texts that may be any."""
    prompt = {name: SCRIPT for name, value in body.items() if name == "prompt" and isinstance(value, str)}
    inner = {name: filled_with_script(value) for name, value in body.items() if isinstance(value, dict)}
    return {**body, **inner, **prompt}


PATHS = ("", "/exchanges", "/callbacks", "/scenarios", "/ledger", "job", "exchange", "worlds")


def address_of(demo: Running, path: str, page: Page) -> str:
    if path == "worlds":
        return f"{demo.url}/_mock/ui"
    if path not in ("job", "exchange"):
        return demo.page + path
    page.goto(f"{demo.page}/{'jobs' if path == 'job' else 'exchanges?odd=1'}")
    chosen = page.locator("#jobs > li > a:has(.success)" if path == "job" else "#exchanges > li > a").last
    return f"{demo.url}{chosen.get_attribute('href')}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_page_fits_each_width_and_can_be_read(scheme: Scheme, browser: Browser, demo: Running, axe: str) -> None:
    for width in WIDTHS:
        with opened(browser, width, scheme) as page:
            for path in PATHS:
                page.goto(address_of(demo, path, page))
                page.evaluate("() => document.querySelectorAll('details:not(.menu)').forEach(one => one.open = true)")
                assert page.evaluate(OVERFLOW) <= 0, (path, width)
                if width != WIDTHS[1]:
                    continue
                weak = [pair for pair in page.evaluate(CONTRASTS) if pair[0] < LEAST_CONTRAST]
                assert weak == [], path
                page.evaluate(axe)
                found = page.evaluate("() => axe.run()")
                assert found["passes"]
                serious = [one for one in found["violations"] if one["impact"] in SERIOUS]
                assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == [], path


def test_another_page_gets_nothing(browser: Browser, running: Running) -> None:
    """A page of another origin can neither read the page, nor frame it, nor send its forms."""
    running.submit()
    world = running.fake.worlds.of(KEY)
    assert world is not None
    foreign = Fake(CONTRACTS[:1])
    with serving(foreign, "127.0.0.2") as other, browser.new_context() as context:
        context.set_default_timeout(LONGEST_STEP)
        page = context.new_page()
        page.goto(f"{other}/")
        read = """address => fetch(address, {credentials: 'include'}).then(one => one.text(), error => 'refused')"""
        assert page.evaluate(read, running.page) == "refused"
        send = """address => fetch(address, {method: 'POST', mode: 'no-cors', body: new URLSearchParams({speed: 0})})
            .then(() => 'sent', () => 'refused')"""
        page.evaluate(send, f"{running.page}/clock")
        page.set_content(f"<iframe src='{running.page}'></iframe>")
        page.wait_for_timeout(500)
        assert "hobbyhorse" not in (page.frames[-1].content() if len(page.frames) > 1 else "")
        page.set_content(
            f"<form method=post action='{running.page}/clock'><button name=speed value=0>go</button></form>"
        )
        page.click("button")
        page.wait_for_load_state()
        assert "not the server's origin" in page.inner_text("body")
    assert world.clock.speed == 1


def test_a_server_with_a_control_key_asks_for_it_once(browser: Browser, axe: str) -> None:
    fake = Fake(CONTRACTS, Options(control_key="a-control-key"))
    with serving(fake) as url, opened(browser) as page:
        running = Running(fake, url)
        running.submit()
        page.goto(running.page)
        assert page.url == f"{url}/_mock/ui/login"
        page.evaluate(axe)
        serious = [one for one in page.evaluate("() => axe.run()")["violations"] if one["impact"] in SERIOUS]
        assert serious == []
        page.keyboard.type("a-control-key")
        page.keyboard.press("Enter")
        page.wait_for_url("**/_mock/ui")
        page.goto(running.page)
        assert page.locator("#jobs > li").count() == 1
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert "a-control-key" not in cookie["value"]
        page.locator(".live:text-is('live')").wait_for()
        running.submit()
        page.locator("#jobs > li").nth(1).wait_for()
        assert page.evaluate("() => document.cookie") == ""


def test_a_world_with_many_jobs_is_shown_as_quickly(browser: Browser, running: Running) -> None:
    world = running.fake.worlds.of(KEY)
    assert world is not None
    running.submit()
    order = next(iter(world.jobs.values())).order
    drawn = random.Random(1)
    for _ in range(2_000):
        world.submit(CONTRACT, order)
        if drawn.random() < 0.005:
            world.endings.clear()
    with opened(browser) as page:
        page.goto(running.page)
        assert page.locator("#jobs > li").count() == 50
        taken = page.evaluate("() => performance.getEntriesByType('navigation')[0].responseEnd")
        assert taken < 5_000, "milliseconds, on a busy machine"
        page.click("a[rel=next]")
        page.wait_for_url("**before=*")
        assert page.locator("#jobs > li").count() == 50
        page.keyboard.press("5")
        page.wait_for_url("**/ledger")
        assert page.locator("table.ledger").count() == 2
