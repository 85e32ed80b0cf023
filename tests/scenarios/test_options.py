"""The options: the values that the search tries and the defaults are values that a scenario may have."""

from __future__ import annotations

import jsonschema
import pytest

from hobbyhorse.scenarios.fault import Fault
from tests.known_faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.stands[0]}-{fault.name}")
def test_defaults_and_tried_values_are_within_the_bounds(fault: Fault) -> None:
    for option in fault.options:
        values = [*option.tried, *([] if option.default is None else [option.default])]
        for value in values:
            jsonschema.Draft202012Validator(option.schema).validate(value)
        assert len({repr(value) for value in option.tried}) == len(option.tried), "the search would try a value twice"
        assert option.schema["type"] in ("boolean", "integer", "number", "string")
        assert option.says.endswith(".")
