"""Source: aixplain/aiXplain#1040: a poll URL of the response body is used, with the key, whatever its host is."""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

sys.path.insert(0, str(Path(__file__).parent))

from base_aiohttp import RuncomfyAiohttp
from base_core import Reply, client, origin

PROVIDER = "runcomfy"
FOUND_BY = "A status_url that leads to another host gets the API key."


class Clean(RuncomfyAiohttp):
    """It uses the links of the accepted submission as long as they lead to the API."""

    link = ""

    def trusted(self, url: str) -> bool:
        return origin(url) == origin(self.base)

    def accepted(self, data: Any) -> Any:
        link = data.get("status_url")
        if isinstance(link, str) and self.trusted(urljoin(self.base + "/", link)):
            self.link = urljoin(self.base + "/", link)
        return super().accepted(data)

    def call(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        return super().call(method, self.link if self.link and url.endswith("/status") else url, headers, body)


class Broken(Clean):
    def trusted(self, url: str) -> bool:
        return True


broken, clean = client(Broken), client(Clean)
