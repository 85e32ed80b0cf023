"""Source: zalando-incubator/perron#68: a timeout per read does not end a response that drips."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "A response that sends a byte now and then holds the client without limit."


class Broken(RunflowHttpx):
    api_limit = media_limit = float("inf")


broken, clean = client(Broken), client(RunflowHttpx)
