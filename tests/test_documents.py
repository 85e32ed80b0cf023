"""The five documents, taken at their word: what they print runs, what they state stands in the contracts.

`tests/documents` keeps the parts of each page that show or state something. Runflow's page came as one line; its line
breaks are put back. Nothing else is changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hobbyhorse.clock.clock import Clock, ManualClock, RealClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.lint import KEYWORDS
from hobbyhorse.media.probe import probe
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving

CONTRACTS = {contract.key: contract for contract in load_all()}
TEXTS = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "documents").glob("*.txt"))}

HIAPI = "hiapi-happyhorse-1.1-image-to-video"
RUNCOMFY_IMAGE = "runcomfy-happyhorse-1.0-image-to-video"
RUNCOMFY_REFERENCE = "runcomfy-happyhorse-1.0-reference-to-video"
RUNFLOW = "runflow-happy-horse-image-to-video"
VTRIX = "vtrix-happyhorse_1.0_i2v"

CURL = re.compile(r"""\bcurl(?:(?:[ \t]|\\\n)+(?:"[^"]*"|'[^']*'|[^\s"'\\]+))+""")
"""A curl command: words between blanks and continued lines; it ends where something is glued to its last word."""

CHECKED = "--disable --silent --show-error --fail-with-body --write-out '%{stderr}%{http_code}'"
"""What is added to a curl: it fails on a refusal, and its stderr is the status."""

ENVIRONMENT = {**os.environ, "RUNFLOW_API_KEY": "RUNFLOW_API_KEY", "NO_PROXY": "*", "no_proxy": "*"}
# Real seconds for one step on a busy machine.
LONGEST = 60


@contextmanager
def served(clock: Clock | None = None, pace: str = "realistic") -> Iterator[str]:
    """Serve every provider; by default in real time and at once."""
    make_clock = (lambda: clock) if clock is not None else RealClock
    with serving(Fake(options=Options(pace=pace, strict=True, make_clock=make_clock))) as url:
        yield url


def moved(printed: str, provider: str, url: str) -> str:
    """Return what a document prints with the provider's scheme and host replaced, and nothing else."""
    host = f"https://{CONTRACTS[provider].hosts[0]}/"
    assert host in printed
    return printed.replace(host, f"{url}/{provider}/")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LONGEST, check=False)


def run_curl(command: str) -> Any:
    """Run a curl command; return the JSON of its answer, which is a 2xx."""
    done = run("bash", "-c", command.replace("curl", f"curl {CHECKED}", 1))
    assert done.returncode == 0, f"{command}\n{done.stderr}\n{done.stdout}"
    assert re.fullmatch("2[0-9][0-9]", done.stderr)
    return json.loads(done.stdout)


def run_example(*command: str) -> str:
    """Run a script of a document; return what it prints, without the line's end."""
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def block(document: str, language: str) -> str:
    """Return the one fenced block of a language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", TEXTS[document], re.DOTALL)
    return str(code)


def opened(url: str, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client that waits longer than the default of five seconds: the machine may be busy with the video."""
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=LONGEST)


def assert_is_a_video(url: str) -> None:
    answer = httpx.get(url, trust_env=False, timeout=LONGEST)
    assert answer.status_code == 200
    assert probe(answer.content).frames > 0


# ---- what the documents print, run


@pytest.mark.parametrize("document", [RUNCOMFY_IMAGE, RUNCOMFY_REFERENCE, RUNFLOW])
def test_every_curl_of_a_document_is_found_whole(document: str) -> None:
    found = CURL.findall(TEXTS[document])
    assert len(found) == TEXTS[document].count("curl ")
    assert len(found) == (1 if document == RUNFLOW else 5)
    for command in found:
        assert command[-1] in "\"'"
        assert run("bash", "-n", "-c", command).returncode == 0


@pytest.mark.parametrize("document", [RUNCOMFY_IMAGE, RUNCOMFY_REFERENCE])
def test_every_curl_of_a_runcomfy_document_runs_as_printed(document: str) -> None:
    """The clock stands while the job is in its queue, and stands again when it is done."""
    commands = CURL.findall(TEXTS[document])
    submissions = [command for command in commands if "{request_id}" not in command]
    others = [command for command in commands if "{request_id}" in command]
    clock = ManualClock()
    with served(clock) as url:
        answers = [run_curl(moved(command, "runcomfy", url)) for command in submissions]
        for answer in answers:
            assert set(answer) >= {"request_id", "status_url", "result_url", "cancel_url"}
            assert answer["status_url"] == f"{url}/runcomfy/v1/requests/{answer['request_id']}/status"

        def ask(request_id: str) -> list[Any]:
            return [run_curl(moved(command, "runcomfy", url).replace("{request_id}", request_id)) for command in others]

        status, result, cancelled = ask(answers[0]["request_id"])
        assert status["request_id"] == result["request_id"] == cancelled["request_id"] == answers[0]["request_id"]
        assert (status["status"], result["status"], cancelled["status"]) == ("in_queue", "in_queue", "cancelled")

        asyncio.run(clock.advance(3_600))
        status, result, cancelled = ask(answers[1]["request_id"])
        assert status["status"] == "completed"
        assert result["output"].keys() <= output_schema(document)["properties"].keys()
        assert cancelled["outcome"] == "not_cancellable"
        assert_is_a_video(result["output"]["video"])


def test_the_states_that_the_runcomfy_document_names_are_the_ones_that_a_status_has() -> None:
    (sentence,) = re.findall(r"Fetch the current state for a request_id \((.*)\)", TEXTS[RUNCOMFY_IMAGE])
    schema = CONTRACTS["runcomfy"].schemas.at("openapi.json#/components/schemas/Status/properties/status/enum")
    assert re.findall(r'"(\w+)"', sentence) == schema


def test_the_curl_of_the_runflow_document_runs_as_printed() -> None:
    (command,) = CURL.findall(TEXTS[RUNFLOW])
    with served(pace="instant") as url:
        answer = run_curl(moved(command, "runflow", url))
        assert list(answer) == ["video"]
        assert_is_a_video(answer["video"]["url"])


def test_the_python_of_the_runflow_document_runs_as_printed() -> None:
    with served(pace="instant") as url:
        code = moved(block(RUNFLOW, "python"), "runflow", url)
        assert_is_a_video(run_example(sys.executable, "-c", code))


def test_the_javascript_of_the_runflow_document_runs_as_printed() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed; the JavaScript example of the Runflow document is not run")
    with served(pace="instant") as url:
        code = moved(block(RUNFLOW, "javascript"), "runflow", url)
        assert_is_a_video(run_example("node", "--input-type=module", "--eval", code))


HIAPI_BODIES = re.findall(r"Request body\n(\{\n.*?\n\})\n", TEXTS[HIAPI], re.DOTALL)


def test_every_request_body_of_the_hiapi_document_is_found() -> None:
    assert len(HIAPI_BODIES) == TEXTS[HIAPI].count("Request body\n") == 3


@pytest.mark.parametrize("body", HIAPI_BODIES)
def test_every_request_body_of_the_hiapi_document_makes_a_video_as_printed(body: str) -> None:
    """By the steps of "Getting the result", with the endpoint, the fields and the words that the page names."""
    method, path = re.findall(r"^Endpoint (\w+) (\S+)$", TEXTS[HIAPI], re.MULTILINE)[0]
    (detail,) = set(re.findall(r"GET (/v1/tasks/:id)", TEXTS[HIAPI]))
    headers = {"authorization": "Bearer sk-test", "content-type": "application/json"}
    with served(pace="instant") as url, opened(f"{url}/hiapi", headers) as http:
        created = http.request(method, path, content=body)
        assert created.status_code == 200
        task = http.get(detail.replace(":id", created.json()["data"]["taskId"])).json()["data"]
        assert task["status"] == "success"
        video = next(output for output in task["output"] if output["type"] == "video")
        assert_is_a_video(video["url"])


def test_the_body_that_the_vtrix_document_describes_makes_a_video() -> None:
    """The page prints no request; its body is put together from the value, example or default of each parameter."""
    said = vtrix_values()
    body = {
        "model": said["model"],
        "input": {"prompt": said["prompt"], "media": [{"type": said["type"], "url": said["url"]}]},
        "parameters": {
            "resolution": said["resolution"],
            "duration": int(said["duration"]),
            "watermark": said["watermark"] == "true",
        },
    }
    (header,) = re.findall(r"^(Authorization: Bearer YOUR_API_KEY)$", TEXTS[VTRIX], re.MULTILINE)
    (rate,) = re.findall(r"generates videos at (\d+)fps in MP4 format", TEXTS[VTRIX])
    contract = CONTRACTS["vtrix"]
    with served(pace="instant") as url, opened(f"{url}/vtrix", dict([header.split(": ")])) as http:
        created = http.post(contract.operations["submit"].path, json=body).json()
        task = http.get(contract.operations["status"].path.replace("{id}", created["id"])).json()
        assert created["status"] == "in_progress"
        assert task["status"] == "completed"
        (content,) = task["output"][0]["content"]
        assert content["type"] == "video"
        video = probe(httpx.get(content["url"], trust_env=False, timeout=LONGEST).content)
    assert video.fps == int(rate)
    assert video.frames == int(rate) * int(said["duration"])


def vtrix_values() -> dict[str, str]:
    """Return the first value, example or default that the document prints for each parameter."""
    found: dict[str, str] = {}
    name = ""
    for line in TEXTS[VTRIX].splitlines():
        if re.fullmatch(HEADINGS[VTRIX], line):
            name = line.split()[0]
        elif match := re.fullmatch("(?:Value|Example|Default): (.*)", line):
            found.setdefault(name, match[1])
    return found


# ---- what RunComfy's documents state: a JSON Schema


def schemas_in(document: str) -> list[Any]:
    """Return the input schema and the output schema that a RunComfy document prints; other objects are quoted."""
    text = TEXTS[document]
    found, at = [], 0
    while (match := re.compile(r"(?<!')\{\n").search(text, at)) is not None:
        value, at = json.JSONDecoder().raw_decode(text, match.start())
        found.append(value)
    return found


def output_schema(document: str) -> Any:
    return schemas_in(document)[1]["output"]


def stated(schema: Any) -> Any:
    """Return a schema without what is only for people."""
    if isinstance(schema, dict):
        return {
            name: {key: stated(child) for key, child in value.items()} if name == "properties" else stated(value)
            for name, value in schema.items()
            if name not in ("$schema", "title", "description")
        }
    return schema


RUNCOMFY_SCHEMAS = [
    (RUNCOMFY_IMAGE, "models/image-to-video.schema.json"),
    (RUNCOMFY_REFERENCE, "models/reference-to-video.schema.json"),
]


@pytest.mark.parametrize(("document", "file"), RUNCOMFY_SCHEMAS)
def test_the_input_schema_of_a_runcomfy_document_is_the_models(document: str, file: str) -> None:
    """Names, types, enums, defaults, bounds and what is required: all that is no title and no description."""
    printed, kept = stated(schemas_in(document)[0]), stated(CONTRACTS["runcomfy"].schemas.document(file))
    assert kept == printed
    assert list(kept["properties"]) == list(printed["properties"])


@pytest.mark.parametrize(("document", "file"), RUNCOMFY_SCHEMAS)
def test_the_output_schema_of_a_runcomfy_document_is_that_of_a_result(document: str, file: str) -> None:
    kept = CONTRACTS["runcomfy"].schemas.at("openapi.json#/components/schemas/Result/properties/output")
    assert stated(kept) == stated(output_schema(document))


@pytest.mark.parametrize("name", ["type", "enum", "default", "minimum", "maximum", "maxLength", "required"])
def test_a_schema_that_departs_from_its_document_in_one_keyword_is_caught(name: str) -> None:
    kept = stated(CONTRACTS["runcomfy"].schemas.document("models/image-to-video.schema.json"))
    printed = schemas_in(RUNCOMFY_IMAGE)[0]
    departed = [holder for holder in (printed, *printed["properties"].values()) if name in holder]
    assert departed
    for holder in departed:
        was = holder.pop(name)
        assert stated(printed) != kept
        holder[name] = was
    assert stated(printed) == kept


# ---- what the other documents state: sentences


MODELS = {
    HIAPI: ("hiapi", "models/happyhorse-1.1-image-to-video.schema.json"),
    RUNFLOW: ("runflow", "models/image-to-video.schema.json"),
    VTRIX: ("vtrix", "models/happyhorse_1.0_i2v.schema.json"),
    RUNCOMFY_IMAGE: ("runcomfy", "models/image-to-video.schema.json"),
    RUNCOMFY_REFERENCE: ("runcomfy", "models/reference-to-video.schema.json"),
}

MEBIBYTE = 1_048_576
IMAGES = "lifecycle.json#/models/0/images"
PROMPT = "lifecycle.json#/models/0/prompt_limit"
PRICE = "lifecycle.json#/models/0/price"
TASK = "openapi.json#/components/schemas/Task/properties"
CONTENT = f"{TASK}/output/items/properties/content/items/properties"

FACTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    HIAPI: {
        "model string required": {"/type": "object", "/properties/model/type": "string", "/required/0": "model"},
        "Fixed value happyhorse-1.1/image-to-video.": {
            "/properties/model/const": "happyhorse-1.1/image-to-video",
            "lifecycle.json#/models/0/id": "happyhorse-1.1/image-to-video",
        },
        "input object required": {"/properties/input/type": "object", "/required/1": "input"},
        "image_urls string[] required": {
            "/properties/input/required/0": "image_urls",
            "/properties/input/properties/image_urls/type": "array",
            "/properties/input/properties/image_urls/items/type": "string",
        },
        "First-frame image URL (exactly 1).": {
            "/properties/input/properties/image_urls/minItems": 1,
            "/properties/input/properties/image_urls/maxItems": 1,
        },
        "JPEG/PNG/WEBP, shortest side >= 300px, <= 20MB.": {
            f"{IMAGES}/formats": ["jpeg", "png", "webp"],
            f"{IMAGES}/least_side": 300,
            f"{IMAGES}/most_bytes": 20 * MEBIBYTE,
        },
        "prompt string optional": {"/properties/input/properties/prompt/type": "string"},
        "resolution enum optional": {"/properties/input/properties/resolution/type": "string"},
        "default 1080p enum: 720p1080p": {
            "/properties/input/properties/resolution/default": "1080p",
            "/properties/input/properties/resolution/enum": ["720p", "1080p"],
        },
        "duration integer optional": {"/properties/input/properties/duration/type": "integer"},
        "Clip length in seconds (3-15).": {
            "/properties/input/properties/duration/minimum": 3,
            "/properties/input/properties/duration/maximum": 15,
        },
        "Cost scales with duration.\n\ndefault 5\n": {"/properties/input/properties/duration/default": 5},
        "callback object optional": {"/properties/callback/type": "object"},
        "url string required\n\nRequired when callback is set": {
            "/properties/callback/properties/url/type": "string",
            "/properties/callback/required/0": "url",
        },
        "when enum optional": {"/properties/callback/properties/when/type": "string"},
        "default final enum: final": {
            "/properties/callback/properties/when/default": "final",
            "/properties/callback/properties/when/enum": ["final"],
        },
        "When status=success, download the generated video from output[].url.": {
            f"{TASK}/output/type": "array",
            "openapi.json#/components/schemas/Output/properties/url/type": "string",
        },
        "Both success and fail are terminal states": {
            "lifecycle.json#/stages/success/class": "success",
            "lifecycle.json#/stages/fail/class": "failure",
        },
    },
    RUNFLOW: {
        "- **Model ID**: `alibaba/happy-horse/image-to-video`": {
            "lifecycle.json#/models/0/id": "alibaba/happy-horse/image-to-video"
        },
        "- **Base price**: $0.14/second\n- **Note**: Per second of generated video (720p baseline)": {
            f"{PRICE}/720p": "0.14"
        },
        "- **resolution**: $0.28/second": {f"{PRICE}/1080p": "0.28"},
        "### `image_url` (image, required)": {
            "/type": "object",
            "/properties/image_url/type": "string",
            "/required/0": "image_url",
        },
        "Formats: JPEG, JPG, PNG, BMP, WEBP.": {f"{IMAGES}/formats": ["jpeg", "png", "bmp", "webp"]},
        "Dimensions must be at least 300px.": {f"{IMAGES}/least_side": 300},
        "Aspect ratio must be between 1:2.5 and 2.5:1.": {f"{IMAGES}/aspect": [1 / 2.5, 2.5]},
        "Max 10 MB.": {f"{IMAGES}/most_bytes": 10 * MEBIBYTE},
        "### `duration` (integer, optional)": {"/properties/duration/type": "integer"},
        "Output video duration in seconds (3-15).": {
            "/properties/duration/minimum": 3,
            "/properties/duration/maximum": 15,
        },
        "- **Default**: `5`": {"/properties/duration/default": 5},
        "### `prompt` (string, optional)": {"/properties/prompt/type": "string"},
        "Max 2500 characters.": {"/properties/prompt/maxLength": 2_500},
        "### `enable_safety_checker` (boolean, optional)": {"/properties/enable_safety_checker/type": "boolean"},
        "- **Default**: `true`": {"/properties/enable_safety_checker/default": True},
        "### `resolution` (string, optional)": {"/properties/resolution/type": "string"},
        "- **Default**: `1080p`": {"/properties/resolution/default": "1080p"},
        "### `seed` (integer, optional)": {"/properties/seed/type": "integer"},
        "Random seed for reproducibility (0-2147483647).": {
            "/properties/seed/minimum": 0,
            "/properties/seed/maximum": 2_147_483_647,
        },
    },
    VTRIX: {
        "model string required": {"/type": "object", "/properties/model/type": "string", "/required/0": "model"},
        "Value: happyhorse_1.0_i2v": {
            "/properties/model/const": "happyhorse_1.0_i2v",
            "lifecycle.json#/models/0/id": "happyhorse_1.0_i2v",
        },
        "input object required": {"/properties/input/type": "object", "/required/1": "input"},
        "prompt string\n": {"/properties/input/properties/prompt/type": "string"},
        "Chinese prompts support up to 2500 characters, and non-Chinese prompts support up to 5000 characters.": {
            f"{PROMPT}/characters": 5_000,
            f"{PROMPT}/chinese": 2_500,
        },
        "Content exceeding the limit is automatically truncated": {f"{PROMPT}/over": "truncate"},
        "media array required": {
            "/properties/input/properties/media/type": "array",
            "/properties/input/properties/media/items/type": "object",
            "/properties/input/required/0": "media",
        },
        "Provide exactly one first-frame image": {
            "/properties/input/properties/media/minItems": 1,
            "/properties/input/properties/media/maxItems": 1,
        },
        "type string required\n\nMedia type\n\nValue: first_frame": {
            "/properties/input/properties/media/items/required/0": "type",
            "/properties/input/properties/media/items/properties/type/type": "string",
            "/properties/input/properties/media/items/properties/type/const": "first_frame",
        },
        "url string required": {
            "/properties/input/properties/media/items/required/1": "url",
            "/properties/input/properties/media/items/properties/url/type": "string",
        },
        "Supported formats: JPEG, JPG, PNG, WEBP": {f"{IMAGES}/formats": ["jpeg", "png", "webp"]},
        "Width and height: at least 300 pixels": {f"{IMAGES}/least_side": 300},
        "Aspect ratio: from 1:2.5 to 2.5:1": {f"{IMAGES}/aspect": [1 / 2.5, 2.5]},
        "File size: maximum 20MB": {f"{IMAGES}/most_bytes": 20 * MEBIBYTE},
        "Publicly accessible HTTP or HTTPS URL\n"
        "Base64 format: data:{MIME_type};base64,{base64_data}\n"
        "MIME types: JPEG/JPG image/jpeg, PNG image/png, WEBP image/webp": {
            "/properties/input/properties/media/items/properties/url/pattern": "^(https?://|data:image/(jpeg|png|webp);base64,)"
        },
        "parameters object": {"/properties/parameters/type": "object"},
        "resolution string": {"/properties/parameters/properties/resolution/type": "string"},
        "Options: 720P, 1080P\n\nDefault: 1080P": {
            "/properties/parameters/properties/resolution/enum": ["720P", "1080P"],
            "/properties/parameters/properties/resolution/default": "1080P",
        },
        "duration integer": {"/properties/parameters/properties/duration/type": "integer"},
        "Range: 3 - 15\n\nDefault: 5": {
            "/properties/parameters/properties/duration/minimum": 3,
            "/properties/parameters/properties/duration/maximum": 15,
            "/properties/parameters/properties/duration/default": 5,
        },
        "watermark boolean": {"/properties/parameters/properties/watermark/type": "boolean"},
        "Options: true, false\n\nDefault: true": {"/properties/parameters/properties/watermark/default": True},
        "seed integer": {"/properties/parameters/properties/seed/type": "integer"},
        "Range: 0 - 2147483647": {
            "/properties/parameters/properties/seed/minimum": 0,
            "/properties/parameters/properties/seed/maximum": 2_147_483_647,
        },
        "Error information, only present when status is failed": {"lifecycle.json#/stages/failed/class": "failure"},
        "Generation results, only present when status is completed": {
            "lifecycle.json#/stages/completed/class": "success",
            f"{TASK}/output/type": "array",
        },
        "content array": {f"{TASK}/output/items/properties/content/type": "array"},
        "Value: image|video": {f"{CONTENT}/type/enum": ["image", "video"]},
        "jobId string": {f"{CONTENT}/jobId/type": "string"},
        "cost string": {f"{TASK}/usage/properties/cost/type": "string"},
        "discount number": {f"{TASK}/usage/properties/discount/type": "number"},
        "metadata object": {f"{TASK}/metadata/type": "object"},
    },
    RUNCOMFY_IMAGE: {
        "Formats: JPEG, JPG, PNG, or WEBP.": {f"{IMAGES}/formats": ["jpeg", "png", "webp"]},
        "Min 300px per side; aspect between 1:2.5 and 2.5:1; max 10MB.": {
            f"{IMAGES}/least_side": 300,
            f"{IMAGES}/aspect": [1 / 2.5, 2.5],
            f"{IMAGES}/most_bytes": 10 * MEBIBYTE,
        },
        "Up to 5000 non-Chinese characters or 2500 Chinese characters (longer input is truncated).": {
            f"{PROMPT}/characters": 5_000,
            f"{PROMPT}/chinese": 2_500,
            f"{PROMPT}/over": "truncate",
        },
        "Use 0 to let the provider randomize.": {"lifecycle.json#/models/0/random_seed": 0},
    },
    RUNCOMFY_REFERENCE: {
        "Format : JPEG, JPG, PNG ou WEBP. Côté court ≥ 400 px, recommandé 720P ou supérieur, max 10 Mo.": {
            "lifecycle.json#/models/1/images/formats": ["jpeg", "png", "webp"],
            "lifecycle.json#/models/1/images/least_side": 400,
            "lifecycle.json#/models/1/images/most_bytes": 10 * MEBIBYTE,
        },
        "Max 2 500 caractères chinois / 5 000 caractères non chinois.": {
            "lifecycle.json#/models/1/prompt_limit/characters": 5_000,
            "lifecycle.json#/models/1/prompt_limit/chinese": 2_500,
        },
        "Utilisez 0 pour laisser le fournisseur randomiser.": {"lifecycle.json#/models/1/random_seed": 0},
    },
}
"""What stands in a contract because of a sentence; a place without a file is one of the model's schema."""

HEADINGS = {
    HIAPI: r"^\w+ (?:string|object|enum|integer|boolean|number)(?:\[\])? (?:required|optional)$",
    RUNFLOW: r"^### `\w+` \(\w+, (?:required|optional)\)$",
    VTRIX: r"^\w+ (?:string|object|array|integer|boolean|number)(?: required)?$",
}
"""The line with which each document begins a parameter."""

NOT_OF_THE_BODY = {
    VTRIX: {
        "authorization string required": "a header",
        "error object": "of an answer; that it may be a text too is assumed",
        "code string": "of an answer; that it may be a number too is assumed",
        "message string": "of an answer",
        "output array": "of an answer, by its sentence",
        "type string": "of an answer, by its values",
        "url string": "of an answer",
        "usage object": "of an answer, by its members",
    },
}
"""Headings that state nothing which the table has under these very words."""

ELSEWHERE = {
    HIAPI: {
        "/properties/input/additionalProperties": "the provider's blog: unknown input fields are refused",
        "/properties/route/type": "the published client",
        "/properties/storage/type": "the documentation of the API",
    },
    RUNFLOW: {},
    VTRIX: {},
}
"""What stands in a model's schema because of another document than the one kept here."""

FOR_PEOPLE = {"$schema", "$id", "title", "description", "example", "examples", "format"}
BREAKABLE = KEYWORDS - FOR_PEOPLE - {"$ref", "anyOf", "properties", "items", "required"}


def holds(document: str, place: str) -> Any:
    """Return what a contract has at a place of the table."""
    key, file = MODELS[document]
    return CONTRACTS[key].schemas.at(place if "#" in place else f"{file}#{place}")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [(document, sentence) for document, facts in FACTS.items() for sentence in facts],
)
def test_what_a_document_states_stands_in_the_contract(document: str, sentence: str) -> None:
    assert sentence in TEXTS[document]
    for place, value in FACTS[document][sentence].items():
        found = holds(document, place)
        assert (found, type(found)) == (value, type(value)), place


@pytest.mark.parametrize("document", HEADINGS)
def test_every_parameter_that_a_document_describes_is_in_the_table(document: str) -> None:
    found = re.findall(HEADINGS[document], TEXTS[document], re.MULTILINE)
    told = {sentence.splitlines()[0] for sentence in FACTS[document]}
    assert len(found) >= 6
    assert set(found) <= told | NOT_OF_THE_BODY.get(document, {}).keys()


@pytest.mark.parametrize("document", ELSEWHERE)
def test_a_models_schema_says_nothing_that_is_neither_documented_nor_listed_as_assumed(document: str) -> None:
    key, file = MODELS[document]
    contract = CONTRACTS[key]
    told = {place for values in FACTS[document].values() for place in values}
    assumed = [at.partition("#")[2] for one in contract.assumptions for at in one.at if at.startswith(f"{file}#")]
    for place in constraints("", contract.schemas.document(file)):
        covered = place in told or place in ELSEWHERE[document]
        assert covered or any(place == at or place.startswith(f"{at}/") for at in assumed), place
    assert all(holds(document, place) is not MISSING for place in ELSEWHERE[document])


def constraints(pointer: str, schema: Any) -> Iterator[str]:
    """Yield the place of every keyword of a schema that a request can break."""
    for name, value in schema.items():
        if name in BREAKABLE:
            yield f"{pointer}/{name}"
        elif name == "required":
            yield from (f"{pointer}/required/{index}" for index in range(len(value)))
        elif name == "items":
            yield from constraints(f"{pointer}/items", value)
        elif name == "properties":
            for key, child in value.items():
                yield from constraints(f"{pointer}/properties/{key}", child)


def test_every_host_that_a_document_calls_is_one_that_the_contract_answers_for() -> None:
    for document in (RUNCOMFY_IMAGE, RUNCOMFY_REFERENCE, RUNFLOW):
        key, _ = MODELS[document]
        called = {urlsplit(url).netloc for url in re.findall(r"https://[^\s\"'`]+/v1/[^\s\"'`]+", TEXTS[document])}
        assert called == set(CONTRACTS[key].hosts)
