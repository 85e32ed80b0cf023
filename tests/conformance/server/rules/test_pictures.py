"""The rules about input pictures, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED, Verdict, judge
from hobbyhorse.conformance.server.pictures.samples import ALMOST_BYTES, ALONE, AT, BEYOND, BYTES
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.values import Contract
from tests.conformance.server.rules.test_shape import a_job, assuming, staged
from tests.conftest import contracts_that
from tests.judging import knowing, named, teller
from tests.tracing import Teller

FORMAT, SIDE = "formats/png", "least_side"
EITHER = "formats/jpeg,least_side,portrait"
pictures = contracts_that(lambda contract: any(model.images is not None for model in contract.models))


class Pictures:
    """Adds submissions of pictures to a trace, each with the end of its job."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.told = contract, teller(contract)
        self.count = 0

    def order(self, probe: str, end: str, **how: Any) -> Pictures:
        """Add a submission that is refused, fails or succeeds."""
        self.count += 1
        job = a_job(self.contract, self.count)
        if end == "refused":
            self.told.submit("invalid_request", None, probe=probe, key=None, **how)
            return self
        self.told.submit("accepted", job, probe=probe, key=None, **how)
        role = "result" if "result" in self.contract.operations else "status"
        self.told.call(role, staged(self.contract, role, end), job, probe="pictures")
        return self

    def one_video(self) -> Pictures:
        """Show that the endpoint takes pictures of the suite."""
        return self.order(f"{AT}{FORMAT}", "success")


def verdict(rule: str, told: Teller, contract: Contract | None = None) -> Verdict:
    """Return the verdict on a rule, with nothing assumed unless a contract is given."""
    return judge(contract or knowing(told.contract), [told.trace()], [named(server_rules(), rule)])[0]


def word(rule: str, told: Teller, contract: Contract | None = None) -> str:
    return verdict(rule, told, contract).verdict


def ends(contract: Contract) -> list[str]:
    """Return the ways to reject a picture that the contract's responses can show."""
    role = "result" if "result" in contract.operations else "status"
    kinds = {
        contract.graph[stage].kind
        for one in contract.operations[role].situations.values()
        if len(one.stages) == 1
        for stage in one.stages
    }
    return ["refused", *({"failure"} & kinds)]


@pictures
def test_pictures_at_their_limits_that_make_videos_keep_the_rule(contract: Contract) -> None:
    told = Pictures(contract).one_video().order(f"{AT}{EITHER}", "success").told
    assert word("PIC-01", told) == PASSED


@pictures
def test_a_picture_that_is_rejected_together_and_alone_is_a_finding(contract: Contract) -> None:
    for end in ends(contract):
        told = Pictures(contract).one_video().order(f"{AT}{EITHER}", end)
        told.order(f"{ALONE}formats/jpeg", "success").order(f"{ALONE}{SIDE}", end)
        found = verdict("PIC-01", told.told)
        assert found.verdict == BROKEN
        (breach,) = found.breaches
        assert breach.places == ("lifecycle.json#/models/0/images/least_side",)
        assert "whose shorter side is at the documented limit" in breach.message


@pictures
@pytest.mark.parametrize(
    ("facet", "words"),
    [
        ("inline", "that is in the request"),
        ("inline/webp", "in the documented format webp, in the request itself"),
        ("url/signed", "at a URL with a query"),
        ("url/bare", "at a URL without an extension"),
        ("url/encoded", "at a URL with encoded characters"),
        ("url/upper", "in capital letters"),
    ],
)
def test_a_way_to_send_a_picture_is_named_if_it_is_refused(contract: Contract, facet: str, words: str) -> None:
    told = Pictures(contract).one_video().order(f"{AT}formats/webp,{facet}", "refused")
    told.order(f"{ALONE}formats/webp", "success").order(f"{ALONE}{facet}", "refused")
    found = verdict("PIC-01", told.told, assuming(contract, "lifecycle.json#/models/0/images/most_bytes"))
    assert found.verdict == BROKEN
    assert words in found.breaches[0].message


@pictures
def test_a_documented_format_that_is_rejected_is_called_documented(contract: Contract) -> None:
    told = (
        Pictures(contract).one_video().order(f"{AT}{EITHER}", "refused").order(f"{ALONE}formats/jpeg", "refused").told
    )
    (breach,) = verdict("PIC-01", told).breaches
    assert "in the documented format jpeg" in breach.message


@pictures
def test_a_limit_that_is_assumed_makes_a_lesson(contract: Contract) -> None:
    told = Pictures(contract).one_video().order(f"{AT}{EITHER}", "refused").order(f"{ALONE}{SIDE}", "refused").told
    assumed = assuming(contract, "lifecycle.json#/models/0/images/least_side")
    assert word("PIC-01", told, assumed) == LESSON


@pictures
def test_a_picture_below_the_assumed_bytes_is_documented(contract: Contract) -> None:
    place = "lifecycle.json#/models/0/images/most_bytes"
    told = Pictures(contract).one_video().order(f"{AT}formats/png,{BYTES}", "refused")
    told.order(f"{ALONE}formats/png", "success").order(f"{ALONE}{ALMOST_BYTES}", "refused")
    found = verdict("PIC-01", told.told, assuming(contract, place))
    assert found.verdict == BROKEN
    assert "of almost the documented limit" in found.breaches[0].message
    told = Pictures(contract).one_video().order(f"{AT}formats/png,{BYTES}", "refused")
    told.order(f"{ALONE}formats/png", "success").order(f"{ALONE}{ALMOST_BYTES}", "success")
    assert word("PIC-01", told.order(f"{ALONE}{BYTES}", "refused").told, assuming(contract, place)) == LESSON


@pictures
def test_limits_that_are_refused_only_together_are_a_finding(contract: Contract) -> None:
    def told(*again: str) -> Teller:
        pictures = Pictures(contract).one_video().order(f"{AT}{EITHER}", "refused")
        for facet in EITHER.split(","):
            pictures.order(f"{ALONE}{facet}", "success")
        for end in again:
            pictures.order(f"{AT}{EITHER}", end)
        return pictures.told

    (breach,) = verdict("PIC-01", told("refused")).breaches
    assert "although a picture at each of them is" in breach.message
    for passing in (told(), told("success")):
        assert verdict("PIC-01", passing).breaches == ()


@pictures
def test_one_refusal_that_nothing_repeats_is_no_finding(contract: Contract) -> None:
    told = Pictures(contract).one_video().order(f"{AT}{EITHER}", "refused")
    assert word("PIC-01", told.told) == PASSED
    told.order(f"{ALONE}formats/jpeg", "success")
    assert word("PIC-01", told.told) == PASSED


@pictures
def test_an_endpoint_that_takes_no_picture_of_the_suite_shows_nothing(contract: Contract) -> None:
    told = Pictures(contract)
    for kind in (AT, ALONE, BEYOND):
        told.order(f"{kind}{FORMAT}", "refused")
    assert word("PIC-01", told.told) == word("PIC-02", told.told) == NOT_OBSERVED


@pictures
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_bad_day_is_no_finding(contract: Contract, status: int) -> None:
    told = Pictures(contract).one_video()
    for kind in (AT, ALONE, BEYOND):
        told.order(f"{kind}{SIDE}", "refused", status=status)
    assert (word("PIC-01", told.told), word("PIC-02", told.told)) == (PASSED, NOT_OBSERVED)


@pictures
def test_a_picture_beyond_a_limit_that_is_rejected_keeps_the_rule(contract: Contract) -> None:
    for end in ends(contract):
        assert word("PIC-02", Pictures(contract).one_video().order(f"{BEYOND}{SIDE}", end).told) == PASSED


@pictures
@pytest.mark.parametrize(
    ("facet", "place"),
    [("formats/gif", "formats"), ("least_side", "least_side"), ("aspect/1", "aspect"), ("aspect/0", "aspect")],
)
def test_a_picture_beyond_a_limit_that_makes_a_video_is_a_finding(contract: Contract, facet: str, place: str) -> None:
    (breach,) = verdict("PIC-02", Pictures(contract).one_video().order(f"{BEYOND}{facet}", "success").told).breaches
    assert breach.places == (f"lifecycle.json#/models/0/images/{place}",)
    assert ("undocumented format gif" if facet == "formats/gif" else "beyond the documented limit") in breach.message


@pictures
def test_the_assumed_number_of_bytes_makes_a_lesson(contract: Contract) -> None:
    told: Teller = Pictures(contract).one_video().order(f"{BEYOND}most_bytes", "success").told
    assumed = assuming(contract, "lifecycle.json#/models/0/images/most_bytes")
    assert word("PIC-02", told, assumed) == LESSON


@pictures
def test_a_refusal_beyond_a_limit_in_an_undocumented_way_breaks_its_own_rule(contract: Contract) -> None:
    bare = assuming(contract)
    for facet, expected in ((SIDE, BROKEN), ("most_bytes", NOT_OBSERVED)):
        told = Pictures(contract).one_video().order(f"{BEYOND}{facet}", "refused", status=418).told
        assert word("NEG-02", told, bare) == expected
