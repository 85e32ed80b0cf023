"""Source: galacticusorg/galacticus#467: a download that fails once is not repeated."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import client

PROVIDER = "runcomfy"
FOUND_BY = "One reset or 503 during the download loses the paid video."


class Broken(RuncomfyAiohttp):
    download_tries = 1


broken, clean = client(Broken), client(RuncomfyAiohttp)
