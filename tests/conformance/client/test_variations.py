"""The variations in a scenario, and the scenario without them."""

from __future__ import annotations

from hobbyhorse.conformance.client.cases import KILLED, Case
from hobbyhorse.conformance.client.variations import has_faults, plain, usual_case, variations

LOWER = {"move": "header_case", "names": "upper", "times": "always"}
CUT = {"move": "truncate", "keep": 0.5}


def test_the_plain_scenario_has_the_faults_and_the_timeline_but_no_variation() -> None:
    mixed = {"moves": {"status": [LOWER], "media": [CUT, LOWER]}, "timeline": {"move": "fail"}}
    assert plain(mixed) == {"moves": {"media": [CUT]}, "timeline": {"move": "fail"}}
    assert plain({"moves": {"status": [LOWER]}}) == {}
    assert plain({"moves": {"status": [{"move": "overloaded"}]}}) == {"moves": {"status": [{"move": "overloaded"}]}}


def test_a_variation_is_described_with_its_options_and_its_source() -> None:
    (found,) = variations({"moves": {"status": [LOWER], "media": [CUT]}})
    assert (found.role, found.level) == ("status", "MUST")
    assert "names=upper" in found.says
    assert "times" not in found.says
    assert "RFC 9110" in found.source


def test_a_timeline_is_no_fault_on_the_way_to_the_end() -> None:
    assert has_faults({"moves": {"media": [CUT, LOWER]}})
    assert not has_faults({"moves": {"media": [LOWER]}, "timeline": {"move": "fail"}})


def test_the_usual_case_is_run_in_the_same_way() -> None:
    assert usual_case(Case({"moves": {"status": [LOWER]}}, KILLED, 3)) == Case({}, KILLED, 3)
    assert usual_case(Case({"moves": {"media": [CUT]}})) is None


def test_an_option_can_be_a_variation_of_its_fault() -> None:
    page = {"move": "html_page", "status": 500, "gateway_status": 520}
    (found,) = variations({"moves": {"status": [page]}})
    assert "gateway_status=520" in found.says
    assert plain({"moves": {"status": [page]}}) == {"moves": {"status": [{"move": "html_page", "status": 500}]}}
    limited = {"move": "rate_limited", "retry_after": 5, "retry_after_odd": "word"}
    assert [one.level for one in variations({"moves": {"status": [limited]}})] == ["SHOULD"]
