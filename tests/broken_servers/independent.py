"""Fakes of two providers, written from their pages alone, on pytest-httpserver. They share no code with ours.

Each poll moves a job one stage on. Nothing of the package may be imported here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.request import Request as Call
from urllib.request import urlopen

from PIL import Image
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
WEEK = 7 * 24 * 3600
TRIES = 3
MOST_BYTES = 20 * 1024 * 1024


class Bad(Exception):
    """A refusal: status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


@dataclass
class Work:
    """A job: its owner, its request, and the number of its polls."""

    id: str
    owner: str
    body: Any
    created: float
    polls: int = 0
    ended: float = 0.0


@dataclass
class Fake:
    """The common part: keys, jobs, a video, and an injected time."""

    keys: frozenset[str]
    film: bytes
    secret: str = ""
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    url: str = ""
    # Makes a video of some seconds and lines; without it, `film` is served for every order.
    films: Callable[[int, int], bytes] | None = None
    # Makes a video with a width, a height and seconds, for a picture that is not 16:9; without it, each has `film`.
    shaped: Callable[[int, int, int], bytes] | None = None
    works: dict[str, Work] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    prefix: ClassVar[str]

    def answer(self, request: Request) -> Response:
        path = request.path.removeprefix(self.prefix)
        try:
            if found := re.fullmatch(r"/files/([\w-]+)\.(mp4|jpg)", path):
                return self.file(request, found[1])
            with self.lock:
                return shown(200, *self.routed(request, path, self.owner(request)))
        except Bad as error:
            return shown(error.status, error.body, {})

    def owner(self, request: Request) -> str:
        word, _, key = request.headers.get("Authorization", "").partition(" ")
        if word.lower() != "bearer" or key not in self.keys:
            raise self.unauthorized()
        return key

    def file(self, request: Request, job: str) -> Response:
        if job not in self.works:
            raise Bad(404, {"message": "no such file"})
        how = self.parameters(self.works[job].body)
        seconds, tier = how.get("duration", 5), int(how.get("resolution", "1080p")[:-1])
        film = self.film if self.films is None else self.films(seconds, tier)
        width, height = looked_at(self.picture(self.works[job].body)) or (16, 9)
        if self.shaped is not None and abs(width / height - 16 / 9) > 0.02:
            longer = 2 * round(tier * max(width, height) / min(width, height) / 2)
            film = self.shaped(tier, longer, seconds) if height > width else self.shaped(longer, tier, seconds)
        response = Response(film, mimetype="video/mp4")
        response.make_conditional(request, accept_ranges=True, complete_length=len(film))
        return response

    def parameters(self, body: Any) -> dict[str, Any]:
        """Return the object of a submission that has the duration and the resolution."""
        found: dict[str, Any] = body.get("parameters") or body.get("input") or {}
        return found

    def picture(self, body: Any) -> str:
        raise NotImplementedError

    def routed(self, request: Request, path: str, owner: str) -> tuple[Any, dict[str, str]]:
        raise NotImplementedError

    def unauthorized(self) -> Bad:
        raise NotImplementedError


def shown(status: int, body: Any, headers: dict[str, str]) -> Response:
    return Response(json.dumps(body), status, headers, content_type="application/json")


def looked_at(url: str) -> tuple[int, int] | None:
    """Return the size of a picture that is here or on this machine; (0, 0) for one that is not allowed."""
    if not url.startswith(("data:", "http://127.0.0.1:")):
        return None
    if url.startswith("data:"):
        data = base64.b64decode(url.partition(",")[2])
    else:
        with urlopen(url, timeout=10) as response:
            data = response.read()
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except OSError:
        return 0, 0
    width, height = picture.size
    return (width, height) if min(width, height) >= 300 and len(data) <= MOST_BYTES else (0, 0)


def whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


class HiAPI(Fake):
    """HiAPI's unified async API, with happyhorse-1.1/image-to-video."""

    prefix = "/hiapi"
    model = "happyhorse-1.1/image-to-video"

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.seen: dict[tuple[str, str], tuple[str, str]] = {}

    def routed(self, request: Request, path: str, owner: str) -> tuple[Any, dict[str, str]]:
        if path == "/v1/tasks" and request.method == "POST":
            return self.create(request, owner)
        if path == "/v1/tasks" and request.method == "GET":
            return self.all_of(request, owner), {}
        if (found := re.fullmatch(r"/v1/tasks/([^/]+)", path)) and request.method == "GET":
            work = self.works.get(found[1])
            if work is None or work.owner != owner:
                raise self.bad(404, "not found")
            return self.success(self.poll(work)), {}
        raise self.bad(404, "not found")

    def picture(self, body: Any) -> str:
        return str(body["input"]["image_urls"][0])

    def bad(self, status: int, message: str, code: str | None = None) -> Bad:
        return Bad(status, {"code": status, "message": message, "data": None} | ({"error_code": code} if code else {}))

    def success(self, data: Any) -> Any:
        return {"code": 200, "message": "success", "data": data}

    def unauthorized(self) -> Bad:
        return self.bad(401, "unauthorized")

    def create(self, request: Request, owner: str) -> tuple[Any, dict[str, str]]:
        if request.mimetype != "application/json":
            raise self.bad(400, "invalid request", "INVALID_REQUEST")
        body = self.checked(request.get_data())
        key, sent = request.headers.get("Idempotency-Key"), json.dumps(body, sort_keys=True)
        if key is not None and (owner, key) in self.seen:
            before, job = self.seen[owner, key]
            if before != sent:
                raise self.bad(422, "key reused", "IDEMPOTENCY_KEY_MISMATCH")
            return self.success({"taskId": job}), {"Idempotent-Replay": "true"}
        job = "tk-hiapi-" + "0" + "".join(secrets.choice(CROCKFORD) for _ in range(25))
        self.works[job] = Work(job, owner, body, self.now())
        if key is not None:
            self.seen[owner, key] = (sent, job)
        return self.success({"taskId": job}), {}

    def checked(self, data: bytes) -> Any:
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise self.bad(400, "invalid request", "INVALID_REQUEST")
        if body["model"] != self.model:
            raise self.bad(400, "model unavailable", "MODEL_UNAVAILABLE")
        if not self.sound(body):
            raise self.bad(400, "invalid request", "INVALID_REQUEST")
        return body

    def sound(self, body: dict[str, Any]) -> bool:
        inputs, callback = body.get("input"), body.get("callback", {"url": "https://a.example", "when": "final"})
        if not isinstance(inputs, dict) or set(inputs) - {"image_urls", "prompt", "resolution", "duration"}:
            return False
        pictures = inputs.get("image_urls")
        return (
            isinstance(pictures, list)
            and len(pictures) == 1
            and isinstance(pictures[0], str)
            and bool(pictures[0])
            and isinstance(inputs.get("prompt", ""), str)
            and inputs.get("resolution", "720p") in ("720p", "1080p")
            and whole(inputs.get("duration", 5), 3, 15)
            and isinstance(callback, dict)
            and isinstance(callback.get("url"), str)
            and callback["url"].startswith(("http://", "https://"))
            and callback.get("when", "final") == "final"
            and all(isinstance(body.get(name, ""), str) for name in ("route", "storage"))
            and looked_at(pictures[0]) != (0, 0)
        )

    def poll(self, work: Work) -> Any:
        work.polls += 1
        if work.polls == 4:
            work.ended = self.now()
            if "callback" in work.body:
                arguments = (work.body["callback"]["url"], self.data(work))
                threading.Thread(target=self.call, args=arguments, daemon=True).start()
        return self.data(work)

    def data(self, work: Work) -> Any:
        word = ("queued", "queued", "handling", "archiving", "success")[min(work.polls, 4)]
        said = {"taskId": work.id, "model": self.model, "status": word, "created": int(work.created), "completed": 0}
        if word == "success":
            links = ((f"{work.id}.mp4", "video"), (f"{work.id}.jpg", "first_frame"))
            ends = int(work.ended) + WEEK
            said["completed"] = int(work.ended)
            said["output"] = [
                {"url": f"{self.url}/files/{name}", "type": kind, "expireAt": ends} for name, kind in links
            ]
        return said

    def call(self, url: str, data: Any) -> None:
        body = json.dumps(data).encode()
        for _ in range(TRIES):
            stamp = str(int(self.now()))
            seal = hmac.new(self.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers = {"Content-Type": "application/json", "X-HiAPI-Timestamp": stamp, "X-HiAPI-Signature": seal}
            try:
                with urlopen(Call(url, body, headers), timeout=10) as response:
                    if 200 <= response.status < 300:
                        return
            except OSError:
                self.sleep(5)

    def all_of(self, request: Request, owner: str) -> Any:
        try:
            page, size = int(request.args.get("page", 1)), int(request.args.get("size", 20))
        except ValueError:
            raise self.bad(400, "invalid request", "INVALID_REQUEST") from None
        if page < 1 or not 1 <= size <= 100:
            raise self.bad(400, "invalid request", "INVALID_REQUEST")
        mine = [self.data(work) for work in reversed(self.works.values()) if work.owner == owner]
        shown = mine[(page - 1) * size : page * size]
        return self.success({"tasks": shown, "page": page, "size": size, "total": len(mine)})


class Vtrix(Fake):
    """Vtrix's generation API, with happyhorse_1.0_i2v."""

    prefix = "/vtrix"
    model = "happyhorse_1.0_i2v"
    prices: ClassVar[dict[str, int]] = {"720P": 14, "1080P": 28}

    def routed(self, request: Request, path: str, owner: str) -> tuple[Any, dict[str, str]]:
        if path == "/model/v1/generation" and request.method == "POST":
            body = self.checked(request.get_data())
            work = Work(f"task_{secrets.token_hex(8)}", owner, body, self.now())
            self.works[work.id] = work
            return self.data(work), {}
        if (found := re.fullmatch(r"/model/v1/generation/task/([^/]+)", path)) and request.method == "GET":
            found_work = self.works.get(found[1])
            if found_work is None or found_work.owner != owner:
                raise Bad(404, {"message": "task not found"})
            found_work.polls += 1
            if found_work.polls == 4:
                found_work.ended = self.now()
            return self.data(found_work), {}
        raise Bad(404, {"message": "Not Found"})

    def picture(self, body: Any) -> str:
        return str(body["input"]["media"][0]["url"])

    def unauthorized(self) -> Bad:
        return Bad(401, {"message": "API key is missing or invalid"})

    def checked(self, data: bytes) -> Any:
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        wrapped = body.get("input") if isinstance(body, dict) else None
        if isinstance(wrapped, list) and len(wrapped) == 1 and isinstance(wrapped[0], dict):
            # The form of the published clients: a list with one job.
            body = {**body, **(wrapped[0].get("params") or {})}
        if not isinstance(body, dict) or body.get("model") != self.model or not self.sound(body):
            raise Bad(400, {"message": "invalid request"})
        return body

    def sound(self, body: dict[str, Any]) -> bool:
        inputs, how = body.get("input"), body.get("parameters", {})
        if not isinstance(inputs, dict) or not isinstance(how, dict) or not isinstance(inputs.get("prompt", ""), str):
            return False
        media = inputs.get("media")
        if not isinstance(media, list) or len(media) != 1 or not isinstance(media[0], dict):
            return False
        url = media[0].get("url")
        return (
            media[0].get("type") == "first_frame"
            and isinstance(url, str)
            and re.match(r"https?://|data:image/(jpeg|png|webp);base64,", url) is not None
            and how.get("resolution", "720P") in ("720P", "1080P")
            and whole(how.get("duration", 5), 3, 15)
            and isinstance(how.get("watermark", True), bool)
            and whole(how.get("seed", 0), 0, 2147483647)
            and self.fits(url)
        )

    def fits(self, url: str) -> bool:
        width, height = looked_at(url) or (16, 9)
        return bool(width) and height <= 2.5 * width and width <= 2.5 * height

    def data(self, work: Work) -> Any:
        said = {"id": work.id, "created_at": int(work.created), "model": self.model}
        if work.polls < 4:
            return said | {"status": "in_progress", "progress": work.polls / 4}
        how = work.body.get("parameters", {})
        cents = self.prices[how.get("resolution", "1080P")] * how.get("duration", 5)
        video = {"type": "video", "url": f"{self.url}/files/{work.id}.mp4", "jobId": str(uuid.uuid4())}
        times = {"in_queue_at": work.created, "upload_at": work.ended, "completed_at": work.ended}
        return said | {
            "status": "completed",
            "progress": 1.0,
            "output": [{"content": [video]}],
            "usage": {"cost": f"{cents / 100:.2f}", "discount": 1},
            "metadata": times,
        }


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    """Serve a fake, and yield its base URL."""
    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        server.expect_request(re.compile(".*")).respond_with_handler(fake.answer)
        fake.url = f"http://127.0.0.1:{server.port}{fake.prefix}"
        yield fake.url
