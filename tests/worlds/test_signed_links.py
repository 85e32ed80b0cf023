"""A signed link is valid for its path until its expiry, and for nothing else."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.worlds.signed_links import LinkError, signer

PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).map(lambda text: f"/media/{text}")
MOMENTS = st.integers(1, 4_000_000_000)


def query_of(path: str, expires: float | None, seed: int = 0) -> dict[str, str]:
    return dict(parse_qsl(signer(seed).query(path, expires), keep_blank_values=True))


@given(PATHS, MOMENTS, st.integers(0, 1_000))
def test_a_link_is_valid_until_its_expiry_and_no_longer(path: str, expires: int, late: int) -> None:
    query = query_of(path, expires)
    signer(0).check(path, query, expires)
    signer(0).check(path, query, expires - late)
    with pytest.raises(LinkError) as refused:
        signer(0).check(path, query, expires + late + 1)
    assert refused.value.code == "AccessDenied"


@given(PATHS, PATHS, MOMENTS, MOMENTS)
def test_a_link_is_valid_for_nothing_else(path: str, other: str, expires: int, later: int) -> None:
    query = query_of(path, expires)
    changes = [(path, {**query, "Signature": "0"}), (path, {}), (path, {**query, "Expires": ""})]
    changes += [(other, query)] * (other != path) + [(path, {**query, "Expires": str(later)})] * (later != expires)
    for where, changed in changes:
        with pytest.raises(LinkError) as refused:
            signer(0).check(where, changed, 0)
        assert refused.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("until", ["abc", "nan", "inf", "1e9", "-1", "1_0", " 1", "\u0661", "9" * 5_000])
def test_a_signed_expiry_that_is_not_a_number_of_seconds_is_refused(until: str) -> None:
    query = {"Expires": until, "Signature": signer(0)._seal("/media/a", until)}
    with pytest.raises(LinkError) as refused:
        signer(0).check("/media/a", query, 0)
    assert refused.value.code == "AccessDenied"


def test_a_link_without_an_expiry_is_valid_forever() -> None:
    signer(0).check("/media/a", query_of("/media/a", None), 1e12)


def test_another_seed_is_another_secret() -> None:
    with pytest.raises(LinkError):
        signer(1).check("/media/a", query_of("/media/a", None, seed=0), 0)
    assert query_of("/media/a", 5) == query_of("/media/a", 5)


@given(PATHS, st.floats(1, 4_000_000_000))
def test_a_link_does_not_outlive_the_whole_second_that_responses_show(path: str, expires: float) -> None:
    query = query_of(path, expires)
    signer(0).check(path, query, float(int(expires)))
    with pytest.raises(LinkError):
        signer(0).check(path, query, int(expires) + 1)
