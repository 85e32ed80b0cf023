"""Source: lm-sys/FastChat#3405: a semaphore is not released after an exception."""

import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "After one run that failed, the next run hangs before its submission."


ONE_AT_A_TIME = {"broken": threading.Semaphore(1), "clean": threading.Semaphore(1)}


class Clean(RunflowHttpx):
    """One run at a time."""

    def generate(self, request: dict[str, Any]) -> Any:
        with ONE_AT_A_TIME["clean"]:
            return super().generate(request)


class Broken(RunflowHttpx):
    def generate(self, request: dict[str, Any]) -> Any:
        ONE_AT_A_TIME["broken"].acquire()
        video = super().generate(request)
        ONE_AT_A_TIME["broken"].release()
        return video


broken, clean = client(Broken), client(Clean)
