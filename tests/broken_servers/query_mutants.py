"""Servers that break the rules about queries, as plain data for mutants.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlencode

from hobbyhorse.contract.values import Contract

from .bending import Bend, Request, Response, plain

# The rule, the provider, the bug in words and as a bend, the probes, and whether it contradicts an assumption only.
DataMutant = tuple[str, str, str, Callable[[Contract], Bend], tuple[str, ...], bool]
LISTS = ("job", "identity:list", "query:list")


def asking(change: Callable[[dict[str, str]], dict[str, str] | Response]) -> Callable[[Contract], Bend]:
    """Return a bend that changes the query of a request for the list, or responds itself."""

    def request(request: Request) -> Request | Response:
        if request.role != "list":
            return request
        asked = change({name: values[0] for name, values in parse_qs(request.query).items()})
        return asked if isinstance(asked, Response) else replace(request, query=urlencode(asked))

    return lambda contract: Bend(request=request)


def refuses_the_largest(query: dict[str, str]) -> dict[str, str] | Response:
    return plain(422, {"errors": [{"message": "too large"}]}) if query.get("limit") == "500" else query


def takes_any_size(query: dict[str, str]) -> dict[str, str]:
    return query | {"limit": "500"} if query.get("limit", "").isdecimal() and int(query["limit"]) > 500 else query


QUERIES: tuple[DataMutant, ...] = (
    ("NEG-04", "runflow", "the largest limit is refused", asking(refuses_the_largest), LISTS, False),
    ("NEG-05", "runflow", "a limit beyond the largest one is reduced", asking(takes_any_size), LISTS, False),
)
