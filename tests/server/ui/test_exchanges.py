"""An exchange is shown with its mistakes, and its curl line sends the same request."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake
from hobbyhorse.server.run import serving
from hobbyhorse.server.ui.exchanges import FAULT, MISTAKE, MOST_SHOWN, NOTE, curl, is_odd, oddities, pretty
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Entry, JournalNote
from tests.conftest import CONTRACTS
from tests.world import HTTP

SHOWN: dict[str, object] = {"nearest": None, "situation": "found", "move": None, "status": 200, "notes": []}
NEAR = {"text": "near", "differences": [{"at": "/a", "message": "missing"}, {"at": "", "message": "odd"}]}


@pytest.mark.parametrize(
    ("changes", "whole", "kinds"),
    [
        ({}, True, []),
        ({}, False, [NOTE]),
        ({"notes": ["a note"]}, True, [NOTE]),
        ({"move": "reset_peer", "status": 0, "notes": ["scenario: reset_peer"]}, False, [FAULT, NOTE]),
        ({"situation": "unknown_path", "status": 404, "nearest": NEAR}, True, [MISTAKE]),
        ({"situation": "invalid_request", "status": 422, "notes": ["invalid_request: why"]}, True, [MISTAKE]),
    ],
)
def test_what_is_odd_is_said(changes: dict[str, object], whole: bool, kinds: list[str]) -> None:
    found = list(oddities({**SHOWN, **changes}, whole))
    assert [one.kind for one in found] == kinds
    assert all(one.text for one in found)
    if "nearest" in changes:
        assert found[0].more == ("/a: missing",)


@pytest.mark.parametrize(
    ("note", "delivered", "odd"),
    [
        (JournalNote(status=200), True, False),
        (JournalNote(status=200, notes=("a placeholder",)), True, False),
        (JournalNote(status=200), False, True),
        (JournalNote(status=404), True, True),
        (JournalNote(status=0), True, True),
        (JournalNote(status=200, move="slow_body"), True, True),
    ],
)
def test_only_refused_faulted_and_lost_ones_are_odd(note: JournalNote, delivered: bool, odd: bool) -> None:
    scope = {"method": "GET", "query_string": b"", "headers": ()}
    entry = Entry(5.0).noted(note, scope, provider=None, role=None, root="", path="/")
    entry.begin((), 0)
    if delivered:
        entry.done(6.0)
    assert is_odd(entry) is odd


def test_json_is_indented_and_a_long_body_is_cut() -> None:
    assert pretty('{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'
    assert pretty("not {json") == "not {json"
    assert len(pretty("x" * MOST_SHOWN * 2)) < MOST_SHOWN + 50


def plain(contract: Contract, **changes: object) -> tuple[str, Exchange]:
    exchange = Exchange(
        arrived=1.0, role=None, method="POST", url="http://127.0.0.1:1/p/v1/jobs?a=1&b='", root="http://127.0.0.1:1/p"
    )
    exchange = replace(exchange, **changes)  # type: ignore[arg-type]
    redactor = Redactor(contract, ["the-key"])
    return curl(contract, exchange, redactor, list(redactor.headers(exchange.headers))), exchange


def test_a_body_that_is_cut_or_no_text_is_read_from_a_file(contract: Contract) -> None:
    for body in (b"x" * MOST_JOURNAL_BODY_BYTES, b"\xff", b"\0"):
        assert plain(contract, body=body)[0].endswith("--data-binary @body")
    assert "--data" not in plain(contract)[0]
    assert plain(contract, method="HEAD")[0].startswith("curl -i -I ")
    assert plain(contract, method="DELETE")[0].startswith("curl -i -X DELETE ")


def test_no_key_is_in_a_curl_line(contract: Contract) -> None:
    text, _ = plain(contract, headers=(("authorization", "Bearer the-key"), ("x-note", "the-key")), body=b"the-key")
    assert "the-key" not in text
    assert '"$API_KEY"' in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_line_sends_the_same_request() -> None:
    contract, key = CONTRACTS[0], "a'key\"$HOME"
    fake = Fake([contract])
    body = json.dumps({"prompt": "a 'horse' \"$HOME\" `ls` \\ \u00e9\n"}).encode()
    security = {name: f"{before}{key}" for part, name, before in contract.security if part == "header"}
    with serving(fake) as url:
        headers = {**security, "x-odd": "a 'b' $c"}
        HTTP.post(f"{url}/{contract.key}/v1/x y/ü?a=1&b=%27$(ls)&c", content=body, headers=headers)
        world = fake.worlds.of(key)
        assert world is not None
        (sent,) = world.journal
        redactor = Redactor(contract, [key])
        line = curl(contract, sent, redactor, list(redactor.headers(sent.headers)))
        env = {"API_KEY": key, "PATH": "/usr/bin:/bin"}
        subprocess.run(["sh", "-c", line], env=env, capture_output=True, check=True)
        _, again = world.journal
    assert (again.method, again.url, again.body) == (sent.method, sent.url, sent.body)
    assert again.header("x-odd") == "a 'b' $c"
    assert again.situation == sent.situation
