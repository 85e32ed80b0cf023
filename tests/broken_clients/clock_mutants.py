"""Changes that make a client depend on the wall clock, as plain data for mutants.py; see lost_orders.py."""

from __future__ import annotations

from .lost_orders import Change

CLOCKS: tuple[Change, ...] = (
    (
        "CLK-01",
        "vtrix",
        "the deadline is a moment of the wall clock",
        (
            (
                "import time\n",
                "import time as clocks\nimport types\n\n"
                "time = types.SimpleNamespace(\n"
                "    time=lambda: clocks.time(),\n    monotonic=lambda: clocks.time(),\n"
                "    sleep=lambda wait: clocks.sleep(wait),\n"
                ")\n",
            ),
        ),
    ),
    (
        "CLK-01",
        "vtrix",
        "a pause lasts until a moment of the wall clock",
        (
            (
                "    time.sleep((wait if wait < left - LEAST_INTERVAL else left) / SPEED)",
                "    until = time.time() + 3\n    while time.time() < until:\n        time.sleep(0.5)\n   ",
            ),
        ),
    ),
)
