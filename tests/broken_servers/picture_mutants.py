"""Servers that break the rules about input pictures, as plain data for mutants.py."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from hobbyhorse.contract.forms.expressions import parse_pointer, replaced, resolve
from hobbyhorse.contract.values import Contract

from . import films
from .bending import Bend, Request, Response, plain
from .query_mutants import DataMutant

PICTURES = ("job", "pictures:*")
# The places of the first frame, by provider.
PLACES = {"vtrix": "/input/media/0/url", "runflow": "/input/image_url"}
ELSEWHERE = "https://example.com/first-frame.jpg"
WIDEST = 16 / 9
Judge = Callable[[Any], bool]


def inline(contract: Contract, request: Request) -> Any:
    """Return the picture in a submission as a data URI, or None."""
    body = request.json if request.role == "submit" else None
    found = resolve(body, parse_pointer(PLACES[contract.key])) if isinstance(body, dict) else None
    if not isinstance(found, str) or not found.startswith("data:"):
        return None
    return Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2])))


def refusing(bad: Judge, refusal: Response) -> Callable[[Contract], Bend]:
    """Return a bend that refuses some pictures."""

    def change(contract: Contract) -> Bend:
        def request(request: Request) -> Request | Response:
            picture = inline(contract, request)
            return refusal if picture is not None and bad(picture) else request

        return Bend(request=request)

    return change


def taking_any(contract: Contract) -> Bend:
    """Make a video of another picture, whatever the submitted one is."""

    def request(request: Request) -> Request:
        if inline(contract, request) is None:
            return request
        return request.with_json(replaced(request.json, parse_pointer(PLACES[contract.key]), ELSEWHERE))

    return Bend(request=request)


def taking_the_first(contract: Contract) -> Bend:
    """Make a video of the first picture in a request for each second one."""
    kept: list[Any] = []
    place = parse_pointer(PLACES[contract.key])

    def request(request: Request) -> Request:
        if inline(contract, request) is None:
            return request
        kept.append(resolve(request.json, place))
        return request.with_json(replaced(request.json, place, kept[0 if len(kept) % 2 == 0 else -1]))

    return Bend(request=request)


def cropping(contract: Contract) -> Bend:
    """Crop a picture that is wider than a usual video."""

    def request(request: Request) -> Request:
        picture = inline(contract, request)
        if picture is None or picture.width <= picture.height * WIDEST:
            return request
        file = io.BytesIO()
        picture.crop((0, 0, round(picture.height * WIDEST), picture.height)).save(file, "PNG")
        cropped = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        return request.with_json(replaced(request.json, parse_pointer(PLACES[contract.key]), cropped))

    return Bend(request=request)


def coded_otherwise(contract: Contract) -> Bend:
    """Refuse a picture beyond a limit as if the balance were empty."""

    def response(request: Request, response: Response) -> Response:
        other = response.status == 422 and inline(contract, request) is not None
        return response.with_json(response.json, 402) if other else response

    return Bend(response=response)


def lying(contract: Contract) -> Bend:
    """Serve a wide video for every picture."""

    def response(request: Request, response: Response) -> Response:
        if request.role != "media" or not response.ok or response.length is not None:
            return response
        film = films.plain(1280, 720)
        return Response(200, (("content-type", "video/mp4"),), film)

    return Bend(response=response)


INVALID = {"vtrix": plain(400, {"message": "invalid request"}), "runflow": plain(422, {"errors": []})}

MUTANTS: tuple[DataMutant, ...] = (
    (
        "PIC-01",
        "vtrix",
        "a side of exactly 300 px is refused",
        refusing(lambda picture: min(picture.size) == 300, INVALID["vtrix"]),
        PICTURES,
        False,
    ),
    (
        "PIC-01",
        "runflow",
        "a BMP picture is refused",
        refusing(lambda picture: picture.format == "BMP", INVALID["runflow"]),
        PICTURES,
        False,
    ),
    (
        "PIC-01",
        "vtrix",
        "a short portrait is refused",
        refusing(lambda picture: picture.width < 301 and picture.height > 532, INVALID["vtrix"]),
        PICTURES,
        False,
    ),
    ("PIC-02", "vtrix", "pictures are not looked at", taking_any, PICTURES, False),
    ("MED-06", "runflow", "each second video begins with the first picture", taking_the_first, PICTURES, False),
    ("NEG-02", "runflow", "402 for a picture beyond a limit", coded_otherwise, PICTURES, False),
    ("MED-05", "vtrix", "the video of a portrait is wide", lying, PICTURES, False),
    ("MED-05", "vtrix", "the video of a very wide picture is cropped to 16:9", cropping, PICTURES, False),
)
