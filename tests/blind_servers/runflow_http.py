"""Fake Runflow server (standard library's http.server, one thread per run), written from the API documents only.

Sources: `runflow-happy-horse-image-to-video.txt`, and section 3 of `providers.md`.

Routes::

    POST /v1/run/{model_id}                         (the document's synchronous call: flat body, waits)
    POST /v1/models/{model_id}/runs                 (dispatch, 201)
    GET  /v1/runs, /v1/runs/statuses, /v1/runs/{id}, /v1/runs/{id}/logs, /v1/runs/{id}/node-runs
    GET  /v1/runs/{id}/callback, POST /v1/runs/{id}/callback-redeliveries
    POST /v1/admin/runs/{id}/cancellation
    POST /v1/callback-secrets
    GET, POST /v1/webhooks, PATCH, DELETE /v1/webhooks/{id}, GET /v1/webhooks/event-types
    POST /v1/asset-uploads, PUT {upload_url}, POST /v1/asset-uploads/{id}/confirmations
    GET  /v1/assets/{id}, /v1/assets/types
    GET  /v1/billing/balance, /v1/auth/me, /v1/health, /v1/readiness
    GET  /outputs/{id}/result.mp4?X-Amz-...         (no key: a presigned link, for 3 days)

A run takes 1.5 s, scaled by `--pace`: 0.3 s queued, 0.2 s dispatching, 1 s running.

Decisions the documents leave open:

- Invalid input is 422 with code VALIDATION_ERROR and `errors` of `{"field", "message"}`; a body that is no JSON object
  is 400 BAD_REQUEST, an unknown model 404 MODEL_NOT_FOUND, video-edit (listed without a schema) 503 MODEL_UNAVAILABLE.
- An unknown run and another account's run are 404 RUN_NOT_FOUND. Every key is its own organisation; X-Organization-Id
  is ignored. A key is an admin's if it contains "admin": it may cancel every run. An admin's key is an ordinary one
  otherwise.
- `null` is not a value of an input, but it is one of callback_url, metadata and client_ref. A whole float such as `5.0`
  is an integer. Unknown members are ignored. The prompt's limit counts Unicode characters.
- An image that cannot be fetched or whose content is wrong (format, size, ratio, bytes) makes the run fail with
  INPUT_VALIDATION_FAILED in the stage preprocess; so does the `--fail-marker` text (`simulate-failure`) in the prompt
  or an image URL. Its output is null and its cost "0.00". The synchronous call answers such a failure with 422.
- A media URL is HTTP(S) or a data URI; `runflow://assets/...` is refused with the documented message. Images are
  fetched from loopback hosts only; others are taken as a good 1920x1080 picture, except those of the
  reserved `.invalid`, which cannot be fetched, and those whose path has the ending of another format.
- The resolution names the shorter side; the file has 24 frames a second and an audio track.
- Callbacks go to loopback hosts only, with five attempts, 1, 2, 4 and 8 times `--retry-scale` (0.3) seconds apart; any
  2xx ends them, redirects are not followed. `--callback-secret` registers a secret for every key; one that is made by
  POST /v1/callback-secrets signs instead of it from then on. Organisation webhooks get the same payload.
- The lists are `{"items", "total", "limit", "offset"}`, newest first; `limit` is at most 500, and `from_prev` true or
  false (both added later: the author could not see that page of the documents). Balances begin at 100000.00 (USD).
- partial_succeeded does not occur. No rate limits, and no idempotency keys.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import http.client
import io
import json
import random
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import imageio_ffmpeg  # Only for the path of its ffmpeg binary.
from PIL import Image, UnidentifiedImageError

DOC = "runflow-happy-horse-image-to-video.txt"
PAGE = "providers.md"


class Defect(NamedTuple):
    """One deliberate bug, and the sentence that states the opposite."""

    name: str
    group: str
    sentence: str
    quote: str
    document: str = DOC


STATES = (
    "States: `queued -> dispatching -> running -> succeeded | failed | canceled | partial_succeeded` "
    "(R1 concepts/runs)."
)
SIGNATURE = (
    "Headers: `Runflow-Signature: <64 hex>` = HMAC-SHA256(secret, raw_body), **only when a callback secret is "
    "registered**;"
)

DEFECTS = [
    Defect(
        "seed-minus-one-accepted",
        "validation",
        "The seed -1 is accepted, as if there were none.",
        "Random seed for reproducibility (0-2147483647).",
    ),
    Defect(
        "bmp-refused",
        "validation",
        "The run of a BMP image fails.",
        "Formats: JPEG, JPG, PNG, BMP, WEBP.",
    ),
    Defect(
        "client-ref-limit-128",
        "validation",
        "A client_ref of more than 128 characters, such as one of 255, is refused.",
        "Optional siblings: `metadata` (object), `client_ref` (<= 255 chars) (R1, R3).",
        PAGE,
    ),
    Defect(
        "dispatch-pending",
        "lifecycle",
        'The dispatch response says "pending"; polls of the same run say queued.',
        STATES,
        PAGE,
    ),
    Defect(
        "failed-run-retried",
        "lifecycle",
        "A run that failed is queued again after 0.8 s, and runs and fails once more.",
        "**SDK trap:** `runs.poll` treats only succeeded, failed, canceled as terminal",
        PAGE,
    ),
    Defect(
        "failure-code-null",
        "failures",
        "The failure_code of a failed run is null.",
        '"failure_code":"INPUT_VALIDATION_FAILED","failure_stage":"preprocess","failure_message":"image dimensions '
        'exceed 4096x4096"}',
        PAGE,
    ),
    Defect(
        "output-double-encoded",
        "members",
        "The output of a succeeded run is a string that contains JSON.",
        '"output": { "outputs": [{"url": '
        '"https://<bucket>.s3.dualstack.eu-central-1.amazonaws.com/outputs/.../result.mp4?X-Amz-...", '
        '"type": "video"}],',
        PAGE,
    ),
    Defect(
        "duration-ms-in-seconds",
        "members",
        "duration_ms is in seconds, in polls and callbacks.",
        '"duration_ms":102345,"created_at":"2026-05-06T10:00:00.000+00:00","completed_at":'
        '"2026-05-06T10:01:42.345+00:00"',
        PAGE,
    ),
    Defect(
        "legacy-video-string",
        "members",
        "The synchronous call answers with the URL itself as video, not with an object.",
        'data = response.json() print(data["video"]["url"])',
    ),
    Defect(
        "run-not-found-generic",
        "statuses",
        "The code of an unknown run's 404 is NOT_FOUND.",
        "| 404 | RUN_NOT_FOUND |",
        PAGE,
    ),
    Defect(
        "validation-detail",
        "envelope",
        'Invalid input is 422 with the framework\'s body, {"detail": [{"loc", "msg", "type"}]}.',
        "| 422 | per-field `errors[]`; message example `media URL must use HTTP(S) or data URI, got 'runflow'` |",
        PAGE,
    ),
    Defect(
        "unauthorized-code",
        "auth",
        "The code of a missing or unknown key's 401 is INVALID_API_KEY.",
        "| 401 | UNAUTHORIZED |",
        PAGE,
    ),
    Defect(
        "admin-cancel-open",
        "cancel",
        "Any key can cancel its own runs by the admin endpoint.",
        '`POST /v1/admin/runs/{run_id}/cancellation` `{"reason":"3..500 chars"}` | cancel, **admin only**; 201 on '
        "transition, 200 unchanged if terminal | [public docs] R1 guides/cancel-a-run |",
        PAGE,
    ),
    Defect(
        "callback-event-succeeded",
        "callbacks",
        'The event of a run that succeeded is "run.succeeded".',
        "Events `run.completed`, `run.failed`, `run.cancelled`, `run.partial_succeeded`;",
        PAGE,
    ),
    Defect(
        "callback-failure-output-null",
        "callbacks",
        "The callback of a failed run has the output null.",
        "on failure `output` is the error envelope, null when cancelled.",
        PAGE,
    ),
    Defect(
        "signature-reserialised",
        "signatures",
        "The signature covers the payload written with other white space than the body.",
        SIGNATURE,
        PAGE,
    ),
    Defect(
        "signature-without-secret",
        "signatures",
        "Without a registered secret, callbacks are signed with an empty one.",
        SIGNATURE,
        PAGE,
    ),
    Defect(
        "retry-constant-delay",
        "retries",
        "The attempts of a callback are the same time apart.",
        'Retries: exponential, "a few attempts"; delivery record has `attempt_count, max_attempts, next_attempt_at, '
        "attempts[]`.",
        PAGE,
    ),
    Defect(
        "media-capped-at-10",
        "media",
        "A video ordered with more than 10 s lasts 10 s.",
        "Output video duration in seconds (3-15).",
    ),
    Defect(
        "default-resolution-720",
        "media",
        "An order without a resolution makes a 720p video, at its price.",
        "Output video resolution tier. - **Default**: `1080p`",
    ),
]
NAMES = frozenset(defect.name for defect in DEFECTS)

FAMILY = "alibaba/happy-horse"
I2V, T2V, R2V = (f"{FAMILY}/{name}-to-video" for name in ("image", "text", "reference"))
EDIT = f"{FAMILY}/video-edit"
LINES = {"720p": 720, "1080p": 1080}
PRICES = {"720p": Decimal("0.14"), "1080p": Decimal("0.28")}
RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4")
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP")
BAD_ENDINGS = ("gif", "tif", "tiff", "svg", "heic", "avif", "pdf", "mp4", "mov", "webm", "txt", "html")
STATUSES = ("queued", "dispatching", "running", "succeeded", "failed", "canceled", "partial_succeeded")
TERMINAL = ("succeeded", "failed", "canceled")
EVENTS = {"succeeded": "run.completed", "failed": "run.failed", "canceled": "run.cancelled"}
EVENT_TYPES = (*EVENTS.values(), "run.partial_succeeded")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
QUEUED_SECONDS, DISPATCHING_SECONDS, RUNNING_SECONDS = 0.3, 0.2, 1.0
CALLBACK_DELAYS = (1, 2, 4, 8)
LINK_SECONDS = 3 * 24 * 3600
MAX_BODY = 64 * 1024 * 1024
MAX_IMAGE = 10 * 1024 * 1024
MAX_ASSET = 52_428_800
MAX_SEED = 2147483647
BALANCE = Decimal(100000)
Image.MAX_IMAGE_PIXELS = 200_000_000


class ApiError(Exception):
    """An error response."""

    def __init__(self, status: int, code: str, message: str, problems: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.problems = problems


class RunFailure(Exception):
    """The reason why a run fails."""


def iso(seconds: float | None) -> str | None:
    """Return Unix seconds as ISO 8601 with milliseconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def uuid7() -> str:
    """Return a UUID of version 7."""
    stamp = int(time.time() * 1000) << 80
    return str(uuid.UUID(int=stamp | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def fixed_id(text: str) -> str:
    """Return the same UUID for the same text."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def whole(value: Any) -> int | None:
    """Return a JSON integer, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value)


def host_of(url: str) -> str | None:
    """Return the host of an HTTP or HTTPS URL, None if it is not one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


class Darkroom:
    """Makes and keeps the video files. A given folder is kept, a temporary one is removed at the end."""

    def __init__(self, cache: Path | None) -> None:
        self.temporary = cache is None
        self.folder = cache or Path(tempfile.mkdtemp(prefix="fake-runflow-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

    def make(self, path: Path, *arguments: str) -> Path:
        """Make a file with ffmpeg if it is missing."""
        if not path.exists():
            part = self.folder / f"{uuid.uuid4().hex}.mp4"
            command = [self.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments, str(part)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            part.replace(path)
        return path

    def film(self, picture: Image.Image, size: tuple[int, int], seconds: int) -> Path:
        """Return an MP4 that begins with the picture: one encoded second, looped as it is, and a tone."""
        frame = picture.resize(size)
        name = f"runflow-{hashlib.sha256(frame.tobytes()).hexdigest()[:20]}-{size[0]}x{size[1]}"
        loop, path = self.folder / f"{name}.mp4", self.folder / f"{name}-{seconds}s.mp4"
        with self.lock:
            if not loop.exists():
                source = self.folder / f"{name}.png"
                frame.save(source, "PNG", compress_level=1)
                still = ["-loop", "1", "-framerate", "24", "-i", str(source), "-frames:v", "24", "-g", "24"]
                pulse = ["-vf", "eq=saturation=1+0.5*sin(2*PI*t):eval=frame"]
                codec = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-pix_fmt", "yuv420p"]
                self.make(loop, *still, *pulse, *codec, "-threads", "1")
                source.unlink()
            pictures = ["-stream_loop", str(seconds - 1), "-i", str(loop)]
            tone = ["-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000", "-map", "0:v", "-map", "1:a"]
            codec = ["-c:v", "copy", "-c:a", "aac", "-b:a", "64k", "-t", str(seconds), "-movflags", "+faststart"]
            return self.make(path, *pictures, *tone, *codec)


class Run:
    """A run of one key. Its thread sets `status`."""

    def __init__(self, model: str, values: dict[str, Any], given: dict[str, Any], key: str, base_url: str) -> None:
        self.id = uuid7()
        self.model = model
        self.values = values
        self.given = given
        self.key = key
        self.base_url = base_url
        self.request_id = uuid7()
        self.callback_url: str | None = None
        self.metadata: dict[str, Any] | None = None
        self.client_ref: str | None = None
        self.status = "queued"
        self.failure: str | None = None
        self.film: Path | None = None
        self.created = time.time()
        self.started: float | None = None
        self.completed: float | None = None
        self.cost: Decimal | None = None
        self.logs: list[dict[str, str | None]] = []
        self.attempts: list[dict[str, Any]] = []
        self.next_attempt: float | None = None
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self.lock = threading.Lock()


class Runflow:
    """Validation, runs, callbacks and accounts. `bug(name)` tells whether a defect is active."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.keys: set[str] = set(options.key)
        self.defect: str | None = options.defect
        self.pace: float = options.pace
        self.port: int = options.port
        self.secret: str | None = options.callback_secret
        self.retry_scale: float = options.retry_scale
        self.fail_marker: str = options.fail_marker
        self.darkroom = Darkroom(options.cache)
        self.runs: dict[str, Run] = {}
        self.key_secrets: dict[str, str] = {}
        self.webhooks: dict[str, tuple[str, dict[str, Any]]] = {}
        self.assets: dict[str, dict[str, Any]] = {}
        self.signer = secrets.token_bytes(32)
        self.began = time.time()
        self.lock = threading.Lock()

    def bug(self, name: str) -> bool:
        """Return whether the named defect is active."""
        if name not in NAMES:
            raise LookupError(name)
        return name == self.defect

    def key_of(self, authorization: str | None) -> str:
        """Return the key of a request; raise 401."""
        match = re.fullmatch(r"(?i:bearer) +(\S+)", (authorization or "").strip())
        key = match.group(1) if match else ""
        if key and (key in self.keys if self.keys else not key.startswith("wrong-")):
            return key
        code = "INVALID_API_KEY" if self.bug("unauthorized-code") else "UNAUTHORIZED"
        raise ApiError(401, code, "Missing or invalid API key.")

    # Validation.

    def check_model(self, model: str) -> None:
        """Raise an error for a model that does not run."""
        if model == EDIT:
            raise ApiError(503, "MODEL_UNAVAILABLE", f"Model '{model}' is unavailable.")
        if model not in (I2V, T2V, R2V):
            raise ApiError(404, "MODEL_NOT_FOUND", f"Model '{model}' does not exist.")

    def values(self, model: str, given: Any, prefix: str = "input.") -> tuple[dict[str, Any], dict[str, str]]:
        """Return the values of an input, and its problems by field."""
        problems: dict[str, str] = {}
        if not isinstance(given, dict):
            return {}, {prefix.rstrip(".") or "body": "an object is required"}

        def need(field: str, condition: bool, message: str) -> bool:
            if not condition:
                problems.setdefault(prefix + field, message)
            return condition

        values: dict[str, Any] = {"images": [], "prompt": given.get("prompt", "")}
        if model == I2V and need("image_url", "image_url" in given, "field is required"):
            values["images"] = [given["image_url"]]
            self.check_url("image_url", given["image_url"], need)
        if model == R2V and need("image_urls", isinstance(given.get("image_urls"), list), "an array is required"):
            values["images"] = given["image_urls"]
            need("image_urls", 1 <= len(given["image_urls"]) <= 9, "must have 1 to 9 items")
            for position, url in enumerate(given["image_urls"]):
                self.check_url(f"image_urls.{position}", url, need)
        if need("prompt", isinstance(values["prompt"], str), "must be a string"):
            need("prompt", model == I2V or values["prompt"].strip() != "", "field is required")
            need("prompt", model == T2V or len(values["prompt"]) <= 2500, "must have at most 2500 characters")
        values["seconds"] = whole(given.get("duration", 5))
        need("duration", values["seconds"] is not None, "must be an integer")
        need("duration", 3 <= (values["seconds"] or 0) <= 15, "must be between 3 and 15")
        values["resolution"] = given.get("resolution", "720p" if self.bug("default-resolution-720") else "1080p")
        known = isinstance(values["resolution"], str) and values["resolution"] in LINES
        need("resolution", known, "must be '720p' or '1080p'")
        values["ratio"] = "16:9" if model == I2V else given.get("aspect_ratio", "16:9")
        need("aspect_ratio", values["ratio"] in RATIOS, f"must be one of {', '.join(RATIOS)}")
        need("enable_safety_checker", isinstance(given.get("enable_safety_checker", True), bool), "must be a boolean")
        values["seed"] = whole(given["seed"]) if "seed" in given else random.randint(0, MAX_SEED)
        least = -1 if self.bug("seed-minus-one-accepted") else 0
        if need("seed", values["seed"] is not None, "must be an integer"):
            need("seed", least <= values["seed"] <= MAX_SEED, f"must be between 0 and {MAX_SEED}")
        return values, problems

    def check_url(self, field: str, url: Any, need: Callable[[str, bool, str], bool]) -> None:
        """Check an image's URL."""
        if not need(field, isinstance(url, str) and url != "", "a URL is required"):
            return
        if url.startswith("data:"):
            need(field, bool(re.match(r"data:image/[a-z0-9.+-]+;base64,.", url)), "must be a base64 image data URI")
            return
        scheme = url.partition(":")[0] if ":" in url else ""
        message = f"media URL must use HTTP(S) or data URI, got '{scheme}'"
        if need(field, scheme.lower() in ("http", "https"), message):
            need(field, bool(host_of(url)), "malformed URL")

    def siblings(self, body: dict[str, Any]) -> dict[str, str]:
        """Return the problems of the members beside the input."""
        problems = {}
        url, metadata, client_ref = (body.get(name) for name in ("callback_url", "metadata", "client_ref"))
        if url is not None and not (isinstance(url, str) and host_of(url)):
            problems["callback_url"] = "must be an HTTP(S) URL"
        if metadata is not None and not isinstance(metadata, dict):
            problems["metadata"] = "must be an object"
        limit = 128 if self.bug("client-ref-limit-128") else 255
        if client_ref is not None and not (isinstance(client_ref, str) and len(client_ref) <= limit):
            problems["client_ref"] = f"must be a string of at most {limit} characters"
        return problems

    # Runs.

    def dispatch(self, model: str, body: Any, key: str, base_url: str, flat: bool = False) -> Run:
        """Create a run and start its thread."""
        self.check_model(model)
        if not isinstance(body, dict):
            raise ApiError(400, "BAD_REQUEST", "The request body must be a JSON object.")
        given = body if flat else body.get("input")
        values, problems = self.values(model, given, "" if flat else "input.")
        if not flat:
            problems |= self.siblings(body)
        if problems:
            raise ApiError(422, "VALIDATION_ERROR", "; ".join(f"{k}: {v}" for k, v in problems.items()), problems)
        run = Run(model, values, dict(given or {}), key, base_url)
        if self.balance(key) < self.price(run):
            raise ApiError(402, "INSUFFICIENT_CREDIT", "The organization's balance is too low.")
        if not flat:
            run.callback_url, run.metadata = body.get("callback_url"), body.get("metadata")
            run.client_ref = body.get("client_ref")
        with self.lock:
            self.runs[run.id] = run
        threading.Thread(target=self.work, args=(run,), daemon=True).start()
        return run

    def price(self, run: Run) -> Decimal:
        """Return the cost of a run that succeeds."""
        return PRICES[run.values["resolution"]] * int(run.values["seconds"])

    def balance(self, key: str) -> Decimal:
        """Return a key's balance."""
        with self.lock:
            return BALANCE - sum((run.cost or Decimal(0) for run in self.runs.values() if run.key == key), Decimal(0))

    def find(self, run_id: str, key: str | None) -> Run:
        """Return a key's run, or any key's if `key` is None; raise 404."""
        run = self.runs.get(run_id)
        if run is None or (key is not None and run.key != key):
            code = "NOT_FOUND" if self.bug("run-not-found-generic") else "RUN_NOT_FOUND"
            raise ApiError(404, code, f"Run '{run_id}' was not found.")
        return run

    def enter(self, run: Run, status: str) -> bool:
        """Change the status of a run, unless it was cancelled."""
        with run.lock:
            if run.cancelled.is_set():
                return False
            if status in TERMINAL:
                run.completed = time.time()
                run.cost = self.price(run) if status == "succeeded" else Decimal(0)
            run.status = status
            run.logs.append({"at": iso(time.time()), "message": f"run is {status}"})
            return True

    def work(self, run: Run) -> None:
        """Live a run's life."""
        status = self.life(run)
        if status == "failed" and self.bug("failed-run-retried") and self.enter(run, status):
            time.sleep(0.8 * self.pace)
            if self.enter(run, "queued"):
                run.completed = run.cost = None
            status = self.life(run)
        if self.enter(run, status):
            run.ended.set()
            self.announce(run)

    def life(self, run: Run) -> str:
        """Queue, dispatch and run; return the end."""
        began = time.monotonic()
        run.cancelled.wait(QUEUED_SECONDS * self.pace)
        self.enter(run, "dispatching")
        run.cancelled.wait(DISPATCHING_SECONDS * self.pace)
        if self.enter(run, "running"):
            run.started = time.time()
            try:
                run.film = self.produce(run)
            except RunFailure as error:
                run.failure = str(error)
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"ffmpeg failed: {error}", file=sys.stderr, flush=True)
                run.failure = "the generation failed"
        end = began + (QUEUED_SECONDS + DISPATCHING_SECONDS + RUNNING_SECONDS) * self.pace
        run.cancelled.wait(max(0.0, end - time.monotonic()))
        return "failed" if run.failure else "succeeded"

    def cancel(self, run: Run) -> bool:
        """Cancel a run; return whether it was not at its end."""
        with run.lock:
            if run.status in TERMINAL:
                return False
            run.cancelled.set()
            run.completed = time.time()
            run.cost = Decimal(0)
            run.status = "canceled"
        run.ended.set()
        threading.Thread(target=self.announce, args=(run,), daemon=True).start()
        return True

    def produce(self, run: Run) -> Path:
        """Return a run's video; raise RunFailure."""
        values = run.values
        if self.fail_marker and any(self.fail_marker in text for text in (values["prompt"], *values["images"])):
            raise RunFailure("the input could not be processed")
        pictures = [self.picture(url, run.model) for url in values["images"]]
        picture = pictures[0] if pictures else Image.linear_gradient("L").convert("RGB")
        wide, high = picture.size if run.model == I2V else map(int, values["ratio"].split(":"))
        lines = LINES[values["resolution"]]
        longer = int(lines * max(wide, high) / min(wide, high) / 2 + 0.5) * 2
        seconds = min(values["seconds"], 10) if self.bug("media-capped-at-10") else values["seconds"]
        return self.darkroom.film(picture, (longer, lines) if wide >= high else (lines, longer), seconds)

    def picture(self, url: str, model: str) -> Image.Image:
        """Return a decoded image; raise RunFailure."""
        if url.startswith("data:"):
            try:
                data = base64.b64decode(url.partition(",")[2], validate=True)
            except (binascii.Error, ValueError):
                raise RunFailure("the data URI is not valid base64") from None
        else:
            host = host_of(url) or ""
            if host.endswith(".invalid"):
                raise RunFailure("the image could not be fetched")
            if host not in LOCAL_HOSTS:
                ending = Path(urlsplit(url).path).suffix.lower().lstrip(".")
                if ending in BAD_ENDINGS or (ending == "bmp" and self.bug("bmp-refused")):
                    raise RunFailure(f"image format '{ending}' is not supported")
                return Image.linear_gradient("L").resize((1920, 1080)).convert("RGB")
            data = self.fetch(url)
        if len(data) > MAX_IMAGE:
            raise RunFailure("image exceeds 10 MB")
        try:
            picture = Image.open(io.BytesIO(data))
            if picture.format not in FORMATS or (picture.format == "BMP" and self.bug("bmp-refused")):
                raise RunFailure(f"image format '{(picture.format or '').lower()}' is not supported")
            wide, high = picture.size
            if min(wide, high) < 300:
                raise RunFailure(f"image dimensions must be at least 300px, got {wide}x{high}")
            if model == I2V and max(wide, high) > 2.5 * min(wide, high):
                raise RunFailure(f"image aspect ratio must be between 1:2.5 and 2.5:1, got {wide}x{high}")
            return picture.convert("RGB")
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise RunFailure("the image cannot be decoded") from None

    def fetch(self, url: str) -> bytes:
        """Return the bytes behind a URL on a loopback host; raise RunFailure."""
        handlers = [
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
            NoRedirect(),
        ]
        try:
            with urllib.request.build_opener(*handlers).open(url, timeout=5) as response:
                return bytes(response.read(MAX_IMAGE + 1))
        except (OSError, ValueError, http.client.HTTPException):
            raise RunFailure("the image could not be fetched") from None

    # Views.

    def link(self, run: Run) -> str:
        """Return a presigned link to a run's video, signed at its end."""
        stamp = datetime.fromtimestamp(run.completed or time.time(), timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={stamp}&X-Amz-Expires={LINK_SECONDS}"
        path = f"/outputs/{run.id}/result.mp4"
        return f"{run.base_url}{path}?{query}&X-Amz-Signature={self.sign_link(path, query)}"

    def sign_link(self, path: str, query: str) -> str:
        """Return the signature of a link."""
        return hmac.new(self.signer, f"{path}?{query}".encode(), "sha256").hexdigest()

    def error_envelope(self, run: Run) -> dict[str, Any]:
        """Return the error envelope of a failed run."""
        return {"code": "INPUT_VALIDATION_FAILED", "message": run.failure, "errors": None}

    def duration_ms(self, run: Run) -> int | None:
        """Return the time from creation to completion."""
        if run.completed is None:
            return None
        milliseconds = round(run.completed * 1000) - round(run.created * 1000)
        return round(milliseconds / 1000) if self.bug("duration-ms-in-seconds") else milliseconds

    def output(self, run: Run) -> dict[str, Any] | None:
        """Return the output of a succeeded run."""
        if run.status != "succeeded":
            return None
        outputs = [{"url": self.link(run), "type": "video"}]
        seed = run.given.get("seed")
        return {"outputs": outputs, "seed": seed, "timing": None, "nsfw_detected": None}

    def view(self, run: Run) -> dict[str, Any]:
        """Return a run."""
        failed = run.status == "failed"
        output: Any = self.output(run)
        if output is not None and self.bug("output-double-encoded"):
            output = json.dumps(output)
        path = f"{run.base_url}/v1/runs/{run.id}"
        cost = None if run.cost is None else f"{run.cost:.2f}"
        return {
            "id": run.id,
            "flow_id": None,
            "model_id": fixed_id(run.model),
            "comfyui_workflow_id": None,
            "target_type": "model",
            "target_version": "1",
            "org_id": fixed_id(f"org {run.key}"),
            "status_code": run.status,
            "source_code": "api",
            "input": run.given,
            "output": output,
            "context": {},
            "duration_ms": self.duration_ms(run),
            "cost": cost,
            "cost_breakdown": None if cost is None else [{"model": run.model, "cost": cost}],
            "nodes_total": 1,
            "nodes_completed": int(run.status == "succeeded"),
            "resolved_template_id": None,
            "batch_id": None,
            "client_ref": run.client_ref,
            "jurisdiction_code": "eu",
            "flow_version_id": None,
            "request_id": run.request_id,
            "created_by": fixed_id(f"user {run.key}"),
            "created_at": iso(run.created),
            "started_at": iso(run.started),
            "completed_at": iso(run.completed),
            "callback_url": run.callback_url,
            "metadata": run.metadata,
            "has_logs": bool(run.logs),
            "has_node_runs": run.started is not None,
            "links": {"self": path, "logs": f"{path}/logs", "node_runs": f"{path}/node-runs"},
            "failure_code": "INPUT_VALIDATION_FAILED" if failed and not self.bug("failure-code-null") else None,
            "failure_message": run.failure if failed else None,
            "failure_stage_code": "preprocess" if failed else None,
            "node_runs": self.node_runs(run),
            "logs": list(run.logs),
        }

    def node_runs(self, run: Run) -> list[dict[str, Any]]:
        """Return the only node of a run, once it has begun."""
        if run.started is None:
            return []
        node = {"id": fixed_id(f"node {run.id}"), "node": run.model, "status_code": run.status}
        return [{**node, "started_at": iso(run.started), "completed_at": iso(run.completed)}]

    # Callbacks.

    def announce(self, run: Run) -> None:
        """Deliver the callbacks of an ended run."""
        event = EVENTS[run.status]
        with self.lock:
            hooks = [
                hook["url"]
                for key, hook in self.webhooks.values()
                if key == run.key and hook["is_active"] and event in hook["event_types"]
            ]
        for url in hooks:
            threading.Thread(target=self.deliver, args=(run, url, []), daemon=True).start()
        if run.callback_url:
            self.deliver(run, run.callback_url, run.attempts)

    def payload(self, run: Run) -> dict[str, Any]:
        """Return the payload of a callback."""
        output: Any = self.output(run)
        if run.status == "failed" and not self.bug("callback-failure-output-null"):
            output = self.error_envelope(run)
        event = EVENTS[run.status]
        if run.status == "succeeded" and self.bug("callback-event-succeeded"):
            event = "run.succeeded"
        return {
            "event": event,
            "run_id": run.id,
            "status": run.status,
            "output": output,
            "duration_ms": self.duration_ms(run),
            "created_at": iso(run.created),
            "completed_at": iso(run.completed),
            "metadata": run.metadata,
        }

    def deliver(self, run: Run, url: str, attempts: list[dict[str, Any]]) -> None:
        """Send a callback until it is answered with 2xx, five times at most."""
        payload = self.payload(run)
        body = json.dumps(payload, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Runflow-Request-Id": run.request_id}
        secret = self.key_secrets.get(run.key, self.secret)
        if secret is None and self.bug("signature-without-secret"):
            secret = ""
        if secret is not None:
            signed = json.dumps(payload).encode() if self.bug("signature-reserialised") else body
            headers["Runflow-Signature"] = hmac.new(secret.encode(), signed, "sha256").hexdigest()
        for delay in (*CALLBACK_DELAYS, None):
            status = self.post(url, body, headers)
            attempts.append({"attempted_at": iso(time.time()), "response_status": status or None})
            if delay is None or 200 <= status < 300:
                break
            wait = self.retry_scale * (1 if self.bug("retry-constant-delay") else delay)
            run.next_attempt = time.time() + wait
            time.sleep(wait)
        run.next_attempt = None

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Post to a loopback host; return the response's status, 0 if there is none."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in LOCAL_HOSTS:
            print(f"callback to {host} is not sent: not a loopback host", file=sys.stderr, flush=True)
            return 204
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=10)
        if parts.scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=10, context=context)
        try:
            connection.request("POST", target, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def delivery(self, run: Run) -> dict[str, Any]:
        """Return the delivery record of a run's callback."""
        last = run.attempts[-1]["response_status"] if run.attempts else None
        delivered = last is not None and 200 <= last < 300
        most = len(CALLBACK_DELAYS) + 1
        return {
            "run_id": run.id,
            "callback_url": run.callback_url,
            "status": "delivered" if delivered else "failed" if len(run.attempts) >= most else "pending",
            "attempt_count": len(run.attempts),
            "max_attempts": most,
            "next_attempt_at": iso(run.next_attempt),
            "attempts": list(run.attempts),
        }


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        return


class Handler(BaseHTTPRequestHandler):
    """The HTTP side. Subclassed per server, so that `runflow` is set."""

    protocol_version = "HTTP/1.1"
    server_version = "Runflow"
    sys_version = ""
    timeout = 60
    runflow: Runflow
    raw = b""

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        """Answer any request; turn errors into JSON."""
        try:
            self.raw = self.read_body()
            self.route()
        except ApiError as error:
            self.send_problem(error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    ROUTES: tuple[tuple[str, str, str], ...] = (
        ("POST", r"/v1/run/(.+)", "run_legacy"),
        ("POST", r"/v1/models/(.+)/runs", "dispatch"),
        ("GET", r"/v1/runs", "list_runs"),
        ("GET", r"/v1/runs/statuses", "list_statuses"),
        ("GET", r"/v1/runs/([^/]+)", "show_run"),
        ("GET", r"/v1/runs/([^/]+)/logs", "show_logs"),
        ("GET", r"/v1/runs/([^/]+)/node-runs", "show_node_runs"),
        ("GET", r"/v1/runs/([^/]+)/callback", "show_callback"),
        ("POST", r"/v1/runs/([^/]+)/callback-redeliveries", "redeliver"),
        ("POST", r"/v1/admin/runs/([^/]+)/cancellation", "cancel_run"),
        ("POST", r"/v1/callback-secrets", "make_secret"),
        ("GET", r"/v1/webhooks", "list_webhooks"),
        ("POST", r"/v1/webhooks", "make_webhook"),
        ("GET", r"/v1/webhooks/event-types", "list_event_types"),
        ("PATCH", r"/v1/webhooks/([^/]+)", "change_webhook"),
        ("DELETE", r"/v1/webhooks/([^/]+)", "delete_webhook"),
        ("POST", r"/v1/asset-uploads", "make_upload"),
        ("POST", r"/v1/asset-uploads/([^/]+)/confirmations", "confirm_upload"),
        ("GET", r"/v1/assets/types", "list_asset_types"),
        ("GET", r"/v1/assets/([^/]+)", "show_asset"),
        ("GET", r"/v1/billing/balance", "show_balance"),
        ("GET", r"/v1/auth/me", "show_me"),
    )
    OPEN_ROUTES: tuple[tuple[str, str, str], ...] = (
        ("GET", r"/v1/health", "show_health"),
        ("GET", r"/v1/readiness", "show_health"),
        ("PUT", r"/uploads/([^/]+)", "put_upload"),
        ("GET", r"/assets/([^/]+)/[^/]+", "send_asset"),
        ("GET", r"/outputs/([^/]+)/result\.mp4", "send_video"),
    )

    def route(self) -> None:
        """Call the method of the path."""
        path = urlsplit(self.path).path
        wrong_method = False
        for keyed, routes in ((True, self.ROUTES), (False, self.OPEN_ROUTES)):
            for method, pattern, name in routes:
                match = re.fullmatch(pattern, path)
                if not match:
                    continue
                if method != self.command and (self.command, method) != ("HEAD", "GET"):
                    wrong_method = True
                    continue
                arguments = [unquote(part) for part in match.groups()]
                if keyed:
                    arguments.insert(0, self.runflow.key_of(self.headers.get("Authorization")))
                getattr(self, name)(*arguments)
                return
        if wrong_method:
            raise ApiError(405, "METHOD_NOT_ALLOWED", "Method not allowed.")
        raise ApiError(404, "NOT_FOUND", "Not found.")

    # Requests and responses.

    def read_body(self) -> bytes:
        """Return the request's body."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.read_chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            if length.isdigit():
                raise ApiError(413, "PAYLOAD_TOO_LARGE", "The request body is too large.")
            raise ApiError(400, "BAD_REQUEST", "Invalid Content-Length.")
        return self.rfile.read(int(length))

    def read_chunks(self) -> bytes:
        """Return a chunked body."""
        body = bytearray()
        while True:
            size_text = self.rfile.readline(100).split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text) or len(body) + int(size_text, 16) > MAX_BODY:
                self.close_connection = True
                raise ApiError(400, "BAD_REQUEST", "Invalid chunked body.")
            size = int(size_text, 16)
            body += self.rfile.read(size)
            if size == 0:
                while self.rfile.readline(8192).strip():
                    pass
                return bytes(body)
            self.rfile.readline(8)

    def json_body(self) -> Any:
        """Return the request's JSON; raise 400."""

        def refuse(constant: str) -> Any:
            raise ValueError(constant)

        try:
            return json.loads(self.raw, parse_constant=refuse)
        except (ValueError, RecursionError):
            raise ApiError(400, "BAD_REQUEST", "The request body is not valid JSON.") from None

    def object_body(self) -> dict[str, Any]:
        """Return the request's JSON object; raise 400."""
        body = self.json_body()
        if not isinstance(body, dict):
            raise ApiError(400, "BAD_REQUEST", "The request body must be a JSON object.")
        return body

    def base_url(self) -> str:
        """Return this server's URL, as the client knows it."""
        return f"http://{self.headers.get('Host') or f'127.0.0.1:{self.runflow.port}'}"

    def send_bytes(self, status: int, data: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        """Send a response."""
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_json(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send JSON."""
        self.send_bytes(status, json.dumps(body).encode(), "application/json", headers)

    def send_problem(self, error: ApiError) -> None:
        """Send an error."""
        items = [{"field": field, "message": message} for field, message in (error.problems or {}).items()]
        body: dict[str, Any] = {"code": error.code, "message": error.message, "errors": items or None}
        if error.problems and self.runflow.bug("validation-detail"):
            body = {
                "detail": [
                    {"loc": ["body", *field.split(".")], "msg": message, "type": "value_error"}
                    for field, message in error.problems.items()
                ]
            }
        self.send_json(body, error.status, {"WWW-Authenticate": "Bearer"} if error.status == 401 else None)

    def send_page(self, items: list[Any]) -> None:
        """Send a page of a list."""
        query = parse_qs(urlsplit(self.path).query)
        numbers = {}
        for name, default, least, most in (("limit", "20", 1, 500), ("offset", "0", 0, 10**9)):
            text = query.get(name, [default])[-1]
            if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
                problem = {name: f"must be between {least} and {most}"}
                raise ApiError(422, "VALIDATION_ERROR", f"Invalid {name}.", problem)
            numbers[name] = int(text)
        if query.get("from_prev", ["false"])[-1] not in ("true", "false"):
            raise ApiError(422, "VALIDATION_ERROR", "Invalid from_prev.", {"from_prev": "must be true or false"})
        page = items[numbers["offset"] : numbers["offset"] + numbers["limit"]]
        self.send_json({"items": page, "total": len(items), **numbers})

    # Runs.

    def dispatch(self, key: str, model: str) -> None:
        """Dispatch a run."""
        run = self.runflow.dispatch(model, self.json_body(), key, self.base_url())
        body = self.runflow.view(run)
        body["status_code"] = "pending" if self.runflow.bug("dispatch-pending") else "queued"
        self.send_json(body, 201)

    def run_legacy(self, key: str, model: str) -> None:
        """Run to the end and answer with the video."""
        run = self.runflow.dispatch(model, self.json_body(), key, self.base_url(), flat=True)
        run.ended.wait()
        if run.film is None or run.status != "succeeded":
            envelope = self.runflow.error_envelope(run)
            raise ApiError(422, envelope["code"], run.failure or "the run was canceled")
        url = self.runflow.link(run)
        video = {"url": url, "content_type": "video/mp4", "file_size": run.film.stat().st_size}
        self.send_json({"video": url if self.runflow.bug("legacy-video-string") else video, "seed": run.values["seed"]})

    def list_runs(self, key: str) -> None:
        """List the key's runs, newest first."""
        with self.runflow.lock:
            own = [run for run in self.runflow.runs.values() if run.key == key]
        self.send_page([self.runflow.view(run) for run in reversed(own)])

    def list_statuses(self, key: str) -> None:
        """List the states."""
        self.send_json(
            {"items": [{"code": code, "is_terminal": code in (*TERMINAL, STATUSES[-1])} for code in STATUSES]}
        )

    def show_run(self, key: str, run_id: str) -> None:
        """Return a run."""
        self.send_json(self.runflow.view(self.runflow.find(run_id, key)))

    def show_logs(self, key: str, run_id: str) -> None:
        """Return a run's logs."""
        self.send_page(list(self.runflow.find(run_id, key).logs))

    def show_node_runs(self, key: str, run_id: str) -> None:
        """Return a run's nodes."""
        self.send_page(self.runflow.node_runs(self.runflow.find(run_id, key)))

    def cancel_run(self, key: str, run_id: str) -> None:
        """Cancel a run, for admins only."""
        runflow = self.runflow
        admin = "admin" in key
        if not admin and not runflow.bug("admin-cancel-open"):
            raise ApiError(403, "PERMISSION_DENIED", "Your account is not authorized to access this resource.")
        run = runflow.find(run_id, None if admin else key)
        reason = self.object_body().get("reason")
        if not isinstance(reason, str) or not 3 <= len(reason) <= 500:
            problem = {"reason": "must be a string of 3 to 500 characters"}
            raise ApiError(422, "VALIDATION_ERROR", "Invalid reason.", problem)
        moved = runflow.cancel(run)
        self.send_json(runflow.view(run), 201 if moved else 200)

    # Callbacks.

    def callback_run(self, key: str, run_id: str) -> Run:
        """Return a run with a callback; raise 404."""
        run = self.runflow.find(run_id, key)
        if run.callback_url is None:
            raise ApiError(404, "CALLBACK_NOT_FOUND", "The run has no callback.")
        return run

    def show_callback(self, key: str, run_id: str) -> None:
        """Return the delivery record of a run's callback."""
        self.send_json(self.runflow.delivery(self.callback_run(key, run_id)))

    def redeliver(self, key: str, run_id: str) -> None:
        """Send a run's callback again."""
        run = self.callback_run(key, run_id)
        if not run.ended.is_set():
            raise ApiError(409, "CONFLICT", "The run has not ended.")
        arguments = (run, run.callback_url, run.attempts)
        threading.Thread(target=self.runflow.deliver, args=arguments, daemon=True).start()
        self.send_json(self.runflow.delivery(run), 201)

    def make_secret(self, key: str) -> None:
        """Register a secret that signs the key's callbacks."""
        label = self.object_body().get("label")
        if not isinstance(label, str) or not label:
            raise ApiError(422, "VALIDATION_ERROR", "Invalid label.", {"label": "a string is required"})
        secret = self.runflow.key_secrets[key] = f"whsec_{secrets.token_hex(24)}"
        self.send_json({"id": uuid7(), "label": label, "plain_secret": secret}, 201)

    def list_webhooks(self, key: str) -> None:
        """List the organisation's webhooks."""
        with self.runflow.lock:
            own = [hook for owner, hook in self.runflow.webhooks.values() if owner == key]
        self.send_page(own[::-1])

    def webhook_members(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the members that a webhook's body sets; raise 422."""
        members: dict[str, Any] = {name: body[name] for name in ("url", "event_types", "is_active") if name in body}
        problems = {}
        if "url" in members and not (isinstance(members["url"], str) and host_of(members["url"])):
            problems["url"] = "must be an HTTP(S) URL"
        types = members.get("event_types", [])
        if not isinstance(types, list) or any(name not in EVENT_TYPES for name in types):
            problems["event_types"] = f"must be an array of {', '.join(EVENT_TYPES)}"
        if not isinstance(members.get("is_active", True), bool):
            problems["is_active"] = "must be a boolean"
        if problems:
            raise ApiError(422, "VALIDATION_ERROR", "Invalid webhook.", problems)
        return members

    def make_webhook(self, key: str) -> None:
        """Make a webhook."""
        members = self.webhook_members(self.object_body())
        if "url" not in members:
            raise ApiError(422, "VALIDATION_ERROR", "Invalid webhook.", {"url": "field is required"})
        hook = {"id": uuid7(), "event_types": list(EVENT_TYPES), "is_active": True, **members}
        hook["created_at"] = iso(time.time())
        with self.runflow.lock:
            self.runflow.webhooks[hook["id"]] = (key, hook)
        self.send_json(hook, 201)

    def own_webhook(self, key: str, hook_id: str) -> dict[str, Any]:
        """Return a webhook; raise 404."""
        owner, hook = self.runflow.webhooks.get(hook_id, ("", {}))
        if owner != key:
            raise ApiError(404, "WEBHOOK_NOT_FOUND", "Webhook not found.")
        return hook

    def change_webhook(self, key: str, hook_id: str) -> None:
        """Change a webhook."""
        hook = self.own_webhook(key, hook_id)
        hook.update(self.webhook_members(self.object_body()))
        self.send_json(hook)

    def delete_webhook(self, key: str, hook_id: str) -> None:
        """Delete a webhook."""
        self.own_webhook(key, hook_id)
        with self.runflow.lock:
            self.runflow.webhooks.pop(hook_id, None)
        self.send_bytes(204, b"", "")

    def list_event_types(self, key: str) -> None:
        """List the events."""
        self.send_json({"items": list(EVENT_TYPES)})

    # Assets.

    def make_upload(self, key: str) -> None:
        """Begin an upload."""
        body = self.object_body()
        problems = {}
        for name in ("filename", "mime_type"):
            if not isinstance(body.get(name), str) or not body[name]:
                problems[name] = "a string is required"
        size = whole(body.get("size_bytes"))
        if size is None or not 1 <= size <= MAX_ASSET:
            problems["size_bytes"] = f"must be between 1 and {MAX_ASSET}"
        if problems:
            raise ApiError(422, "VALIDATION_ERROR", "Invalid upload.", problems)
        asset = {"key": key, "name": body["filename"], "mime_type": body["mime_type"], "size": size, "view": None}
        asset_id = uuid7()
        self.runflow.assets[asset_id] = asset
        self.send_json({"asset_id": asset_id, "upload_url": f"{self.base_url()}/uploads/{asset_id}"}, 201)

    def asset(self, asset_id: str, key: str | None = None) -> dict[str, Any]:
        """Return an asset; raise 404."""
        asset = self.runflow.assets.get(asset_id)
        if asset is None or (key is not None and asset["key"] != key):
            raise ApiError(404, "ASSET_NOT_FOUND", "Asset not found.")
        return asset

    def put_upload(self, asset_id: str) -> None:
        """Take an upload's bytes."""
        asset = self.asset(asset_id)
        if len(self.raw) != asset["size"]:
            raise ApiError(400, "BAD_REQUEST", f"The upload must have {asset['size']} bytes.")
        asset["data"] = self.raw
        self.send_bytes(200, b"", "application/octet-stream")

    def confirm_upload(self, key: str, asset_id: str) -> None:
        """End an upload."""
        asset = self.asset(asset_id, key)
        if "data" not in asset:
            raise ApiError(409, "CONFLICT", "Nothing was uploaded.")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", asset["name"])
        asset["view"] = {
            "id": asset_id,
            "name": asset["name"],
            "url": f"{self.base_url()}/assets/{asset_id}/{name}",
            "thumbnail_url": None,
            "mime_type": asset["mime_type"],
            "size_bytes": asset["size"],
            "created_at": iso(time.time()),
        }
        self.send_json(asset["view"], 201)

    def show_asset(self, key: str, asset_id: str) -> None:
        """Return an asset."""
        view = self.asset(asset_id, key)["view"]
        if view is None:
            raise ApiError(404, "ASSET_NOT_FOUND", "Asset not found.")
        self.send_json(view)

    def send_asset(self, asset_id: str) -> None:
        """Return an asset's bytes."""
        asset = self.asset(asset_id)
        if asset["view"] is None:
            raise ApiError(404, "ASSET_NOT_FOUND", "Asset not found.")
        self.send_bytes(200, asset["data"], asset["mime_type"])

    def list_asset_types(self, key: str) -> None:
        """List the types of assets."""
        self.send_json({"items": ["image", "video", "audio"]})

    # Account and health.

    def show_balance(self, key: str) -> None:
        """Return the organisation's balance."""
        body = {
            "id": fixed_id(f"balance {key}"),
            "org_id": fixed_id(f"org {key}"),
            "balance": f"{self.runflow.balance(key):.2f}",
            "low_balance_threshold": "10.00",
            "low_balance_notified_at": None,
            "created_at": iso(self.runflow.began),
            "updated_at": iso(time.time()),
        }
        self.send_json(body)

    def show_me(self, key: str) -> None:
        """Return the key's account."""
        role = "admin" if "admin" in key else "member"
        self.send_json({"id": fixed_id(f"user {key}"), "org_id": fixed_id(f"org {key}"), "role": role})

    def show_health(self) -> None:
        """Say that all is well."""
        self.send_json({"status": "ok", "ok": True})

    # Videos.

    def send_video(self, run_id: str) -> None:
        """Return a run's video, or a range of it, to those who have the presigned link."""
        parts = urlsplit(self.path)
        query, _, signature = parts.query.partition("&X-Amz-Signature=")
        run = self.runflow.runs.get(run_id)
        if run is None or run.film is None or run.status != "succeeded":
            raise ApiError(404, "NOT_FOUND", "Not found.")
        if not hmac.compare_digest(signature.encode(), self.runflow.sign_link(parts.path, query).encode()):
            raise ApiError(403, "PERMISSION_DENIED", "The signature of the link is wrong.")
        stamp = datetime.strptime(parse_qs(query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        if time.time() > stamp.timestamp() + LINK_SECONDS:
            raise ApiError(403, "PERMISSION_DENIED", "The link has expired.")
        data = run.film.read_bytes()
        headers = {"Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", self.headers.get("Range", "").strip())
        if not match or not any(match.groups()):
            self.send_bytes(200, data, "video/mp4", headers)
            return
        first_text, last_text = match.groups()
        first = int(first_text) if first_text else max(0, len(data) - int(last_text))
        last = min(int(last_text), len(data) - 1) if first_text and last_text else len(data) - 1
        if first > last:
            self.send_bytes(416, b"", "video/mp4", {**headers, "Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.send_bytes(206, data[first : last + 1], "video/mp4", headers)


class Server(ThreadingHTTPServer):
    """The listening server."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors other than a client that went away."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="Fake Runflow server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8104)
    parser.add_argument(
        "--key",
        action="extend",
        nargs="+",
        default=[],
        help="an accepted API key (repeatable); default: any key that does not begin with 'wrong-'",
    )
    parser.add_argument("--defect", choices=sorted(NAMES), metavar="NAME", help="run with one defect; see --defects")
    parser.add_argument("--defects", action="store_true", help="print all defects and exit")
    parser.add_argument("--callback-secret", metavar="S", help="sign callbacks with this secret")
    parser.add_argument(
        "--retry-scale", type=float, default=0.3, metavar="X", help="scale of the callback delays 1, 2, 4 and 8 s"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="scale of a run's 1.5 seconds")
    parser.add_argument(
        "--fail-marker", default="simulate-failure", help="text in the prompt or image URL that makes the run fail"
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the video files for the next start")
    options = parser.parse_args()
    if options.defects:
        for defect in DEFECTS:
            print(f"{defect.name}: {defect.sentence}")
        return
    runflow = Runflow(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        handler = type("BoundHandler", (Handler,), {"runflow": runflow})
        with Server(("127.0.0.1", options.port), handler) as server:
            print("ready", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        if runflow.darkroom.temporary:
            shutil.rmtree(runflow.darkroom.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
