"""Source: Aider-AI/aider#3048: ALL_PROXY=socks5://... makes httpx raise ImportError."""

import sys
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "With a SOCKS proxy in the environment, the client crashes before its first request."


class Broken(RunflowHttpx):
    def open(self) -> None:
        self.http = httpx.Client(timeout=httpx.Timeout(self.request_timeout, connect=10.0))


broken, clean = client(Broken), client(RunflowHttpx)
