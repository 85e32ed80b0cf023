"""Source: data-mie/dbt-cloud-cli#112: the loop that polls has no limit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RuncomfyHttpx

PROVIDER = "runcomfy"
FOUND_BY = "A job that never ends is polled forever."


class Broken(RuncomfyHttpx):
    patience = float("inf")


broken, clean = client(Broken), client(RuncomfyHttpx)
