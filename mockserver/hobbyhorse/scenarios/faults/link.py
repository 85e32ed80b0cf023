"""Faults of the URLs in a response: another query, or another host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import LINKS, LURE, OPERATION, VARIATION, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.faults.origin import LINK_ORIGINS
from hobbyhorse.scenarios.fields import FILE_URLS, JOB_URLS, Urls, places, rewritten

# Last: only some providers have URLs in their responses.
RANK = 60
PRIVATE_PATH = "/latest/meta-data"
JOB, FILE = Urls(JOB_URLS), Urls(FILE_URLS)


def elsewhere_at(origin: str, address: str) -> str:
    """Return a URL with another origin and the same path and query."""
    # Joined as text, so that path and query stay the same byte for byte.
    parts = urlsplit(address)
    return origin.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def _moved(needs: Urls, change: Callable[[str, DecidedOperation], str]) -> Callable[[DecidedOperation, Options], Sent]:
    """Return the effect that changes URLs."""

    def effect(decided: DecidedOperation, options: Options) -> Sent:
        pointers = places(needs, options, decided.operation)
        return replace(
            decided.sent, body=rewritten(decided.sent.body, needs, pointers, lambda here: change(here, decided))
        )

    return effect


def _origin(decided: DecidedOperation, kind: str) -> str:
    return decided.origins.get(kind, LINK_ORIGINS[kind])


def _ticketed(here: str, decided: DecidedOperation) -> str:
    # Random for each URL: a query cannot be guessed from another one.
    return f"{here}{'&' if '?' in here else '?'}ticket={decided.random.getrandbits(64):016x}"


OPAQUE_LINKS = Fault(
    name="opaque_links",
    stands=(OPERATION,),
    says="adds an opaque query to the job's URLs, which must be kept",
    effect=_moved(JOB, _ticketed),
    rank=RANK,
    kind=VARIATION,
    layer=LINKS,
    needs=JOB,
)
FOREIGN_LINKS = Fault(
    name="foreign_links",
    stands=(OPERATION,),
    says="moves the job's URLs to another origin",
    effect=_moved(JOB, lambda here, decided: elsewhere_at(_origin(decided, "foreign"), here)),
    rank=RANK,
    needs=JOB,
    uses=frozenset({LURE}),
)
PRIVATE_LINKS = Fault(
    name="private_links",
    stands=(OPERATION,),
    says="moves the video's URL to a private host",
    effect=_moved(FILE, lambda here, decided: _origin(decided, "private").rstrip("/") + PRIVATE_PATH),
    rank=RANK,
    needs=FILE,
    uses=frozenset({LURE}),
)
