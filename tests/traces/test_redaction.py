"""No secret is left in an exchange, by value or by name, and two keys stay two."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from hobbyhorse.traces.exchange import SECRET_HEADERS, Exchange
from hobbyhorse.traces.har import read_har
from hobbyhorse.traces.har_writing import to_har
from hobbyhorse.traces.redaction import Redactor, is_secret_name, without_key
from hobbyhorse.traces.trace import KEY, REDACTED, shows_key
from tests.conftest import CONTRACTS
from tests.traces.recorders import ACME, API, SECRET, archive, named, poll, submission

OTHER = "sk-other-999999"


def exchange(**more: object) -> Exchange:
    fields: dict[str, object] = {"arrived": 0.0, "role": "status", "method": "GET", "url": f"{API}/v1/jobs/j"}
    return Exchange(**{**fields, **more})  # type: ignore[arg-type]


def redacted(**more: object) -> Exchange:
    return Redactor(ACME, [SECRET]).exchange(exchange(**more))


@pytest.mark.parametrize("name", sorted(SECRET_HEADERS | {"x-access-token", "x-client-secret", "x-amz-credential"}))
def test_a_secret_header_is_replaced_by_name(name: str) -> None:
    one = redacted(headers=((name, "hush"),), answer_headers=((name, "hush"),))
    assert (one.header(name), one.answer_header(name)) == (REDACTED, REDACTED)


@pytest.mark.parametrize("name", ["accept", "www-authenticate", "content-type", "idempotency-key", "retry-after"])
def test_other_headers_stay(name: str) -> None:
    assert redacted(headers=((name, "plain"),)).header(name) == "plain"


def test_the_idempotency_key_of_a_contract_stays_and_other_keys_do_not() -> None:
    assert is_secret_name("idempotency-key")
    for contract in CONTRACTS:
        place = contract.idempotency.key
        if place is not None and place.part == "header":
            headers = tuple(Redactor(contract, ()).headers([(place.name.lower(), "k-1"), ("x-my-key", "hush")]))
            assert headers == ((place.name.lower(), "k-1"), ("x-my-key", REDACTED))


def test_the_key_headers_of_every_contract_are_secret() -> None:
    for contract in CONTRACTS:
        for part, name, before in contract.security:
            if part == "header":
                assert dict(Redactor(contract, ()).headers([(name, f"{before}hush")]))[name] == REDACTED
                assert dict(Redactor(contract, ["hush"]).headers([(name, f"{before}hush")]))[name] == before + KEY


@pytest.mark.parametrize("key", [SECRET, "sk/a+b =%20ü", 'sk"quoted\\'])
def test_a_key_is_replaced_however_much_of_it_is_percent_encoded(key: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in key.encode())
    first = f"%{key.encode()[0]:02X}{key[1:]}"
    for text in (encoded, encoded.upper(), first):
        assert Redactor(ACME, [OTHER, key]).text(f"?k={text}&x=%20") == "?k=[key-2]&x=%20"
        assert without_key(f"?k={text}&x=%20", key) == "?k=[key]&x=%20"
    assert redacted(notes=(f"a {SECRET} b",)).notes == ("a [key] b",)


@pytest.mark.parametrize("key", [SECRET, "sk/a+b =%20ü", 'sk"quoted\\'])
def test_a_key_is_replaced_in_every_part_of_an_exchange(key: str) -> None:
    from_json, in_ascii = json.dumps({"k": key}, ensure_ascii=False), json.dumps({"k": key})
    one = Redactor(ACME, [key]).exchange(
        exchange(
            url=f"{API}/v1/jobs/{key}?q={key}",
            headers=(("x-note", key),),
            body=from_json.encode(),
            answer=gzip.compress(in_ascii.encode()),
            answer_headers=(("location", f"/{key}"),),
            job=key,
            made=f"job-{key}",
        )
    )
    assert one.url == f"{API}/v1/jobs/{KEY}?q={KEY}"
    assert (one.header("x-note"), one.answer_header("location")) == (KEY, f"/{KEY}")
    assert one.body == b'{"k": "[key]"}'
    assert gzip.decompress(one.answer) == b'{"k": "[key]"}'
    assert (one.job, one.made) == (KEY, f"job-{KEY}")


@pytest.mark.parametrize("form", ["sk%2fa%2bb", "sk%2Fa%2Bb", "sk/a%2Bb", "sk/a%2bb", "sk/a+b"])
def test_a_key_is_replaced_in_each_form_of_percent_encoding(form: str) -> None:
    assert Redactor(ACME, ["sk/a+b-long"]).url(f"{API}/x?q={form}-long") == f"{API}/x?q={KEY}"


def test_a_packed_body_without_a_key_keeps_its_bytes() -> None:
    packed = gzip.compress(b"plain", mtime=7)
    broken = packed[:-4]
    assert redacted(body=packed, answer=broken).body == packed
    assert redacted(answer=b"\x1f\x8b rubbish").answer == b"\x1f\x8b rubbish"
    assert b"sk-acme" not in gzip.decompress(redacted(answer=gzip.compress(SECRET.encode())).answer)


def test_two_keys_stay_two() -> None:
    redactor = Redactor(ACME, [SECRET, OTHER, SECRET, ""])
    one = redactor.exchange(exchange(headers=(("authorization", f"Bearer {SECRET}"), ("x-key", OTHER))))
    assert one.headers == (("authorization", "Bearer [key-1]"), ("x-key", "[key-2]"))
    assert redactor.text(f"{OTHER}{SECRET}") == "[key-2][key-1]"
    # What is redacted already stays as it is.
    assert redactor.exchange(one) == one


def test_a_key_that_begins_another_key_is_not_replaced_in_it() -> None:
    assert Redactor(ACME, ["sk-long", "sk-long-er"]).text("sk-long-er sk-long") == "[key-2] [key-1]"


def test_the_words_for_keys_are_recognised() -> None:
    assert all(map(shows_key, (KEY, "x[key-1]", "Bearer [key-12]")))
    assert not any(map(shows_key, ("key", "[key", "[key-]", "[key-0]", "[redacted]")))


def test_an_archive_of_two_keys_is_read_back_with_two_keys() -> None:
    entries = [submission(), poll(at=1), submission("job-2", key=OTHER, at=60)]
    trace = read_har(archive(*entries), ACME).trace
    again = read_har(json.loads(json.dumps(to_har(trace))), ACME).trace
    assert [one.header("authorization") for one in again.exchanges] == ["Bearer [key-1]"] * 2 + ["Bearer [key-2]"]
    assert again == trace


def test_no_key_is_in_an_archive_that_is_written() -> None:
    one = poll(SECRET, at=5)
    one["request"]["url"] += f"?also={SECRET}"
    one["response"]["headers"] += named({"X-Echo": SECRET})
    text = json.dumps(to_har(read_har(archive(submission(), one), ACME).trace))
    assert SECRET not in text
    assert '"_job": "[key]"' in text


def test_the_key_of_a_query_is_replaced_by_its_name() -> None:
    contract = replace(ACME, security=(("query", "api_key", ""),))
    url = f"{API}/x?a=b&api_key="
    assert Redactor(contract, ()).url(f"{url}hush") == url + REDACTED
    assert Redactor(contract, ["k"]).url(f"{url}k") == url + KEY
    assert Redactor(contract, ["one", "two"]).url(f"{url}two") == f"{url}[key-2]"
    assert Redactor(contract, ()).url(f"{url}[key-2]") == f"{url}[key-2]"
