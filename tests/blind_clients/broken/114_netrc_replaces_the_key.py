"""Source: psf/requests#3929: the credentials of ~/.netrc replace the Authorization header."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import VtrixRequests

PROVIDER = "vtrix"
FOUND_BY = "With an entry for the host in the .netrc, the client sends other credentials than its API key."


class Broken(VtrixRequests):
    def open(self) -> None:
        super().open()
        self.http.trust_env = True


broken, clean = client(Broken), client(VtrixRequests)
