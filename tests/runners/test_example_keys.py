"""API keys for test cases have the documented form, and each case has its own."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.cases import CALLABLE_KINDS, Case
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.values import Contract, KeyForm
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.example_keys import example_key
from tests import specimen
from tests.conftest import CONTRACTS

FORMS = [
    KeyForm("^acme-[a-z0-9]{8,}$", "acme-0123abcd"),
    KeyForm("^sk-[0-9a-f]{16}$", "sk-00ff00ff00ff00ff"),
    KeyForm("^[A-Z]{12}$", "ABCDEFGHIJKL"),
    KeyForm("^xyz_[g-z]{6}_live$|^xyz_[a-z]{6}_[a-z]{4}$", "xyz_gggggg_live"),
]


def formed(form: KeyForm) -> Contract:
    return replace(CONTRACTS[0], key_form=form)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.example)
def test_keys_have_the_documented_form_and_differ(form: KeyForm) -> None:
    keys = [example_key(formed(form), number) for number in range(2_000)]
    assert len(set(keys)) == 2_000
    assert all(re.fullmatch(form.pattern, key) for key in keys)


def test_a_contract_without_a_form_has_keys_too() -> None:
    contract = replace(CONTRACTS[0], key_form=None)
    assert example_key(contract, 7) == "hh-test-key-000007"


def test_a_form_with_one_key_has_no_second() -> None:
    assert example_key(formed(KeyForm("^only-0$", "only-0")), 0) == "only-0"
    with pytest.raises(LookupError, match="no key number 1 matches"):
        example_key(formed(KeyForm("^only-0$", "only-0")), 1)


def test_every_run_of_a_client_has_a_key_of_the_documented_form() -> None:
    contract = load(specimen.FOLDER)
    assert contract.key_form is not None
    seen: list[str] = []

    def client(base_url: str, api_key: str, request: object) -> bytes:
        seen.append(api_key)
        raise RuntimeError("enough")

    with FakeSession(contract, contract.models[0]) as session:
        for kind in CALLABLE_KINDS:
            CallableRunner(session, client).run(Case({}, kind))
    assert len(set(seen)) == len(CALLABLE_KINDS)
    assert all(re.fullmatch(contract.key_form.pattern, key) for key in seen)
