"""Fake HiAPI server (standard library only), written from the API documents only.

Sources: the page of the model, and the other documents that the contract names.

Routes::

    POST /v1/tasks                    (header Idempotency-Key)
    GET  /v1/tasks?page=1&size=20
    GET  /v1/tasks/{taskId}
    GET  /media/{taskId}.mp4          (no key: a video link is public, until its expireAt)

Every task has a worker thread: 0.6 s queued, 0.7 s handling, 0.2 s archiving, all scaled by `--pace`, then `success` or
`fail`, then the callback.

Decisions the documents leave open:

- A failed task has `created`, `completed` and an error of code TASK_FAILED. The output is one video, no first frame.
- A task fails if its image cannot be used: the host is in the reserved `.invalid`; or the host is loopback and the
  image cannot be fetched, is not a JPEG, PNG or WEBP, is smaller than 300 pixels or larger than 20 MB. Images on
  other hosts are taken as good. A task also fails if its prompt or its image URL contains the `--fail-marker` text
  (`simulate-failure`).
- An unknown model is MODEL_UNAVAILABLE, every other invalid payload INVALID_REQUEST. Unknown members of `input` are
  refused, others ignored. The other HappyHorse models are unknown here.
- Routes are `standard` and `backup`. `route` and `storage` are returned only if they were sent. Links last 7 days
  (`--link-seconds`), then they are 404; a `persistent` one has no `expireAt`.
- Lists: `page` and `size` are integers from 1, `size` at most 100, defaults 1 and 20; anything else is 400. A page
  after the last one is empty.
- Idempotency keys belong to one API key. A refused submission does not use its key up. Bodies are compared as JSON
  values. An empty key or one of more than 255 bytes is 400.
- Callbacks: five attempts, after 0, 1, 2, 4 and 8 times `--retry-scale` seconds (0.3 by default), each with a
  fresh timestamp; 10 s time-out; redirects are not followed. `--callback-secret` signs them. Callbacks to other than
  loopback hosts are not sent: the fake stays local.
- Callback URLs with plain HTTP are refused, except to a loopback host (unless `--strict-https`).
- Other methods are 405, other paths (also cancel and upload) 404. Neither balance nor rate limits exist.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

import imageio_ffmpeg

DOC = "hiapi-happyhorse-1.1-image-to-video.txt"
PAGE = "the documents that the contract names"


class Defect(NamedTuple):
    """One deliberate bug, and the document's sentence that it breaks.

    `basis` is "direct" if the sentence states the opposite, "implied" if it only follows from the sentence, or if the
    sentence is from a source other than the provider.
    """

    name: str
    group: str
    sentence: str
    quote: str
    basis: str = "direct"
    document: str = DOC


# The document's sentences, verbatim (white space folded): hiapi-happyhorse-1.1-image-to-video.txt.
Q_MODEL = "model string required Fixed value happyhorse-1.1/image-to-video."
Q_INPUT = "input object required"
Q_IMAGES = "image_urls string[] required First-frame image URL (exactly 1)."
Q_FORMATS = "JPEG/PNG/WEBP, shortest side >= 300px, <= 20MB."
Q_PROMPT = "prompt string optional"
Q_RESOLUTION = "default 1080p enum: 720p1080p"
Q_DURATION = "Clip length in seconds (3-15)."
Q_DURATION_TYPE = "duration integer optional"
Q_DURATION_DEFAULT = "Resolutions 720p / 1080p and durations 3-15 seconds (default 5)."
Q_CALLBACK_URL = (
    "url string required Required when callback is set; HTTPS URL that receives terminal task notifications."
)
Q_WHEN = "Callback trigger timing. Use final. default final enum: final"
Q_WHEN_OPTIONAL = "when enum optional"
Q_NOTIFY = "When set, HiAPI notifies your service when the task reaches a terminal state."
Q_TOP_LEVEL = (
    "For production, pass callback.url at the top level of the request body so HiAPI can notify your service "
    "when the task reaches a terminal state."
)
Q_DEDUPLICATE = "Both success and fail are terminal states, so your service should deduplicate by taskId."
Q_TASK_ID = "The response returns a taskId immediately without waiting for generation to finish."
Q_SUCCESS = "When status=success, download the generated video from output[].url."
Q_FAIL = "When status=fail, fix the request based on the returned error instead of retrying the same invalid payload."
Q_POLL = "For local debugging, poll GET /v1/tasks/:id."
Q_RECONCILE = (
    "GET /v1/tasks/:id is better for local debugging, low-volume jobs, or fallback reconciliation if a "
    "callback is missed."
)
Q_AUDIO = (
    "HappyHorse 1.1 produces native audio with no extra configuration, generating synchronized sound alongside "
    "the visuals."
)
Q_OUTPUT_RESOLUTION = "Output video resolution. Higher resolution costs more."
Q_BILLED = "Billed by resolution and duration (per second); 1080p costs more than 720p."
Q_COST_DURATION = "Cost scales with duration."
Q_ANIMATE = "Animate a single first-frame image into a short video"


# Sentences of the other documents.
P_CREATE = '{"code": 200, "message": "success", "data": {"taskId": "tk-hiapi-01HZTQ8BX2N3GM3YFK4Z9D7VQR"}}'
P_TASK_ID = "taskId = `tk-hiapi-` + 26 characters = 35 characters."
P_REPLAY = "Replay answers the same body with header `Idempotent-Replay: true`."
P_PROCESSING = "Key still in flight: 409"
P_MISMATCH = 'same key, other body: 422 `{"code":422,"error_code":"IDEMPOTENCY_KEY_MISMATCH","message":"key reused"}`.'
P_KEY = "Header `Idempotency-Key` (<= 255 bytes, about 24 h)."
P_CALLBACK_INPUT = "Callback inside `input` -> rejected."
P_ROUTE = "unknown route -> 400 listing the routes)"
P_ROUTE_ECHO = "`route` is echoed only when sent explicitly; `model` is then `base@route`."
P_DETAIL = '"status":"success","created":1777282033,"completed":1777282099,"output":[{"url":'
P_EXPIRE = '"type":"video","expireAt":1777886899}'
P_WEEK = "(`expireAt` = completed + 604800 = 7 days.)"
P_RUNNING = '"status":"handling","created":1777800499,"completed":0}` - `completed` is **0, not absent or null**.'
P_FAILED = '"status":"fail","error":{"code":"TASK_FAILED","message":"upstream rejected the prompt"}}}'
P_FAIL_ENVELOPE = (
    '{"code":200,"message":"success","data":{"taskId":"tk-hiapi-abc123","model":"seedance-2-0","status":"fail"'
)
P_LIST = '"data":{"tasks":[{"taskId":"tk-1","model":"m","status":"success"}],"page":2,"size":20,"total":41}}'
P_LIST_ORDER = "`GET /v1/tasks?page=1&size=20` | list, newest first"
P_STATES = "States `queued -> handling -> archiving -> success | fail`;"
P_TYPES = "Output types: video, image, audio, first_frame, last_frame, thumbnail."
P_ERROR = '{"code":400,"message":"invalid request","data":null,"error_code":"INVALID_REQUEST"}'
P_400 = "| 400 | INVALID_REQUEST | also for unknown `input` fields"
P_401 = '| 401 | none | `{"code":401,"message":"unauthorized","data":null}` |'
P_404 = '| 404 | none | `{"code":404,"message":"not found","data":null}`, also for another account\'s task |'
P_AUTH = "Auth `Authorization: Bearer sk-...`."
P_NO_CANCEL = "**No cancel endpoint, no upload endpoint found.**"
P_CALLBACK = "JSON body **equal to the `data` object of detail (no envelope)**; fired on success and fail."
P_STAMP = "`X-HiAPI-Timestamp` (Unix seconds, string)"
P_SIGNATURE = '`X-HiAPI-Signature` = hex(HMAC_SHA256(secret, timestamp + "." + raw_body)).'
P_TOLERANCE = "SDK tolerance 300 s."
P_RETRY = "At least once; retried on non-2xx; deduplicate by taskId."

DEFECTS: list[Defect] = [
    # Input validation.
    Defect("model-missing-accepted", "validation", "An order without a model is accepted.", Q_MODEL),
    Defect("model-unknown-accepted", "validation", "An order of any model name is accepted.", Q_MODEL),
    Defect("input-missing-accepted", "validation", "An order without input is accepted.", Q_INPUT),
    Defect("image-missing-accepted", "validation", "An order without image_urls is accepted.", Q_IMAGES),
    Defect("images-empty-accepted", "validation", "An empty image_urls list is accepted.", Q_IMAGES),
    Defect("images-two-accepted", "validation", "More than one image URL is accepted.", Q_IMAGES),
    Defect("image-string-accepted", "validation", "A bare string is accepted as image_urls.", Q_IMAGES),
    Defect("image-gif-accepted", "validation", "A .gif image (or .bmp, .tiff) succeeds.", Q_FORMATS),
    Defect("image-webp-refused", "validation", "A .webp image is refused.", Q_FORMATS),
    Defect("image-small-accepted", "validation", "An image below 300 pixels succeeds (loopback hosts).", Q_FORMATS),
    Defect("prompt-required", "validation", "An order without a prompt is refused.", Q_PROMPT),
    Defect("prompt-number-accepted", "validation", "A number is accepted as a prompt.", Q_PROMPT),
    Defect(
        "resolution-case-accepted",
        "validation",
        'A resolution in other case, such as "1080P", is accepted.',
        Q_RESOLUTION,
    ),
    Defect(
        "resolution-unknown-accepted",
        "validation",
        'Any string is accepted as a resolution, such as "4k".',
        Q_RESOLUTION,
    ),
    Defect("resolution-720-refused", "validation", 'The allowed resolution "720p" is refused.', Q_RESOLUTION),
    Defect("duration-2-accepted", "validation", "A duration of 2 is accepted (lower bound off by one).", Q_DURATION),
    Defect("duration-16-accepted", "validation", "A duration of 16 is accepted (upper bound off by one).", Q_DURATION),
    Defect("duration-3-refused", "validation", "The allowed duration 3 is refused.", Q_DURATION),
    Defect("duration-15-refused", "validation", "The allowed duration 15 is refused.", Q_DURATION),
    Defect("duration-string-accepted", "validation", 'The string "5" is accepted as a duration.', Q_DURATION_TYPE),
    Defect(
        "duration-fraction-accepted", "validation", "A duration such as 5.5 is accepted and rounded.", Q_DURATION_TYPE
    ),
    Defect("duration-required", "validation", "An order without a duration is refused.", Q_DURATION_DEFAULT),
    Defect("callback-url-missing-accepted", "validation", "A callback without url is accepted.", Q_CALLBACK_URL),
    Defect("callback-when-unknown-accepted", "validation", 'Any callback.when is accepted, such as "start".', Q_WHEN),
    Defect("callback-when-required", "validation", "A callback without when is refused.", Q_WHEN_OPTIONAL),
    Defect(
        "callback-http-accepted",
        "validation",
        "A callback URL with plain HTTP to any host is accepted.",
        Q_CALLBACK_URL,
        "implied",
    ),
    Defect(
        "callback-in-input-accepted",
        "validation",
        "A callback inside input is accepted, and ignored.",
        P_CALLBACK_INPUT,
        "direct",
        PAGE,
    ),
    Defect("input-unknown-accepted", "validation", "An unknown member of input is accepted.", P_400, "implied", PAGE),
    Defect("route-unknown-accepted", "validation", "An unknown route is accepted.", P_ROUTE, "direct", PAGE),
    # Lifecycle.
    Defect("stage-completed-word", "lifecycle", 'A successful task ends as "completed".', Q_SUCCESS),
    Defect("stage-failed-word", "lifecycle", 'A failed task ends as "failed".', Q_FAIL),
    Defect("success-then-fail", "lifecycle", "A successful task turns into a failed one 1 s later.", Q_DEDUPLICATE),
    Defect("fail-then-success", "lifecycle", "A failed task turns into a successful one 1 s later.", Q_DEDUPLICATE),
    Defect(
        "fail-never-ends",
        "lifecycle",
        "A task that cannot succeed stays in handling forever.",
        Q_DEDUPLICATE,
        "implied",
    ),
    Defect("submit-waits", "lifecycle", "Submission answers only after the task has ended.", Q_TASK_ID),
    Defect(
        "output-before-success", "lifecycle", "A queued or handling task already has its output.", Q_SUCCESS, "implied"
    ),
    Defect("bad-image-succeeds", "lifecycle", "A task whose image cannot be fetched succeeds.", Q_FAIL, "implied"),
    Defect("stage-pending-word", "lifecycle", 'The first stage is named "pending".', P_STATES, "direct", PAGE),
    Defect("stage-running-word", "lifecycle", 'The stage handling is named "running".', P_STATES, "direct", PAGE),
    Defect("stage-order", "lifecycle", "A task is archiving first, then handling.", P_STATES, "direct", PAGE),
    Defect(
        "stage-backward",
        "lifecycle",
        "After handling has been reported, the next poll reports queued once.",
        P_STATES,
        "direct",
        PAGE,
    ),
    Defect(
        "success-then-handling",
        "lifecycle",
        "After success has been reported, the task is handling again for 2 s.",
        Q_DEDUPLICATE,
    ),
    Defect("never-ends", "lifecycle", "Tasks stay in handling forever.", P_STATES, "implied", PAGE),
    # Members.
    Defect("submit-id-snake-case", "members", "The submission's response has task_id instead of taskId.", Q_TASK_ID),
    Defect("submit-id-null", "members", "The submission's taskId is null.", Q_TASK_ID),
    Defect("submit-id-differs", "members", "The submission's taskId is not the one that GET knows.", Q_TASK_ID),
    Defect("status-renamed", "members", "GET returns state instead of status.", Q_SUCCESS),
    Defect("status-capitalised", "members", 'GET returns "Success" and "Fail".', Q_SUCCESS),
    Defect("output-null", "members", "The output of a successful task is null.", Q_SUCCESS),
    Defect("output-empty", "members", "The output of a successful task is an empty list.", Q_SUCCESS),
    Defect("output-strings", "members", "The output is a list of URL strings.", Q_SUCCESS),
    Defect("output-url-renamed", "members", "The output's items have video_url instead of url.", Q_SUCCESS),
    Defect(
        "output-url-relative", "members", "The output's url is a path without scheme and host.", Q_SUCCESS, "implied"
    ),
    Defect("fail-error-missing", "members", "A failed task has no error.", Q_FAIL),
    Defect("fail-error-null", "members", "A failed task's error is null.", Q_FAIL),
    Defect("fail-error-empty", "members", "A failed task's error is an empty object.", Q_FAIL),
    Defect("fail-with-output", "members", "A failed task has an output beside its error.", Q_SUCCESS, "implied"),
    Defect("error-beside-success", "members", "A successful task has an error beside its output.", Q_FAIL, "implied"),
    Defect("submit-id-missing", "members", "The submission's response has no task id, only a status.", Q_TASK_ID),
    Defect("submit-id-uuid", "members", "The taskId is a UUID.", P_TASK_ID, "direct", PAGE),
    Defect("task-id-wrong", "members", "GET returns a taskId other than the requested one.", Q_DEDUPLICATE, "implied"),
    Defect("task-id-missing", "members", "GET returns no taskId.", P_DETAIL, "implied", PAGE),
    Defect("output-object", "members", "The output is an object instead of a list.", P_DETAIL, "direct", PAGE),
    Defect("output-type-clip", "members", 'The type of the output is "clip".', P_TYPES, "direct", PAGE),
    Defect("expire-missing", "members", "The output has no expireAt.", P_EXPIRE, "direct", PAGE),
    Defect("expire-text", "members", "expireAt is an ISO 8601 string.", P_EXPIRE, "direct", PAGE),
    Defect("expire-past", "members", "expireAt lies one hour before completed.", P_WEEK, "direct", PAGE),
    Defect("created-text", "members", "created is an ISO 8601 string.", P_DETAIL, "direct", PAGE),
    Defect("created-milliseconds", "members", "created is in milliseconds.", P_DETAIL, "implied", PAGE),
    Defect("completed-null", "members", "completed is null before the end.", P_RUNNING, "direct", PAGE),
    Defect("completed-absent", "members", "completed is absent before the end.", P_RUNNING, "direct", PAGE),
    Defect("completed-early", "members", "completed equals created before the end.", P_RUNNING, "direct", PAGE),
    Defect("completed-zero-at-end", "members", "completed is 0 after a success.", P_DETAIL, "direct", PAGE),
    Defect("fail-error-string", "members", "A failed task's error is a string.", P_FAILED, "direct", PAGE),
    Defect("route-not-echoed", "members", "A route that was sent is not returned.", P_ROUTE_ECHO, "direct", PAGE),
    Defect(
        "route-always-echoed", "members", "A route is returned although none was sent.", P_ROUTE_ECHO, "direct", PAGE
    ),
    Defect("video-of-previous-task", "members", "The output links the video of the task submitted before.", Q_SUCCESS),
    # Statuses and headers.
    Defect("task-gone-at-end", "statuses", "GET of an ended task is 404.", Q_RECONCILE),
    Defect("task-html", "statuses", "GET returns the JSON inside an HTML page.", Q_POLL, "implied"),
    Defect("task-plain-text", "statuses", "GET returns JSON of type text/plain.", Q_POLL, "implied"),
    Defect("task-poll-by-post", "statuses", "The task is read by POST; GET is 405.", Q_POLL),
    Defect("fail-http-500", "statuses", "GET of a failed task is HTTP 500 without a task.", Q_FAIL),
    Defect("unknown-task-200", "statuses", "GET of an unknown id is 200 and queued.", P_404, "direct", PAGE),
    Defect("unknown-task-400", "statuses", "GET of an unknown id is 400.", P_404, "direct", PAGE),
    Defect("foreign-task-403", "statuses", "GET of another key's task is 403.", P_404, "direct", PAGE),
    Defect(
        "invalid-order-200", "statuses", "An invalid payload is answered 200 with an error body.", P_400, "direct", PAGE
    ),
    Defect("invalid-order-422", "statuses", "An invalid payload is answered 422.", P_400, "direct", PAGE),
    Defect("invalid-order-500", "statuses", "An invalid payload is answered 500.", P_400, "direct", PAGE),
    Defect("unauthorized-403", "statuses", "A missing or unknown key is answered 403.", P_401, "direct", PAGE),
    Defect("cancel-exists", "statuses", "POST /v1/tasks/{taskId}/cancel is 200.", P_NO_CANCEL, "implied", PAGE),
    # Envelope.
    Defect("envelope-code-zero", "envelope", "The code of a success is 0.", P_CREATE, "direct", PAGE),
    Defect("envelope-code-string", "envelope", 'The code of a success is the string "200".', P_CREATE, "direct", PAGE),
    Defect("envelope-message-ok", "envelope", 'The message of a success is "ok".', P_CREATE, "direct", PAGE),
    Defect("envelope-missing", "envelope", "Successful responses are the bare data.", P_CREATE, "direct", PAGE),
    Defect(
        "envelope-data-renamed",
        "envelope",
        "Successful responses have result instead of data.",
        P_CREATE,
        "direct",
        PAGE,
    ),
    Defect("envelope-data-list", "envelope", "The data is a list of one object.", P_CREATE, "direct", PAGE),
    Defect(
        "error-code-missing", "envelope", "An invalid payload's response has no error_code.", P_ERROR, "direct", PAGE
    ),
    Defect("error-code-lower-case", "envelope", "error_code is in lower case.", P_ERROR, "direct", PAGE),
    Defect("error-body-code-200", "envelope", "The body of an error has the code 200.", P_ERROR, "direct", PAGE),
    Defect("error-data-object", "envelope", "The data of an error is an empty object.", P_ERROR, "direct", PAGE),
    Defect("error-nested", "envelope", "An error is nested: {error: {code, message}}.", P_ERROR, "direct", PAGE),
    # Authentication.
    Defect("auth-missing-accepted", "auth", "Requests without a key are accepted.", P_401, "direct", PAGE),
    Defect("auth-wrong-key-accepted", "auth", "An unknown key is accepted.", P_401, "direct", PAGE),
    Defect(
        "auth-scheme-ignored", "auth", "The key is accepted under any scheme, such as Basic.", P_AUTH, "direct", PAGE
    ),
    Defect(
        "auth-header-other",
        "auth",
        "Only the header X-API-Key is read; a good Bearer key is 401.",
        P_AUTH,
        "direct",
        PAGE,
    ),
    Defect("auth-detail-open", "auth", "GET of a task works without a key, for every task.", P_401, "direct", PAGE),
    Defect("auth-other-key-reads", "auth", "Another key's task is readable.", P_404, "direct", PAGE),
    # Lists.
    Defect("list-missing", "lists", "The list is 404.", P_LIST_ORDER, "direct", PAGE),
    Defect("list-size-ignored", "lists", "The list ignores size.", P_LIST_ORDER, "direct", PAGE),
    Defect("list-size-off-by-one", "lists", "A page has one task more than size.", P_LIST, "direct", PAGE),
    Defect(
        "list-item-twice",
        "lists",
        "A page after the first begins with the last task of the page before.",
        P_LIST,
        "implied",
        PAGE,
    ),
    Defect("list-item-skipped", "lists", "Between two pages, one task is not listed.", P_LIST, "implied", PAGE),
    Defect("list-oldest-first", "lists", "The list is in the order of creation.", P_LIST_ORDER, "direct", PAGE),
    Defect("list-foreign", "lists", "Tasks of other keys are listed.", P_404, "implied", PAGE),
    Defect("list-empty", "lists", "The list never has tasks.", P_LIST_ORDER, "direct", PAGE),
    Defect("list-total-of-page", "lists", "total is the number of tasks of the page.", P_LIST, "direct", PAGE),
    Defect(
        "list-page-from-zero", "lists", "Pages are counted from 0: page=1 is the second.", P_LIST_ORDER, "implied", PAGE
    ),
    Defect("list-page-echo", "lists", "page is 1 in every response.", P_LIST, "direct", PAGE),
    Defect("list-renamed", "lists", "The list has items instead of tasks.", P_LIST, "direct", PAGE),
    Defect("list-bare", "lists", "The data is an array.", P_LIST, "direct", PAGE),
    Defect("list-default-size", "lists", "Without size, a page has 5 tasks at most.", P_LIST_ORDER, "implied", PAGE),
    Defect("list-stale-status", "lists", "The list says queued for every task.", P_LIST, "implied", PAGE),
    # Idempotency keys.
    Defect("replay-new-task", "idempotency", "A replay makes a second task.", P_REPLAY, "direct", PAGE),
    Defect(
        "replay-header-missing", "idempotency", "A replay has no header Idempotent-Replay.", P_REPLAY, "direct", PAGE
    ),
    Defect(
        "replay-header-always",
        "idempotency",
        "The first submission has Idempotent-Replay: true, too.",
        P_REPLAY,
        "implied",
        PAGE,
    ),
    Defect("replay-409", "idempotency", "A replay is 409, although the task exists.", P_REPLAY, "direct", PAGE),
    Defect("replay-body-status", "idempotency", "A replay's response is the task's detail.", P_REPLAY, "direct", PAGE),
    Defect(
        "mismatch-accepted",
        "idempotency",
        "A key with another body returns the first task.",
        P_MISMATCH,
        "direct",
        PAGE,
    ),
    Defect(
        "mismatch-new-task", "idempotency", "A key with another body makes another task.", P_MISMATCH, "direct", PAGE
    ),
    Defect("mismatch-409", "idempotency", "A key with another body is 409.", P_MISMATCH, "direct", PAGE),
    Defect(
        "mismatch-400", "idempotency", "A key with another body is 400 and INVALID_REQUEST.", P_MISMATCH, "direct", PAGE
    ),
    Defect(
        "mismatch-code-missing",
        "idempotency",
        "A key with another body is 422 without error_code.",
        P_MISMATCH,
        "direct",
        PAGE,
    ),
    Defect("key-long-refused", "idempotency", "A key of more than 64 bytes is refused.", P_KEY, "direct", PAGE),
    Defect("key-long-cut", "idempotency", "Only the first 32 bytes of a key are compared.", P_KEY, "implied", PAGE),
    Defect("key-forgotten", "idempotency", "A key is forgotten after 1 s.", P_KEY, "direct", PAGE),
    Defect(
        "key-shared", "idempotency", "A key of one API key replays its task to another one.", P_404, "implied", PAGE
    ),
    Defect(
        "duplicate-order-shared",
        "idempotency",
        "An order equal to an earlier one gets the earlier taskId.",
        Q_TASK_ID,
        "implied",
    ),
    # Callbacks.
    Defect("callback-never", "callbacks", "No callback is ever sent.", Q_NOTIFY),
    Defect("callback-early", "callbacks", "A callback is also sent when the task starts to be handled.", Q_WHEN),
    Defect(
        "callback-only-start",
        "callbacks",
        "The callback is sent when the task starts to be handled, not at the end.",
        Q_NOTIFY,
    ),
    Defect("callback-not-on-fail", "callbacks", "A failed task sends no callback.", P_CALLBACK, "direct", PAGE),
    Defect("callback-id-missing", "callbacks", "The callback has no taskId.", P_CALLBACK, "direct", PAGE),
    Defect("callback-id-wrong", "callbacks", "The callback's taskId is a random one.", P_CALLBACK, "direct", PAGE),
    Defect(
        "callback-twice-differs",
        "callbacks",
        "A second callback follows with the opposite status.",
        P_CALLBACK,
        "direct",
        PAGE,
    ),
    Defect("callback-empty-body", "callbacks", "The callback has no body.", P_CALLBACK, "direct", PAGE),
    Defect("callback-query-dropped", "callbacks", "The callback goes to the URL without its query.", Q_CALLBACK_URL),
    Defect("callback-when-default-ignored", "callbacks", "Without callback.when, no callback is sent.", Q_WHEN),
    Defect("callback-late", "callbacks", "The callback comes 20 s after the end.", Q_NOTIFY, "implied"),
    Defect(
        "callback-from-input",
        "callbacks",
        "Only a callback inside input is honoured, not one at the top level.",
        Q_TOP_LEVEL,
    ),
    Defect("callback-status-handling", "callbacks", "The callback at the end says handling.", Q_NOTIFY),
    Defect(
        "callback-status-opposite",
        "callbacks",
        "The callback says fail for a success, and success for a fail.",
        P_CALLBACK,
        "direct",
        PAGE,
    ),
    Defect(
        "callback-form-body", "callbacks", "The callback's body is a form instead of JSON.", P_CALLBACK, "direct", PAGE
    ),
    Defect(
        "callback-output-missing", "callbacks", "The callback of a success has no output.", P_CALLBACK, "direct", PAGE
    ),
    Defect("callback-error-missing", "callbacks", "The callback of a fail has no error.", P_CALLBACK, "direct", PAGE),
    Defect(
        "callback-enveloped",
        "callbacks",
        "The callback has the envelope of code, message and data.",
        P_CALLBACK,
        "direct",
        PAGE,
    ),
    Defect("callback-completed-zero", "callbacks", "The callback's completed is 0.", P_CALLBACK, "direct", PAGE),
    Defect("callback-model-missing", "callbacks", "The callback has no model.", P_CALLBACK, "direct", PAGE),
    # Signatures.
    Defect("signature-missing", "signatures", "X-HiAPI-Signature is missing.", P_SIGNATURE, "direct", PAGE),
    Defect("timestamp-missing", "signatures", "X-HiAPI-Timestamp is missing.", P_STAMP, "direct", PAGE),
    Defect(
        "signature-wrong-secret",
        "signatures",
        "The signature is made with another secret.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect(
        "signature-body-only",
        "signatures",
        "The signature covers the body without the timestamp.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect(
        "signature-colon",
        "signatures",
        "The signature joins timestamp and body by a colon.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect(
        "signature-other-bytes",
        "signatures",
        "The signature covers the body with other white space.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect("signature-base64", "signatures", "The signature is in base64.", P_SIGNATURE, "direct", PAGE),
    Defect("signature-prefix", "signatures", 'The signature begins with "sha256=".', P_SIGNATURE, "direct", PAGE),
    Defect("signature-sha1", "signatures", "The signature is made with SHA-1.", P_SIGNATURE, "direct", PAGE),
    Defect(
        "signature-plain-hash",
        "signatures",
        "The signature is a SHA-256 of secret, timestamp and body, not an HMAC.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect("signature-constant", "signatures", "The signature is that of an empty body.", P_SIGNATURE, "direct", PAGE),
    Defect(
        "timestamp-old", "signatures", "The timestamp, correctly signed, is one hour old.", P_TOLERANCE, "direct", PAGE
    ),
    Defect("timestamp-milliseconds", "signatures", "The timestamp is in milliseconds.", P_STAMP, "direct", PAGE),
    Defect("timestamp-text", "signatures", "The timestamp is an ISO 8601 time.", P_STAMP, "direct", PAGE),
    Defect(
        "timestamp-not-signed",
        "signatures",
        "The header's timestamp is one second after the signed one.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    # Retries.
    Defect("retry-never", "retries", "A callback is never sent again.", P_RETRY, "direct", PAGE),
    Defect(
        "retry-not-on-400",
        "retries",
        "A callback is sent again after 5xx only, not after 4xx.",
        P_RETRY,
        "direct",
        PAGE,
    ),
    Defect("retry-not-on-redirect", "retries", "A 3xx response counts as delivered.", P_RETRY, "direct", PAGE),
    Defect(
        "retry-after-success",
        "retries",
        "A callback is sent five times, although the first one was answered 200.",
        P_RETRY,
        "implied",
        PAGE,
    ),
    Defect("retry-new-id", "retries", "Every retry has a new taskId.", P_RETRY, "direct", PAGE),
    Defect("retry-other-status", "retries", "A retry has the opposite status.", P_CALLBACK, "direct", PAGE),
    Defect("retry-empty-body", "retries", "A retry has no body.", P_CALLBACK, "direct", PAGE),
    Defect("retry-unsigned", "retries", "A retry has no signature headers.", P_SIGNATURE, "direct", PAGE),
    Defect(
        "retry-signature-stale",
        "retries",
        "A retry has a new timestamp, but the first attempt's signature.",
        P_SIGNATURE,
        "direct",
        PAGE,
    ),
    Defect(
        "retry-timestamp-wrong",
        "retries",
        "A retry's timestamp is ten minutes older than the first one.",
        P_TOLERANCE,
        "direct",
        PAGE,
    ),
    # Media.
    Defect("media-404", "media", "The video link is 404.", Q_SUCCESS),
    Defect(
        "media-length-long",
        "media",
        "The video's Content-Length is 1000 bytes more than its body.",
        Q_SUCCESS,
        "implied",
    ),
    Defect("media-truncated", "media", "The video file ends after half of its bytes.", Q_SUCCESS, "implied"),
    Defect("media-html", "media", "The video link serves an HTML page as video/mp4.", Q_SUCCESS),
    Defect("media-still", "media", "The video link serves a PNG still.", Q_ANIMATE),
    Defect("media-hangs", "media", "The video link never answers.", Q_SUCCESS, "implied"),
    Defect("media-duration-fixed", "media", "Every video lasts 5 s, whatever was ordered.", Q_DURATION),
    Defect("media-one-second-long", "media", "Every video is one second longer than ordered.", Q_DURATION),
    Defect("media-resolution-low", "media", "Videos ordered in 1080p have 720 lines.", Q_OUTPUT_RESOLUTION),
    Defect("media-silent", "media", "Videos have no audio track.", Q_AUDIO),
    Defect("media-one-frame", "media", "The video is a single frame.", Q_DURATION, "implied"),
    Defect("default-duration-wrong", "media", "An order without a duration makes a video of 8 s.", Q_DURATION_DEFAULT),
    Defect("default-resolution-wrong", "media", "An order without a resolution makes a 720p video.", Q_RESOLUTION),
]


def draw_chosen(total: int = 36, per_group: int = 2, seed: int = 4004) -> list[Defect]:
    """Return direct defects, drawn at random: `per_group` of every group, then any up to `total`."""
    lot = random.Random(seed)
    direct = [defect for defect in DEFECTS if defect.basis == "direct"]
    names: set[str] = set()
    for group in dict.fromkeys(defect.group for defect in DEFECTS):
        names.update(lot.sample([defect.name for defect in direct if defect.group == group], per_group))
    others = [defect.name for defect in direct if defect.name not in names]
    names.update(lot.sample(others, total - len(names)))
    return [defect for defect in direct if defect.name in names]


CHOSEN = draw_chosen()

# Added after the draw: in DEFECTS they would change CHOSEN.
FURTHER: list[Defect] = [
    Defect(
        "duration-long-1080p-refused",
        "validation",
        "A duration above 10 is refused in 1080p, and accepted in 720p only.",
        Q_DURATION_DEFAULT,
    ),
    Defect("output-late", "lifecycle", "The first GET that reports success has no output; later ones do.", Q_SUCCESS),
    Defect(
        "fail-envelope-500",
        "envelope",
        "The envelope of a failed task, read by GET with HTTP 200, has the code 500.",
        P_FAIL_ENVELOPE,
        "direct",
        PAGE,
    ),
    Defect(
        "unauthorized-plain-text",
        "auth",
        "The 401 of a missing or unknown key has a plain text instead of JSON.",
        P_401,
        "direct",
        PAGE,
    ),
    Defect("list-page-string", "lists", "The list's page and size are strings.", P_LIST, "direct", PAGE),
    Defect(
        "key-race-two-tasks",
        "idempotency",
        "A key is stored 0.3 s after its task: simultaneous submissions make two tasks.",
        P_PROCESSING,
        "direct",
        PAGE,
    ),
    Defect(
        "callback-before-end",
        "callbacks",
        "The callback of success or fail comes 1.5 s before GET reports that end.",
        Q_NOTIFY,
    ),
    Defect(
        "callback-expire-day",
        "callbacks",
        "The callback's expireAt is one day after completed, that of GET a week.",
        P_CALLBACK,
        "direct",
        PAGE,
    ),
]
DEFECTS += FURTHER
NAMES = frozenset(defect.name for defect in DEFECTS)

MODEL = "happyhorse-1.1/image-to-video"
LINES = {"720p": 720, "1080p": 1080}
ROUTES = ("standard", "backup")
INPUT_MEMBERS = {"image_urls", "prompt", "resolution", "duration"}
GOOD_ENDINGS = ("jpg", "jpeg", "png", "webp")
BAD_ENDINGS = ("gif", "bmp", "tif", "tiff", "svg", "heic", "avif", "pdf", "mp4", "mov", "webm", "txt", "html")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
QUEUED_SECONDS = 0.6
HANDLING_SECONDS = 0.7
ARCHIVING_SECONDS = 0.2
CALLBACK_DELAYS = (1, 2, 4, 8)
KEY_SECONDS = 24 * 3600
MAX_BODY = 8 * 1024 * 1024
MAX_IMAGE = 20 * 1024 * 1024
STILL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cfc0500f0003860180345bfbd90000000049454e44ae426082"
)


class ApiError(Exception):
    """An error response."""

    def __init__(self, http_status: int, error_code: str | None, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.error_code = error_code
        self.message = message

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        body: dict[str, Any] = {"code": self.http_status, "message": self.message, "data": None}
        return body if self.error_code is None else {**body, "error_code": self.error_code}


class ImageError(Exception):
    """The first-frame image cannot be used."""


def iso(seconds: int) -> str:
    """Return Unix seconds as ISO 8601."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def new_task_id() -> str:
    """Return `tk-hiapi-` and 26 characters, the first ten of which encode the time."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    stamp = int(time.time() * 1000)
    head = "".join(alphabet[stamp >> 5 * place & 31] for place in range(9, -1, -1))
    return "tk-hiapi-" + head + "".join(secrets.choice(alphabet) for _ in range(16))


def measure(data: bytes) -> tuple[int, int]:
    """Return width and height of a PNG, JPEG or WEBP image; raise ImageError for anything else."""
    with contextlib.suppress(struct.error, IndexError):
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            chunk = data[12:16]
            if chunk == b"VP8X":
                return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
            if chunk == b"VP8L":
                (packed,) = struct.unpack_from("<I", data, 21)
                return 1 + (packed & 0x3FFF), 1 + ((packed >> 14) & 0x3FFF)
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        if data.startswith(b"\xff\xd8"):
            position = 2
            while data[position] == 0xFF:
                if data[position + 1] in (0xC0, 0xC1, 0xC2, 0xC3):
                    height, width = struct.unpack_from(">HH", data, position + 5)
                    return width, height
                position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise ImageError("The image is not a JPEG, PNG or WEBP.")


def split_url(url: str) -> SplitResult:
    """Return a URL's parts; raise 400 if it is malformed."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ApiError(400, "INVALID_REQUEST", f"{url!r} is not a URL.") from None
    return parts


class FilmRoll:
    """Makes and keeps MP4 files. A given folder is kept for the next server, a temporary one is removed at the end."""

    def __init__(self, cache: Path | None) -> None:
        self.temporary = cache is None
        self.folder = cache or Path(tempfile.mkdtemp(prefix="fake-hiapi-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

    def make(self, name: str, *arguments: str) -> Path:
        """Return a file of the folder, made by ffmpeg if it is missing; raise CalledProcessError if that fails."""
        path = self.folder / name
        if not path.exists():
            part = self.folder / f"{uuid.uuid4().hex}.mp4"
            command = [self.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments, str(part)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            part.replace(path)
        return path

    def film(self, width: int, height: int, seconds: int, silent: bool = False, one_frame: bool = False) -> Path:
        """Return an MP4 of the given size and length: one encoded second, looped without re-encoding, and a tone."""
        size = f"{width}x{height}"
        picture = f"color=c=steelblue:size={size}:rate=24,drawgrid=w=160:h=160:t=4:c=white"
        codec = [
            "-frames:v",
            "24",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "24",
            "-crf",
            "35",
            "-pix_fmt",
            "yuv420p",
            "-threads",
            "1",
        ]
        with self.lock:
            loop = self.make(f"hiapi-{size}.mp4", "-f", "lavfi", "-i", picture, *codec)
            if one_frame:
                copy = ["-frames:v", "1", "-c:v", "copy"]
                return self.make(f"hiapi-{size}-one-frame.mp4", "-i", str(loop), *copy)
            name = f"hiapi-{size}-{seconds}s{'-silent' if silent else ''}.mp4"
            tone = "" if silent else "-f lavfi -i sine=frequency=220:sample_rate=48000 -map 1:a -c:a aac -b:a 48k"
            copy = f"-map 0:v -c:v copy -t {seconds} -movflags +faststart".split()
            return self.make(name, "-stream_loop", str(seconds - 1), "-i", str(loop), *tone.split(), *copy)


class Task:
    """A task. Its worker thread sets `status`; `changed` announces it."""

    def __init__(self, key: str, base_url: str, wish: dict[str, Any], previous: Task | None, task_id: str) -> None:
        self.task_id = task_id
        self.key = key
        self.base_url = base_url
        self.image: str = wish["image"]
        self.prompt: str = wish["prompt"]
        self.resolution: str = wish["resolution"]
        self.seconds: int = wish["seconds"]
        self.callback_url: str | None = wish["callback_url"]
        self.route: str | None = wish["route"]
        self.storage: str | None = wish["storage"]
        self.previous = previous
        self.status = "queued"
        self.error: dict[str, str] | None = None
        self.created = int(time.time())
        self.completed = 0
        self.film: Path | None = None
        self.ended = threading.Event()
        self.polls_handling = 0
        self.success_seen: float | None = None


class Replay:
    """An idempotency key's use. Its task is None while the submission is in flight."""

    def __init__(self, payload: str) -> None:
        self.payload = payload
        self.began = time.monotonic()
        self.task: Task | None = None


class Provider:
    """Validation, tasks, keys and callbacks. `bug(name)` tells whether a defect is active."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.keys: set[str] = set(options.key)
        self.defect: str | None = options.defect
        self.pace: float = options.pace
        self.port: int = options.port
        self.strict_https: bool = options.strict_https
        self.secret: str = options.callback_secret or ""
        self.retry_scale: float = options.retry_scale
        self.link_seconds: int = options.link_seconds
        self.fail_marker: str = options.fail_marker
        self.rolls = FilmRoll(options.cache)
        self.lock = threading.Lock()
        self.tasks: dict[str, Task] = {}
        self.twins: dict[str, Task] = {}
        self.replays: dict[tuple[str, str], Replay] = {}
        self.latest: Task | None = None

    def bug(self, name: str) -> bool:
        """Return whether the named defect is active."""
        if name not in NAMES:
            raise LookupError(name)
        return name == self.defect

    # Keys.

    def key_of(self, authorization: str | None, x_api_key: str | None) -> str:
        """Return the key of a request's headers; raise 401. An empty key, only with defects, stands for no key."""
        scheme = r"\S+" if self.bug("auth-scheme-ignored") else "(?i:bearer)"
        match = re.fullmatch(scheme + r" +(\S+)", (authorization or "").strip())
        key = match.group(1) if match else ""
        if self.bug("auth-header-other"):
            key = x_api_key or ""
        if not key and self.bug("auth-missing-accepted"):
            return ""
        known = key in self.keys if self.keys else not key.startswith("wrong-")
        if key and (known or self.bug("auth-wrong-key-accepted")):
            return key
        raise ApiError(403 if self.bug("unauthorized-403") else 401, None, "unauthorized")

    # Payloads.

    def wish(self, payload: Any) -> dict[str, Any]:
        """Return a valid payload's values; raise 400 at the first problem."""

        def demand(condition: bool, message: str) -> None:
            if not condition:
                raise ApiError(400, "INVALID_REQUEST", message)

        demand(isinstance(payload, dict), "The body must be a JSON object.")
        route = payload.get("route")
        if "model" in payload or not self.bug("model-missing-accepted"):
            demand("model" in payload, "'model' is required.")
            demand(isinstance(payload["model"], str), "'model' must be a string.")
            base, _, suffix = payload["model"].partition("@")
            route = suffix or route
            if base != MODEL and not self.bug("model-unknown-accepted"):
                raise ApiError(400, "MODEL_UNAVAILABLE", f"'model' is '{base}'; allowed: '{MODEL}'.")
        if route is not None and not self.bug("route-unknown-accepted"):
            demand(route in ROUTES, f"'route' is {route!r}; allowed: {', '.join(ROUTES)}.")
        storage = payload.get("storage")
        demand(storage in (None, "temp", "persistent"), "'storage' must be 'temp' or 'persistent'.")
        fields = payload.get("input")
        if "input" not in payload and self.bug("input-missing-accepted"):
            fields = {"image_urls": ["https://example.com/none.png"]}
        demand(isinstance(fields, dict), "'input' is required and must be an object.")
        unknown = set(fields) - INPUT_MEMBERS
        if self.bug("callback-in-input-accepted") or self.bug("callback-from-input"):
            unknown.discard("callback")
        if not self.bug("input-unknown-accepted"):
            demand(not unknown, f"'input' has unknown members: {', '.join(sorted(unknown))}.")
        if self.bug("duration-long-1080p-refused") and self.wished_resolution(fields) == "1080p":
            demand(self.wished_seconds(fields) <= 10, "'input.duration' must be at most 10 in 1080p.")
        return {
            "image": self.wished_image(fields),
            "prompt": self.wished_prompt(fields),
            "resolution": self.wished_resolution(fields),
            "seconds": self.wished_seconds(fields),
            "callback_url": self.wished_callback(payload, fields),
            "route": route,
            "storage": storage,
        }

    def wished_image(self, fields: dict[str, Any]) -> str:
        """Return the first-frame URL."""
        urls = fields.get("image_urls")
        if "image_urls" not in fields and self.bug("image-missing-accepted"):
            return ""
        if isinstance(urls, str) and self.bug("image-string-accepted"):
            urls = [urls]
        if not isinstance(urls, list):
            raise ApiError(400, "INVALID_REQUEST", "'input.image_urls' is required and must be an array of strings.")
        if not urls and self.bug("images-empty-accepted"):
            return ""
        if len(urls) != 1 and not (len(urls) > 1 and self.bug("images-two-accepted")):
            raise ApiError(400, "INVALID_REQUEST", f"'input.image_urls' has {len(urls)} items; allowed: exactly 1.")
        url = urls[0]
        if not isinstance(url, str):
            raise ApiError(400, "INVALID_REQUEST", "'input.image_urls[0]' must be a string.")
        parts = split_url(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(400, "INVALID_REQUEST", "'input.image_urls[0]' must be an HTTP or HTTPS URL.")
        ending = Path(parts.path).suffix.lower().lstrip(".")
        if ending in BAD_ENDINGS and not self.bug("image-gif-accepted"):
            raise ApiError(400, "INVALID_REQUEST", f"The image is a .{ending} file; allowed: JPEG, PNG, WEBP.")
        if ending == "webp" and self.bug("image-webp-refused"):
            raise ApiError(400, "INVALID_REQUEST", "The image is a .webp file; allowed: JPEG, PNG.")
        return url

    def wished_prompt(self, fields: dict[str, Any]) -> str:
        """Return the prompt, empty if there is none."""
        if "prompt" not in fields and self.bug("prompt-required"):
            raise ApiError(400, "INVALID_REQUEST", "'input.prompt' is required.")
        prompt = fields.get("prompt", "")
        if isinstance(prompt, (int, float)) and self.bug("prompt-number-accepted"):
            prompt = str(prompt)
        if not isinstance(prompt, str):
            raise ApiError(400, "INVALID_REQUEST", "'input.prompt' must be a string.")
        return prompt

    def wished_resolution(self, fields: dict[str, Any]) -> str:
        """Return the resolution."""
        value = fields.get("resolution", "720p" if self.bug("default-resolution-wrong") else "1080p")
        if isinstance(value, str):
            if self.bug("resolution-case-accepted"):
                value = value.lower()
            if value not in LINES and self.bug("resolution-unknown-accepted"):
                return "1080p"
            if value in LINES and not (value == "720p" and self.bug("resolution-720-refused")):
                return value
        raise ApiError(400, "INVALID_REQUEST", "'input.resolution' must be '720p' or '1080p'.")

    def wished_seconds(self, fields: dict[str, Any]) -> int:
        """Return the clip length in seconds."""
        if "duration" not in fields:
            if self.bug("duration-required"):
                raise ApiError(400, "INVALID_REQUEST", "'input.duration' is required.")
            return 8 if self.bug("default-duration-wrong") else 5
        value = fields["duration"]
        if isinstance(value, str) and value.isdigit() and self.bug("duration-string-accepted"):
            value = int(value)
        if isinstance(value, float) and self.bug("duration-fraction-accepted"):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ApiError(400, "INVALID_REQUEST", "'input.duration' must be an integer.")
        low, high = 3, 15
        if self.bug("duration-2-accepted"):
            low = 2
        elif self.bug("duration-3-refused"):
            low = 4
        elif self.bug("duration-16-accepted"):
            high = 16
        elif self.bug("duration-15-refused"):
            high = 14
        if not low <= value <= high:
            raise ApiError(400, "INVALID_REQUEST", f"'input.duration' is {value}; allowed: {low} to {high}.")
        return value

    def wished_callback(self, payload: dict[str, Any], fields: dict[str, Any]) -> str | None:
        """Return the callback URL; None if no callback is ordered."""
        if "callback" not in payload and "callback" not in fields:
            return None
        callback = payload.get("callback")
        if "callback" in payload:
            self.check_callback(callback)
        if self.bug("callback-from-input"):
            callback = fields.get("callback")
        if not isinstance(callback, dict) or not isinstance(callback.get("url"), str):
            return None
        if "when" not in callback and self.bug("callback-when-default-ignored"):
            return None
        url: str = callback["url"]
        return url

    def check_callback(self, callback: Any) -> None:
        """Check the callback object; raise 400."""
        if not isinstance(callback, dict):
            raise ApiError(400, "INVALID_REQUEST", "'callback' must be an object.")
        if "url" not in callback:
            if self.bug("callback-url-missing-accepted"):
                return
            raise ApiError(400, "INVALID_REQUEST", "'callback.url' is required when 'callback' is set.")
        url = callback["url"]
        if not isinstance(url, str):
            raise ApiError(400, "INVALID_REQUEST", "'callback.url' must be a string.")
        parts = split_url(url)
        plain = parts.scheme == "http" and (
            self.bug("callback-http-accepted") or (parts.hostname in LOCAL_HOSTS and not self.strict_https)
        )
        if not parts.hostname or (parts.scheme != "https" and not plain):
            raise ApiError(400, "INVALID_REQUEST", "'callback.url' must be an HTTPS URL.")
        if "when" not in callback and self.bug("callback-when-required"):
            raise ApiError(400, "INVALID_REQUEST", "'callback.when' is required.")
        if callback.get("when", "final") != "final" and not self.bug("callback-when-unknown-accepted"):
            raise ApiError(400, "INVALID_REQUEST", "'callback.when' must be 'final'.")

    # Tasks.

    def submit(self, payload: Any, key: str, base_url: str, idempotency_key: str | None) -> tuple[Task, bool]:
        """Create a task and start its worker; return it, and whether it is a replay."""
        if idempotency_key is None or self.bug("replay-new-task"):
            return self.create(payload, key, base_url), False
        limit = 64 if self.bug("key-long-refused") else 255
        if not 1 <= len(idempotency_key.encode("latin-1", "replace")) <= limit:
            raise ApiError(400, "INVALID_REQUEST", f"'Idempotency-Key' must have 1 to {limit} bytes.")
        name = idempotency_key[:32] if self.bug("key-long-cut") else idempotency_key
        slot = ("" if self.bug("key-shared") else key, name)
        wanted = json.dumps(payload, sort_keys=True)
        with self.lock:
            replay = self.replays.get(slot)
            lifetime = 1 if self.bug("key-forgotten") else KEY_SECONDS
            if replay is not None and time.monotonic() - replay.began < lifetime:
                if replay.payload == wanted or self.bug("mismatch-accepted"):
                    if replay.task is None or self.bug("replay-409"):
                        raise ApiError(409, "IDEMPOTENCY_KEY_PROCESSING", "in progress")
                    return replay.task, True
                self.refuse_mismatch()
            replay = Replay(wanted)
            if not self.bug("key-race-two-tasks"):
                self.replays[slot] = replay
        try:
            replay.task = self.create(payload, key, base_url)
        except BaseException:
            with self.lock:
                if self.replays.get(slot) is replay:
                    del self.replays[slot]
            raise
        if self.bug("key-race-two-tasks"):
            time.sleep(0.3)
            with self.lock:
                self.replays[slot] = replay
        return replay.task, False

    def refuse_mismatch(self) -> None:
        """Raise 422 for an idempotency key with another body."""
        if self.bug("mismatch-new-task"):
            return
        if self.bug("mismatch-400"):
            raise ApiError(400, "INVALID_REQUEST", "key reused")
        code = None if self.bug("mismatch-code-missing") else "IDEMPOTENCY_KEY_MISMATCH"
        raise ApiError(409 if self.bug("mismatch-409") else 422, code, "key reused")

    def create(self, payload: Any, key: str, base_url: str) -> Task:
        """Create a task and start its worker."""
        wish = self.wish(payload)
        twin = json.dumps([key, payload], sort_keys=True)
        task_id = str(uuid.uuid4()) if self.bug("submit-id-uuid") else new_task_id()
        with self.lock:
            if twin in self.twins and self.bug("duplicate-order-shared"):
                return self.twins[twin]
            task = Task(key, base_url, wish, self.latest, task_id)
            self.tasks[task.task_id] = self.twins[twin] = self.latest = task
        threading.Thread(target=self.work, args=(task,), daemon=True).start()
        return task

    def find(self, task_id: str, key: str | None) -> Task:
        """Return the caller's task, or any task if `key` is None; raise 404."""
        task = self.tasks.get(task_id)
        if task is None:
            raise ApiError(400 if self.bug("unknown-task-400") else 404, None, "not found")
        if key is not None and task.key != key and not self.bug("auth-other-key-reads"):
            raise ApiError(403 if self.bug("foreign-task-403") else 404, None, "not found")
        return task

    def page(self, key: str, query: str) -> dict[str, Any] | list[Any]:
        """Return a page of the caller's tasks, newest first; raise 400."""
        values = parse_qs(query, keep_blank_values=True)
        default = "5" if self.bug("list-default-size") else "20"
        page_text, size_text = values.get("page", ["1"])[-1], values.get("size", [default])[-1]
        for name, text in (("page", page_text), ("size", size_text)):
            if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1 or (name == "size" and int(text) > 100):
                raise ApiError(400, "INVALID_REQUEST", f"'{name}' is {text!r}; it must be an integer from 1.")
        page, size = int(page_text), int(size_text)
        with self.lock:
            own = [task for task in self.tasks.values() if task.key == key or self.bug("list-foreign")]
        if not self.bug("list-oldest-first"):
            own.reverse()
        first = (page if self.bug("list-page-from-zero") else page - 1) * size
        end = first + size
        if self.bug("list-size-ignored"):
            first, end = (page - 1) * 20, page * 20
        if self.bug("list-size-off-by-one"):
            end += 1
        if self.bug("list-item-twice") and first:
            first -= 1
        if self.bug("list-item-skipped") and first:
            first += 1
        listed = [] if self.bug("list-empty") else own[first:end]
        tasks = [self.view(task, "queued" if self.bug("list-stale-status") else None) for task in listed]
        if self.bug("list-bare"):
            return tasks
        return {
            "items" if self.bug("list-renamed") else "tasks": tasks,
            "page": page_text if self.bug("list-page-string") else 1 if self.bug("list-page-echo") else page,
            "size": size_text if self.bug("list-page-string") else size,
            "total": len(tasks) if self.bug("list-total-of-page") else len(own),
        }

    def work(self, task: Task) -> None:
        """Live a task's life: queue, handle, archive, end, notify."""
        began = time.monotonic()
        stages = ("archiving", "handling") if self.bug("stage-order") else ("handling", "archiving")
        time.sleep(QUEUED_SECONDS * self.pace)
        task.status = stages[0]
        if self.bug("callback-early") or self.bug("callback-only-start"):
            threading.Thread(target=self.notify, args=(task, self.view(task)), daemon=True).start()
        try:
            size = self.inspect(task)
            task.film = self.make_film(task, size)
        except ImageError as error:
            task.error = {"code": "TASK_FAILED", "message": str(error)}
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"ffmpeg failed: {error}", file=sys.stderr, flush=True)
            task.error = {"code": "TASK_FAILED", "message": "The generation failed."}
        time.sleep(max(0.0, began + (QUEUED_SECONDS + HANDLING_SECONDS) * self.pace - time.monotonic()))
        if self.bug("never-ends") or (task.error and self.bug("fail-never-ends")):
            return
        task.status = stages[1]
        time.sleep(ARCHIVING_SECONDS * self.pace)
        task.completed = int(time.time())
        end = "fail" if task.error else "success"
        if self.bug("callback-before-end"):
            threading.Thread(target=self.notify, args=(task, self.view(task, end)), daemon=True).start()
            time.sleep(1.5 * self.pace)
        task.status = end
        task.ended.set()
        self.finish(task)
        self.turn(task)

    def finish(self, task: Task) -> None:
        """Send the callbacks of an ended task."""
        failed = task.status == "fail"
        if self.bug("callback-only-start") or (failed and self.bug("callback-not-on-fail")):
            return
        if self.bug("callback-before-end"):
            return
        if self.bug("callback-late"):
            time.sleep(20 * self.pace)
            self.notify(task, self.view(task))
            return
        body = self.view(task)
        opposite = {**body, "status": "success" if failed else "fail"}
        if self.bug("callback-status-opposite"):
            body = opposite
        if self.bug("success-then-fail") or self.bug("fail-then-success"):
            threading.Thread(target=self.notify, args=(task, body), daemon=True).start()
            return
        self.notify(task, body)
        if self.bug("callback-twice-differs"):
            time.sleep(0.3 * self.pace)
            self.notify(task, opposite)

    def turn(self, task: Task) -> None:
        """Change the end of a task afterwards, which only two defects do."""
        if task.status == "success" and self.bug("success-then-fail"):
            time.sleep(self.pace)
            task.error = {"code": "TASK_TIMEOUT", "message": "The generation timed out."}
            task.status = "fail"
        elif task.status == "fail" and self.bug("fail-then-success"):
            time.sleep(self.pace)
            task.film = self.make_film(task, (1920, 1080))
            task.error = None
            task.status = "success"

    def inspect(self, task: Task) -> tuple[int, int]:
        """Return the size of the first frame; raise ImageError if it cannot be used."""
        if self.fail_marker and (self.fail_marker in task.image or self.fail_marker in task.prompt):
            if not self.bug("bad-image-succeeds"):
                raise ImageError("The image could not be processed.")
        host = urlsplit(task.image).hostname or ""
        try:
            if host.endswith(".invalid"):
                raise ImageError("The image could not be fetched: unknown host.")
            if host in LOCAL_HOSTS:
                return self.fetch(task.image)
        except ImageError:
            if not self.bug("bad-image-succeeds"):
                raise
        return 1920, 1080

    def fetch(self, url: str) -> tuple[int, int]:
        """Return the size of an image on a loopback host."""
        context = ssl._create_unverified_context() if url.startswith("https:") else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(url, timeout=5) as response:
                data = response.read(MAX_IMAGE + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ImageError(f"The image could not be fetched: {error}") from error
        if len(data) > MAX_IMAGE:
            raise ImageError("The image is larger than 20 MB.")
        try:
            width, height = measure(data)
        except ImageError:
            if self.bug("image-gif-accepted"):
                return 1920, 1080
            raise
        if min(width, height) < 300 and not self.bug("image-small-accepted"):
            raise ImageError(f"The image is {width}x{height}; the shortest side must be at least 300 pixels.")
        return max(width, 1), max(height, 1)

    def make_film(self, task: Task, size: tuple[int, int]) -> Path:
        """Return the task's video file, in the shape of its first frame."""
        lines = 720 if self.bug("media-resolution-low") else LINES[task.resolution]
        width, height = size
        longer = min(int(lines * max(width, height) / min(width, height) / 2 + 0.5) * 2, 4096)
        frame = (longer, lines) if width >= height else (lines, longer)
        seconds = task.seconds
        if self.bug("media-duration-fixed"):
            seconds = 5
        elif self.bug("media-one-second-long"):
            seconds += 1
        return self.rolls.film(*frame, seconds, self.bug("media-silent"), self.bug("media-one-frame"))

    def output(self, task: Task) -> Any:
        """Return the output of a successful task."""
        source = task.previous if self.bug("video-of-previous-task") and task.previous else task
        url = f"{task.base_url}/media/{source.task_id}.mp4"
        if self.bug("output-url-relative"):
            url = f"/media/{source.task_id}.mp4"
        if self.bug("output-null"):
            return None
        if self.bug("output-empty"):
            return []
        if self.bug("output-strings"):
            return [url]
        item: dict[str, Any] = {"url": url, "type": "clip" if self.bug("output-type-clip") else "video"}
        if task.storage != "persistent" and not self.bug("expire-missing"):
            item["expireAt"] = task.completed - 3600 if self.bug("expire-past") else task.completed + self.link_seconds
            if self.bug("expire-text"):
                item["expireAt"] = iso(item["expireAt"])
        if self.bug("output-url-renamed"):
            item["video_url"] = item.pop("url")
        return item if self.bug("output-object") else [item]

    def word(self, status: str) -> str:
        """Return a status as the wire names it."""
        words = {
            "stage-pending-word": ("queued", "pending"),
            "stage-running-word": ("handling", "running"),
            "stage-completed-word": ("success", "completed"),
            "stage-failed-word": ("fail", "failed"),
        }
        return next((new for name, (old, new) in words.items() if old == status and self.bug(name)), status)

    def view(self, task: Task, status: str | None = None) -> dict[str, Any]:
        """Return a task's data."""
        status = status or task.status
        route = task.route or ("standard" if self.bug("route-always-echoed") else None)
        if self.bug("route-not-echoed"):
            route = None
        created: Any = task.created
        if self.bug("created-text"):
            created = iso(created)
        if self.bug("created-milliseconds"):
            created *= 1000
        body: dict[str, Any] = {
            "taskId": task.task_id,
            "model": f"{MODEL}@{route}" if route else MODEL,
            "status": self.word(status),
            "created": created,
            "completed": task.completed,
        }
        if route:
            body["route"] = route
        if task.storage:
            body["storage"] = task.storage
        if status == "success":
            body["output"] = self.output(task)
            if self.bug("completed-zero-at-end"):
                body["completed"] = 0
            if self.bug("error-beside-success"):
                body["error"] = {"code": "TASK_FAILED", "message": "The generation failed."}
        elif status == "fail":
            body["error"] = task.error
            if self.bug("fail-error-missing"):
                del body["error"]
            if self.bug("fail-error-null"):
                body["error"] = None
            if self.bug("fail-error-empty"):
                body["error"] = {}
            if self.bug("fail-error-string"):
                body["error"] = (task.error or {}).get("message", "")
            if self.bug("fail-with-output"):
                body["output"] = self.output(task)
        else:
            body["completed"] = task.created if self.bug("completed-early") else 0
            if self.bug("completed-null"):
                body["completed"] = None
            if self.bug("completed-absent"):
                del body["completed"]
            if self.bug("output-before-success"):
                body["output"] = self.output(task)
        return body

    def polled(self, task: Task) -> dict[str, Any]:
        """Return the data that GET returns."""
        status = task.status
        if status == "handling":
            task.polls_handling += 1
            if task.polls_handling == 2 and self.bug("stage-backward"):
                status = "queued"
        if status == "success" and self.bug("success-then-handling"):
            if task.success_seen is None:
                task.success_seen = time.monotonic()
            elif time.monotonic() - task.success_seen < 2 * self.pace:
                status = "handling"
        if task.ended.is_set() and self.bug("task-gone-at-end"):
            raise ApiError(404, None, "not found")
        if status == "fail" and self.bug("fail-http-500"):
            raise ApiError(500, None, "internal server error")
        body = self.view(task, status)
        if status == "success" and task.success_seen is None and self.bug("output-late"):
            task.success_seen = time.monotonic()
            del body["output"]
        if self.bug("task-id-wrong"):
            body["taskId"] = new_task_id()
        if self.bug("task-id-missing"):
            del body["taskId"]
        if self.bug("status-renamed"):
            body["state"] = body.pop("status")
        if self.bug("status-capitalised"):
            body["status"] = body["status"].capitalize()
        return body

    # Callbacks.

    def notify(self, task: Task, body: dict[str, Any]) -> None:
        """Deliver a callback, five times at most."""
        if task.callback_url is None or self.bug("callback-never"):
            return
        first_signature: dict[str, str] = {}
        for attempt in itertools.count():
            data, content_type = self.callback_body(task, dict(body), attempt)
            signature = self.signature(data, attempt)
            if attempt == 0:
                first_signature = signature
            elif signature and self.bug("retry-signature-stale"):
                signature["X-HiAPI-Signature"] = first_signature["X-HiAPI-Signature"]
            status = self.post(task.callback_url, data, {"Content-Type": content_type, **signature})
            done = 200 <= status < 300 and not self.bug("retry-after-success")
            done = done or self.bug("retry-never")
            done = done or (400 <= status < 500 and self.bug("retry-not-on-400"))
            done = done or (300 <= status < 400 and self.bug("retry-not-on-redirect"))
            if done or attempt == len(CALLBACK_DELAYS):
                return
            time.sleep(CALLBACK_DELAYS[attempt] * self.retry_scale)

    def callback_body(self, task: Task, body: dict[str, Any], attempt: int) -> tuple[bytes, str]:
        """Return a callback's body and its type."""
        if self.bug("callback-id-missing"):
            del body["taskId"]
        if self.bug("callback-id-wrong") or (attempt and self.bug("retry-new-id")):
            body["taskId"] = new_task_id()
        if self.bug("callback-status-handling"):
            body["status"] = "handling"
        if attempt and self.bug("retry-other-status"):
            body["status"] = "success" if body["status"] == "fail" else "fail"
        if self.bug("callback-output-missing"):
            body.pop("output", None)
        if self.bug("callback-error-missing"):
            body.pop("error", None)
        if self.bug("callback-expire-day"):
            for item in body.get("output", []):
                item["expireAt"] = body["completed"] + 86400
        if self.bug("callback-completed-zero"):
            body["completed"] = 0
        if self.bug("callback-model-missing"):
            del body["model"]
        if self.bug("callback-enveloped"):
            body = {"code": 200, "message": "success", "data": body}
        if self.bug("callback-form-body"):
            form = f"taskId={task.task_id}&status={task.status}"
            return form.encode(), "application/x-www-form-urlencoded"
        if self.bug("callback-empty-body") or (attempt and self.bug("retry-empty-body")):
            return b"", "application/json"
        return json.dumps(body).encode(), "application/json"

    def signature(self, data: bytes, attempt: int) -> dict[str, str]:
        """Return the headers that sign a callback, none without a secret."""
        if not self.secret or (attempt and self.bug("retry-unsigned")):
            return {}
        seconds = int(time.time())
        if self.bug("timestamp-old"):
            seconds -= 3600
        if attempt and self.bug("retry-timestamp-wrong"):
            seconds -= 600
        stamp = str(seconds)
        if self.bug("timestamp-milliseconds"):
            stamp += "000"
        if self.bug("timestamp-text"):
            stamp = iso(seconds)
        secret = (self.secret + "-other" if self.bug("signature-wrong-secret") else self.secret).encode()
        if self.bug("signature-other-bytes"):
            data = data.replace(b'": ', b'":').replace(b', "', b',"')
        if self.bug("signature-constant"):
            data = b""
        signed = stamp.encode() + (b":" if self.bug("signature-colon") else b".") + data
        if self.bug("signature-body-only"):
            signed = data
        digest = hmac.new(secret, signed, "sha1" if self.bug("signature-sha1") else "sha256").digest()
        if self.bug("signature-plain-hash"):
            digest = hashlib.sha256(secret + signed).digest()
        text = base64.b64encode(digest).decode() if self.bug("signature-base64") else digest.hex()
        if self.bug("signature-prefix"):
            text = f"sha256={text}"
        if self.bug("timestamp-not-signed"):
            stamp = str(seconds + 1)
        headers = {"X-HiAPI-Timestamp": stamp, "X-HiAPI-Signature": text}
        if self.bug("signature-missing"):
            del headers["X-HiAPI-Signature"]
        if self.bug("timestamp-missing"):
            del headers["X-HiAPI-Timestamp"]
        return headers

    def post(self, url: str, data: bytes, headers: dict[str, str]) -> int:
        """Post to a callback URL on a loopback host; return the response's status, 0 if there is none."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in LOCAL_HOSTS:
            print(f"callback to {host} is not sent: not a loopback host", file=sys.stderr, flush=True)
            return 204
        target = parts.path or "/"
        if parts.query and not self.bug("callback-query-dropped"):
            target += f"?{parts.query}"
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=10, context=context)
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=10)
        try:
            connection.request("POST", target, data, {**headers, "User-Agent": "HiAPI-Callback/1.0"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class Handler(BaseHTTPRequestHandler):
    """The HTTP side. Subclassed per server, so that `provider` is set."""

    protocol_version = "HTTP/1.1"
    server_version = "HiAPI"
    sys_version = ""
    timeout = 60
    provider: Provider

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        """Answer GET."""
        self.answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def answer(self) -> None:
        """Answer any request; turn errors into JSON."""
        try:
            raw = self.read_body()
            path = urlsplit(self.path).path
            if path == "/v1/tasks":
                self.need("GET", "POST")
                self.submit(raw) if self.command == "POST" else self.show_list()
            elif re.fullmatch(r"/v1/tasks/[^/]+/cancel", path) and self.provider.bug("cancel-exists"):
                self.need("POST")
                self.send_data(None)
            elif match := re.fullmatch(r"/v1/tasks/([^/]+)", path):
                self.need("POST" if self.provider.bug("task-poll-by-post") else "GET")
                self.show(match.group(1))
            elif match := re.fullmatch(r"/media/([^/]+)\.mp4", path):
                self.need("GET", "HEAD")
                self.media(match.group(1))
            else:
                raise ApiError(404, None, "not found")
        except ApiError as error:
            self.send_error_body(error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def need(self, *methods: str) -> None:
        """Raise 405 for other methods."""
        if self.command not in methods:
            raise ApiError(405, None, "method not allowed")

    def read_body(self) -> bytes:
        """Return the request's body."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise ApiError(411, None, "length required")
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            if length.isdigit():
                raise ApiError(413, None, "body too large")
            raise ApiError(400, "INVALID_REQUEST", "invalid Content-Length")
        return self.rfile.read(int(length))

    def send_bytes(
        self,
        status: int,
        data: bytes,
        content_type: str,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a response; `length` overrides Content-Length and closes the connection."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None or self.close_connection:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def envelope(self, data: Any) -> Any:
        """Return a successful response's body."""
        bug = self.provider.bug
        if bug("envelope-missing"):
            return data
        if bug("envelope-data-list"):
            data = [data]
        code: Any = "200" if bug("envelope-code-string") else 0 if bug("envelope-code-zero") else 200
        if bug("fail-envelope-500") and isinstance(data, dict) and data.get("status") == "fail":
            code = 500
        message = "ok" if bug("envelope-message-ok") else "success"
        return {"code": code, "message": message, "result" if bug("envelope-data-renamed") else "data": data}

    def send_data(self, data: Any, headers: dict[str, str] | None = None) -> None:
        """Send a successful response."""
        body = json.dumps(self.envelope(data)).encode()
        self.send_bytes(200, body, "application/json", headers=headers)

    def send_error_body(self, error: ApiError) -> None:
        """Send an error response."""
        bug = self.provider.bug
        status, body = error.http_status, error.body()
        if error.error_code in ("INVALID_REQUEST", "MODEL_UNAVAILABLE"):
            for other in (200, 422, 500):
                if bug(f"invalid-order-{other}"):
                    status = body["code"] = other
        if bug("error-code-missing"):
            body.pop("error_code", None)
        if bug("error-code-lower-case") and "error_code" in body:
            body["error_code"] = body["error_code"].lower()
        if bug("error-body-code-200"):
            body["code"] = 200
        if bug("error-data-object"):
            body["data"] = {}
        if bug("error-nested"):
            body = {"error": {"code": error.error_code or str(status), "message": error.message}}
        if status == 401 and bug("unauthorized-plain-text"):
            self.send_bytes(status, b"unauthorized", "text/plain; charset=utf-8")
            return
        headers = {"Retry-After": "1"} if error.error_code == "IDEMPOTENCY_KEY_PROCESSING" else None
        self.send_bytes(status, json.dumps(body).encode(), "application/json", headers=headers)

    def key(self) -> str:
        """Return the request's key; raise 401."""
        return self.provider.key_of(self.headers.get("Authorization"), self.headers.get("X-API-Key"))

    def submit(self, raw: bytes) -> None:
        """Create a task."""
        provider = self.provider
        key = self.key()
        try:
            payload = json.loads(raw)
        except (ValueError, RecursionError):
            raise ApiError(400, "INVALID_REQUEST", "The body is not valid JSON.") from None
        host = self.headers.get("Host") or f"127.0.0.1:{provider.port}"
        task, replayed = provider.submit(payload, key, f"http://{host}", self.headers.get("Idempotency-Key"))
        if provider.bug("submit-waits"):
            task.ended.wait(60)
        body: dict[str, Any] = {"taskId": task.task_id}
        if replayed and provider.bug("replay-body-status"):
            body = provider.view(task)
        if provider.bug("submit-id-snake-case"):
            body["task_id"] = body.pop("taskId")
        if provider.bug("submit-id-missing"):
            body = {"status": task.status}
        if provider.bug("submit-id-null"):
            body["taskId"] = None
        if provider.bug("submit-id-differs"):
            body["taskId"] = new_task_id()
        marked = (replayed and not provider.bug("replay-header-missing")) or provider.bug("replay-header-always")
        self.send_data(body, {"Idempotent-Replay": "true"} if marked else None)

    def show_list(self) -> None:
        """Return a page of tasks."""
        key = self.key()
        if self.provider.bug("list-missing"):
            raise ApiError(404, None, "not found")
        self.send_data(self.provider.page(key, urlsplit(self.path).query))

    def show(self, task_id: str) -> None:
        """Return a task."""
        provider = self.provider
        key = None if provider.bug("auth-detail-open") else self.key()
        try:
            body = provider.polled(provider.find(task_id, key))
        except ApiError as error:
            if not (error.http_status == 404 and provider.bug("unknown-task-200")):
                raise
            body = {"taskId": task_id, "model": MODEL, "status": "queued", "created": int(time.time()), "completed": 0}
        if provider.bug("task-html"):
            page = f"<!doctype html><html><body><pre>{json.dumps(self.envelope(body))}</pre></body></html>"
            self.send_bytes(200, page.encode(), "text/html; charset=utf-8")
        elif provider.bug("task-plain-text"):
            self.send_bytes(200, json.dumps(self.envelope(body)).encode(), "text/plain; charset=utf-8")
        else:
            self.send_data(body)

    def media(self, task_id: str) -> None:
        """Return a task's video file."""
        provider = self.provider
        task = provider.tasks.get(task_id)
        if task is None or task.film is None or provider.bug("media-404"):
            raise ApiError(404, None, "not found")
        if task.completed and task.storage != "persistent" and time.time() > task.completed + provider.link_seconds:
            raise ApiError(404, None, "the link has expired")
        if provider.bug("media-hangs"):
            time.sleep(3600)
        data = task.film.read_bytes()
        if provider.bug("media-html"):
            self.send_bytes(200, b"<html><body>Please log in to see this video.</body></html>", "video/mp4")
        elif provider.bug("media-still"):
            self.send_bytes(200, STILL, "image/png")
        elif provider.bug("media-truncated"):
            self.send_bytes(200, data[: len(data) // 2], "video/mp4")
        elif provider.bug("media-length-long"):
            self.send_bytes(200, data, "video/mp4", len(data) + 1000)
        else:
            self.send_bytes(200, data, "video/mp4")


class Server(ThreadingHTTPServer):
    """The listening server."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors other than a client that went away."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, socket.timeout)):
            super().handle_error(request, client_address)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="Fake HiAPI server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8102)
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        help="an accepted API key (repeatable); default: any key that does not begin with 'wrong-'",
    )
    parser.add_argument("--defect", choices=sorted(NAMES), metavar="NAME", help="run with one defect; see --defects")
    parser.add_argument("--defects", action="store_true", help="print all defects and exit")
    parser.add_argument("--chosen", action="store_true", help="print the names of the chosen defects and exit")
    parser.add_argument("--further", action="store_true", help="print the names of the further defects and exit")
    parser.add_argument(
        "--callback-secret", metavar="S", help="sign callbacks with this secret of 16 to 256 characters"
    )
    parser.add_argument(
        "--retry-scale", type=float, default=0.3, metavar="X", help="scale of the callback delays 1, 2, 4 and 8 s"
    )
    parser.add_argument("--link-seconds", type=int, default=604800, metavar="N", help="life of a video link")
    parser.add_argument("--pace", type=float, default=1.0, help="scale of a task's 1.5 seconds")
    parser.add_argument(
        "--strict-https", action="store_true", help="refuse plain HTTP callbacks also to loopback hosts"
    )
    parser.add_argument(
        "--fail-marker", default="simulate-failure", help="text in the prompt or image URL that makes the task fail"
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the video files for the next start")
    options = parser.parse_args()
    if options.defects:
        for defect in DEFECTS:
            print(f"{defect.name}: {defect.sentence}")
        return
    if options.chosen:
        print("\n".join(defect.name for defect in CHOSEN))
        return
    if options.further:
        print("\n".join(defect.name for defect in FURTHER))
        return
    if options.callback_secret is not None and not 16 <= len(options.callback_secret) <= 256:
        parser.error("--callback-secret must have 16 to 256 characters")
    provider = Provider(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        provider.rolls.film(1280, 720, 5)
        provider.rolls.film(1920, 1080, 5)
        handler = type("BoundHandler", (Handler,), {"provider": provider})
        with Server(("127.0.0.1", options.port), handler) as server:
            print("ready", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        if provider.rolls.temporary:
            shutil.rmtree(provider.rolls.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
