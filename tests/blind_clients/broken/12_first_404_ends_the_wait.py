"""Source: Azure/azure-functions-durable-extension#143: a 404 right after the submission ends the wait."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RunflowAiohttp
from base_core import client

PROVIDER = "runflow"
FOUND_BY = "The job is not yet visible at the first poll (404), and the client abandons the paid job."


class Broken(RunflowAiohttp):
    missing_for = -1.0


broken, clean = client(Broken), client(RunflowAiohttp)
