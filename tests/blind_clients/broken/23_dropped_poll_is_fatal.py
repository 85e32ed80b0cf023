"""Source: Unstructured-IO/unstructured-python-client#332: httpx.RemoteProtocolError is not repeated."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "A poll whose connection closes without a response ends the client, although the paid job goes on."


class Broken(HiapiHttpx):
    def note(self, error: Exception) -> None:
        if "RemoteProtocolError" in str(error):
            raise error


broken, clean = client(Broken), client(HiapiHttpx)
