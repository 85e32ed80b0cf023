"""Faults of the URLs in a response: another query, or another host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import LINKS, LURE, MUST, OPERATION, SHOULD, VARIATION, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.faults.origin import LINK_ORIGINS, PRIVATE_PATH
from hobbyhorse.scenarios.fields import FILE_URLS, JOB_URLS, Urls, places, rewritten
from hobbyhorse.scenarios.options import QUERY

# Last: only some providers have URLs in their responses.
RANK = 60
LINK_BYTES, ENCODED_BYTES = "bytes of links", "encoded bytes of links"
QUERIES = {
    "encoded": "mark=a%2Bb%3Dc%26d%25e%23f%20g",
    "plus": "mark=a+b",
    "bare": "mark=a:b@c!d$e(f)*g,h;i",
    "repeated": "mark=2&mark=1&mark=2",
    "no_value": "mark=&other&a=1&&z=",
}
"""Legal queries by the value of the option `query` (RFC 3986, section 3.4)."""
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


def _queried(decided: DecidedOperation, options: Options) -> Sent:
    return _with_query(decided, QUERIES[options["query"]])


def _with_query(decided: DecidedOperation, query: str) -> Sent:
    """Return a response whose URLs have a further query."""
    needs = Urls((*FILE_URLS, *JOB_URLS))
    pointers = places(needs, {}, decided.operation)
    more = rewritten(decided.sent.body, needs, pointers, lambda url: f"{url}{'&' if '?' in url else '?'}{query}")
    return replace(decided.sent, body=more)


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
ODD_LINKS = Fault(
    name="odd_links",
    stands=(OPERATION,),
    says="adds a query of legal characters to the URLs, which must come back byte for byte",
    effect=_queried,
    options=(QUERY,),
    rank=RANK,
    kind=VARIATION,
    needs=Urls((*FILE_URLS, *JOB_URLS)),
    layer=LINKS,
    form=LINK_BYTES,
    source="RFC 3986, 2.2",
    level=MUST,
)
ENCODED_LINKS = Fault(
    name="encoded_links",
    stands=(OPERATION,),
    says="adds a query with an encoded slash and colon to the URLs, which must come back byte for byte",
    effect=lambda decided, options: _with_query(decided, "place=a%2Fb%3Ac"),
    rank=RANK,
    kind=VARIATION,
    needs=Urls((*FILE_URLS, *JOB_URLS)),
    layer=LINKS,
    form=ENCODED_BYTES,
    source="RFC 3986, 2.2; aiohttp needs yarl.URL(url, encoded=True)",
    level=SHOULD,
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
PORT_LINKS = Fault(
    name="port_links",
    stands=(OPERATION,),
    says="moves the job's URLs to another port of the host",
    effect=_moved(JOB, lambda here, decided: elsewhere_at(_origin(decided, "port"), here)),
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
