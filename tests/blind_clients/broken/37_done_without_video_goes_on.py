"""Source: vercel/ai#18929: a job that is done without a URL is polled until the budget is gone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RunflowAiohttp
from base_core import client

PROVIDER = "runflow"
FOUND_BY = "A job that ended without a video is polled until the deadline and reported as still running."


class Broken(RunflowAiohttp):
    empty_tries = 10**9


broken, clean = client(Broken), client(RunflowAiohttp)
