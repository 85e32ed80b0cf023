"""Fake RunComfy server (Starlette and uvicorn), written from the API documents only.

Sources: the pages of the models, and the other documents that the contract names.

Routes::

    POST /v1/models/happyhorse/happyhorse-1.0/{image,reference,text}-to-video     (also under happyhorse-1-0)
    GET  /v1/requests/{request_id}/status
    GET  /v1/requests/{request_id}/result         (?include_cost=true)
    POST /v1/requests/{request_id}/cancel
    GET  /v1/models, /v1/models/categories, /v1/models/{model_id}
    GET  /prod/v2/balance
    GET  /files/{request_id}/output.mp4          (no key: a video link is public)

A job's stage follows from its age: 0.6 s in the queue, then 0.9 s in progress, both scaled by `--pace`. A job fails
(status `completed`, result `failed`) if its image cannot be fetched, or if its prompt or an image URL contains the
`--fail-marker` text (`simulate-failure`).

Decisions the documents leave open:

- Errors are `{"error_code", "error_message"}`. A missing or unknown key is HTTP 400 with code 400004 (`--auth-status
  401` changes the HTTP status). An unknown model is 400 with 400001, another key's job 403 with 403001, an unknown job
  404 with 404001. A body that is not JSON is 400. An invalid order is 422 with code 422001, `message` and `detail`.
- A failed result has a string as `error`. A cancelled one has `request_id` and `status` only. Cancelling twice returns
  the same response twice.
- `created_at` and `finished_at` are ISO 8601. `queue_position` starts at 1. Prices: 0.14 USD a second in 720P, 0.28 in
  1080P; `cost` is given for succeeded jobs only.
- The catalogue's default limit is 50. Names of `category` and `kind` must match exactly, `search` is a substring.
- An image that was fetched, but has a wrong format or size, is refused at submission with 422.
- The image-to-video prompt is truncated above its limit ("longer input is truncated"). The reference-to-video prompt
  is refused above its limit (its document does not speak of truncation). A Chinese character counts as two.
- Only images on a loopback host and `data:` URIs are measured. Other hosts are taken as good, except the reserved
  `.invalid`, which cannot be fetched. Plain HTTP is refused, except to a loopback host (unless `--strict-https`).
- A whole float such as `5.0` is an integer, as in JSON Schema. Unknown members are ignored.
- Links do not expire. Video links are on this server's host, not on `*.runcomfy.net`.
- video-edit and the 1.1 models are unknown models here: their schemas are not documented.

RunComfy has neither callbacks nor idempotency keys: `--callback-secret` and `--retry-scale` are accepted and ignored.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import json
import math
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import imageio_ffmpeg
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

I2V = "runcomfy-happyhorse-1.0-image-to-video.txt"
R2V = "runcomfy-happyhorse-1.0-reference-to-video.txt"
PAGE = "the documents that the contract names"


@dataclass(frozen=True)
class Defect:
    """One deliberate bug, and the document's sentence that it breaks.

    `basis` is "direct" if the sentence states the opposite, "implied" if it only follows from the sentence, or if the
    sentence is from a source other than the provider.
    """

    name: str
    group: str
    sentence: str
    document: str
    quote: str
    basis: str = "direct"


# Sentences that more than one defect breaks, verbatim (white space folded).
Q_STATES = 'Fetch the current state for a request_id ("in_queue", "in_progress", "completed", or "cancelled").'
Q_SUBMIT = (
    "Submit an asynchronous generation job and immediately receive a request_id plus URLs to check status, "
    "fetch results, and cancel."
)
Q_RESULT = (
    "Retrieve the final outputs and metadata for the given request_id; if the job is not complete, the "
    "response returns the current state so you can continue polling."
)
Q_CANCEL = "Cancel a queued job by request_id; in-progress jobs cannot be cancelled."
Q_CANCEL_CALL = "curl --request POST \\ --url https://model-api.runcomfy.net/v1/requests/{request_id}/cancel"
Q_AUTH = (
    "include it on every request as a Bearer token via the Authorization header: Authorization: Bearer $YOUR_API_TOKEN."
)
Q_REQUIRED = '"required": [ "image_url", "prompt" ]'
Q_REQUIRED_R2V = '"required": [ "image_url_1", "prompt" ]'
Q_DURATION = "Output video duration in seconds. Allowed values: 3–15."
Q_DURATION_TYPE = 'Output video duration in seconds. Allowed values: 3–15.", "type": "integer"'
Q_RESOLUTION = "Output video resolution. HappyHorse 1.0 I2V supports 720P or 1080P."
Q_SEED = '"type": "integer", "minimum": 0, "maximum": 2147483647'
Q_SEED_ZERO = "Use 0 to let the provider randomize."
Q_WATERMARK = 'Whether to keep the provider watermark on the generated video.", "type": "boolean"'
Q_PROMPT = "Up to 5000 non-Chinese characters or 2500 Chinese characters (longer input is truncated)."
Q_PROMPT_R2V = "Max 2 500 caractères chinois / 5 000 caractères non chinois."
Q_ASPECT = '"enum": [ "16:9", "9:16", "1:1", "4:3", "3:4" ]'
Q_EMPTY_SLOT = (
    "Sixième image de référence facultative. Marquez ce sujet dans l'invite comme caractère6. Laissez vide pour sauter."
)
Q_NINTH = "Neuvième image de référence facultative."
Q_FORMATS = "Formats: JPEG, JPG, PNG, or WEBP."
Q_HTTPS = "Provide a publicly reachable HTTPS URL."
Q_MIN_SIDE = "Min 300px per side; aspect between 1:2.5 and 2.5:1; max 10MB."
Q_VIDEO = '"video": { "type": "string", "format": "uri", "description": "single video URL" }'
Q_VIDEOS = '"videos": { "type": "array", "description": "multiple video URLs"'
Q_OUTPUT = '"output": { "type": "object", "properties"'
Q_DEFAULT_DURATION = '14, 15 ], "default": 5'
Q_DEFAULT_RESOLUTION = '"enum": [ "720P", "1080P" ], "default": "1080P"'
Q_LENGTHS = "Animate any uploaded photo into 3–15s 720P or 1080P video"
Q_RATIO_R2V = "Rapport d’aspect de la vidéo de sortie."
Q_JSON = '--header "Content-Type: application/json"'


# Sentences of the other documents.
P_SUBMIT = "Submit, HTTP **200** "
P_SUBMIT_URLS = (
    '"status_url": "https://model-api.runcomfy.net/v1/requests/{request_id}/status", '
    '"result_url": "https://model-api.runcomfy.net/v1/requests/{request_id}/result", "cancel_url"'
)
P_ID = "`request_id` matches `^[a-zA-Z0-9_-]{1,128}$` (client-side check of official nodes)"
P_REDIRECT = "the official client does not follow redirects (`allow_redirects=False`), a 3xx is an error for it"
P_POSITION = "`queue_position` is present only for `in_queue`."
P_POSITION_TYPE = '"status": "in_queue", "queue_position": 3,'
P_NO_CANCEL_URL = "`cancel_url` is **not** in the status body."
P_STATUS_URLS = "CLI struct: `{request_id, status, queue_position?, status_url?, result_url?}`."
P_RESULT_WORDS = (
    "`status` of the **result**: one of `succeeded`, `failed`, `in_queue`, `in_progress`, `cancelled`; `output` "
    "present only when `succeeded`; `created_at`, `finished_at` strings (format not given)."
)
P_COST = "with `?include_cost=true` a numeric `cost` (USD) is added"
P_NOT_READY = "Not ready, HTTP 200:"
P_202 = 'Cancel, HTTP **202** ("Successful requests return a 202 Accepted").'
P_OUTCOME = (
    "`outcome`: `cancelled` if accepted; `not_cancellable` if already in progress or completed. "
    '"Already completed or terminated requests will be no-ops.".'
)
P_ONLY_QUEUED = "Only queued jobs can be cancelled."
P_NO_FAILED = '**The status endpoint has no failed state.** Failure is only visible as `result.status = "failed"` '
P_STATES = "Status endpoint: `in_queue -> in_progress -> completed` or `in_queue -> cancelled`."
P_400001 = "| 400001 | InvalidResourceIdentifier | wrong / malformed `model_id` |"
P_400004 = "| 400004 | UserAccountError | missing or expired token, revoked credentials, inactive account |"
P_403001 = "| 403001 | PermissionDeniedError | `request_id` belongs to another user |"
P_404001 = "| 404001 | ResourceNotFound | nonexistent, deleted or expired `request_id` |"
P_CATALOGUE = "`GET /v1/models?search=&category=&kind=&include_schema=&limit=&offset=` | catalogue"
P_ENTRY = "`GET /v1/models/{model_id}` | one catalogue entry (price)"
P_CATALOGUE_BODY = '{"models":[{"model_id":"happyhorse/happyhorse-1.0/image-to-video"'
P_PRICE = '`base_price_usd` a JSON number (official client rejects null, bool, negative, NaN, and the string `"0.57"`).'
P_UNIT = '`price_unit` is `"second"` or `"output"`;'
P_SCHEMA = "`input_schema` only with `include_schema`."
P_CATEGORIES = 'Categories: `{"categories":["..."]}`.'
P_BALANCE = 'Balance: `{"balance_usd":12.34,"currency":"USD"}`.'
P_IDEMPOTENCY = "Idempotency: none"

DEFECTS: list[Defect] = [
    # Input validation.
    Defect(
        "missing-prompt-accepted", "validation", "Image-to-video accepts an order without a prompt.", I2V, Q_REQUIRED
    ),
    Defect(
        "missing-image-accepted", "validation", "Image-to-video accepts an order without image_url.", I2V, Q_REQUIRED
    ),
    Defect(
        "reference-missing-image-accepted",
        "validation",
        "Reference-to-video accepts an order without image_url_1.",
        R2V,
        Q_REQUIRED_R2V,
    ),
    Defect(
        "duration-16-accepted", "validation", "A duration of 16 is accepted (upper bound off by one).", I2V, Q_DURATION
    ),
    Defect(
        "duration-2-accepted", "validation", "A duration of 2 is accepted (lower bound off by one).", I2V, Q_DURATION
    ),
    Defect("duration-15-refused", "validation", "The allowed duration 15 is refused.", I2V, Q_DURATION),
    Defect("duration-string-accepted", "validation", 'The string "5" is accepted as a duration.', I2V, Q_DURATION_TYPE),
    Defect(
        "duration-fraction-accepted",
        "validation",
        "A fraction such as 5.5 is accepted as a duration and rounded down.",
        I2V,
        Q_DURATION_TYPE,
    ),
    Defect(
        "resolution-case-accepted",
        "validation",
        'A resolution in other case, such as "1080p", is accepted.',
        I2V,
        Q_DEFAULT_RESOLUTION,
    ),
    Defect(
        "resolution-unknown-accepted",
        "validation",
        'Any string is accepted as a resolution, such as "4K".',
        I2V,
        Q_RESOLUTION,
    ),
    Defect("resolution-720-refused", "validation", 'The allowed resolution "720P" is refused.', I2V, Q_RESOLUTION),
    Defect(
        "resolution-required",
        "validation",
        "An order without a resolution is refused, although it has a default.",
        I2V,
        Q_DEFAULT_RESOLUTION,
    ),
    Defect("seed-max-refused", "validation", "The largest allowed seed, 2147483647, is refused.", I2V, Q_SEED),
    Defect("seed-overflow-accepted", "validation", "A seed above 2147483647 is accepted.", I2V, Q_SEED),
    Defect("seed-negative-accepted", "validation", "A negative seed is accepted.", I2V, Q_SEED),
    Defect("seed-zero-refused", "validation", "The seed 0 is refused as if it were missing.", I2V, Q_SEED_ZERO),
    Defect(
        "watermark-string-accepted",
        "validation",
        'The string "true" is accepted as a watermark flag.',
        I2V,
        Q_WATERMARK,
    ),
    Defect("prompt-limit-refused", "validation", "A prompt of exactly 5000 characters is refused.", I2V, Q_PROMPT),
    Defect(
        "reference-prompt-over-limit-accepted",
        "validation",
        "Reference-to-video accepts a prompt of more than 5000 characters.",
        R2V,
        Q_PROMPT_R2V,
    ),
    Defect(
        "reference-aspect-unknown-accepted",
        "validation",
        'Reference-to-video accepts an aspect_ratio outside its list, such as "21:9".',
        R2V,
        Q_ASPECT,
    ),
    Defect(
        "reference-aspect-portrait-refused",
        "validation",
        'Reference-to-video refuses the allowed aspect_ratio "3:4".',
        R2V,
        Q_ASPECT,
    ),
    Defect(
        "reference-empty-slot-refused",
        "validation",
        "Reference-to-video refuses an empty optional image URL.",
        R2V,
        Q_EMPTY_SLOT,
    ),
    Defect("reference-ninth-image-refused", "validation", "Reference-to-video refuses image_url_9.", R2V, Q_NINTH),
    Defect(
        "image-gif-accepted",
        "validation",
        "An image URL that ends in .gif (or .bmp, .tiff) is accepted.",
        I2V,
        Q_FORMATS,
    ),
    Defect("image-webp-refused", "validation", "An image URL that ends in .webp is refused.", I2V, Q_FORMATS),
    Defect(
        "image-http-accepted", "validation", "An image URL with plain HTTP or another scheme is accepted.", I2V, Q_HTTPS
    ),
    Defect(
        "image-small-accepted",
        "validation",
        "An image with a side below 300 pixels is accepted (loopback hosts).",
        I2V,
        Q_MIN_SIDE,
    ),
    # Lifecycle.
    Defect("stage-word-queued", "lifecycle", 'The first stage is named "queued".', I2V, Q_STATES),
    Defect("stage-upper-case", "lifecycle", 'Stages are in upper case, such as "IN_QUEUE".', I2V, Q_STATES),
    Defect(
        "stage-after-completed",
        "lifecycle",
        "After completed has been reported, status polls report in_progress.",
        I2V,
        Q_STATES,
        "implied",
    ),
    Defect(
        "result-stage-ahead",
        "lifecycle",
        "The result of an unfinished job says completed, without output.",
        I2V,
        Q_RESULT,
    ),
    Defect(
        "result-early-output", "lifecycle", "The result of an unfinished job already has its output.", I2V, Q_RESULT
    ),
    Defect(
        "result-early-404", "lifecycle", "The result of an unfinished job is 404 instead of its state.", I2V, Q_RESULT
    ),
    Defect("never-completes", "lifecycle", "Jobs stay in_progress forever.", I2V, Q_STATES, "implied"),
    Defect("submit-waits", "lifecycle", "Submission answers only after the job has ended.", I2V, Q_SUBMIT),
    Defect(
        "stage-failed-word",
        "lifecycle",
        'Every job that succeeds ends its status in the undocumented stage "failed".',
        I2V,
        Q_STATES,
    ),
    Defect(
        "stage-succeeded-word",
        "lifecycle",
        'The status of a completed job says "succeeded", the word of the result.',
        I2V,
        Q_STATES,
    ),
    Defect(
        "stage-backward",
        "lifecycle",
        "After in_progress has been reported, the next poll reports in_queue once.",
        PAGE,
        P_STATES,
    ),
    Defect(
        "result-lags",
        "lifecycle",
        "The result still says in_progress for 3 s after status says completed.",
        I2V,
        Q_RESULT,
        "implied",
    ),
    Defect(
        "result-word-completed", "lifecycle", 'The result of a succeeded job says "completed".', PAGE, P_RESULT_WORDS
    ),
    Defect("result-early-202", "lifecycle", "The result of an unfinished job is HTTP 202.", PAGE, P_NOT_READY),
    Defect(
        "idempotency-key-shared",
        "lifecycle",
        "A second order with the same Idempotency-Key header gets the first job.",
        PAGE,
        P_IDEMPOTENCY,
        "implied",
    ),
    Defect(
        "duplicate-order-shared",
        "lifecycle",
        "An order equal to an earlier one gets the earlier job's request_id.",
        I2V,
        Q_SEED_ZERO,
        "implied",
    ),
    # Failures.
    Defect("failed-status-word", "failures", 'The status of a failed job says "failed".', PAGE, P_NO_FAILED),
    Defect(
        "failed-as-succeeded",
        "failures",
        "The result of a failed job says succeeded, with a video.",
        PAGE,
        P_NO_FAILED,
        "implied",
    ),
    Defect(
        "failed-with-output", "failures", "The result of a failed job has an output with a video.", PAGE, P_RESULT_WORDS
    ),
    Defect(
        "failed-as-cancelled", "failures", "Status and result of a failed job say cancelled.", PAGE, P_STATES, "implied"
    ),
    Defect("failed-word-error", "failures", 'The result of a failed job says "error".', PAGE, P_RESULT_WORDS),
    Defect("failed-word-completed", "failures", 'The result of a failed job says "completed".', PAGE, P_RESULT_WORDS),
    Defect(
        "failed-never-ends",
        "failures",
        "A job that cannot succeed stays in_progress forever.",
        PAGE,
        P_NO_FAILED,
        "implied",
    ),
    Defect(
        "failed-result-running", "failures", "The result of a failed job says in_progress forever.", PAGE, P_NO_FAILED
    ),
    Defect("failed-result-500", "failures", "The result of a failed job is HTTP 500.", PAGE, P_NO_FAILED, "implied"),
    # Members.
    Defect(
        "submit-id-renamed", "members", "The submission's response has requestId instead of request_id.", I2V, Q_SUBMIT
    ),
    Defect(
        "submit-id-cut",
        "members",
        "The submission's request_id is cut to eight characters; no route knows it.",
        I2V,
        Q_SUBMIT,
    ),
    Defect("submit-cancel-url-missing", "members", "The submission's response has no URL to cancel.", I2V, Q_SUBMIT),
    Defect(
        "submit-status-url-broken",
        "members",
        "The submission's URL to check status lacks /v1 and is 404.",
        I2V,
        Q_SUBMIT,
    ),
    Defect(
        "status-id-wrong",
        "members",
        "The status response carries a request_id other than the requested one.",
        I2V,
        Q_STATES,
        "implied",
    ),
    Defect("status-word-missing", "members", "The status response has no status member.", I2V, Q_STATES),
    Defect("result-video-missing", "members", "The output of a completed job is an empty object.", I2V, Q_RESULT),
    Defect("result-video-null", "members", "The output's video is null.", I2V, Q_VIDEO),
    Defect("result-video-object", "members", "The output's video is an object with a url member.", I2V, Q_VIDEO),
    Defect("result-video-relative", "members", "The output's video is a path without scheme and host.", I2V, Q_VIDEO),
    Defect("result-videos-string", "members", "The output has a videos member that is a string.", I2V, Q_VIDEOS),
    Defect("result-output-list", "members", "The output is an array of objects.", I2V, Q_OUTPUT),
    Defect(
        "result-id-wrong", "members", "The result carries a request_id other than the requested one.", I2V, Q_RESULT
    ),
    Defect(
        "result-error-beside-output",
        "members",
        "The result of a completed job has an error beside its output.",
        I2V,
        Q_RESULT,
        "implied",
    ),
    Defect(
        "result-times-reversed",
        "members",
        "The result's finished_at lies before its created_at.",
        I2V,
        Q_RESULT,
        "implied",
    ),
    Defect("result-other-video", "members", "The result links the video of the job submitted before.", I2V, Q_RESULT),
    Defect("submit-id-colon", "members", 'The request_id has the form "req:..." with a colon.', PAGE, P_ID),
    Defect("status-cancel-url", "members", "The status response has a cancel_url.", PAGE, P_NO_CANCEL_URL),
    Defect("queue-position-always", "members", "The status has queue_position in every stage.", PAGE, P_POSITION),
    Defect("queue-position-string", "members", "queue_position is a string.", PAGE, P_POSITION_TYPE),
    Defect(
        "queue-position-missing",
        "members",
        "The status of a queued job has no queue_position.",
        PAGE,
        P_POSITION,
        "implied",
    ),
    Defect("status-urls-missing", "members", "The status response has no URLs.", PAGE, P_STATUS_URLS, "implied"),
    Defect("result-time-number", "members", "created_at and finished_at are numbers.", PAGE, P_RESULT_WORDS),
    Defect(
        "cost-missing",
        "members",
        "The result has no cost, although include_cost=true is requested.",
        PAGE,
        P_COST,
        "implied",
    ),
    Defect("cost-string", "members", "The cost is a string.", PAGE, P_COST),
    # Statuses and headers.
    Defect(
        "invalid-order-200",
        "statuses",
        "An invalid order is answered 200 with an error body.",
        I2V,
        Q_DURATION,
        "implied",
    ),
    Defect("status-500-at-end", "statuses", "The status of a completed job is HTTP 500.", I2V, Q_STATES),
    Defect("result-html", "statuses", "The result is an HTML page of type text/html.", I2V, Q_RESULT, "implied"),
    Defect("status-plain-text", "statuses", "The status is JSON of type text/plain.", I2V, Q_JSON, "implied"),
    Defect("submit-201", "statuses", "Submission returns HTTP 201.", PAGE, P_SUBMIT),
    Defect(
        "unknown-request-in-queue",
        "statuses",
        "An unknown request_id is 200 and in_queue instead of an error.",
        PAGE,
        P_404001,
    ),
    Defect("unknown-request-403", "statuses", "An unknown request_id is 403 with code 403001.", PAGE, P_404001),
    Defect("unknown-request-400", "statuses", "An unknown request_id is 400 with code 400001.", PAGE, P_404001),
    Defect("foreign-request-404", "statuses", "Another key's job is 404 with code 404001.", PAGE, P_403001),
    Defect("unknown-model-accepted", "statuses", "An order to any model path is accepted.", PAGE, P_400001),
    Defect("unknown-model-code", "statuses", "An unknown model is refused with code 404001.", PAGE, P_400001),
    Defect(
        "result-redirect",
        "statuses",
        "The result of a completed job is a redirect to the video.",
        PAGE,
        P_REDIRECT,
        "implied",
    ),
    # Authentication.
    Defect(
        "auth-status-open", "auth", "Status works without a key or with an unknown one, for every job.", I2V, Q_AUTH
    ),
    Defect(
        "auth-result-open", "auth", "Result works without a key or with an unknown one, for every job.", I2V, Q_AUTH
    ),
    Defect(
        "auth-cancel-open", "auth", "Cancel works without a key or with an unknown one, for every job.", I2V, Q_AUTH
    ),
    Defect("auth-submit-open", "auth", "Submission works without a key or with an unknown one.", I2V, Q_AUTH),
    Defect(
        "auth-cancel-refuses-key", "auth", "Cancel refuses a good Bearer key; it reads X-API-Key only.", I2V, Q_AUTH
    ),
    Defect("auth-wrong-key-accepted", "auth", "Every non-empty key is accepted, also an unknown one.", PAGE, P_400004),
    Defect("auth-scheme-ignored", "auth", "The key is accepted under any scheme, such as Basic, or bare.", I2V, Q_AUTH),
    Defect("auth-other-key-reads", "auth", "Another key's job is readable.", PAGE, P_403001),
    Defect("auth-other-key-cancels", "auth", "Another key's job can be cancelled.", PAGE, P_403001),
    Defect("auth-code-403001", "auth", "A missing or unknown key is refused with code 403001.", PAGE, P_400004),
    # Cancellation.
    Defect(
        "cancel-then-completes", "cancel", "Cancel says cancelled, but the job runs on and completes.", I2V, Q_CANCEL
    ),
    Defect("cancel-get-only", "cancel", "Cancel answers GET only; POST is 405.", I2V, Q_CANCEL_CALL),
    Defect("cancel-running-accepted", "cancel", "A job in progress can be cancelled.", PAGE, P_ONLY_QUEUED),
    Defect(
        "cancel-queued-refused",
        "cancel",
        "Cancel of a queued job says not_cancellable; the job runs on.",
        PAGE,
        P_OUTCOME,
    ),
    Defect("cancel-word-american", "cancel", 'The stage of a cancelled job is spelled "canceled".', I2V, Q_STATES),
    Defect(
        "cancel-after-completed", "cancel", "Cancelling a completed job turns it into a cancelled one.", PAGE, P_OUTCOME
    ),
    Defect(
        "cancelled-with-video",
        "cancel",
        "The result of a cancelled job has an output with a video.",
        PAGE,
        P_RESULT_WORDS,
    ),
    Defect("cancel-unknown-200", "cancel", "Cancel of an unknown request_id is accepted as cancelled.", PAGE, P_404001),
    Defect("cancel-200", "cancel", "Cancel of a queued job returns HTTP 200.", PAGE, P_202),
    Defect("cancel-204", "cancel", "Cancel of a queued job returns HTTP 204 without a body.", PAGE, P_202),
    Defect(
        "cancel-refused-409",
        "cancel",
        "Cancel of a job in progress or completed is HTTP 409.",
        PAGE,
        P_OUTCOME,
        "implied",
    ),
    Defect("cancel-outcome-missing", "cancel", "The cancel response has no outcome.", PAGE, P_OUTCOME),
    Defect("cancel-outcome-accepted", "cancel", 'The outcome of an accepted cancel is "accepted".', PAGE, P_OUTCOME),
    Defect(
        "cancel-outcome-always",
        "cancel",
        "The outcome is cancelled also for a job in progress, which runs on.",
        PAGE,
        P_OUTCOME,
    ),
    Defect(
        "cancel-outcome-completed",
        "cancel",
        "The outcome is cancelled also for a completed job, which stays completed.",
        PAGE,
        P_OUTCOME,
    ),
    Defect("cancel-restarts", "cancel", "Cancelling a completed job runs it again.", PAGE, P_OUTCOME),
    # Media.
    Defect("media-404", "media", "The video link is 404.", I2V, Q_VIDEO, "implied"),
    Defect(
        "media-length-long",
        "media",
        "The video's Content-Length is 1000 bytes more than its body.",
        I2V,
        Q_VIDEO,
        "implied",
    ),
    Defect("media-truncated", "media", "The video file ends after half of its bytes.", I2V, Q_VIDEO, "implied"),
    Defect("media-html", "media", "The video link serves an HTML page as video/mp4.", I2V, Q_VIDEO),
    Defect("media-still", "media", "The video link serves a PNG still.", I2V, Q_VIDEO),
    Defect("media-hangs", "media", "The video link never answers.", I2V, Q_VIDEO, "implied"),
    Defect("media-duration-fixed", "media", "Every video lasts 5 s, whatever was ordered.", I2V, Q_DURATION),
    Defect("media-one-second-short", "media", "Every video is one second shorter than ordered.", I2V, Q_DURATION),
    Defect(
        "media-slow-motion",
        "media",
        "The video's frames are stamped at half rate, so it lasts twice as long.",
        I2V,
        Q_DURATION,
    ),
    Defect("media-resolution-low", "media", "Videos ordered in 1080P have 720 lines.", I2V, Q_LENGTHS),
    Defect(
        "media-aspect-ignored", "media", "Reference-to-video ignores aspect_ratio; videos are 16:9.", R2V, Q_RATIO_R2V
    ),
    Defect("media-needs-key", "media", "The video link needs the API key (401 without).", I2V, Q_VIDEO, "implied"),
    Defect(
        "default-duration-wrong", "media", "An order without a duration makes a video of 10 s.", I2V, Q_DEFAULT_DURATION
    ),
    Defect(
        "default-resolution-wrong",
        "media",
        "An order without a resolution makes a 720P video.",
        I2V,
        Q_DEFAULT_RESOLUTION,
    ),
    # Lists.
    Defect("catalogue-limit-ignored", "lists", "The catalogue ignores limit.", PAGE, P_CATALOGUE, "implied"),
    Defect(
        "catalogue-limit-off-by-one",
        "lists",
        "The catalogue returns one model more than limit.",
        PAGE,
        P_CATALOGUE,
        "implied",
    ),
    Defect("catalogue-offset-ignored", "lists", "The catalogue ignores offset.", PAGE, P_CATALOGUE, "implied"),
    Defect("catalogue-search-ignored", "lists", "The catalogue ignores search.", PAGE, P_CATALOGUE, "implied"),
    Defect("catalogue-category-ignored", "lists", "The catalogue ignores category.", PAGE, P_CATALOGUE, "implied"),
    Defect("catalogue-item-twice", "lists", "The catalogue lists its first model twice.", PAGE, P_CATALOGUE, "implied"),
    Defect(
        "catalogue-bare-list", "lists", "The catalogue is an array without an object around it.", PAGE, P_CATALOGUE_BODY
    ),
    Defect(
        "catalogue-total-page",
        "lists",
        "The catalogue's total counts the models of the page.",
        PAGE,
        P_CATALOGUE_BODY,
        "implied",
    ),
    Defect("catalogue-price-string", "lists", "base_price_usd is a string.", PAGE, P_PRICE),
    Defect("catalogue-price-null", "lists", "base_price_usd is null.", PAGE, P_PRICE),
    Defect("catalogue-unit-minute", "lists", 'price_unit is "minute".', PAGE, P_UNIT),
    Defect("catalogue-schema-always", "lists", "input_schema is given without include_schema.", PAGE, P_SCHEMA),
    Defect(
        "catalogue-schema-never",
        "lists",
        "input_schema is not given with include_schema=true.",
        PAGE,
        P_SCHEMA,
        "implied",
    ),
    Defect(
        "categories-bare-list", "lists", "The categories are an array without an object around it.", PAGE, P_CATEGORIES
    ),
    Defect("balance-string", "lists", "balance_usd is a string.", PAGE, P_BALANCE),
]


def chosen_defects(count: int = 36, least: int = 2, seed: int = 20261129) -> list[Defect]:
    """Return direct defects, drawn at random: `least` of every group, then any up to `count`, in the list's order."""
    draw = random.Random(seed)
    direct = [defect for defect in DEFECTS if defect.basis == "direct"]
    picked: set[str] = set()
    for group in dict.fromkeys(defect.group for defect in DEFECTS):
        picked |= {defect.name for defect in draw.sample([each for each in direct if each.group == group], least)}
    rest = [defect.name for defect in direct if defect.name not in picked]
    picked |= set(draw.sample(rest, count - len(picked)))
    return [defect for defect in direct if defect.name in picked]


CHOSEN = chosen_defects()

# Added after the draw: in DEFECTS they would change CHOSEN.
FURTHER: list[Defect] = [
    Defect(
        "duration-menu-only",
        "validation",
        "Only the durations 5, 10 and 15 are accepted; the allowed 3 or 7 is refused.",
        I2V,
        Q_DURATION,
    ),
    Defect(
        "prompt-bytes-counted",
        "validation",
        "A prompt of more than 5000 bytes in UTF-8 is refused, such as 2000 Chinese characters.",
        I2V,
        Q_PROMPT,
    ),
    Defect(
        "status-404-at-first",
        "lifecycle",
        "Status and result of a new job are 404 for the first 0.4 s.",
        I2V,
        Q_SUBMIT,
    ),
    Defect("status-404-sometimes", "statuses", "Every third status poll of an existing job is 404.", I2V, Q_STATES),
    Defect(
        "submit-urls-swapped",
        "members",
        "The submission's status_url leads to the result, its result_url to the status.",
        PAGE,
        P_SUBMIT_URLS,
    ),
    Defect("cost-object", "members", "The cost is an object of amount and currency.", PAGE, P_COST),
    Defect(
        "cancel-all-queued",
        "cancel",
        "Cancelling a queued job also cancels the other queued jobs of the same key.",
        I2V,
        Q_CANCEL,
    ),
    Defect(
        "catalogue-entry-404",
        "lists",
        "GET of one model is 404, unless the slashes of its id are escaped.",
        PAGE,
        P_ENTRY,
    ),
]
DEFECTS += FURTHER
NAMES = {defect.name for defect in DEFECTS}

QUEUE_SECONDS = 0.6
RUN_SECONDS = 0.9
ASPECTS = {"16:9": 16 / 9, "9:16": 9 / 16, "1:1": 1.0, "4:3": 4 / 3, "3:4": 3 / 4}
LINES = {"720P": 720, "1080P": 1080}
USD_PER_SECOND = {"720P": 0.14, "1080P": 0.28}
KINDS = ("image-to-video", "reference-to-video", "text-to-video")
MODEL_PATH = re.compile(r"happyhorse/happyhorse-1[.-]0/([a-z-]+)")
ERROR_NAMES = {
    400001: "InvalidResourceIdentifier",
    400004: "UserAccountError",
    403001: "PermissionDeniedError",
    404001: "ResourceNotFound",
}
GOOD_ENDINGS = {"jpg", "jpeg", "png", "webp"}
BAD_ENDINGS = {"gif", "bmp", "tif", "tiff", "svg", "heic", "avif", "ico", "pdf", "mp4", "mov", "webm", "txt", "html"}
MAX_IMAGE_BYTES = 10 * 1024 * 1024
MAX_SEED = 2147483647
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PNG_STILL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cfc0500f0003860180345bfbd90000000049454e44ae426082"
)


@dataclass
class Order:
    """A validated submission."""

    kind: str
    seconds: int
    resolution: str
    ratio: float
    failure: str | None = None


@dataclass
class Job:
    """A submitted job. `clip` builds its video file."""

    request_id: str
    key: str | None
    order: Order
    base_url: str
    clip: asyncio.Task[Path]
    started: float = field(default_factory=time.monotonic)
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    finished_at: datetime | None = None
    cancelled: bool = False
    previous: str | None = None
    told_progress: bool = False
    went_back: bool = False
    told_completed: float | None = None

    @property
    def clip_ready(self) -> bool:
        """Whether the video file exists."""
        return self.clip.done() and not self.clip.cancelled() and self.clip.exception() is None


class Refusal(Exception):
    """An error response."""

    def __init__(self, http_status: int, code: int | None, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        name = ERROR_NAMES.get(code or 0)
        self.body: dict[str, Any] = {"error_message": f"{name}: {message}" if name else message}
        if code is not None:
            self.body["error_code"] = code


class InvalidOrder(Refusal):
    """A refusal of a submission's body, with every problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(422, 422001, "; ".join(problems))
        detail = []
        for problem in problems:
            named = re.match(r"'(\w+)'", problem)
            detail.append({"loc": ["body", *([named[1]] if named else [])], "msg": problem, "type": "value_error"})
        self.body = {"error_code": 422001, "message": "; ".join(problems), "detail": detail}


class ClipStore:
    """Makes and keeps MP4 files, one ffmpeg process at a time.

    A given folder is kept for the next server, a temporary one is removed at the end.
    """

    def __init__(self, cache: Path | None) -> None:
        self.temporary = cache is None
        self.folder = cache or Path(tempfile.mkdtemp(prefix="fake-runcomfy-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ffmpeg: str = imageio_ffmpeg.get_ffmpeg_exe()
        self.lock = asyncio.Lock()

    async def make(self, name: str, arguments: str) -> Path:
        """Return a file of the folder, made by ffmpeg if it is missing; raise RuntimeError if that fails."""
        path = self.folder / name
        if path.exists():
            return path
        part = self.folder / f"{uuid.uuid4().hex}.mp4"
        process = await asyncio.create_subprocess_exec(
            self.ffmpeg,
            *f"-v error -y -threads 1 {arguments}".split(),
            part.name,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            message = f"ffmpeg failed: {errors.decode(errors='replace')[:400]}"
            print(message, file=sys.stderr, flush=True)
            raise RuntimeError(message)
        part.replace(path)
        return path

    async def clip(self, width: int, height: int, seconds: int, slow: bool = False) -> Path:
        """Return an MP4 of 24 frames a second with an audio track.

        One second is encoded per size and looped without re-encoding, which keeps the processor idle.
        """
        size = f"{width}x{height}"
        picture = f"-f lavfi -i smptebars=size={size}:rate=24 -frames:v 24"
        codec = "-c:v libx264 -preset ultrafast -crf 35 -g 24 -pix_fmt yuv420p -threads 1"
        tone = "-f lavfi -i sine=frequency=330:sample_rate=48000"
        copy = "-map 0:v -map 1:a -c:v copy -c:a aac -b:a 48k -movflags +faststart"
        scale, total, name = ("-itsscale 2", seconds * 2, "-slow") if slow else ("", seconds, "")
        async with self.lock:
            second = await self.make(f"runcomfy-{size}.mp4", f"{picture} {codec}")
            loop = f"{scale} -stream_loop {seconds - 1} -i {second.name}"
            return await self.make(f"runcomfy-{size}-{seconds}{name}.mp4", f"{loop} {tone} {copy} -t {total}")


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, JPEG or WEBP image; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        if data[12:16] == b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        if data[12:16] == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if data[:2] == b"\xff\xd8":
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">HH", data[at + 5 : at + 9])
                return width, height
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def whole_number(value: Any) -> int | None:
    """Return a JSON integer (5 or 5.0) as int; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return None


def prompt_weight(prompt: str) -> int:
    """Return the prompt's length, a Chinese character counted as two."""
    return len(prompt) + len(re.findall(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]", prompt))


class Service:
    """The provider: validation, jobs, keys. `bug(name)` tells whether a defect is active."""

    def __init__(self, options: argparse.Namespace, clips: ClipStore) -> None:
        self.keys: set[str] = set(options.key)
        self.defect: str | None = options.defect
        self.pace: float = options.pace
        self.strict_https: bool = options.strict_https
        self.fail_marker: str = options.fail_marker
        self.auth_status: int = options.auth_status
        self.clips = clips
        self.fetcher = httpx.AsyncClient(timeout=5, verify=False, trust_env=False)
        self.jobs: dict[str, Job] = {}
        self.twins: dict[str, str] = {}
        self.last: str | None = None
        self.status_polls = 0

    def bug(self, name: str) -> bool:
        """Return whether the named defect is active."""
        assert name in NAMES, name
        return self.defect == name

    # Keys.

    def known_key(self, key: str) -> bool:
        """Return whether a key is accepted."""
        if not key or re.search(r"\s", key):
            return False
        if self.bug("auth-wrong-key-accepted"):
            return True
        return key in self.keys if self.keys else not key.startswith("wrong-")

    def caller(self, request: Request, route: str) -> str | None:
        """Return the request's key; raise a refusal if there is none or it is unknown.

        None stands for every key; only defects return it.
        """
        if route == "cancel" and self.bug("auth-cancel-refuses-key"):
            if self.known_key(request.headers.get("x-api-key", "")):
                return request.headers["x-api-key"]
            raise self.unknown_key("Missing X-API-Key header.")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if self.bug("auth-scheme-ignored"):
            key, scheme = key or scheme, "bearer"
        if scheme.lower() == "bearer" and self.known_key(key):
            return key
        if f"auth-{route}-open" in NAMES and self.bug(f"auth-{route}-open"):
            return None
        raise self.unknown_key("missing or invalid API token; send 'Authorization: Bearer <token>'.")

    def unknown_key(self, message: str) -> Refusal:
        """Return the refusal of a missing or unknown key."""
        code = 403001 if self.bug("auth-code-403001") else 400004
        return Refusal(self.auth_status, code, message)

    def job(self, request: Request, route: str) -> Job:
        """Return the requested job of the caller; raise a refusal."""
        key = self.caller(request, route)
        job = self.jobs.get(request.path_params["request_id"])
        foreign = (route == "cancel" and self.bug("auth-other-key-cancels")) or (
            route != "cancel" and self.bug("auth-other-key-reads")
        )
        if job is None:
            if self.bug("unknown-request-403"):
                raise Refusal(403, 403001, "request not found.")
            if self.bug("unknown-request-400"):
                raise Refusal(400, 400001, "request not found.")
            raise Refusal(404, 404001, "request not found.")
        if key is not None and job.key is not None and job.key != key and not foreign:
            if self.bug("foreign-request-404"):
                raise Refusal(404, 404001, "request not found.")
            raise Refusal(403, 403001, "the request belongs to another user.")
        young = time.monotonic() - job.started < 0.4 * self.pace
        if young and route != "cancel" and self.bug("status-404-at-first"):
            raise Refusal(404, 404001, "request not found.")
        if route == "status":
            self.status_polls += 1
            if self.status_polls % 3 == 0 and self.bug("status-404-sometimes"):
                raise Refusal(404, 404001, "request not found.")
        return job

    # Orders.

    async def check_image(self, name: str, url: Any, kind: str) -> tuple[list[str], float | None, str | None]:
        """Return the problems of an image URL, its aspect ratio if it was measured, and the reason of a failure."""
        if not isinstance(url, str):
            return [f"'{name}' must be a string"], None, None
        if url.startswith("data:"):
            try:
                data = base64.b64decode(url.partition(";base64,")[2], validate=True)
            except binascii.Error:
                return [f"'{name}' is not a base64 data URI"], None, None
            return *self.check_pixels(name, data, kind), None
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            return [f"'{name}' is not a URL"], None, None
        host = parts.hostname or ""
        local = host in LOOPBACK
        plain_allowed = parts.scheme == "http" and local and not self.strict_https
        if parts.scheme != "https" and not plain_allowed and not self.bug("image-http-accepted"):
            return [f"'{name}' must be a publicly reachable HTTPS URL"], None, None
        if not host and not self.bug("image-http-accepted"):
            return [f"'{name}' has no host"], None, None
        last = parts.path.rsplit("/", 1)[-1]
        ending = last.rsplit(".", 1)[-1].lower() if "." in last else ""
        if ending in BAD_ENDINGS and not self.bug("image-gif-accepted"):
            return [f"'{name}' is a .{ending} file; allowed: JPEG, JPG, PNG, WEBP"], None, None
        if ending == "webp" and self.bug("image-webp-refused"):
            return [f"'{name}' is a .webp file; allowed: JPEG, JPG, PNG"], None, None
        if host.endswith(".invalid") or (self.fail_marker and self.fail_marker in url):
            return [], None, f"'{name}' cannot be fetched"
        if not local or parts.scheme not in ("http", "https"):
            return [], None, None
        try:
            response = await self.fetcher.get(url)
        except (httpx.HTTPError, httpx.InvalidURL):
            return [], None, f"'{name}' cannot be fetched"
        if response.status_code != 200:
            return [], None, f"'{name}' cannot be fetched: HTTP {response.status_code}"
        return *self.check_pixels(name, response.content, kind), None

    def check_pixels(self, name: str, data: bytes, kind: str) -> tuple[list[str], float | None]:
        """Return the problems of an image file, and its aspect ratio."""
        size = image_size(data)
        if size is None:
            if self.bug("image-gif-accepted"):
                return [], None
            return [f"'{name}' is not a JPEG, PNG or WEBP image"], None
        if len(data) > MAX_IMAGE_BYTES:
            return [f"'{name}' is larger than 10 MB"], None
        least = 300 if kind == "image-to-video" else 400
        if min(size) < least and not self.bug("image-small-accepted"):
            return [f"'{name}' is {size[0]}x{size[1]}; each side must have at least {least} pixels"], None
        ratio = size[0] / size[1]
        if kind == "image-to-video" and not 1 / 2.5 <= ratio <= 2.5:
            return [f"'{name}' must have an aspect ratio between 1:2.5 and 2.5:1"], None
        return [], ratio

    def check_duration(self, body: dict[str, Any]) -> tuple[int, list[str]]:
        """Return the ordered seconds and the problems of 'duration'."""
        if "duration" not in body:
            return (10 if self.bug("default-duration-wrong") else 5), []
        value = body["duration"]
        if isinstance(value, str) and self.bug("duration-string-accepted"):
            with contextlib.suppress(ValueError):
                value = int(value)
        if isinstance(value, float) and math.isfinite(value) and self.bug("duration-fraction-accepted"):
            value = math.floor(value)
        number = whole_number(value)
        if number is None:
            return 5, ["'duration' must be an integer"]
        low = 2 if self.bug("duration-2-accepted") else 3
        high = 16 if self.bug("duration-16-accepted") else 14 if self.bug("duration-15-refused") else 15
        if not low <= number <= high:
            return 5, [f"'duration' is {number}; allowed: 3 to 15"]
        if number not in (5, 10, 15) and self.bug("duration-menu-only"):
            return 5, [f"'duration' is {number}; allowed: 5, 10, 15"]
        return number, []

    def check_resolution(self, body: dict[str, Any]) -> tuple[str, list[str]]:
        """Return the ordered resolution and the problems of 'resolution'."""
        if "resolution" not in body:
            if self.bug("resolution-required"):
                return "1080P", ["'resolution' is required"]
            return ("720P" if self.bug("default-resolution-wrong") else "1080P"), []
        value = body["resolution"]
        if isinstance(value, str) and self.bug("resolution-case-accepted"):
            value = value.upper()
        if value == "720P" and self.bug("resolution-720-refused"):
            return "1080P", ["'resolution' is '720P'; allowed: '1080P'"]
        if isinstance(value, str) and value in LINES:
            return value, []
        if isinstance(value, str) and self.bug("resolution-unknown-accepted"):
            return "1080P", []
        return "1080P", ["'resolution' must be '720P' or '1080P'"]

    def check_prompt(self, body: dict[str, Any], kind: str) -> list[str]:
        """Return the problems of 'prompt'."""
        if "prompt" not in body:
            excused = kind == "image-to-video" and self.bug("missing-prompt-accepted")
            return [] if excused else ["'prompt' is required"]
        prompt = body["prompt"]
        if not isinstance(prompt, str):
            return ["'prompt' must be a string"]
        if not prompt.strip():
            return ["'prompt' must not be empty"]
        if self.bug("prompt-bytes-counted") and len(prompt.encode("utf-8", "replace")) > 5000:
            return ["'prompt' must have at most 5000 bytes"]
        weight = prompt_weight(prompt)
        if weight >= 5000 and self.bug("prompt-limit-refused"):
            return ["'prompt' must have fewer than 5000 characters"]
        if kind == "text-to-video" and len(prompt) > 2500:
            return [f"'prompt' has {len(prompt)} characters; allowed: 2500"]
        if kind == "reference-to-video" and weight > 5000 and not self.bug("reference-prompt-over-limit-accepted"):
            return ["'prompt' is too long; allowed: 5000 characters, 2500 if Chinese"]
        return []

    def check_flags(self, body: dict[str, Any]) -> list[str]:
        """Return the problems of 'seed' and 'watermark'."""
        problems: list[str] = []
        if "seed" in body:
            seed = whole_number(body["seed"])
            high = MAX_SEED - 1 if self.bug("seed-max-refused") else MAX_SEED
            if seed is None:
                problems.append("'seed' must be an integer")
            elif seed == 0 and self.bug("seed-zero-refused"):
                problems.append("'seed' must be positive")
            elif seed < 0 and not self.bug("seed-negative-accepted"):
                problems.append("'seed' must be at least 0")
            elif seed > high and not self.bug("seed-overflow-accepted"):
                problems.append(f"'seed' must be at most {high}")
        if "watermark" in body and not isinstance(body["watermark"], bool):
            if not (isinstance(body["watermark"], str) and self.bug("watermark-string-accepted")):
                problems.append("'watermark' must be true or false")
        return problems

    async def check_order(self, body: Any, kind: str) -> Order:
        """Return the order of a submission's body; raise 422 with every problem."""
        if not isinstance(body, dict):
            raise InvalidOrder(["The body must be a JSON object."])
        problems = self.check_prompt(body, kind)
        seconds, found = self.check_duration(body)
        problems += found
        resolution, found = self.check_resolution(body)
        problems += found
        problems += self.check_flags(body)
        ratio = 16 / 9
        failure = None
        if self.fail_marker and self.fail_marker in str(body.get("prompt")):
            failure = "the provider refused the prompt"
        if kind == "image-to-video":
            if body.get("image_url", "") == "" and self.bug("missing-image-accepted"):
                pass
            elif "image_url" not in body:
                problems.append("'image_url' is required")
            else:
                found, measured, reason = await self.check_image("image_url", body["image_url"], kind)
                failure = failure or reason
                problems += found
                ratio = measured or ratio
        else:
            if kind == "reference-to-video":
                found, reason = await self.check_references(body, kind)
                failure = failure or reason
                problems += found
            aspect = body.get("aspect_ratio", "16:9")
            refused = aspect == "3:4" and self.bug("reference-aspect-portrait-refused")
            if isinstance(aspect, str) and aspect in ASPECTS and not refused:
                ratio = ASPECTS[aspect]
            elif refused or not (isinstance(aspect, str) and self.bug("reference-aspect-unknown-accepted")):
                problems.append(f"'aspect_ratio' must be one of {', '.join(ASPECTS)}")
        if problems:
            raise InvalidOrder(problems)
        return Order(kind, seconds, resolution, ratio, failure)

    async def check_references(self, body: dict[str, Any], kind: str) -> tuple[list[str], str | None]:
        """Return the problems of 'image_url_1' to 'image_url_9', and the reason of a failure."""
        problems: list[str] = []
        failure = None
        for number in range(1, 10):
            name = f"image_url_{number}"
            if name not in body:
                if number == 1 and not self.bug("reference-missing-image-accepted"):
                    problems.append("'image_url_1' is required")
                continue
            if body[name] == "" and number > 1 and not self.bug("reference-empty-slot-refused"):
                continue
            if number == 9 and self.bug("reference-ninth-image-refused"):
                problems.append("'image_url_9' is one too many; allowed: 8 reference images")
                continue
            found, _, reason = await self.check_image(name, body[name], kind)
            failure = failure or reason
            problems += found
        return problems, failure

    # Jobs.

    def start(self, order: Order, key: str | None, base_url: str) -> Job:
        """Create a job and begin to build its video."""
        lines = LINES["720P" if self.bug("media-resolution-low") else order.resolution]
        ratio = 16 / 9 if self.bug("media-aspect-ignored") else order.ratio
        long_side = round(lines * max(ratio, 1 / ratio) / 2) * 2
        width, height = (long_side, lines) if ratio >= 1 else (lines, long_side)
        seconds = order.seconds
        if self.bug("media-duration-fixed"):
            seconds = 5
        elif self.bug("media-one-second-short"):
            seconds -= 1
        clip = asyncio.create_task(self.clips.clip(width, height, seconds, self.bug("media-slow-motion")))
        request_id = ("req:" if self.bug("submit-id-colon") else "") + str(uuid.uuid4())
        job = Job(request_id, key, order, base_url, clip, previous=self.last)
        self.jobs[job.request_id] = job
        self.last = job.request_id
        return job

    def stage(self, job: Job) -> str:
        """Return the job's true stage."""
        if job.cancelled:
            return "cancelled"
        age = time.monotonic() - job.started
        if age < QUEUE_SECONDS * self.pace:
            return "in_queue"
        total = (QUEUE_SECONDS + RUN_SECONDS) * self.pace
        if age < total or not job.clip_ready or self.bug("never-completes"):
            return "in_progress"
        if job.order.failure and self.bug("failed-never-ends"):
            return "in_progress"
        if job.finished_at is None:
            job.finished_at = max(job.created_at + timedelta(seconds=total), job.created_at)
        return "completed"

    def word(self, stage: str) -> str:
        """Return a stage as the wire names it."""
        if stage == "in_queue" and self.bug("stage-word-queued"):
            return "queued"
        if stage == "cancelled" and self.bug("cancel-word-american"):
            return "canceled"
        return stage.upper() if self.bug("stage-upper-case") else stage

    def status_word(self, job: Job, stage: str) -> str:
        """Return the stage's name in a status response."""
        if stage == "completed" and job.order.failure:
            if self.bug("failed-status-word"):
                return "failed"
            if self.bug("failed-as-cancelled"):
                return "cancelled"
        elif stage == "completed" and self.bug("stage-failed-word"):
            return "failed"
        elif stage == "completed" and self.bug("stage-succeeded-word"):
            return "succeeded"
        return self.word(stage)

    def queue_position(self, job: Job) -> int:
        """Return the job's place in the queue, counted from 1."""
        return 1 + sum(other.started < job.started and self.stage(other) == "in_queue" for other in self.jobs.values())

    def polled_stage(self, job: Job) -> str:
        """Return the stage that a status poll reports."""
        stage = self.stage(job)
        if self.bug("stage-backward") and stage == "in_progress":
            if job.told_progress and not job.went_back:
                job.went_back = True
                return "in_queue"
            job.told_progress = True
        if stage == "completed":
            if job.told_completed is None:
                job.told_completed = time.monotonic()
            elif self.bug("stage-after-completed"):
                return "in_progress"
        return stage

    def output(self, job: Job) -> Any:
        """Return the output member of a completed job."""
        source = job
        if self.bug("result-other-video") and job.previous is not None:
            source = self.jobs[job.previous]
        url: Any = f"{job.base_url}/files/{source.request_id}/output.mp4"
        if self.bug("result-video-missing"):
            return {}
        if self.bug("result-video-null"):
            url = None
        if self.bug("result-video-object"):
            url = {"url": url, "content_type": "video/mp4"}
        if self.bug("result-video-relative"):
            url = f"/files/{source.request_id}/output.mp4"
        if self.bug("result-output-list"):
            return [{"video": url}]
        return {"video": url, "videos": url} if self.bug("result-videos-string") else {"video": url}

    def result(self, job: Job, with_cost: bool) -> dict[str, Any]:
        """Return the result's body; raise the errors that defects give instead."""
        stage = self.stage(job)
        if self.bug("result-lags") and stage == "completed":
            if job.told_completed is None or time.monotonic() - job.told_completed < 3 * self.pace:
                stage = "in_progress"
        request_id = str(uuid.uuid4()) if self.bug("result-id-wrong") else job.request_id
        body: dict[str, Any] = {"request_id": request_id, "status": self.word(stage)}
        unfinished = stage in ("in_queue", "in_progress")
        if unfinished and self.bug("result-early-404"):
            raise Refusal(404, 404001, "result not found.")
        if unfinished and self.bug("result-stage-ahead"):
            return {**body, "status": "succeeded"}
        if (unfinished and self.bug("result-early-output")) or (
            stage == "cancelled" and self.bug("cancelled-with-video")
        ):
            return {**body, "output": self.output(job)}
        if stage != "completed":
            return body
        finished = job.finished_at or datetime.now(timezone.utc)
        if self.bug("result-times-reversed"):
            finished = job.created_at - timedelta(seconds=90)
        body |= {"created_at": job.created_at.isoformat(), "finished_at": finished.isoformat()}
        if self.bug("result-time-number"):
            body |= {"created_at": job.created_at.timestamp(), "finished_at": finished.timestamp()}
        if job.order.failure and not self.bug("failed-as-succeeded"):
            return self.failed_result(job, body)
        words = {"result-word-completed": "completed"}
        body["status"] = self.word(next((words[name] for name in words if self.bug(name)), "succeeded"))
        body["output"] = self.output(job)
        if with_cost and not self.bug("cost-missing"):
            cost = round(USD_PER_SECOND[job.order.resolution] * job.order.seconds, 2)
            body["cost"] = str(cost) if self.bug("cost-string") else cost
            if self.bug("cost-object"):
                body["cost"] = {"amount": cost, "currency": "USD"}
        if self.bug("result-error-beside-output"):
            body["error"] = "The generation failed."
        return body

    def failed_result(self, job: Job, body: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a failed job."""
        if self.bug("failed-result-500"):
            raise Refusal(500, 500001, "internal server error.")
        if self.bug("failed-result-running"):
            return {"request_id": job.request_id, "status": "in_progress"}
        words = {
            "failed-word-error": "error",
            "failed-word-completed": "completed",
            "failed-as-cancelled": "cancelled",
        }
        body["status"] = self.word(next((words[name] for name in words if self.bug(name)), "failed"))
        body["error"] = job.order.failure
        if self.bug("failed-with-output"):
            body["output"] = self.output(job)
        return body

    def cancel(self, job: Job) -> tuple[int, dict[str, Any]]:
        """Cancel a queued job, leave any other as it is; return the HTTP status and the body."""
        stage = self.stage(job)
        allowed = stage == "in_queue" and not self.bug("cancel-queued-refused")
        allowed = allowed or (stage == "in_progress" and self.bug("cancel-running-accepted"))
        allowed = allowed or (stage == "completed" and self.bug("cancel-after-completed"))
        if allowed and not self.bug("cancel-then-completes"):
            job.cancelled = True
            if self.bug("cancel-all-queued"):
                for other in self.jobs.values():
                    other.cancelled |= other.key == job.key and self.stage(other) == "in_queue"
        accepted = allowed or stage == "cancelled"
        if not accepted and self.bug("cancel-refused-409"):
            raise Refusal(409, None, f"The request is {stage}; only a queued request can be cancelled.")
        if stage == "completed" and self.bug("cancel-restarts"):
            job.started, job.finished_at = time.monotonic(), None
        outcome = "cancelled" if accepted else "not_cancellable"
        if stage == "in_progress" and self.bug("cancel-outcome-always"):
            outcome = "cancelled"
        if stage == "completed" and self.bug("cancel-outcome-completed"):
            outcome = "cancelled"
        if accepted and self.bug("cancel-outcome-accepted"):
            outcome = "accepted"
        word = self.word("cancelled") if accepted else self.status_word(job, stage)
        body = {"request_id": job.request_id, "status": word, "outcome": outcome}
        if self.bug("cancel-outcome-missing"):
            del body["outcome"]
        return (200 if accepted and self.bug("cancel-200") else 202), body

    # Catalogue.

    def entry(self, kind: str, with_schema: bool) -> dict[str, Any]:
        """Return a model's catalogue entry."""
        price: Any = USD_PER_SECOND["720P"]
        if self.bug("catalogue-price-string"):
            price = str(price)
        if self.bug("catalogue-price-null"):
            price = None
        entry = {
            "model_id": f"happyhorse/happyhorse-1.0/{kind}",
            "display_name": f"HappyHorse 1.0 {kind[0].upper()}2V",
            "categories": [kind],
            "kind": "model",
            "base_price_usd": price,
            "price_unit": "minute" if self.bug("catalogue-unit-minute") else "second",
        }
        if (with_schema and not self.bug("catalogue-schema-never")) or self.bug("catalogue-schema-always"):
            entry["input_schema"] = input_schema(kind)
        return entry

    def catalogue(self, query: Mapping[str, str]) -> Any:
        """Return the catalogue's page that a query selects; raise 422."""
        limit, offset = (query.get("limit") or "50"), (query.get("offset") or "0")
        if not re.fullmatch(r"\d{1,6}", limit) or not re.fullmatch(r"\d{1,6}", offset):
            raise InvalidOrder([f"'limit' is {limit}, 'offset' is {offset}; allowed: non-negative integers"])
        first = 0 if self.bug("catalogue-offset-ignored") else int(offset)
        end = first + int(limit) + self.bug("catalogue-limit-off-by-one")
        if self.bug("catalogue-limit-ignored"):
            end = first + 1000
        entries = [self.entry(kind, query.get("include_schema", "").lower() in ("true", "1")) for kind in KINDS]
        if (search := query.get("search", "").lower()) and not self.bug("catalogue-search-ignored"):
            entries = [each for each in entries if search in f"{each['model_id']} {each['display_name']}".lower()]
        if (category := query.get("category")) and not self.bug("catalogue-category-ignored"):
            entries = [each for each in entries if category in each["categories"]]
        if kind := query.get("kind"):
            entries = [each for each in entries if each["kind"] == kind]
        page = entries[first:end]
        if self.bug("catalogue-item-twice"):
            page = page[:1] + page
        if self.bug("catalogue-bare-list"):
            return page
        return {"models": page, "total": len(page) if self.bug("catalogue-total-page") else len(entries)}


def input_schema(kind: str) -> dict[str, Any]:
    """Return a model's input schema."""
    text = {"type": "string"}
    properties: dict[str, Any] = {"prompt": {**text, "maxLength": 2500 if kind == "text-to-video" else 5000}}
    required = ["prompt"]
    if kind == "image-to-video":
        properties["image_url"] = text
        required = ["image_url", "prompt"]
    else:
        properties["aspect_ratio"] = {**text, "enum": list(ASPECTS), "default": "16:9"}
    if kind == "reference-to-video":
        properties |= {f"image_url_{number}": text for number in range(1, 10)}
        required = ["image_url_1", "prompt"]
    properties |= {
        "resolution": {**text, "enum": list(LINES), "default": "1080P"},
        "duration": {"type": "integer", "enum": list(range(3, 16)), "default": 5},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 0},
        "watermark": {"type": "boolean", "default": kind == "text-to-video"},
    }
    return {"type": "object", "title": "Input schema", "required": required, "properties": properties}


# Routes.


def service_of(request: Request) -> Service:
    """Return the request's service."""
    service: Service = request.app.state.service
    return service


def model_kind(request: Request) -> str:
    """Return the kind of the requested model, empty if it is unknown."""
    match = MODEL_PATH.fullmatch(request.path_params["model"])
    return match[1] if match and match[1] in KINDS else ""


async def submit(request: Request) -> Response:
    """Submit a job."""
    service = service_of(request)
    key = service.caller(request, "submit")
    kind = model_kind(request)
    if kind not in KINDS:
        if not service.bug("unknown-model-accepted"):
            raise Refusal(400, 404001 if service.bug("unknown-model-code") else 400001, "model not found.")
        kind = "image-to-video"
    raw = await request.body()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal(400, None, "The body is not valid JSON.") from None
    try:
        order = await service.check_order(body, kind)
    except Refusal as refusal:
        if service.bug("invalid-order-200"):
            return JSONResponse(refusal.body)
        raise
    base_url = str(request.base_url).rstrip("/")
    twin = json.dumps([kind, key, body], sort_keys=True)
    if service.bug("idempotency-key-shared"):
        twin = f"{key} {request.headers.get('idempotency-key') or uuid.uuid4()}"
    if (service.bug("duplicate-order-shared") or service.bug("idempotency-key-shared")) and twin in service.twins:
        job = service.jobs[service.twins[twin]]
    else:
        job = service.start(order, key, base_url)
        service.twins[twin] = job.request_id
    if service.bug("submit-waits"):
        while service.stage(job) != "completed":
            await asyncio.sleep(0.05)
    root = f"{base_url}/v1/requests/{job.request_id}"
    answer = {
        "request_id": job.request_id,
        "status_url": f"{root}/status",
        "result_url": f"{root}/result",
        "cancel_url": f"{root}/cancel",
    }
    if service.bug("submit-id-renamed"):
        answer["requestId"] = answer.pop("request_id")
    if service.bug("submit-id-cut"):
        answer["request_id"] = job.request_id[:8]
    if service.bug("submit-urls-swapped"):
        answer["status_url"], answer["result_url"] = answer["result_url"], answer["status_url"]
    if service.bug("submit-cancel-url-missing"):
        del answer["cancel_url"]
    if service.bug("submit-status-url-broken"):
        answer["status_url"] = f"{base_url}/requests/{job.request_id}/status"
    return JSONResponse(answer, 201 if service.bug("submit-201") else 200)


async def status(request: Request) -> Response:
    """Return a job's stage."""
    service = service_of(request)
    try:
        job = service.job(request, "status")
    except Refusal as refusal:
        if refusal.http_status == 404 and service.bug("unknown-request-in-queue"):
            return JSONResponse({"request_id": request.path_params["request_id"], "status": "in_queue"})
        raise
    stage = service.polled_stage(job)
    if stage == "completed" and service.bug("status-500-at-end"):
        raise Refusal(500, 500001, "internal server error.")
    root = f"{job.base_url}/v1/requests/{job.request_id}"
    body: dict[str, Any] = {"request_id": job.request_id, "status": service.status_word(job, stage)}
    if (stage == "in_queue" and not service.bug("queue-position-missing")) or service.bug("queue-position-always"):
        position = service.queue_position(job)
        body["queue_position"] = str(position) if service.bug("queue-position-string") else position
    if not service.bug("status-urls-missing"):
        body |= {"status_url": f"{root}/status", "result_url": f"{root}/result"}
    if service.bug("status-cancel-url"):
        body["cancel_url"] = f"{root}/cancel"
    if service.bug("status-id-wrong"):
        body["request_id"] = str(uuid.uuid4())
    if service.bug("status-word-missing"):
        body["state"] = body.pop("status")
    response = JSONResponse(body)
    if service.bug("status-plain-text"):
        response.headers["content-type"] = "text/plain; charset=utf-8"
    return response


async def result(request: Request) -> Response:
    """Return a job's output, or its stage if it has not ended."""
    service = service_of(request)
    job = service.job(request, "result")
    body = service.result(job, request.query_params.get("include_cost", "").lower() in ("true", "1"))
    if "output" in body and service.bug("result-redirect"):
        return RedirectResponse(body["output"]["video"], 302)
    if service.bug("result-html"):
        return Response(f"<html><body><pre>{json.dumps(body)}</pre></body></html>", media_type="text/html")
    unfinished = body["status"] in ("in_queue", "in_progress")
    return JSONResponse(body, 202 if unfinished and service.bug("result-early-202") else 200)


async def cancel(request: Request) -> Response:
    """Cancel a queued job."""
    service = service_of(request)
    if (request.method == "GET") != service.bug("cancel-get-only"):
        raise Refusal(405, None, "Method not allowed.")
    try:
        job = service.job(request, "cancel")
    except Refusal as refusal:
        if refusal.http_status == 404 and service.bug("cancel-unknown-200"):
            body = {"request_id": request.path_params["request_id"], "status": "cancelled", "outcome": "cancelled"}
            return JSONResponse(body, 202)
        raise
    http_status, body = service.cancel(job)
    if body.get("outcome") == "cancelled" and service.bug("cancel-204"):
        return Response(status_code=204)
    return JSONResponse(body, http_status)


async def models(request: Request) -> Response:
    """Return a page of the catalogue."""
    service = service_of(request)
    service.caller(request, "catalogue")
    return JSONResponse(service.catalogue(request.query_params))


async def categories(request: Request) -> Response:
    """Return the catalogue's categories."""
    service = service_of(request)
    service.caller(request, "catalogue")
    return JSONResponse([*KINDS] if service.bug("categories-bare-list") else {"categories": [*KINDS]})


async def model(request: Request) -> Response:
    """Return one catalogue entry."""
    service = service_of(request)
    service.caller(request, "catalogue")
    kind = model_kind(request)
    if service.bug("catalogue-entry-404") and b"%2f" not in request.scope["raw_path"].lower():
        raise HTTPException(404)
    if not kind:
        raise Refusal(400, 404001 if service.bug("unknown-model-code") else 400001, "model not found.")
    with_schema = request.query_params.get("include_schema", "").lower() in ("true", "1")
    return JSONResponse(service.entry(kind, with_schema))


async def balance(request: Request) -> Response:
    """Return the wallet's balance."""
    service = service_of(request)
    service.caller(request, "balance")
    amount: Any = "12.34" if service.bug("balance-string") else 12.34
    return JSONResponse({"balance_usd": amount, "currency": "USD"})


async def video(request: Request) -> Response:
    """Return a job's video file."""
    service = service_of(request)
    job = service.jobs.get(request.path_params["request_id"])
    if job is None or (job.cancelled and not service.bug("cancelled-with-video")) or service.bug("media-404"):
        raise Refusal(404, 404001, "file not found.")
    if service.bug("media-needs-key"):
        service.caller(request, "media")
    if service.bug("media-hangs"):
        await asyncio.sleep(3600)
    if service.bug("media-html"):
        return Response("<html><body>Loading your video...</body></html>", media_type="video/mp4")
    if service.bug("media-still"):
        return Response(PNG_STILL, media_type="image/png")
    path = await asyncio.shield(job.clip)
    if service.bug("media-truncated"):
        data = path.read_bytes()
        return Response(data[: len(data) // 2], media_type="video/mp4")
    if service.bug("media-length-long"):
        data = path.read_bytes()

        async def body() -> AsyncIterator[bytes]:
            yield data

        return StreamingResponse(body(), media_type="video/mp4", headers={"content-length": str(len(data) + 1000)})
    return FileResponse(path, media_type="video/mp4")


async def on_refusal(request: Request, error: Exception) -> Response:
    """Return a refusal's error body."""
    assert isinstance(error, Refusal)
    headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else None
    return JSONResponse(error.body, error.http_status, headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Return Starlette's own errors (404, 405) as JSON."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error_message": error.detail}, error.status_code, error.headers)


def make_app(service: Service) -> Starlette:
    """Return the application. It makes the usual videos before it listens."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.clips.clip(1280, 720, 5)
        await service.clips.clip(1920, 1080, 5)
        try:
            yield
        finally:
            await service.fetcher.aclose()
            if service.clips.temporary:
                shutil.rmtree(service.clips.folder, ignore_errors=True)

    requests = "/v1/requests/{request_id}"
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/models/categories", categories, methods=["GET"]),
            Route("/v1/models/{model:path}", submit, methods=["POST"]),
            Route("/v1/models/{model:path}", model, methods=["GET"]),
            Route("/prod/v2/balance", balance, methods=["GET"]),
            Route(f"{requests}/status", status, methods=["GET"]),
            Route(f"{requests}/result", result, methods=["GET"]),
            Route(f"{requests}/cancel", cancel, methods=["GET", "POST"]),
            Route("/files/{request_id}/output.mp4", video, methods=["GET"]),
        ],
        exception_handlers={Refusal: on_refusal, HTTPException: on_http_error},
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


class ReadyServer(uvicorn.Server):
    """A uvicorn server that prints `ready` once it listens."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then print `ready`."""
        await super().startup(sockets)
        if self.started:
            print("ready", flush=True)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="Fake RunComfy server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8101)
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
    parser.add_argument("--callback-secret", metavar="S", help="ignored: RunComfy has no callbacks")
    parser.add_argument("--retry-scale", type=float, metavar="X", help="ignored: RunComfy has no callbacks")
    parser.add_argument(
        "--auth-status", type=int, choices=(400, 401), default=400, help="HTTP status of a missing or unknown key"
    )
    parser.add_argument(
        "--fail-marker", default="simulate-failure", help="text in the prompt or image URL that makes the job fail"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="scale of a job's 1.5 seconds")
    parser.add_argument("--strict-https", action="store_true", help="refuse plain HTTP images also on loopback hosts")
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
    service = Service(options, ClipStore(options.cache))
    config = uvicorn.Config(
        make_app(service), host="127.0.0.1", port=options.port, log_level="critical", timeout_graceful_shutdown=1
    )
    ReadyServer(config).run()


if __name__ == "__main__":
    main()
