"""Bugs of a client that falls back to a second provider, as plain data for mutants.py; see lost_orders.py."""

from __future__ import annotations

from .lost_orders import Change

CERTAIN = "        if type(error) is not client_of(first).Failed or BILLED in str(error):\n"
ONE_BY_ONE = "    try:\n        return buy(first, base_url[first], api_key[first], request[first])\n"

FALLBACKS: tuple[Change, ...] = (
    (
        "SUB-08",
        "fallback",
        "it falls back after a submission whose response was lost",
        ((CERTAIN, "        if isinstance(error, TimeoutError) or BILLED in str(error):\n"),),
    ),
    (
        "SUB-08",
        "fallback",
        "it falls back after its own timeout, and leaves the first job running",
        ((CERTAIN, "        if not isinstance(error, TimeoutError):\n"),),
    ),
    (
        "SUB-08",
        "fallback",
        "it falls back if the video of a succeeded job is missing",
        ((CERTAIN, "        if BILLED not in str(error):\n"),),
    ),
    (
        "SUB-08",
        "fallback",
        "it submits to both providers at once, and takes one video",
        (
            (
                ONE_BY_ONE,
                "    with ThreadPoolExecutor(2) as pool:\n"
                "        orders = [(name, base_url[name], api_key[name], request[name]) for name in base_url]\n"
                "        waiting = [pool.submit(buy, *order) for order in orders]\n"
                "    for one in waiting:\n"
                "        if one.exception() is None:\n"
                "            return one.result()\n" + ONE_BY_ONE,
            ),
            ("import sys\n", "import sys\nfrom concurrent.futures import ThreadPoolExecutor\n"),
        ),
    ),
)
