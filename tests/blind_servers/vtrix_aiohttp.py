"""Fake Vtrix server (aiohttp), written from the API documents only.

Sources: `vtrix-happyhorse_1.0_i2v.txt`, and section 2 of `providers.md`.

Routes::

    POST /model/v1/generation                       (also /sync, which waits, and /precharge, which only prices)
    GET  /model/v1/generation/task/{id}
    GET  /model/v1/models/skill/search, /model/v1/models/skill/{model}
    GET  /api/v1/user/balance, /api/v1/skill/models, /api/v1/skill/models/{id}/spec, /api/v1/skill/model-contracts/{id}
    POST /api/v1/files
    GET  /monitor/api/v1/cost/billing
    POST /model/v1/queue/{model}                    (contract B; then .../requests/{id}/status, /response, /cancel)
    GET  /outputs/{id}/output.mp4, /files/{id}/{name}     (no key: links are public)

A task takes 1.5 s, scaled by `--pace`: `in_progress`, then `completed` or `failed`.

Decisions the documents leave open:

- Errors of contract A are `{"message": ...}`: 400 for an invalid order or an unknown model, 401 for a missing or
  unknown key, 404 for an unknown task, for another key's task and for unknown paths, 405 for other methods.
- What can be seen in the order alone is refused at submission. An image that cannot be fetched, or whose content is
  wrong (format, size, ratio, bytes), makes the task fail, also if it came as a `data:` URI. A task also fails if its
  prompt or an image URL contains the `--fail-marker` text (`simulate-failure`).
- `error.code` is a string. A failed task has neither output nor usage nor metadata. `progress` is 1.0 at completion.
- `null` is not a value of any member. A whole float such as `5.0` is an integer. Unknown members, such as `ratio` for
  image-to-video, are ignored. `model` may come in the header X-Model instead; the body wins.
- The body of SDK and CLI, `input: [{params}]` with exactly one item, is accepted beside the documented one.
- A prompt with a Chinese character has the limit of 2500 characters, any other 5000. Longer ones are cut.
- The resolution names the shorter side. The file has no audio track, of which the document does not speak.
- Prices: 0.14 USD a second in 720P, 0.28 in 1080P, discount 1. Balances begin at 100000 USD and are never short.
- Images are fetched from loopback hosts only; others are taken as a good 1920x1080 picture, except those of the
  reserved `.invalid`, which cannot be fetched, and those whose path has the ending of another format.
- Text-to-video and reference-to-video follow section 2.3, with the ratio 16:9 by default. video_edit is unknown here.
- The bodies of billing and of the skill endpoints under /api are made up. Links do not expire; no rate limits.

Contract A has neither callbacks nor cancel nor idempotency keys: `--callback-secret` and `--retry-scale` are accepted
and ignored.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import imageio_ffmpeg  # Only for the path of its ffmpeg binary.
from aiohttp import web
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

DOC = "vtrix-happyhorse_1.0_i2v.txt"
PAGE = "providers.md"


class Defect(NamedTuple):
    """One deliberate bug, and the sentence that states the opposite."""

    name: str
    group: str
    sentence: str
    quote: str
    document: str = DOC


DEFECTS = [
    Defect(
        "seed-zero-refused",
        "validation",
        "The smallest allowed seed, 0, is refused.",
        "To improve reproducibility, use the same seed value for repeated calls Range: 0 - 2147483647",
    ),
    Defect(
        "duration-zero-default",
        "validation",
        "A duration of 0 is accepted as if there were none: the video lasts 5 s.",
        "Video duration in seconds. Billing is based on successfully generated output video seconds, so this "
        "parameter affects cost Range: 3 - 15",
    ),
    Defect(
        "media-two-accepted",
        "validation",
        "Two first frames are accepted; the last one is used.",
        "Input media array. Provide exactly one first-frame image",
    ),
    Defect(
        "watermark-string-accepted",
        "validation",
        'A string such as "false" is accepted as watermark, and is true unless empty.',
        "watermark boolean Whether to add a watermark to the lower-right corner of the generated video. The fixed "
        "watermark text is “Happy Horse” Options: true, false",
    ),
    Defect(
        "image-exact-300-refused",
        "validation",
        "The task of an image whose shorter side is exactly 300 pixels fails.",
        "Width and height: at least 300 pixels",
    ),
    Defect(
        "prompt-long-refused",
        "validation",
        "A prompt above the limit is refused with 400 instead of being cut.",
        "Content exceeding the limit is automatically truncated",
    ),
    Defect(
        "create-queued",
        "lifecycle",
        'A new task is "queued" for its first 0.5 s, in the create response and in polls.',
        "States: `in_progress -> completed | failed` (V1, V2). **There is no queued state on the wire.**",
        PAGE,
    ),
    Defect(
        "output-early",
        "lifecycle",
        "A task in progress already has an output, whose link is 404 until completion.",
        "output array Generation results, only present when status is completed",
    ),
    Defect(
        "sync-returns-at-once",
        "lifecycle",
        "The synchronous endpoint answers at once with a task in progress.",
        "`POST /model/v1/generation/sync` | blocking variant | [public docs] sea-sdk-js",
        PAGE,
    ),
    Defect(
        "failure-http-500",
        "failures",
        "A poll of a failed task is HTTP 500, with the task as its body.",
        "Poll, failed, HTTP 200 *(verbatim V3/V4 fixtures)* [public docs]",
        PAGE,
    ),
    Defect(
        "failed-as-completed",
        "failures",
        "A failed task has the status completed, with its error and without output.",
        "error object Error information, only present when status is failed",
    ),
    Defect(
        "type-video-url",
        "members",
        'The type of the content is "video_url".',
        "content array List of generated resource content type string Resource type Value: image|video",
    ),
    Defect(
        "metadata-array",
        "members",
        "The metadata of a completed task is an empty array.",
        "metadata object Metadata information",
    ),
    Defect(
        "cost-flat-rate",
        "members",
        "The cost is that of 5 s, whatever the duration.",
        "Billing is based on successfully generated output video seconds, so this parameter affects cost",
    ),
    Defect(
        "create-202",
        "statuses",
        "Creating a task is HTTP 202.",
        "Create response, HTTP 200 *(verbatim test fixture, V3; struct also has `created_at` int and optional "
        "`error`)* [public docs]",
        PAGE,
    ),
    Defect(
        "error-body-detail",
        "envelope",
        'Error bodies are {"detail": ...}, without message and error.',
        'Body read by the CLI as `{"message": "..."}` or `{"error": "..."}` (V2).',
        PAGE,
    ),
    Defect(
        "auth-poll-open",
        "auth",
        "A task can be polled without a key, or with an unknown one.",
        "All APIs require authentication via Bearer Token.",
    ),
    Defect(
        "auth-missing-403",
        "auth",
        "A missing or unknown key is HTTP 403.",
        'Errors (HTTP level) [public docs] V1 sibling pages: 401 "API key is missing or invalid"; 403 "Insufficient '
        'balance or permission denied"',
        PAGE,
    ),
    Defect(
        "media-25-fps",
        "media",
        "Videos have 25 frames per second.",
        "happyhorse_1.0_i2v generates videos at 24fps in MP4 format",
    ),
    Defect(
        "portrait-turned",
        "media",
        "The video of a portrait first frame is landscape, width and height swapped.",
        "happyhorse_1.0_i2v does not support ratio; the output aspect ratio follows the first frame image",
    ),
]
NAMES = frozenset(defect.name for defect in DEFECTS)

I2V, T2V, R2V = "happyhorse_1.0_i2v", "happyhorse_1.0_t2v", "happyhorse_1.0_r2v"
MODELS = {
    I2V: "generates smooth videos from a first-frame image and an optional text prompt",
    T2V: "generates videos from a text prompt",
    R2V: "generates videos from a text prompt and one to nine reference images",
}
LINES = {"720P": 720, "1080P": 1080}
PRICES = {"720P": Decimal("0.14"), "1080P": Decimal("0.28")}
RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4", "4:5", "5:4", "9:21", "21:9")
MIME_TYPES = ("image/jpeg", "image/png", "image/webp")
FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
BAD_ENDINGS = ("bmp", "gif", "tif", "tiff", "svg", "heic", "avif", "pdf", "mp4", "mov", "webm", "txt", "html")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
TASK_SECONDS = 1.5
QUEUE_SECONDS = 0.5
MAX_IMAGE = 20 * 1024 * 1024
MAX_SEED = 2147483647
BALANCE = Decimal(100000)
Image.MAX_IMAGE_PIXELS = 200_000_000


class Refused(Exception):
    """An error response of contract A."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class TaskFailure(Exception):
    """The reason why a task fails."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Order:
    """A valid order."""

    model: str
    prompt: str
    urls: list[str]
    resolution: str
    seconds: int
    watermark: bool
    seed: int
    ratio: str = "16:9"


@dataclass
class Task:
    """A task of one key."""

    order: Order
    key: str
    base_url: str
    id: str = field(default_factory=lambda: f"task_{uuid.uuid4().hex}")
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    began: float = field(default_factory=time.time)
    status: str = "in_progress"
    error: TaskFailure | None = None
    cost: Decimal = Decimal(0)
    uploaded: float = 0.0
    completed: float = 0.0
    film: Path | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None


def whole(value: Any) -> int | None:
    """Return a JSON integer, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value)


def split_data_uri(url: str) -> tuple[str, bytes]:
    """Return type and content of a base64 data URI; raise 400."""
    match = re.fullmatch(r"data:([^;,]*);base64,(.*)", url, re.DOTALL)
    if not match:
        raise Refused(400, "media url: the format is data:{MIME_type};base64,{base64_data}")
    try:
        return match.group(1).lower(), base64.b64decode(match.group(2), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "media url: invalid Base64 data") from None


def placeholder() -> Image.Image:
    """Return the picture that stands for an image on another host."""
    picture = Image.new("RGB", (1920, 1080), "steelblue")
    draw = ImageDraw.Draw(picture)
    for x in range(0, 1920, 160):
        draw.line((x, 0, 1919 - x, 1079), "white", 3)
    return picture


class Studio:
    """Makes and keeps the video files. A given folder is kept, a temporary one is removed at the end."""

    def __init__(self, cache: Path | None) -> None:
        self.temporary = cache is None
        self.folder = cache or Path(tempfile.mkdtemp(prefix="fake-vtrix-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = asyncio.Lock()
        self.ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

    async def run(self, path: Path, *arguments: str) -> None:
        """Make a file with ffmpeg."""
        part = self.folder / f"{uuid.uuid4().hex}.mp4"
        command = [self.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments, str(part)]
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
        if await process.wait():
            raise TaskFailure("190001", "video generation failed")
        part.replace(path)

    async def film(self, picture: Image.Image, size: tuple[int, int], seconds: int, mark: bool, rate: int) -> Path:
        """Return an MP4 that begins with the picture: one encoded second, looped without encoding it again."""
        still = await asyncio.to_thread(self.still, picture, size, mark)
        name = f"vtrix-{hashlib.sha256(still).hexdigest()[:20]}-{size[0]}x{size[1]}-{rate}"
        loop, path = self.folder / f"{name}.mp4", self.folder / f"{name}-{seconds}s.mp4"
        async with self.lock:
            if not loop.exists():
                source = self.folder / f"{name}.png"
                source.write_bytes(still)
                pulse = "eq=brightness=0.08*sin(2*PI*t):eval=frame"
                codec = [
                    "-c:v",
                    "libx264",
                    "-preset",
                    "ultrafast",
                    "-crf",
                    "30",
                    "-pix_fmt",
                    "yuv420p",
                    "-threads",
                    "1",
                ]
                frames = ["-vf", pulse, "-frames:v", str(rate), "-g", str(rate)]
                await self.run(loop, "-loop", "1", "-framerate", str(rate), "-i", str(source), *frames, *codec)
                source.unlink()
            if not path.exists():
                repeat = ["-stream_loop", str(seconds - 1), "-i", str(loop), "-c", "copy", "-t", str(seconds)]
                await self.run(path, *repeat, "-movflags", "+faststart")
        return path

    def still(self, picture: Image.Image, size: tuple[int, int], mark: bool) -> bytes:
        """Return the first frame as a PNG, with the watermark in its lower-right corner if wanted."""
        frame = picture.resize(size)
        if mark:
            draw = ImageDraw.Draw(frame)
            font = ImageFont.load_default(size=min(size) // 18)
            box = draw.textbbox((0, 0), "Happy Horse", font=font)
            margin = min(size) // 36
            corner = (size[0] - box[2] - margin, size[1] - box[3] - margin)
            draw.text(corner, "Happy Horse", "white", font=font, stroke_width=2, stroke_fill="black")
        buffer = io.BytesIO()
        frame.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


class Vtrix:
    """Orders, tasks and accounts. `bug(name)` tells whether a defect is active."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.keys: set[str] = set(options.key)
        self.defect: str | None = options.defect
        self.pace: float = options.pace
        self.fail_marker: str = options.fail_marker
        self.studio = Studio(options.cache)
        self.tasks: dict[str, Task] = {}
        self.files: dict[str, tuple[str, str, bytes]] = {}
        self.session: aiohttp.ClientSession | None = None

    def bug(self, name: str) -> bool:
        """Return whether the named defect is active."""
        if name not in NAMES:
            raise LookupError(name)
        return name == self.defect

    # Keys.

    def key_of(self, request: web.Request, schemes: str = "bearer") -> str | None:
        """Return the request's key, None if it is missing or unknown."""
        match = re.fullmatch(rf"(?i:{schemes}) +(\S+)", request.headers.get("Authorization", "").strip())
        if not match:
            return None
        key = match.group(1)
        known = key in self.keys if self.keys else not key.startswith("wrong-")
        return key if known else None

    def caller(self, request: web.Request) -> str:
        """Return the request's key; raise 401."""
        key = self.key_of(request)
        if key is None:
            raise Refused(403 if self.bug("auth-missing-403") else 401, "API key is missing or invalid")
        return key

    # Orders.

    def order(self, body: Any, x_model: str | None) -> Order:
        """Return a valid order; raise 400."""
        if not isinstance(body, dict):
            raise Refused(400, "the request body must be a JSON object")
        model = body.get("model", x_model)
        if not isinstance(model, str) or not model:
            raise Refused(400, "model is required and must be a string")
        if model not in MODELS:
            raise Refused(400, f"model not found: {model}")
        if not isinstance(body.get("moderation", True), bool):
            raise Refused(400, "moderation must be a boolean")
        fields, parameters = body.get("input"), body.get("parameters", {})
        if isinstance(fields, list):
            if len(fields) != 1 or not isinstance(fields[0], dict) or not isinstance(fields[0].get("params"), dict):
                raise Refused(400, "input must be an object, or an array of one object with params")
            wrapped = fields[0]["params"]
            fields, parameters = wrapped.get("input"), wrapped.get("parameters", {})
        if not isinstance(fields, dict):
            raise Refused(400, "input is required and must be an object")
        if not isinstance(parameters, dict):
            raise Refused(400, "parameters must be an object")
        return Order(
            model=model,
            prompt=self.prompt(fields, required=model != I2V),
            urls=self.urls(fields, model),
            resolution=self.resolution(parameters),
            seconds=self.seconds(parameters),
            watermark=self.watermark(parameters),
            seed=self.seed(parameters),
            ratio="16:9" if model == I2V else self.ratio(parameters),
        )

    def prompt(self, fields: dict[str, Any], required: bool) -> str:
        """Return the prompt, cut to its limit."""
        prompt = fields.get("prompt", "")
        if not isinstance(prompt, str):
            raise Refused(400, "input.prompt must be a string")
        if required and not prompt.strip():
            raise Refused(400, "input.prompt is required")
        limit = 2500 if re.search(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]", prompt) else 5000
        if len(prompt) > limit and self.bug("prompt-long-refused"):
            raise Refused(400, f"input.prompt must have at most {limit} characters")
        return prompt[:limit]

    def urls(self, fields: dict[str, Any], model: str) -> list[str]:
        """Return the images' URLs."""
        if model == T2V:
            return []
        media = fields.get("media")
        if not isinstance(media, list):
            raise Refused(400, "input.media is required and must be an array")
        kind, most = ("first_frame", 1) if model == I2V else ("reference_image", 9)
        if not 1 <= len(media) <= most and not (len(media) == 2 and self.bug("media-two-accepted")):
            raise Refused(400, f"input.media must have 1{'' if most == 1 else f' to {most}'} items, got {len(media)}")
        urls = []
        for item in media:
            if not isinstance(item, dict):
                raise Refused(400, "input.media: every item must be an object")
            if item.get("type") != kind:
                raise Refused(400, f"input.media: type must be {kind}")
            urls.append(self.url(item.get("url")))
        return urls[-1:] if model == I2V else urls

    def url(self, url: Any) -> str:
        """Check one image's URL."""
        if not isinstance(url, str) or not url:
            raise Refused(400, "input.media: url is required and must be a string")
        if url.startswith("data:"):
            mime_type, _ = split_data_uri(url)
            if mime_type not in MIME_TYPES:
                raise Refused(400, f"input.media: MIME type must be one of {', '.join(MIME_TYPES)}")
            return url
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise Refused(400, "input.media: url is malformed") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(400, "input.media: url must be an HTTP or HTTPS URL or Base64 data")
        return url

    def resolution(self, parameters: dict[str, Any]) -> str:
        """Return the resolution."""
        value = parameters.get("resolution", "1080P")
        if not isinstance(value, str) or value not in LINES:
            raise Refused(400, "parameters.resolution must be 720P or 1080P")
        return value

    def seconds(self, parameters: dict[str, Any]) -> int:
        """Return the duration."""
        seconds = whole(parameters.get("duration", 5))
        if seconds == 0 and self.bug("duration-zero-default"):
            return 5
        if seconds is None or not 3 <= seconds <= 15:
            raise Refused(400, "parameters.duration must be an integer from 3 to 15")
        return seconds

    def watermark(self, parameters: dict[str, Any]) -> bool:
        """Return whether a watermark is wanted."""
        value = parameters.get("watermark", True)
        if isinstance(value, str) and self.bug("watermark-string-accepted"):
            return bool(value)
        if not isinstance(value, bool):
            raise Refused(400, "parameters.watermark must be a boolean")
        return value

    def seed(self, parameters: dict[str, Any]) -> int:
        """Return the seed, a random one if there is none."""
        if "seed" not in parameters:
            return random.randint(0, MAX_SEED)
        seed = whole(parameters["seed"])
        least = 1 if self.bug("seed-zero-refused") else 0
        if seed is None or not least <= seed <= MAX_SEED:
            raise Refused(400, f"parameters.seed must be an integer from {least} to {MAX_SEED}")
        return seed

    def ratio(self, parameters: dict[str, Any]) -> str:
        """Return the aspect ratio, which image-to-video does not have."""
        value = parameters.get("ratio", "16:9")
        if value not in RATIOS:
            raise Refused(400, f"parameters.ratio must be one of {', '.join(RATIOS)}")
        return str(value)

    def price(self, order: Order) -> Decimal:
        """Return the cost of an order in USD."""
        return PRICES[order.resolution] * (5 if self.bug("cost-flat-rate") else order.seconds)

    # Tasks.

    def start(self, order: Order, key: str, base_url: str) -> Task:
        """Create a task and let it run."""
        task = Task(order, key, base_url)
        self.tasks[task.id] = task
        task.worker = asyncio.create_task(self.work(task))
        return task

    async def work(self, task: Task) -> None:
        """Live a task's life."""
        began = time.monotonic()
        try:
            path = await self.produce(task)
            await asyncio.sleep(began + TASK_SECONDS * self.pace - time.monotonic())
            task.film = path
            task.cost = self.price(task.order)
            task.status = "completed"
        except TaskFailure as error:
            await asyncio.sleep(began + TASK_SECONDS * self.pace - time.monotonic())
            task.error = error
            task.status = "failed"
        except asyncio.CancelledError:
            task.error = TaskFailure("CANCELED", "Task was canceled")
            task.status = "failed"
            raise
        finally:
            task.completed = time.time()
            task.ended.set()

    async def produce(self, task: Task) -> Path:
        """Return a task's video; raise TaskFailure."""
        order = task.order
        if self.fail_marker and any(self.fail_marker in text for text in (order.prompt, *order.urls)):
            raise TaskFailure("110001", "input image may contain sensitive information")
        pictures = [await self.picture(url, order.model) for url in order.urls]
        task.uploaded = time.time()
        picture = pictures[0] if pictures else placeholder()
        wide, high = picture.size if order.model == I2V else map(int, order.ratio.split(":"))
        lines = LINES[order.resolution]
        longer = int(lines * max(wide, high) / min(wide, high) / 2 + 0.5) * 2
        size = (longer, lines) if wide >= high or self.bug("portrait-turned") else (lines, longer)
        rate = 25 if self.bug("media-25-fps") else 24
        return await self.studio.film(picture, size, order.seconds, order.watermark, rate)

    async def picture(self, url: str, model: str) -> Image.Image:
        """Return a decoded image; raise TaskFailure."""
        if url.startswith("data:"):
            data = split_data_uri(url)[1]
        else:
            host, path = urlsplit(url).hostname or "", urlsplit(url).path
            if host.endswith(".invalid"):
                raise TaskFailure("190000", "download input image failed")
            if host not in LOCAL_HOSTS:
                if Path(path).suffix.lower().lstrip(".") in BAD_ENDINGS:
                    raise TaskFailure("110002", "input image format must be JPEG, JPG, PNG or WEBP")
                return placeholder()
            data = await self.download(url)
        if len(data) > MAX_IMAGE:
            raise TaskFailure("110002", "input image must not be larger than 20MB")
        return await asyncio.to_thread(self.decode, data, model)

    async def download(self, url: str) -> bytes:
        """Return the bytes behind a URL on a loopback host; raise TaskFailure."""
        assert self.session is not None
        try:
            async with self.session.get(url, ssl=False, allow_redirects=False) as response:
                if response.status != 200:
                    raise TaskFailure("190000", f"download input image failed: HTTP {response.status}")
                data = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    data += chunk
                    if len(data) > MAX_IMAGE:
                        break
                return bytes(data)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise TaskFailure("190000", "download input image failed") from None

    def decode(self, data: bytes, model: str) -> Image.Image:
        """Return an image that meets the requirements; raise TaskFailure."""
        try:
            picture = Image.open(io.BytesIO(data))
            if picture.format not in FORMATS:
                raise TaskFailure("110002", "input image format must be JPEG, JPG, PNG or WEBP")
            wide, high = picture.size
            least = 300 if model == I2V else 400
            exact = model == I2V and min(wide, high) == 300
            if min(wide, high) < least or (exact and self.bug("image-exact-300-refused")):
                raise TaskFailure("110002", f"input image must be at least {least} pixels, got {wide}x{high}")
            if model == I2V and max(wide, high) > 2.5 * min(wide, high):
                raise TaskFailure("110002", f"input image aspect ratio must be 1:2.5 to 2.5:1, got {wide}x{high}")
            return picture.convert("RGB")
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise TaskFailure("110002", "input image cannot be decoded") from None

    def view(self, task: Task) -> dict[str, Any]:
        """Return a task as polls see it."""
        status = task.status
        if status == "in_progress" and self.bug("create-queued"):
            status = "queued" if time.time() - task.began < QUEUE_SECONDS * self.pace else status
        body: dict[str, Any] = {
            "id": task.id,
            "created_at": int(task.began),
            "status": status,
            "model": task.order.model,
        }
        if task.status == "in_progress":
            body["progress"] = round(min((time.time() - task.began) / (TASK_SECONDS * self.pace or 1), 0.99), 2)
            if self.bug("output-early"):
                body["output"] = self.output(task)
        elif task.error:
            body["error"] = {"code": task.error.code, "message": task.error.message}
            if self.bug("failed-as-completed"):
                body["status"] = "completed"
        else:
            body["progress"] = 1.0
            body["output"] = self.output(task)
            body["usage"] = {"cost": f"{task.cost:.2f}", "discount": 1}
            body["metadata"] = {
                "in_queue_at": round(task.began, 3),
                "upload_at": round(task.uploaded, 3),
                "completed_at": round(task.completed, 3),
            }
            if self.bug("metadata-array"):
                body["metadata"] = []
        return body

    def output(self, task: Task) -> list[dict[str, Any]]:
        """Return a task's output."""
        kind = "video_url" if self.bug("type-video-url") else "video"
        url = f"{task.base_url}/outputs/{task.id}/output.mp4"
        return [{"content": [{"type": kind, "url": url, "jobId": task.job_id}]}]

    def find(self, task_id: str, key: str | None) -> Task:
        """Return a key's task, or any key's if `key` is None; raise 404."""
        task = self.tasks.get(task_id)
        if task is None or (key is not None and task.key != key):
            raise Refused(404, "task not found")
        return task


VTRIX: web.AppKey[Vtrix] = web.AppKey("vtrix", Vtrix)
routes = web.RouteTableDef()


def base_url(request: web.Request) -> str:
    """Return this server's URL, as the client knows it."""
    return f"http://{request.host}"


async def json_body(request: web.Request) -> Any:
    """Return a request's JSON; raise 400."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(await request.read(), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Refused(400, "the request body is not valid JSON") from None


# Contract A.


@routes.post("/model/v1/generation")
async def create(request: web.Request) -> web.Response:
    """Create a task."""
    vtrix = request.app[VTRIX]
    key = vtrix.caller(request)
    order = vtrix.order(await json_body(request), request.headers.get("X-Model"))
    view = vtrix.view(vtrix.start(order, key, base_url(request)))
    body = {name: view[name] for name in ("id", "created_at", "status", "model")}
    return web.json_response(body, status=202 if vtrix.bug("create-202") else 200)


@routes.post("/model/v1/generation/sync")
async def create_and_wait(request: web.Request) -> web.Response:
    """Create a task and wait for its end."""
    vtrix = request.app[VTRIX]
    key = vtrix.caller(request)
    order = vtrix.order(await json_body(request), request.headers.get("X-Model"))
    task = vtrix.start(order, key, base_url(request))
    if not vtrix.bug("sync-returns-at-once"):
        await task.ended.wait()
    return web.json_response(vtrix.view(task))


@routes.post("/model/v1/generation/precharge")
async def precharge(request: web.Request) -> web.Response:
    """Price an order."""
    vtrix = request.app[VTRIX]
    vtrix.caller(request)
    order = vtrix.order(await json_body(request), request.headers.get("X-Model"))
    names = dict.fromkeys(("billing_model", "model", "original_model"), order.model)
    digest = hashlib.sha256(f"{order.model} {order.resolution} {order.seconds}".encode()).hexdigest()
    data = {
        **names,
        "cost": f"{vtrix.price(order):.2f}",
        "currency": "USD",
        "discount": 1,
        "hash": f"v1:{digest}",
        "sample_count": 1,
        "updated_at": int(time.time() * 1000),
    }
    return web.json_response({"data": data, "status": "success"})


@routes.get("/model/v1/generation/task/{id}")
async def poll(request: web.Request) -> web.Response:
    """Return a task."""
    vtrix = request.app[VTRIX]
    key = None if vtrix.bug("auth-poll-open") else vtrix.caller(request)
    task = vtrix.find(request.match_info["id"], key)
    status = 500 if task.error and vtrix.bug("failure-http-500") else 200
    return web.json_response(vtrix.view(task), status=status)


@routes.get("/model/v1/models/skill/search")
async def search(request: web.Request) -> web.Response:
    """Search the models."""
    request.app[VTRIX].caller(request)
    wanted = request.query.get("q", "").lower()
    limit_text = request.query.get("limit", "20")
    if not re.fullmatch(r"[0-9]{1,4}", limit_text):
        raise Refused(400, "limit must be a non-negative integer")
    hits = [
        {
            "id": model,
            "name": model,
            "provider": "qwen",
            "input": ["text"] if model == T2V else ["text", "image"],
            "output": ["video"],
            "media_type": "video",
            "tags": [],
            "tags_abbr": [],
            "skill_content": f"{model} {text}",
        }
        for model, text in MODELS.items()
        if wanted in f"{model} {text}".lower() and request.query.get("provider", "qwen") == "qwen"
    ]
    limit = int(limit_text)
    return web.json_response({"hits": hits[:limit], "query": wanted, "limit": limit, "estimatedTotalHits": len(hits)})


def known_model(request: web.Request) -> str:
    """Return the model of the path; raise 404."""
    model = request.match_info["model"]
    if model not in MODELS:
        raise Refused(404, f"model not found: {model}")
    return model


@routes.get("/model/v1/models/skill/{model}")
async def skill(request: web.Request) -> web.Response:
    """Describe a model."""
    request.app[VTRIX].caller(request)
    model = known_model(request)
    return web.Response(text=f"# {model}\n\n{model} {MODELS[model]}.\n", content_type="text/markdown")


def account_response(data: Any) -> web.Response:
    """Return a response of the account service."""
    return web.json_response({"status": {"code": 200, "message": "ok"}, "data": data})


@routes.get("/api/v1/skill/models")
async def skill_models(request: web.Request) -> web.Response:
    """List the models."""
    request.app[VTRIX].caller(request)
    return account_response([{"id": model, "description": text} for model, text in MODELS.items()])


@routes.get("/api/v1/skill/models/{model}/spec")
@routes.get("/api/v1/skill/model-contracts/{model}")
async def spec(request: web.Request) -> web.Response:
    """Return a model's parameters."""
    request.app[VTRIX].caller(request)
    parameters = {
        "resolution": {"type": "string", "enum": list(LINES), "default": "1080P"},
        "duration": {"type": "integer", "minimum": 3, "maximum": 15, "default": 5},
        "watermark": {"type": "boolean", "default": True},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
    }
    return account_response({"id": known_model(request), "parameters": parameters})


def spent(vtrix: Vtrix, key: str) -> Decimal:
    """Return what a key's tasks have cost."""
    return sum((task.cost for task in vtrix.tasks.values() if task.key == key), Decimal(0))


@routes.get("/api/v1/user/balance")
async def balance(request: web.Request) -> web.Response:
    """Return the account's balance."""
    vtrix = request.app[VTRIX]
    key = vtrix.caller(request)
    rest = f"{BALANCE - spent(vtrix, key):.2f}"
    data = {
        "user_id": hashlib.sha256(key.encode()).hexdigest()[:12],
        "balance": rest,
        "total_recharged": f"{BALANCE:.2f}",
        "currency": "USD",
        "billing_mode": "prepaid",
        "credit_limit": "0.00",
        "arrears": "0.00",
        "available_balance": rest,
    }
    return account_response(data)


@routes.get("/monitor/api/v1/cost/billing")
async def billing(request: web.Request) -> web.Response:
    """List what the tasks have cost."""
    vtrix = request.app[VTRIX]
    key = vtrix.caller(request)
    own = [task for task in vtrix.tasks.values() if task.key == key and task.cost]
    items = [{"task_id": task.id, "model": task.order.model, "cost": f"{task.cost:.2f}"} for task in own]
    return account_response({"items": items, "total_cost": f"{spent(vtrix, key):.2f}", "currency": "USD"})


@routes.post("/api/v1/files")
async def upload(request: web.Request) -> web.Response:
    """Keep a file."""
    vtrix = request.app[VTRIX]
    vtrix.caller(request)
    form = await request.post() if request.content_type == "multipart/form-data" else {}
    part = form.get("file")
    if not isinstance(part, web.FileField):
        raise Refused(400, "the multipart field 'file' is required")
    file_id = uuid.uuid4().hex
    name = re.sub(r"[^A-Za-z0-9._-]", "_", part.filename or "") or "file"
    vtrix.files[file_id] = (name, part.content_type, part.file.read())
    return web.json_response({"url": f"{base_url(request)}/files/{file_id}/{name}"})


@routes.get("/files/{id}/{name}")
async def uploaded(request: web.Request) -> web.Response:
    """Return an uploaded file."""
    name, kind, data = request.app[VTRIX].files.get(request.match_info["id"], ("", "", b""))
    if not name or name != request.match_info["name"]:
        raise Refused(404, "file not found")
    return web.Response(body=data, headers={"Content-Type": kind})


@routes.get("/outputs/{id}/output.mp4")
async def video(request: web.Request) -> web.StreamResponse:
    """Return a task's video."""
    task = request.app[VTRIX].tasks.get(request.match_info["id"])
    if task is None or task.film is None:
        raise Refused(404, "file not found")
    return web.FileResponse(task.film, headers={"Content-Type": "video/mp4"})


# Contract B, the queue.


def detail(status: int, text: str) -> web.Response:
    """Return an error of contract B."""
    return web.json_response({"detail": text}, status=status)


def queue_caller(request: web.Request) -> str | web.Response:
    """Return the request's key, or the response that refuses it."""
    key = request.app[VTRIX].key_of(request, "bearer|key")
    if key is not None:
        return key
    error = {"code": "UNAUTHORIZED", "message": "Authorization Bearer or Key token is required"}
    return web.json_response({"error": error, "request_id": uuid.uuid4().hex}, status=401)


def queue_urls(request: web.Request, task: Task) -> dict[str, str]:
    """Return the URLs of a request in the queue."""
    root = f"{base_url(request)}/model/v1/queue/{task.order.model}/requests/{task.id}"
    return {f"{name}_url": f"{root}/{name}" for name in ("response", "status", "cancel")}


def queue_status(request: web.Request, task: Task) -> dict[str, Any]:
    """Return the status body of a request in the queue."""
    urls = {"response_url": queue_urls(request, task)["response_url"]}
    if not task.ended.is_set():
        if time.time() - task.began < QUEUE_SECONDS * request.app[VTRIX].pace:
            return {"status": "IN_QUEUE", "request_id": task.id, "queue_position": 0, **urls}
        return {"status": "IN_PROGRESS", "request_id": task.id, **urls}
    body: dict[str, Any] = {"status": "COMPLETED", "request_id": task.id, **urls}
    if task.error is None:
        body["metrics"] = {"inference_time": round(task.completed - task.began, 2)}
    elif task.error.code == "CANCELED":
        body |= {"error": task.error.message, "error_type": "CANCELED"}
    else:
        reason = {"code": task.error.code, "message": task.error.message}
        body |= {"error": task.error.message, "error_type": "REQUEST_INVALID", "provider_error": reason}
    return body


@routes.post("/model/v1/queue/{model}")
async def queue_submit(request: web.Request) -> web.Response:
    """Queue a request."""
    vtrix = request.app[VTRIX]
    key = queue_caller(request)
    if isinstance(key, web.Response):
        return key
    model = request.match_info["model"]
    if model not in MODELS:
        return detail(404, f"App not found: {model}")
    if "webhook" in request.query or "fal_webhook" in request.query:
        return detail(400, "webhook not supported")
    try:
        body = await json_body(request)
        if not isinstance(body, dict):
            raise Refused(400, "the request body must be a JSON object")
        order = vtrix.order({"model": model, "input": body, "parameters": body}, None)
    except Refused as error:
        return detail(error.status, error.message)
    task = vtrix.start(order, key, base_url(request))
    return web.json_response({"request_id": task.id, **queue_urls(request, task), "queue_position": 0})


def queued(request: web.Request) -> Task | web.Response:
    """Return the task of the path, or the response that refuses it."""
    key = queue_caller(request)
    if isinstance(key, web.Response):
        return key
    task = request.app[VTRIX].tasks.get(request.match_info["id"])
    if task is None or task.key != key or task.order.model != request.match_info["model"]:
        return web.json_response({"status": "NOT_FOUND"}, status=404)
    return task


@routes.get("/model/v1/queue/{model}/requests/{id}/status")
async def queue_poll(request: web.Request) -> web.Response:
    """Return a request's status."""
    task = queued(request)
    return task if isinstance(task, web.Response) else web.json_response(queue_status(request, task))


@routes.get("/model/v1/queue/{model}/requests/{id}/response")
async def queue_response(request: web.Request) -> web.Response:
    """Return a request's result, 202 before its end."""
    task = queued(request)
    if isinstance(task, web.Response):
        return task
    if task.film is None:
        return web.json_response(queue_status(request, task), status=200 if task.ended.is_set() else 202)
    output = {
        "type": "video",
        "url": f"{task.base_url}/outputs/{task.id}/output.mp4",
        "content_type": "video/mp4",
        "file_name": "output.mp4",
        "file_size": task.film.stat().st_size,
        "duration": task.order.seconds,
    }
    return web.json_response({"request_id": task.id, "outputs": [output], "metadata": {"prompt": task.order.prompt}})


@routes.put("/model/v1/queue/{model}/requests/{id}/cancel")
async def queue_cancel(request: web.Request) -> web.Response:
    """Cancel a request."""
    task = queued(request)
    if isinstance(task, web.Response):
        return task
    if task.ended.is_set():
        return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
    assert task.worker is not None
    task.worker.cancel()
    return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)


@web.middleware
async def errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Turn errors into JSON."""
    try:
        return await handler(request)
    except Refused as error:
        status, message = error.status, error.message
    except web.HTTPException as error:
        if error.status < 400:
            raise
        status, message = error.status, error.reason
    if request.path.startswith("/model/v1/queue/"):
        return detail(status, message)
    name = "detail" if request.app[VTRIX].bug("error-body-detail") else "message"
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.json_response({name: message}, status=status, headers=headers)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    vtrix = Vtrix(options)
    app = web.Application(client_max_size=110 * 1024 * 1024, middlewares=[errors])
    app[VTRIX] = vtrix
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as vtrix.session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", options.port, backlog=128).start()
            print("ready", flush=True)
            await stop.wait()
            await runner.cleanup()
            workers = [task.worker for task in vtrix.tasks.values() if task.worker and not task.worker.done()]
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    finally:
        if vtrix.studio.temporary:
            shutil.rmtree(vtrix.studio.folder, ignore_errors=True)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="Fake Vtrix server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8103)
    parser.add_argument(
        "--key",
        action="extend",
        nargs="+",
        default=[],
        help="an accepted API key (repeatable); default: any key that does not begin with 'wrong-'",
    )
    parser.add_argument("--defect", choices=sorted(NAMES), metavar="NAME", help="run with one defect; see --defects")
    parser.add_argument("--defects", action="store_true", help="print all defects and exit")
    parser.add_argument("--pace", type=float, default=1.0, help="scale of a task's 1.5 seconds")
    parser.add_argument(
        "--fail-marker", default="simulate-failure", help="text in the prompt or image URL that makes the task fail"
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the video files for the next start")
    parser.add_argument("--callback-secret", metavar="S", help="ignored: Vtrix has no callbacks")
    parser.add_argument("--retry-scale", type=float, metavar="X", help="ignored: Vtrix has no callbacks")
    options = parser.parse_args()
    if options.defects:
        for defect in DEFECTS:
            print(f"{defect.name}: {defect.sentence}")
        return
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
