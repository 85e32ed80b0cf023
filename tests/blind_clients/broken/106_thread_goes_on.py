"""Source: errbotio/errbot#755: a thread that polls goes on after it was stopped."""

import contextlib
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "After the client has ended with an error, its thread goes on to poll the job."


class Clean(VtrixHttpx):
    """A thread watches the progress while the client waits."""

    watched = 0

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        done = threading.Event()
        threading.Thread(target=self.watch, args=(job, done), daemon=True).start()
        try:
            return super().collect(job, request)
        finally:
            done.set()

    def watch(self, job: str, done: threading.Event) -> None:
        with httpx.Client(timeout=10.0, trust_env=False) as http:
            while not done.wait(15.0) and self.watched < 40:
                self.watched += 1
                with contextlib.suppress(httpx.HTTPError):
                    http.get(self.base + self.status_path(job), headers=self.headers())


class Broken(Clean):
    def collect(self, job: str, request: dict[str, Any]) -> Any:
        done = threading.Event()
        threading.Thread(target=self.watch, args=(job, done), daemon=True).start()
        video = VtrixHttpx.collect(self, job, request)
        done.set()
        return video


broken, clean = client(Broken), client(Clean)
