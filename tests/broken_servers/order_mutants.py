"""Servers that treat an order by its form, or by what else the account has ordered, as plain data for mutants.py."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve
from hobbyhorse.contract.values import Contract

from .bending import Bend, Message, Post, Request, Response, plain
from .memory_mutants import refusing_bodies
from .query_mutants import DataMutant
from .value_mutants import changed

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
INTERNAL = plain(500, {"error_code": 500001, "error_message": "internal server error"})
LINK = parse_pointer("/output/0/content/0/url")
PICTURES = ("job", "pictures:limits")
IN_FLIGHT = {"code": 409, "message": "processing", "data": None, "error_code": "IDEMPOTENCY_KEY_PROCESSING"}


def expects_uuids(contract: Contract) -> Bend:
    """Fail for an id that is no UUID."""

    def request(request: Request) -> Request | Response:
        return request if request.job is None or UUID.fullmatch(request.job) else INTERNAL

    return Bend(request=request)


def expires_later(contract: Contract) -> Bend:
    """Let the link of a task expire five seconds later in each response."""
    polls = [0]

    def response(request: Request, response: Response) -> Response:
        files = resolve(response.json, ("data", "output")) if request.role == "status" and response.ok else None
        if not isinstance(files, list) or not files:
            return response
        polls[0] += 1
        later = [one | {"expireAt": one["expireAt"] + 5 * polls[0]} for one in files]
        return response.with_json(replaced(response.json, ("data", "output"), later))

    return Bend(response=response)


def compares_the_input(contract: Contract) -> Bend:
    """Replace the callback URL of a repeated key by the first one."""
    given: dict[str, Any] = {}

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key")
        if request.role != "submit" or key is None or not isinstance(request.json, dict):
            return request
        callback = given.setdefault(key, request.json.get("callback"))
        rest = {name: value for name, value in request.json.items() if name != "callback"}
        return request.with_json(rest if callback is None else rest | {"callback": callback})

    return Bend(request=request)


def one_at_a_time(contract: Contract) -> Bend:
    """Cancel no job as long as another one is known to run."""
    stages: dict[str | None, str] = {}

    def request(request: Request) -> Request | Response:
        busy = any(stage == "in_progress" for job, stage in stages.items() if job != request.job)
        if request.role != "cancel" or not busy or request.job not in stages:
            return request
        return plain(200, {"request_id": request.job, "status": stages[request.job], "outcome": "not_cancellable"})

    def response(request: Request, response: Response) -> Response:
        if request.role == "status" and response.ok:
            stages[request.job] = response.json["status"]
        return response

    return Bend(request=request, response=response)


def one_callback_for_a_url(contract: Contract) -> Bend:
    """Send the callbacks of the first job with a URL only."""
    known: set[str | None] = set()

    def request(request: Request) -> Request:
        body = request.json if request.role == "submit" else None
        url = body.get("callback_url") if isinstance(body, dict) else None
        if not isinstance(body, dict) or url not in known:
            known.add(url)
            return request
        return request.with_json({name: value for name, value in body.items() if name != "callback_url"})

    return Bend(request=request)


def wrapped_without_parameters(request: Request) -> Request:
    """Drop the parameters of an order in the wrapped form."""
    place = parse_pointer("/input/0/params/parameters")
    if request.role != "submit" or resolve(request.json, place) is MISSING:
        return request
    return request.with_json(replaced(request.json, place, {}))


def remembers_seeds(contract: Contract) -> Bend:
    """Link from each task to the video of the first one with its prompt and its seed."""
    orders: dict[str, str] = {}
    films: dict[str, str] = {}

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            body = request.json
            wish = [resolve(body, parse_pointer(at)) for at in ("/input/prompt", "/parameters/seed")]
            orders[response.json["id"]] = repr(wish)
        link = resolve(response.json, LINK) if request.role == "status" and response.ok else MISSING
        job = response.json.get("id") if link is not MISSING else None
        if job not in orders or not isinstance(link, str):
            return response
        return response.with_json(replaced(response.json, LINK, films.setdefault(orders[job], link)))

    return Bend(response=response)


def format_in_request(name: str) -> Callable[[bytes], bool]:
    """Return whether a body has a picture of a format in it."""
    return lambda body: f"data:image/{name};base64,".encode() in body


def no_charset(contract: Contract) -> Bend:
    """Refuse a media type with a parameter."""

    def request(request: Request) -> Request | Response:
        bad = request.role == "submit" and ";" in request.headers.get("content-type", "")
        return plain(415, {"message": "application/json is needed"}) if bad else request

    return Bend(request=request)


def locks_refused_keys(contract: Contract) -> Bend:
    """Call a key in flight for ever after a refusal."""
    refused: set[str] = set()

    def request(request: Request) -> Request | Response:
        busy = request.role == "submit" and request.headers.get("idempotency-key", "") in refused
        return plain(409, IN_FLIGHT) if busy else request

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.status == 400 and "idempotency-key" in request.headers:
            refused.add(request.headers["idempotency-key"])
        return response

    return Bend(request=request, response=response)


def single_precision(contract: Contract) -> Bend:
    """Show the seed of a run as a number of 32 bits, of which 24 are digits."""
    seeds: dict[str | None, int] = {}

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            seeds[response.json["id"]] = request.json["input"].get("seed") or 0
        shown = resolve(response.json, ("output", "seed")) if request.role == "status" and response.ok else MISSING
        if shown is MISSING or request.job not in seeds:
            return response
        (rounded,) = struct.unpack("f", struct.pack("f", seeds[request.job]))
        return response.with_json(replaced(response.json, ("output", "seed"), int(rounded)))

    return Bend(response=response)


def cut_by_characters(contract: Contract) -> Bend:
    """Send as many bytes of a callback as it has characters."""

    async def callback(message: Message, post: Post) -> int:
        return await post(Message(message.headers, message.body[: len(message.body.decode())]))

    return Bend(callback=callback)


def early(contract: Contract) -> Bend:
    """Respond to a long blocking call with a link that does not work yet."""
    late: list[str] = []

    def response(request: Request, response: Response) -> Response:
        if request.role == "run" and response.ok and request.json["duration"] > 10:
            late.append(response.json["video"]["url"].partition("?")[0].rpartition("/media/")[2])
        gone = request.role == "media" and any(request.path.endswith(path) for path in late)
        return plain(404, {}) if gone else response

    return Bend(response=response)


def heavy_pictures(contract: Contract) -> Bend:
    """Refuse a picture of more than half the documented bytes."""

    def request(request: Request) -> Request | Response:
        urls = resolve(request.json, ("input", "image_urls", "0")) if request.role == "submit" else MISSING
        if not isinstance(urls, str) or not urls.startswith("http://127.0.0.1"):
            return request
        with urlopen(urls) as found:
            heavy = len(found.read()) > 10 * 2**20
        return plain(400, {"code": 400, "message": "the image is too large", "data": None}) if heavy else request

    return Bend(request=request)


ORDERS: tuple[DataMutant, ...] = (
    ("IDM-04", "hiapi", "a refused key stays in flight", locks_refused_keys, ("idempotency",), False),
    (
        "SHA-05",
        "runflow",
        "a run shows its seed in single precision",
        single_precision,
        ("job", "bound*", "ends"),
        False,
    ),
    ("NTF-01", "runflow", "a callback is cut by its characters", cut_by_characters, ("callback:order",), False),
    (
        "LIF-04",
        "vtrix",
        "times are local ones",
        changed("status", "/created_at", lambda value: value + 8 * 3_600),
        ("job",),
        False,
    ),
    ("IDN-03", "runcomfy", "500 for an id that is no UUID", expects_uuids, ("identity:malformed", "job"), False),
    ("VAL-02", "hiapi", "the expiry of a link moves with each poll", expires_later, ("job", "job:after"), False),
    (
        "IDM-02",
        "hiapi",
        "the callback URL is not compared",
        compares_the_input,
        ("idempotency", "callback:order"),
        False,
    ),
    ("CNL-01", "runcomfy", "nothing is cancelled beside a running job", one_at_a_time, ("job", "cancel:busy"), False),
    ("NTF-04", "runflow", "a callback URL gets one callback", one_callback_for_a_url, ("callback:order",), False),
    (
        "MED-11",
        "vtrix",
        "the wrapped form has no parameters",
        lambda contract: Bend(request=wrapped_without_parameters),
        ("job", "form:*", "ends"),
        False,
    ),
    ("MED-11", "vtrix", "a seed brings its video back", remembers_seeds, ("job", "bounds*", "ends"), False),
    (
        "PIC-01",
        "vtrix",
        "a WEBP picture in the request is refused",
        refusing_bodies(format_in_request("webp"), plain(400, {"message": "invalid request"})),
        PICTURES,
        False,
    ),
    ("PIC-01", "hiapi", "a picture of 10 MiB is refused", heavy_pictures, PICTURES, False),
    ("MED-12", "runflow", "a long blocking call responds too early", early, ("run:order",), False),
    ("NEG-06", "runflow", "a charset is refused", no_charset, ("job", "spelling"), False),
    (
        "NEG-06",
        "vtrix",
        "500 for a prompt with an emoji",
        refusing_bodies(lambda body: any(ord(one) > 0xFFFF for one in json.loads(body)["input"]["prompt"]), INTERNAL),
        ("job", "spelling"),
        False,
    ),
    (
        "NEG-06",
        "runcomfy",
        "JSON with escapes is refused",
        refusing_bodies(lambda body: b"\\ud83d\\udc0e" in body, plain(422, {"error_code": 422001})),
        ("job", "spelling"),
        False,
    ),
    (
        "NEG-03",
        "vtrix",
        "the wrapped form is refused",
        refusing_bodies(lambda body: b'"params"' in body, plain(400, {"message": "invalid request"})),
        ("job", "form:*"),
        True,
    ),
)
