"""Signatures: what is signed is verified, and nothing else is; checked against digests that are made by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, Signature, list_of_fields, sign, verify
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that

BODY = b'{"id": "job-1", "text": "{timestamp} \xc3\xa9 {id} {}"}'
NOW = 1_777_370_400
ID = "msg-1"
KEY = base64.b64decode("aG9iYnlob3JzZS1ub3Qtc2VjcmV0")

TIMED = Signature("hex", "text", "{timestamp}.{body}", {"X-Time": "{timestamp}", "X-Sign": "{signature}"}, 300)
BARE = Signature("hex", "text", "{body}", {"X-Sign": "sha256={signature}", "X-Id": "{id}"})
STANDARD = Signature(
    "base64",
    "whsec-base64",
    "{id}.{timestamp}.{body}",
    {"webhook-id": "{id}", "webhook-timestamp": "{timestamp}", "webhook-signature": "v1,{signature}"},
    300,
)
BEHIND = Signature(
    "base64",
    "whsec-text",
    "{body}|{timestamp}",
    {"X-Time": "t={timestamp}", "X-Sign": "{signature}"},
    10,
)
LISTED = Signature("hex", "text", "{timestamp}.{body}", {"X-Sign": "t={timestamp},v1={signature}"}, 300)
SPLIT = Signature(
    "base64", "whsec-text", "{id}:{timestamp}:{body}", {"X-Sign": "id={id};ts={timestamp};h1={signature}"}, 5
)
SIGNATURES = {"listed": LISTED, "split": SPLIT, "timed": TIMED, "bare": BARE, "standard": STANDARD, "behind": BEHIND}

each_signature = pytest.mark.parametrize("signature", SIGNATURES.values(), ids=list(SIGNATURES))
SECRETS = st.binary(min_size=1, max_size=40).map(lambda key: "whsec_" + base64.b64encode(key).decode())


def signed(signature: Signature, body: bytes = BODY, secret: str = DEFAULT_SECRET) -> dict[str, str]:
    """Return a message's headers as a receiver sees them: with names in lower case."""
    headers = sign(signature, secret, body, timestamp=NOW, message_id=ID)
    return {name.lower(): value for name, value in headers.items()}


def digest(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()


def test_every_way_to_sign_that_a_contract_may_name_is_tested_here() -> None:
    schema = orjson.loads((data_directory("contracts") / "lifecycle.schema.json").read_bytes())
    known = schema["$defs"]["signature"]["properties"]
    for name in ("encoding", "secret"):
        assert set(known[name]["enum"]) == {getattr(signature, name) for signature in SIGNATURES.values()}


# ---- against digests made by hand


@pytest.mark.parametrize(
    ("signature", "headers"),
    [
        pytest.param(
            TIMED,
            {"X-Time": "1777370400", "X-Sign": digest(DEFAULT_SECRET.encode(), b"1777370400." + BODY).hex()},
            id="a timestamp and a body, by the secret as it is written, in hexadecimal",
        ),
        pytest.param(
            BARE,
            {"X-Sign": "sha256=" + digest(DEFAULT_SECRET.encode(), BODY).hex(), "X-Id": "msg-1"},
            id="a body, behind a prefix",
        ),
        pytest.param(
            STANDARD,
            {
                "webhook-id": "msg-1",
                "webhook-timestamp": "1777370400",
                "webhook-signature": "v1," + base64.b64encode(digest(KEY, b"msg-1.1777370400." + BODY)).decode(),
            },
            id="an id, a timestamp and a body, by the secret decoded, in base64",
        ),
        pytest.param(
            BEHIND,
            {
                "X-Time": "t=1777370400",
                "X-Sign": base64.b64encode(
                    digest(DEFAULT_SECRET.removeprefix("whsec_").encode(), BODY + b"|1777370400")
                ).decode(),
            },
            id="a body and a timestamp, by the secret without its prefix, in base64",
        ),
    ],
)
def test_a_message_is_signed_as_a_receiver_would_reckon_by_hand(
    signature: Signature, headers: Mapping[str, str]
) -> None:
    assert sign(signature, DEFAULT_SECRET, BODY, timestamp=NOW, message_id=ID) == headers


def test_the_example_of_standard_webhooks_is_signed_as_it_says() -> None:
    """The values are those of the tests of its published libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    message_id, timestamp = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    headers = sign(STANDARD, secret, body, timestamp=timestamp, message_id=message_id)
    assert headers == {
        "webhook-id": message_id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify(STANDARD, secret, body, headers, now=timestamp)


def test_a_secret_without_its_prefix_is_the_same_secret_where_the_prefix_does_not_count() -> None:
    bare = DEFAULT_SECRET.removeprefix("whsec_")
    for signature in (STANDARD, BEHIND):
        assert signed(signature, secret=bare) == signed(signature)
    assert signed(TIMED, secret=bare) != signed(TIMED)


# ---- what is verified


@each_signature
@given(secret=SECRETS, body=st.binary(max_size=60), timestamp=st.integers(0, 2**40), number=st.uuids())
def test_what_is_signed_is_verified(
    signature: Signature, secret: str, body: bytes, timestamp: int, number: object
) -> None:
    headers = sign(signature, secret, body, timestamp=timestamp, message_id=str(number))
    received = {name.lower(): value for name, value in headers.items()}
    assert verify(signature, secret, body, received)
    assert verify(signature, secret, body, received, now=timestamp)


@each_signature
@given(body=st.binary(max_size=60))
def test_no_other_body_is_verified(signature: Signature, body: bytes) -> None:
    assume(body != BODY)
    assert not verify(signature, DEFAULT_SECRET, body, signed(signature), now=NOW)


@each_signature
@given(secret=SECRETS)
def test_nothing_is_verified_with_another_secret(signature: Signature, secret: str) -> None:
    assume(secret != DEFAULT_SECRET)
    assert not verify(signature, secret, BODY, signed(signature), now=NOW)


@each_signature
def test_nothing_is_verified_that_lacks_a_header(signature: Signature) -> None:
    headers = signed(signature)
    for name in headers:
        without = {other: value for other, value in headers.items() if other != name}
        assert not verify(signature, DEFAULT_SECRET, BODY, without, now=NOW)


@each_signature
@given(data=st.data())
def test_nothing_is_verified_whose_signature_was_changed(signature: Signature, data: st.DataObject) -> None:
    headers = signed(signature)
    name = next(name.lower() for name, pattern in signature.headers.items() if "{signature}" in pattern)
    value = headers[name]
    at = data.draw(st.integers(0, len(value) - 1))
    letter = data.draw(st.sampled_from("0aA+,= é").filter(lambda letter: letter != value[at]))
    changed = data.draw(
        st.sampled_from([value[:at] + letter + value[at + 1 :], value[:at], value + letter, letter + value, ""])
    )
    assert not verify(signature, DEFAULT_SECRET, BODY, {**headers, name: changed}, now=NOW)


@pytest.mark.parametrize("signature", [TIMED, STANDARD, BEHIND, LISTED, SPLIT])
@given(other=st.integers(NOW - 5, NOW + 5).map(str) | st.sampled_from(["", "soon", "1777370400.0", " 1777370400", "٣"]))
def test_nothing_is_verified_whose_timestamp_was_changed(signature: Signature, other: str) -> None:
    assume(other != str(NOW))
    name = next(name.lower() for name, pattern in signature.headers.items() if "{timestamp}" in pattern)
    headers = signed(signature)
    changed = headers[name].replace(str(NOW), other)
    assert not verify(signature, DEFAULT_SECRET, BODY, {**headers, name: changed}, now=NOW)
    assert not verify(signature, DEFAULT_SECRET, BODY, {**headers, name: changed})


def test_nothing_is_verified_whose_signed_id_was_changed() -> None:
    assert not verify(STANDARD, DEFAULT_SECRET, BODY, {**signed(STANDARD), "webhook-id": "msg-2"}, now=NOW)


def test_an_id_that_is_not_signed_may_be_another() -> None:
    assert verify(BARE, DEFAULT_SECRET, BODY, {**signed(BARE), "x-id": "msg-2"}, now=NOW)


def test_a_field_without_its_prefix_is_not_verified() -> None:
    headers = signed(STANDARD)
    bare = headers["webhook-signature"].removeprefix("v1,")
    for value in (bare, "v2," + bare, "v1a," + bare):
        assert not verify(STANDARD, DEFAULT_SECRET, BODY, {**headers, "webhook-signature": value}, now=NOW)


# ---- a list of fields in one header


def test_a_list_of_fields_is_written_as_a_receiver_would_read_it() -> None:
    seal = digest(DEFAULT_SECRET.encode(), b"1777370400." + BODY).hex()
    assert signed(LISTED) == {"x-sign": f"t=1777370400,v1={seal}"}


@pytest.mark.parametrize(
    ("value", "is_verified"),
    [
        ("t={t},v1={other},v1={seal}", True),
        ("v1={seal},t={t}", True),
        ("t={t},v1={seal},v0={other}", True),
        ("t={t},v1={seal},t=0", True),
        ("t=0,t={t},v1={seal}", False),
        ("t={t},v1={other},v1={other}", False),
        ("t={t},v0={seal}", False),
        ("t={t},{seal}", False),
        ("t={t},v1={seal},", False),
        ("t={t};v1={seal}", False),
        ("v1={seal}", False),
        ("t={t}", False),
        ("", False),
    ],
)
def test_any_of_several_signatures_will_do(value: str, is_verified: bool) -> None:
    """A sender that changes its secret signs with the old and the new one for a while."""
    seal = digest(DEFAULT_SECRET.encode(), b"1777370400." + BODY).hex()
    header = value.format(t=NOW, seal=seal, other="0" * 64)
    assert verify(LISTED, DEFAULT_SECRET, BODY, {"x-sign": header}, now=NOW) is is_verified


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("t={timestamp},v1={signature}", (",", ["t={timestamp}", "v1={signature}"])),
        ("id={id};h={signature}", (";", ["id={id}", "h={signature}"])),
        ("v1,{signature}", None),
        ("{signature}", None),
        ("t={timestamp}, v1={signature}", (",", ["t={timestamp}", " v1={signature}"])),
        ("t={timestamp},{signature}", None),
        ("t={timestamp},v1=x{signature}", None),
    ],
)
def test_a_list_of_fields_has_a_name_before_each(pattern: str, parts: tuple[str, list[str]] | None) -> None:
    assert list_of_fields(pattern) == parts


# ---- how old a message may be


@pytest.mark.parametrize("signature", [TIMED, STANDARD, BEHIND, LISTED, SPLIT])
@given(late=st.integers(-1000, 1000))
def test_a_message_is_verified_within_the_tolerance_to_either_side(signature: Signature, late: int) -> None:
    assert signature.tolerance is not None
    fresh = abs(late) <= signature.tolerance
    assert verify(signature, DEFAULT_SECRET, BODY, signed(signature), now=NOW + late) is fresh


def test_age_does_not_count_where_nobody_asks_or_the_contract_sets_no_limit() -> None:
    assert verify(TIMED, DEFAULT_SECRET, BODY, signed(TIMED))
    assert verify(replace(TIMED, tolerance=None), DEFAULT_SECRET, BODY, signed(TIMED), now=NOW + 10**9)
    assert verify(BARE, DEFAULT_SECRET, BODY, signed(BARE), now=NOW + 10**9)


# ---- the project's contracts


@contracts_that(lambda contract: contract.callbacks is not None and contract.callbacks.signature is not None)
def test_a_providers_signature_is_verified_and_notices_another_body(contract: Contract) -> None:
    assert contract.callbacks is not None
    signature = contract.callbacks.signature
    assert signature is not None
    headers = signed(signature)
    assert verify(signature, DEFAULT_SECRET, BODY, headers, now=NOW)
    assert not verify(signature, DEFAULT_SECRET, BODY + b" ", headers, now=NOW)
    if signature.tolerance is not None:
        assert not verify(signature, DEFAULT_SECRET, BODY, headers, now=NOW + signature.tolerance + 1)


def test_a_timestamp_of_very_many_digits_is_not_verified() -> None:
    headers = {**signed(TIMED), "x-time": "9" * 5_000}
    assert not verify(TIMED, DEFAULT_SECRET, BODY, headers, now=NOW)
