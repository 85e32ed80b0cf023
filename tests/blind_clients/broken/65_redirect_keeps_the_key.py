"""Source: python/cpython#77842: urllib follows a redirect to another host with the Authorization header."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "After a redirect of a poll to another host, that host gets the API key."


class Broken(HiapiUrllib):
    handlers = ()


broken, clean = client(Broken), client(HiapiUrllib)
