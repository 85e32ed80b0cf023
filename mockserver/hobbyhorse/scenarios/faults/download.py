"""Variations of a file's response: the name that it suggests, and the part that it has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import (
    HEADERS,
    MEDIA,
    MUST,
    RANGED,
    SHOULD,
    STATUS_LAYER,
    VARIATION,
    Decided,
    Fault,
    Options,
)
from hobbyhorse.scenarios.options import PART, SAVED_NAME

# After the variations of statuses, which a download has too.
RANK = 55
PARTIAL, FILE_NAMES = "part of a file", "name of a file"
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
ELSEWHERE = "hobbyhorse-elsewhere"
"""A folder that does not exist, so that a client that believes the name writes nothing."""
# More than the 255 bytes that file systems allow.
TOO_LONG = 300
DISPOSITIONS: Mapping[str, str] = {
    "parent": f'attachment; filename="../{ELSEWHERE}/video.mp4"',
    "absolute": f'attachment; filename="/{ELSEWHERE}/video.mp4"',
    "long": f'attachment; filename="{"a" * TOO_LONG}.mp4"',
    "extended": "attachment; filename*=UTF-8''caf%C3%A9%20%F0%9F%90%8E.mp4",
    "unquoted": "ATTACHMENT; FILENAME=video.mp4",
}
"""The values of Content-Disposition by the option `saved_name` (RFC 6266, section 4)."""


def _named(decided: Decided, options: Options) -> Sent:
    value = DISPOSITIONS.get(options["saved_name"])
    if value is not None:
        return decided.sent.headed("content-disposition", value)
    return replace(decided.sent, headers=tuple(one for one in decided.sent.headers if one[0] != b"content-disposition"))


def _range(decided: Decided) -> tuple[int, int, int] | None:
    """Return the first and last byte of a partial response, and the length of the file."""
    values = (value.decode("latin-1") for name, value in decided.sent.headers if name == b"content-range")
    found = CONTENT_RANGE.fullmatch(next(values, ""))
    return (int(found[1]), int(found[2]), int(found[3])) if found is not None else None


def _is_partial(fault: Fault, decided: Decided, options: Options) -> bool:
    partial = decided.sent.status == 206 and decided.method == "GET"
    return partial and len(decided.sent.body) > 1 and _range(decided) is not None


def _half(decided: Decided, options: Options) -> Sent:
    """Return the first or the last half of a partial response, labelled as what it is."""
    found = _range(decided)
    assert found is not None
    first, last, length = found
    middle = first + len(decided.sent.body) // 2
    first, last = (first, middle - 1) if options["part"] == "first" else (middle, last)
    body = decided.sent.body[first - found[0] : last - found[0] + 1]
    return replace(decided.sent.headed("content-range", f"bytes {first}-{last}/{length}"), body=body)


NAMED = Fault(
    name="file_name",
    stands=(MEDIA,),
    says="suggests an unusual name for the file, or none",
    effect=_named,
    options=(SAVED_NAME,),
    rank=RANK,
    kind=VARIATION,
    applies=lambda fault, decided, options: decided.method == "GET",
    layer=HEADERS,
    form=FILE_NAMES,
    source="RFC 6266, 4.3",
    level=SHOULD,
)
OTHER_PART = Fault(
    name="other_part",
    stands=(MEDIA,),
    says="sends half of the requested range, and says which half in Content-Range",
    effect=_half,
    options=(PART,),
    rank=RANK,
    kind=VARIATION,
    applies=_is_partial,
    uses=frozenset({RANGED}),
    layer=STATUS_LAYER,
    form=PARTIAL,
    source="RFC 9110, 15.3.7",
    level=MUST,
)
