"""Source: softwaremill/retry#16: the pause between polls doubles without a limit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "The client polls once in many minutes, so it collects the video long after the job has ended."


class Broken(VtrixRequests):
    growth, last_pause = 2.0, 1e9


broken, clean = client(Broken), client(VtrixRequests)
