"""Job id formats: each has its documented shape, follows from a seed, and does not repeat."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.ids import ID_BITS, ID_FORMS
from hobbyhorse.contract.values import Contract

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# The last millisecond that fits into 48 bits, in the year 10889.
LAST_MILLISECOND = (1 << 48) - 1

SHAPES: Mapping[str, str] = {
    "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "uuid7": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ulid": r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
    "hex16": r"[0-9a-f]{16}",
    "hex32": r"[0-9a-f]{32}",
}
TIMED = ["uuid7", "ulid"]

MILLISECONDS = st.integers(0, LAST_MILLISECOND - 2)
SEEDS = st.integers(0, 2**64)


def milliseconds_of(form: str, name: str) -> int:
    """Decode the time at the start of an id, as RFC 9562 and the ULID specification define it."""
    if form == "uuid7":
        return uuid.UUID(name).int >> 80
    moment = 0
    for letter in name[:10]:
        moment = moment * 32 + CROCKFORD.index(letter)
    return moment


def test_the_forms_are_those_that_a_contract_may_name() -> None:
    schema = orjson.loads((data_directory("contracts") / "lifecycle.schema.json").read_bytes())
    assert set(schema["properties"]["job_id"]["properties"]["form"]["enum"]) == set(ID_FORMS) == set(SHAPES)


@pytest.mark.parametrize("form", ID_FORMS)
@given(seed=SEEDS, moment=MILLISECONDS)
def test_an_id_has_the_shape_of_its_form(form: str, seed: int, moment: int) -> None:
    assert re.fullmatch(SHAPES[form], ID_FORMS[form](Random(seed), moment / 1000))


@pytest.mark.parametrize(("form", "version"), [("uuid4", 4), ("uuid7", 7)])
def test_the_standard_library_reads_the_version_of_a_uuid(form: str, version: int) -> None:
    found = uuid.UUID(ID_FORMS[form](Random(0), 1777370400.0))
    assert (found.version, found.variant) == (version, uuid.RFC_4122)


@pytest.mark.parametrize("form", ID_FORMS)
def test_no_two_ids_of_one_moment_are_the_same(form: str) -> None:
    random = Random(0)
    assert len({ID_FORMS[form](random, 1777370400.0) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize("form", ID_FORMS)
@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_ids(form: str, seed: int) -> None:
    one, other = Random(seed), Random(seed)
    assert [ID_FORMS[form](one, 1.0) for _ in range(3)] == [ID_FORMS[form](other, 1.0) for _ in range(3)]


@pytest.mark.parametrize("form", ID_FORMS)
def test_another_seed_gives_other_ids(form: str) -> None:
    assert len({ID_FORMS[form](Random(seed), 1.0) for seed in range(1_000)}) == 1_000


@pytest.mark.parametrize("form", sorted(set(ID_FORMS) - set(TIMED)))
def test_an_id_without_a_time_is_the_same_at_any_moment(form: str) -> None:
    assert ID_FORMS[form](Random(0), 0.0) == ID_FORMS[form](Random(0), 1777370400.0)


@pytest.mark.parametrize("form", TIMED)
@given(seed=SEEDS, moment=MILLISECONDS)
def test_a_time_ordered_id_begins_with_its_moment(form: str, seed: int, moment: int) -> None:
    name = ID_FORMS[form](Random(seed), moment / 1000)
    assert abs(milliseconds_of(form, name) - moment) <= 1


@pytest.mark.parametrize("form", TIMED)
@given(seeds=st.tuples(SEEDS, SEEDS), moments=st.tuples(MILLISECONDS, MILLISECONDS))
def test_a_time_ordered_id_sorts_by_its_moment(form: str, seeds: tuple[int, int], moments: tuple[int, int]) -> None:
    earlier, later = min(moments), max(moments) + 2
    names = [ID_FORMS[form](Random(seed), moment / 1000) for seed, moment in zip(seeds, (earlier, later), strict=True)]
    assert names == sorted(names)


@pytest.mark.parametrize("form", TIMED)
def test_every_other_bit_of_a_time_ordered_id_is_random(form: str) -> None:
    """Each bit after the time takes both values, except the six of a UUID's version and variant."""
    names = [ID_FORMS[form](Random(seed), 0.0) for seed in range(200)]
    numbers = [uuid.UUID(name).int if form == "uuid7" else number_of(name) for name in names]
    always, never = numbers[0], numbers[0]
    for number in numbers:
        always, never = always & number, never | number
    drawn = bin((never & ~always) & ((1 << 80) - 1)).count("1")
    assert drawn == (74 if form == "uuid7" else 80)


def number_of(ulid: str) -> int:
    number = 0
    for letter in ulid:
        number = number * 32 + CROCKFORD.index(letter)
    return number


def test_a_providers_ids_have_a_known_form(contract: Contract) -> None:
    assert re.fullmatch(SHAPES[contract.job_id_form], ID_FORMS[contract.job_id_form](Random(0), 1777370400.0))


@pytest.mark.parametrize("form", ID_FORMS)
def test_a_form_takes_its_number_of_random_bits(form: str) -> None:
    drawn, skipped = Random(5), Random(5)
    ID_FORMS[form](drawn, 1.5)
    skipped.getrandbits(ID_BITS[form])
    assert drawn.random() == skipped.random()
    assert set(ID_BITS) == set(ID_FORMS)
