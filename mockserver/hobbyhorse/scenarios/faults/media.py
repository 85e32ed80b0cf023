"""Faults of a file: another file, a part of it, another media type, or a refusal."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

from hobbyhorse.scenarios.effects import Sent, Truncate
from hobbyhorse.scenarios.fault import MEDIA, RETYPES, SPOILS, Decided, Fault, Options
from hobbyhorse.scenarios.faults.body import HTML, page, refuse_bodiless, shown_status
from hobbyhorse.scenarios.object_store import EXPIRED, NOT_FOUND, SOON, UNAVAILABLE, XML_TYPE, FileRefusal
from hobbyhorse.scenarios.options import (
    GATEWAY_STATUS,
    KEEP,
    PASSING_STATUS,
    RETRY_AFTER,
    RETRY_AFTER_DATE,
    RETRY_AFTER_FORM,
    RETRY_AFTER_ODD,
    STATUS,
    TYPE,
)

# After the connection, which a file has too.
RANK = 70
# Bytes of a page or picture that replaces a file: as large as a short video, so that its size alone does not reveal it.
LARGE = 48 * 1024
LARGE_HTML = HTML.replace(b"</body>", b"<!--" + b" nothing to see here;" * (LARGE // 21) + b" -->\n</body>")


def _large_png() -> bytes:
    """Return a one-pixel PNG, padded with a comment to about LARGE bytes."""
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154"
        "789c6360606060000000050001a5f645400000000049454e44ae426082"
    )
    comment = b"tEXtComment\0" + b"nothing to see here; " * (LARGE // 21)
    chunk = (len(comment) - 4).to_bytes(4, "big") + comment + zlib.crc32(comment).to_bytes(4, "big")
    # After the signature (8 bytes) and IHDR (25): a tEXt chunk may stand anywhere between IHDR and IEND.
    return pixel[:33] + chunk + pixel[33:]


PNG = _large_png()
"""A valid picture of about LARGE bytes."""


def _refused(refusal: FileRefusal) -> Callable[[Decided, Options], Sent]:
    """Return the effect that refuses a file."""
    return lambda decided, options: Sent(refusal.status, (), refusal.xml()).typed(XML_TYPE)


def _unavailable(decided: Decided, options: Options) -> Sent:
    refused = _refused(UNAVAILABLE)(decided, options).headed("retry-after", SOON)
    form = options.get("retry_after_form") or options.get("retry_after_odd")
    return refused.retry_after(options.get("retry_after"), options.get("retry_after_date"), decided.now, form)


TRUNCATED = Fault(
    name="truncated",
    stands=(MEDIA,),
    says="the same as `truncate`",
    effect=lambda decided, options: Truncate(options["keep"]),
    options=(KEEP,),
    rank=RANK,
    uses=frozenset({SPOILS}),
)
WRONG_TYPE = Fault(
    name="wrong_type",
    stands=(MEDIA,),
    says="sends the video as another media type",
    effect=lambda decided, options: decided.sent.typed(options["type"]),
    options=(TYPE.by_default("application/octet-stream"),),
    rank=RANK,
    uses=frozenset({RETYPES}),
)
ZERO_BYTES = Fault(
    name="zero_bytes",
    stands=(MEDIA,),
    says="sends an empty file as a video",
    effect=lambda decided, options: replace(decided.sent, body=b""),
    rank=RANK,
    uses=frozenset({SPOILS}),
)
HTML_PAGE = Fault(
    name="html_page",
    stands=(MEDIA,),
    says="sends an HTML page",
    effect=lambda decided, options: page(shown_status(options), LARGE_HTML),
    options=(STATUS, GATEWAY_STATUS, PASSING_STATUS),
    rank=RANK,
    invalid=refuse_bodiless,
    uses=frozenset({SPOILS}),
)
NOT_VIDEO = Fault(
    name="not_video",
    stands=(MEDIA,),
    says="sends a picture as a video",
    effect=lambda decided, options: replace(decided.sent, body=PNG),
    rank=RANK,
    uses=frozenset({SPOILS}),
)
ALL_ZEROS = Fault(
    name="all_zeros",
    stands=(MEDIA,),
    says="sends a file of the right length that has only zero bytes",
    effect=lambda decided, options: replace(decided.sent, body=bytes(len(decided.sent.body))),
    rank=RANK,
    uses=frozenset({SPOILS}),
)
EXPIRED_LINK = Fault(
    name="expired",
    stands=(MEDIA,),
    says="refuses the link as expired (403)",
    effect=_refused(EXPIRED),
    rank=RANK,
)
NO_FILE = Fault(
    name="not_found",
    stands=(MEDIA,),
    says="responds that the file does not exist (404)",
    effect=_refused(NOT_FOUND),
    rank=RANK,
)
NO_FILE_NOW = Fault(
    name="unavailable",
    stands=(MEDIA,),
    says="responds that the file is temporarily unavailable (503)",
    effect=_unavailable,
    options=(RETRY_AFTER.usually(SOON), RETRY_AFTER_DATE, RETRY_AFTER_FORM, RETRY_AFTER_ODD),
    rank=RANK,
)
