"""The faults of each place by name, for tests that walk through them."""

from __future__ import annotations

from collections.abc import Mapping

from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, OPERATION, TIMELINE, Fault
from hobbyhorse.scenarios.registry import all_faults, faults_at

FAULTS = all_faults()
OPERATION_FAULTS, MEDIA_FAULTS = faults_at(OPERATION), faults_at(MEDIA)
CALLBACK_FAULTS, TIMELINE_FAULTS = faults_at(CALLBACK), faults_at(TIMELINE)


def unjudged(faults: Mapping[str, Fault]) -> set[str]:
    """Return the names of the faults that are no variations which a rule judges."""
    return {name for name, fault in faults.items() if not fault.form}
