"""The variations in a scenario, and the scenario without them."""

from __future__ import annotations

from hobbyhorse.conformance.client.variations import has_faults, plain, variations

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
