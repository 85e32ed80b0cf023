"""The page is guarded like the control plane: without a login, from another origin, or for another team, nothing."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.access import Team
from hobbyhorse.server.ui.app import HEADERS, MOST_FORM, ROOT
from hobbyhorse.worlds.world import Ending, World
from tests.conftest import CONTRACTS
from tests.world import KEY, Mock, Reply, order_of

pytestmark = pytest.mark.anyio

SECTIONS = ("", "/jobs", "/exchanges", "/callbacks", "/scenarios", "/ledger")
FORMS = ("clock", "arm", "disarm", "redeliver")
SCRIPT = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"


class Browser:
    """A browser without scripts: it keeps the cookie, and sends what browsers send."""

    def __init__(self, **options: Any) -> None:
        self.mock = Mock([*CONTRACTS], strict=False, **options)
        self.cookie = ""

    async def get(self, path: str, **headers: str) -> Reply:
        return await self._send("GET", path, b"", headers)

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Reply:
        given = {"origin": "http://localhost", "content-type": "application/x-www-form-urlencoded", **headers}
        return await self._send("POST", path, urlencode(form).encode(), {k: v for k, v in given.items() if v})

    async def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        given = {"cookie": self.cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
        host = given.pop("host", "localhost")
        reply = await self.mock.send(method, f"{ROOT}{path}", body=body, headers=given, key=None, host=host)
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def world(self, key: str = KEY) -> str:
        found = self.mock.fake.worlds.of(key)
        assert found is not None
        return f"/worlds/{found.handle}"


async def test_every_page_of_a_world_is_shown_without_its_key(contract: Contract) -> None:
    browser, key = Browser(), "the-key-of-the-client"
    job = await browser.mock.submit(contract, key=key)
    await browser.mock.call_plain(contract, "status", path={"job": job}, key=key)
    await browser.mock.send("GET", f"/{contract.key}/{key}?a={key}", headers={"x-note": key}, key=key)
    world = browser.mock.fake.worlds.of(key)
    assert world is not None
    number = [one.number for one in world.journal][-1]
    at = browser.world(key)
    paths = [at + section for section in SECTIONS]
    paths += [f"{at}/jobs/{quote(job, safe='')}", f"{at}/exchanges/{number}", ""]
    for path in paths:
        reply = await browser.get(path)
        assert reply.status == 200, path
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert key not in reply.body.decode() + str(reply.headers)
        for name, value in HEADERS.items():
            assert reply.headers[name] == value
    assert b'class="rows"' in (await browser.get(paths[0])).body


async def test_the_links_of_a_page_lead_somewhere(contract: Contract) -> None:
    browser = Browser()
    await browser.mock.submit(contract)
    await browser.mock.submit(contract)
    done, left = {"/open", "/login", "/logout"}, {browser.world(), ""}
    while left:
        path = left.pop()
        done.add(path)
        reply = await browser.get(path)
        assert reply.status == 200, path
        if reply.headers["content-type"].startswith("text/html"):
            found = re.findall(rf'(?:href|src)="{ROOT}([^"#]*)"', reply.body.decode())
            left |= {one.replace("&amp;", "&") for one in found} - done
    assert len(done) > 10


class Tags(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


async def test_no_text_of_a_client_becomes_an_element(contract: Contract) -> None:
    browser = Browser()
    mock, world = browser.mock, browser.mock.world
    world.label = SCRIPT
    failure = contract.graph.ending("failure")
    assert failure is not None
    world.endings.append(Ending(failure.name, SCRIPT, SCRIPT))
    order = order_of(contract, prompt=SCRIPT, first_frame=SCRIPT, references=(SCRIPT,), resolution=SCRIPT)
    job = world.submit(contract, order).id
    await mock.clock.advance(10_000)
    await mock.send(
        "POST", f"/{contract.key}/{SCRIPT}?{SCRIPT}", body=SCRIPT.encode(), headers={"x-odd": SCRIPT, "<b>": "x"}
    )
    await mock.call_plain(contract, "status", path={"job": SCRIPT.replace("/", "")})
    numbers = [one.number for one in world.journal]
    paths = [browser.world() + section for section in SECTIONS]
    paths += [f"{browser.world()}/jobs/{job}", f"{browser.world()}/jobs/{quote(SCRIPT, safe='')}", ""]
    paths += [f"{browser.world()}/exchanges/{number}" for number in numbers]
    paths += [f"{browser.world()}/exchanges?q={quote(SCRIPT)}&role={quote(SCRIPT)}&before={quote(SCRIPT)}"]
    paths += [f"{browser.world()}/scenarios?q={quote(SCRIPT)}", f"?before={quote(SCRIPT)}"]
    shown = 0
    for path in paths:
        text = (await browser.get(path)).body.decode()
        shown += "alert(1)" in text
        tags = Tags()
        tags.feed(text)
        scripts = [attrs.get("src") for tag, attrs in tags.seen if tag == "script"]
        assert scripts == [f"{ROOT}/assets/page.js"]
        assert not [tag for tag, _ in tags.seen if tag in ("img", "b<", "iframe", "object", "style")]
        assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on") or name == "style"]
    assert shown >= 8


async def test_a_form_does_what_it_says() -> None:
    browser = Browser()
    world, at = browser.mock.world, browser.world()
    before = world.clock.now()
    reply = await browser.post(f"{at}/clock", {"seconds": "60", "back": f"{ROOT}{at}/ledger"})
    assert (reply.status, reply.headers["location"]) == (303, f"{ROOT}{at}/ledger")
    assert world.clock.now() == before + 60
    await browser.post(f"{at}/clock", {"speed": "0"})
    assert world.clock.speed == 0
    assert (await browser.post(f"{at}/clock", {"idle": "1"})).status == 303
    reply = await browser.post(f"{at}/arm", {"scenario": "status_server_error", "provider": "", "jobs": "all"})
    assert reply.status == 303
    (armed,) = world.scenarios.armed
    assert (armed.scenario.name, armed.left, armed.provider) == ("status_server_error", None, None)
    await browser.post(f"{at}/disarm", {"id": str(armed.id)})
    assert world.scenarios.armed == []


@pytest.mark.parametrize(
    ("name", "text"), [("speed", "-1"), ("speed", "nan"), ("speed", "x"), ("seconds", "inf"), ("seconds", "1e9")]
)
async def test_a_wrong_number_is_refused_with_a_reason(name: str, text: str) -> None:
    browser = Browser()
    reply = await browser.post(f"{browser.world()}/clock", {name: text})
    assert reply.status == 422
    assert b'role="alert"' in reply.body


async def test_other_mistakes_in_forms_are_refused_and_never_fail(contract: Contract) -> None:
    browser = Browser()
    at = browser.world()
    job = await browser.mock.submit(contract)
    for path, form, status in (
        ("arm", {"scenario": "nothing"}, 422),
        ("arm", {"scenario": "status_server_error", "jobs": "0"}, 422),
        ("arm", {"scenario": "status_server_error", "jobs": "\u0661"}, 422),
        ("arm", {"scenario": "status_server_error", "provider": "nobody"}, 422),
        ("disarm", {"id": "x"}, 404),
        ("redeliver", {"job": job}, 409),
        ("redeliver", {"job": "nothing"}, 404),
        ("clock", {"x" * 9: "y" * MOST_FORM}, 413),
        ("clock", {str(number): "" for number in range(50)}, 400),
    ):
        assert (await browser.post(f"{at}/{path}", form)).status == status, (path, form)
    assert (await browser.post("/open", {"key": " "})).status == 422
    for path in ("/nothing", f"{at}/nothing", "/worlds/nothing", f"{at}/jobs/nothing", f"{at}/exchanges/999999999"):
        assert (await browser.get(path)).status == 404
    assert (await browser.get(f"{at}/files/other.txt/{job}")).status == 404
    assert (await browser.get(f"{at}/files/video.mp4/{job}")).status == 404, "it has not ended"


@pytest.mark.parametrize(
    "back", ["http://evil.example", "//evil.example", "/_mock/ui/worlds/other", "/\\evil", "x\r\ny: z"]
)
async def test_a_form_leads_back_to_its_own_world_only(back: str) -> None:
    browser = Browser()
    reply = await browser.post(f"{browser.world()}/clock", {"speed": "0", "back": back})
    assert (reply.status, reply.headers["location"]) == (303, ROOT + browser.world())


async def test_the_world_of_a_key_is_found_without_the_key_in_the_address() -> None:
    browser = Browser(api_keys=frozenset({KEY}))
    reply = await browser.post("/open", {"key": KEY})
    assert (reply.status, reply.headers["location"]) == (303, ROOT + browser.world())
    assert (await browser.post("/open", {"key": "unknown"})).status == 403


async def test_nothing_is_shown_before_the_login() -> None:
    browser = Browser(control_key="main", loopback=False)
    at = browser.world()
    paths = (*SECTIONS, "/events", "/jobs/x", "/exchanges/1", "/files/video.mp4/x")
    for path in ("", "/events", *(at + path for path in paths)):
        reply = await browser.get(path, host="mock.internal")
        if path.endswith("events"):
            assert reply.status == 403
        else:
            assert (reply.status, reply.headers["location"], reply.body) == (303, f"{ROOT}/login", b"")
    for name in FORMS:
        assert (await browser.post(f"{at}/{name}", {"speed": "0"})).status == 403
    assert (await browser.post("/open", {"key": KEY})).status == 403
    assert browser.mock.world.clock.speed == browser.mock.clock.speed
    reply = await browser.post("/login", {"key": "wrong"})
    assert (reply.status, browser.cookie) == (403, "")
    assert (await browser.get("/login")).status == 200
    reply = await browser.post("/login", {"key": " main "})
    assert (reply.status, reply.headers["location"]) == (303, ROOT)
    assert (await browser.get(at)).status == 200
    assert (await browser.get("/login")).headers["location"] == ROOT
    await browser.post("/logout", {})
    assert (await browser.get(at)).status == 303


async def test_a_team_sees_its_own_worlds_only() -> None:
    teams = {"key-a": Team("team-a", "a-"), "key-b": Team("team-b", "b-")}
    browser = Browser(control_key="main", teams=teams)
    own, other = browser.world("a-1"), browser.world("b-1")
    await browser.post("/login", {"key": "key-a"})
    assert (await browser.get(own)).status == 200
    for section in SECTIONS:
        assert (await browser.get(other + section)).status == 404
    for name in FORMS:
        assert (await browser.post(f"{other}/{name}", {"speed": "0"})).status == 404
    assert (await browser.get(f"{other}/events")).status == 404
    listed = (await browser.get("")).body.decode()
    assert (own in listed, other in listed) == (True, False)
    assert (await browser.post("/open", {"key": "b-1"})).status == 403
    assert (await browser.post("/open", {"key": "a-2"})).status == 303
    browser.cookie = ""
    await browser.post("/login", {"key": "main"})
    assert (await browser.get(other)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9000"},
        {"origin": "", "sec_fetch_site": "cross-site"},
        {"origin": ""},
        {"host": "evil.example"},
    ],
)
async def test_no_form_of_another_page_is_taken(headers: dict[str, str]) -> None:
    browser = Browser()
    at, before = browser.world(), browser.mock.clock.now()
    for path in (*(f"{at}/{name}" for name in FORMS), "/open", "/login", "/logout"):
        reply = await browser.post(path, {"seconds": "60", "key": "x", "scenario": "status_server_error"}, **headers)
        assert (reply.status, b"<" in reply.body) == (403, False)
    assert browser.mock.clock.now() == before
    assert browser.mock.world.scenarios.armed == []


async def test_a_server_without_a_control_key_has_no_page_for_other_machines() -> None:
    browser = Browser(loopback=False)
    for path in ("", "/login", "/assets/page.css", browser.world()):
        reply = await browser.get(path)
        assert (reply.status, b"--control-key" in reply.body) == (403, True)


async def test_the_video_is_shown_without_a_trace_in_the_journal(contract: Contract) -> None:
    browser = Browser()
    job = await browser.mock.submit(contract)
    await browser.mock.clock.advance(10_000)
    before = browser.mock.world.journal.total
    reply = await browser.get(f"{browser.world()}/files/first_frame.jpg/{quote(job, safe='')}")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    assert browser.mock.world.journal.total == before
    assert not browser.mock.world.jobs[job].collected


async def test_the_live_view_ends_when_its_world_is_forgotten_and_when_the_server_stops(contract: Contract) -> None:
    browser = Browser()
    at = browser.world()
    reading = asyncio.create_task(browser.get(f"{at}/events"))
    whole = asyncio.create_task(browser.get("/events"))
    await asyncio.sleep(0.05)
    # The disconnect that the test's transport reports would end it, too; so this only shows that nothing fails.
    browser.mock.fake.forget(browser.mock.world)
    browser.mock.fake.end_streams()
    for one in (await reading, await whole):
        assert (one.status, one.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert one.body.count(b"event: change") >= 1


async def test_the_head_of_a_live_view_ends_at_once() -> None:
    browser = Browser()
    for path in ("/events", f"{browser.world()}/events"):
        reply = await browser._send("HEAD", path, b"", {})
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert reply.body == b""


async def test_requests_with_a_refused_key_are_shown_to_the_reader_of_all_worlds(contract: Contract) -> None:
    browser = Browser(api_keys=frozenset({KEY}), teams={"key-a": Team("team-a", "a-")}, control_key="main")
    await browser.post("/login", {"key": "main"})
    assert b"refused keys" not in (await browser.get("")).body
    await browser.mock.call_plain(contract, "status", path={"job": "some-job"}, key="another-key")
    assert b"refused keys" in (await browser.get("")).body
    listed = (await browser.get("/worlds/refused/exchanges")).body.decode()
    assert "some-job" in listed
    assert "another-key" not in listed
    number = next(one.number for one in browser.mock.fake.journal)
    assert (await browser.get(f"/worlds/refused/exchanges/{number}")).status == 200
    for section in SECTIONS:
        assert (await browser.get(f"/worlds/refused{section}")).status == 200
    browser.cookie = ""
    await browser.post("/login", {"key": "key-a"})
    assert b"refused keys" not in (await browser.get("")).body
    assert (await browser.get("/worlds/refused/exchanges")).status == 404


async def test_an_action_is_kept_like_one_of_the_control_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    page, kept = await browser.mock.fake.page(), []

    async def keep(world: World) -> None:
        kept.append(world.handle)

    monkeypatch.setattr(page, "_context", replace(page._context, kept=keep))
    await browser.post(f"{browser.world()}/clock", {"speed": "0"})
    await browser.post(f"{browser.world()}/clock", {"speed": "-1"})
    assert kept == [browser.mock.world.handle]


@pytest.mark.parametrize("number", ["9" * 5_000, "9" * 15, "x", "-1", "%C2%B2"])
async def test_an_exchange_that_does_not_exist_is_refused_after_the_login(number: str) -> None:
    browser = Browser()
    reply = await browser.get(f"{browser.world()}/exchanges/{number}")
    assert (reply.status, b"this world has no such exchange" in reply.body) == (404, True)
    guarded = Browser(control_key="secret")
    assert (await guarded.get(f"{guarded.world()}/exchanges/{number}")).status == 303


async def test_the_address_may_end_with_a_slash() -> None:
    assert (await Browser().get("/")).headers["location"] == ROOT
