"""A client of two providers: it falls back to the second one only if the first one certainly has no job to bill.

It is made of the clients in examples/python, which tell a final failure from an unknown outcome. As a command, it takes
the names of the two providers.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.broken_clients.example_clients import example

# The beginning of the reason of a final failure of a job that is billed.
BILLED = "it has succeeded, but"


@cache
def client_of(provider: str) -> ModuleType:
    """Return the client of a provider."""
    return example(provider)


def generate(base_url: Mapping[str, str], api_key: Mapping[str, str], request: Mapping[str, Any]) -> bytes:
    """Submit to the first provider; if that fails for good, to the second one."""
    first, second = base_url
    try:
        return buy(first, base_url[first], api_key[first], request[first])
    except client_of(first).Failed as error:
        # A subclass means that the outcome is unknown, or that the job goes on.
        if type(error) is not client_of(first).Failed or BILLED in str(error):
            raise
    return buy(second, base_url[second], api_key[second], request[second])


def buy(provider: str, base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Return the video of an order at one provider."""
    return bytes(client_of(provider).generate(base_url, api_key, request))


def main() -> int:
    """Run with the HOBBYHORSE_* variables of two providers."""
    env, names = os.environ, dict(zip(sys.argv[1:], "AB", strict=True))
    bases, keys, files = (
        {name: env[f"HOBBYHORSE_{variable}_{at}"] for name, at in names.items()}
        for variable in ("BASE_URL", "API_KEY", "REQUEST")
    )
    requests = {name: json.loads(Path(file).read_text()) for name, file in files.items()}
    for name, at in names.items():
        # An example reads its model when it is imported.
        env["HOBBYHORSE_MODEL"] = env[f"HOBBYHORSE_MODEL_{at}"]
        client_of(name)
    try:
        video = generate(bases, keys, requests)
    except tuple(client_of(name).Failed for name in names) as error:
        print(error, file=sys.stderr)
        return 1
    Path(env["HOBBYHORSE_OUTPUT"]).write_bytes(video)
    return 0


if __name__ == "__main__":
    sys.exit(main())
