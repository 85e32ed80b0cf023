"""Source: n24q02m/wet-mcp#239: only the first URL is checked, so a redirect leads to a private address."""

import sys
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from base_core import NetworkError, Reply, client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "A redirect of the download to a private host is followed."


class Broken(HiapiHttpx):
    def fetch(self, url: str) -> Reply:
        self.check_url(url)
        try:
            response = self.http.get(url, headers=self.media_headers(), follow_redirects=True, timeout=60.0)
        except httpx.HTTPError as error:
            raise NetworkError(repr(error)) from error
        return Reply(response.status_code, dict(response.headers), response.content)


broken, clean = client(Broken), client(HiapiHttpx)
