"""The work of a client with fixed hosts: submit, poll, download. The clients beside it send the requests."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A job of the server ends in a second; no test waits longer than for a busy machine.
MOST_POLLS, PAUSE_SECONDS = 300, 0.1

Send = Callable[[str, str, dict[str, str], bytes], bytes]
"""Sends a method, URL, headers and body; returns the body of a response with a status below 400, else raises."""


def run(send: Send) -> None:
    """Generate a video as the environment asks for it, with the provider that the first argument names."""
    plan = json.loads(Path(__file__).with_name("plans.json").read_text())[sys.argv[1]]
    order = Path(os.environ["HOBBYHORSE_REQUEST"]).read_bytes()
    headers = {"Authorization": f"Bearer {os.environ['HOBBYHORSE_API_KEY']}", "Content-Type": "application/json"}
    url = plan["submit"].replace("{model}", os.environ["HOBBYHORSE_MODEL"])
    job = at(json.loads(send("POST", url, headers, order)), plan["id"])
    del headers["Content-Type"]
    for _ in range(MOST_POLLS):
        found = json.loads(send("GET", plan["poll"].replace("{id}", job), headers, b""))
        if at(found, plan["status"]) == plan["done"]:
            break
        time.sleep(PAUSE_SECONDS)
    if plan["result"] is not None:
        found = json.loads(send("GET", plan["result"].replace("{id}", job), headers, b""))
    link = at(found, plan["video"])
    Path(os.environ["HOBBYHORSE_OUTPUT"]).write_bytes(send("GET", link, {}, b""))
    print(json.dumps({"class": "success", "job": job, "link": link}))


def at(value: Any, path: list[Any]) -> Any:
    """Return a member of a JSON value."""
    for name in path:
        value = value[name]
    return value
