"""Armed and active scenarios as JSON, and back: so that a server which is restarted goes on where it was.

An active scenario may be reached from several places: the list of the world, and each of its jobs. Each place writes it
whole, and `ScenarioReader` makes one object of the copies, which its armed scenario and its number identify. The copy
of the world is read first, because the copies of jobs may be older.
"""

from __future__ import annotations

import base64
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenario, ArmedScenarios
from hobbyhorse.scenarios.scenario import read_scenario

# The state of Python's generator (Mersenne Twister): 624 words and a position.
WORDS = 625
STATE = struct.Struct(f"<{WORDS}I")
# The version of `Random.getstate`, the same since Python 3.2.
STATE_VERSION = 3


def write_armed(armed: ArmedScenario) -> dict[str, Any]:
    """Return an armed scenario as JSON."""
    return {
        "id": armed.id,
        "name": armed.scenario.name,
        "scenario": armed.scenario.to_json(),
        "fits": sorted(armed.fits),
        "provider": armed.provider,
        "left": armed.left,
        "seed": armed.seed,
        "source": armed.source,
        "begun": armed.begun,
        "met": dict(armed.met),
    }


def write_active(active: ActiveScenario) -> dict[str, Any]:
    """Return an active scenario as JSON, with its armed one, which may be disarmed by now."""
    _, state, gauss = active.random.getstate()
    return {
        "armed": write_armed(active.armed),
        "number": active.number,
        "contract": active.contract.key,
        "bound": active.bound,
        "links": active.links,
        "jobs": active.jobs,
        "used": active.used,
        "random": [base64.b64encode(STATE.pack(*state)).decode(), gauss],
    }


def write_scenarios(scenarios: ArmedScenarios) -> dict[str, Any]:
    """Return the scenarios of a world as JSON; empty if none was ever armed."""
    if not scenarios.number:
        return {}
    found = scenarios.active_ones()
    return {
        "number": scenarios.number,
        "applies": scenarios.active,
        "armed": [write_armed(armed) for armed in scenarios.armed],
        "active": [[scenarios.is_open(one), scenarios.is_recent(one), write_active(one)] for one in found],
    }


class ScenarioReader:
    """Reads the scenarios of one world; copies of one scenario become one object."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._contracts = {contract.key: contract for contract in contracts}
        self._armed: dict[int, ArmedScenario] = {}
        self._active: dict[tuple[int, int], ActiveScenario] = {}

    def scenarios(self, found: Mapping[str, Any], scenarios: ArmedScenarios) -> None:
        """Restore the scenarios of a world."""
        if not found:
            return
        armed = [self.armed(one) for one in found["armed"]]
        active = [(opened, recent, self.active(one)) for opened, recent, one in found["active"]]
        scenarios.restore(
            found["number"],
            armed,
            [one for opened, _, one in active if opened and one is not None],
            [one for _, recent, one in active if recent and one is not None],
            [one for _, _, one in active if one is not None and len(one.jobs) > 1],
        )
        # Jobs may be under a scenario although none is armed any more.
        scenarios.active = found.get("applies", scenarios.active)

    def armed(self, found: Mapping[str, Any]) -> ArmedScenario:
        """Return an armed scenario. Raises ScenarioError if this program does not know one of its faults."""
        if (known := self._armed.get(found["id"])) is not None:
            return known
        scenario = read_scenario(found["scenario"], found["name"])
        armed = ArmedScenario(
            found["id"],
            scenario,
            frozenset(found["fits"]),
            found["provider"],
            found["left"],
            found["seed"],
            found["source"],
            found["begun"],
            Counter(found["met"]),
        )
        self._armed[armed.id] = armed
        return armed

    def active(self, found: Mapping[str, Any] | None) -> ActiveScenario | None:
        """Return an active scenario, or None if there is none, or its provider is not served any more."""
        if found is None or (contract := self._contracts.get(found["contract"])) is None:
            return None
        armed = self.armed(found["armed"])
        name = armed.id, found["number"]
        if name not in self._active:
            begun, left = armed.begun, armed.left
            self._active[name] = active = ActiveScenario(armed, contract)
            # It was counted when it began.
            armed.begun, armed.left, active.number = begun, left, found["number"]
            active.bound, active.links, active.jobs = found["bound"], dict(found["links"]), list(found["jobs"])
            active.used.update(found["used"])
            words, gauss = found["random"]
            active.random.setstate((STATE_VERSION, STATE.unpack(base64.b64decode(words)), gauss))
        return self._active[name]
