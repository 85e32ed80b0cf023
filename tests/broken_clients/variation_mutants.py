"""Broken clients for the rules about variations: rule, working client, bug, and changes, for `mutants` to build."""

from __future__ import annotations

Changes = tuple[tuple[str, str], ...]

ASKED = (
    '            return Answer(response.status_code, bytes(body), seconds(response.headers.get("Retry-After", "")))\n'
)
COLLECTED = "            body = bytearray()\n"
FETCH = '            answer = ask(anybody, "GET", url, within=300)\n'
FOUND = '            return answer.text(*(videos or places)[0], "url")\n'
STAGE = '        stage = answer.text("status")\n'
BORNE = 'BORNE = {"refused": 1, "missing": 3, "useless": 4, "troubled": 8}'
TROUBLED = "    if answer.status in (-1, 0, 408, 425, 429) or answer.status >= 500:\n"
WAITED = "    try:\n        # An HTTP-date is in GMT, also in the old form that does not say so.\n"


def _before(text: str, added: str) -> Changes:
    """Return the change that adds lines before a text."""
    return ((text, added + text),)


def _refusing(condition: str) -> Changes:
    """Return the change that takes a response for none."""
    return _before(ASKED, f"            if {condition}:\n                return Answer()\n")


NO_PATIENCE = (BORNE, BORNE.replace('"refused": 1', '"refused": 0'))
VARIATIONS: tuple[tuple[str, str, str, Changes], ...] = (
    (
        "VAR-01",
        "vtrix",
        "a header is looked up in the spelling of one server",
        _before(COLLECTED, '            dict(response.headers.raw)[b"content-type"]\n'),
    ),
    (
        "VAR-02",
        "vtrix",
        "the length is needed for a progress bar",
        _before(COLLECTED, '            int(response.headers["Content-Length"])\n'),
    ),
    ("VAR-03", "vtrix", "a coding is offered and not decoded", (("response.iter_bytes()", "response.iter_raw()"),)),
    (
        "VAR-04",
        "vtrix",
        "only the documented statuses of the class 5xx are transient",
        ((TROUBLED, TROUBLED.replace(">= 500", "in (500, 502, 503, 504)")), NO_PATIENCE),
    ),
    (
        "VAR-05",
        "vtrix",
        "a resumed download is appended although the response is 200",
        (
            (COLLECTED, ""),
            ("    until = time.monotonic() + within\n", "    until, body = time.monotonic() + within, bytearray()\n"),
            (
                "    except (httpx.RequestError, httpx.InvalidURL):\n        return Answer()\n",
                "    except (httpx.RequestError, httpx.InvalidURL):\n        return Answer(0, bytes(body))\n",
            ),
            (
                FETCH,
                '            got, start = answer.body, {"Range": f"bytes={len(answer.body)}-"} if answer.body else {}\n'
                '            answer = ask(anybody, "GET", url, within=300, headers=start)\n'
                "            answer = Answer(200 if answer.status == 206 else answer.status, got + answer.body)\n",
            ),
        ),
    ),
    (
        "VAR-06",
        "vtrix",
        "the download begins with HEAD",
        _before(FETCH, '            if ask(anybody, "HEAD", url).status != 200:\n                continue\n'),
    ),
    (
        "VAR-07",
        "vtrix",
        "the URL is cut out of the text of the JSON",
        ((FOUND, """            return answer.body.decode().partition('"url":"')[2].partition('"')[0]\n"""),),
    ),
    (
        "VAR-08",
        "runflow_callbacks",
        "the signature is compared with that of the JSON as the client would write it",
        (
            (
                "    expected = hmac.new(",
                '    body = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()\n'
                "    expected = hmac.new(",
            ),
        ),
    ),
    (
        "VAR-09",
        "vtrix",
        "the stage is the first one in the text",
        ((STAGE, """        stage = answer.body.decode().partition('"status":"')[2].partition('"')[0]\n"""),),
    ),
    (
        "VAR-10",
        "vtrix",
        "an optional member is read without a test",
        _before(FOUND, '            json.loads(answer.body)["usage"]["cost"]\n'),
    ),
    (
        "VAR-11",
        "vtrix",
        "the last output is taken for the video",
        ((FOUND, '            return [url for at in places if (url := answer.text(*at, "url"))][-1]\n'),),
    ),
    (
        "VAR-11",
        "hiapi",
        "the first output is taken for the video",
        (('n for n in range(9) if answer.text("data", "output", n, "type") == "video"', "0"),),
    ),
    (
        "VAR-12",
        "vtrix",
        "the query of a link is decoded and encoded again",
        ((FETCH, FETCH.replace("url,", 'url.replace("%2B", "+"),')),),
    ),
    (
        "VAR-13",
        "vtrix",
        "Retry-After is read as a number only",
        _before(WAITED, "    if told:\n        return float(int(told))\n"),
    ),
    (
        "VAR-14",
        "vtrix",
        "the media type is compared as a text",
        _refusing('response.headers.get("content-type") not in ("application/json", "video/mp4")'),
    ),
    (
        "VAR-15",
        "hiapi_callbacks",
        "a signature from a clock that is ahead is refused",
        (
            (
                "abs(STARTED + (time.time() - STARTED) * SPEED - int(timestamp)) > TOLERANCE",
                "not -2 < STARTED + (time.time() - STARTED) * SPEED - int(timestamp) < TOLERANCE",
            ),
        ),
    ),
    (
        "VAR-16",
        "vtrix",
        "a success with an empty error is taken for a failure",
        _before(
            FOUND, '            if "error" in json.loads(answer.body):\n                raise Failed(job, answer)\n'
        ),
    ),
    (
        "VAR-17",
        "vtrix",
        "progress is computed with null",
        _before(
            STAGE, '        if answer.body[:1] == b"{":\n            100 * json.loads(answer.body).get("progress", 0)\n'
        ),
    ),
    (
        "VAR-17",
        "vtrix",
        "a full progress is taken for the end",
        (
            (
                STAGE,
                STAGE
                + '        if stage and stage != "completed" and b\'"progress":1\' in answer.body.replace(b" ", b""):\n'
                + '            raise Failed(job, "it is done, but has no video")\n',
            ),
        ),
    ),
    (
        "VAR-17",
        "vtrix",
        "the cost is computed with an empty text",
        _before(
            STAGE,
            '        if b\'"cost"\' in answer.body:\n            float(json.loads(answer.body)["usage"]["cost"])\n',
        ),
    ),
    (
        "VAR-18",
        "vtrix",
        "the code of an error is expected to be a text",
        (
            (
                "            raise Failed(job, answer)\n",
                '            raise Failed(job, json.loads(answer.body)["error"]["code"].upper())\n',
            ),
        ),
    ),
    (
        "VAR-19",
        "vtrix",
        "a fraction in Retry-After ends the run",
        _before(WAITED, '    if told and not told.endswith("GMT"):\n        return float(int(told))\n'),
    ),
    (
        "VAR-20",
        "vtrix",
        "408 and 425 count as refusals",
        ((TROUBLED, TROUBLED.replace("408, 425, ", "")), NO_PATIENCE),
    ),
    (
        "VAR-21",
        "vtrix",
        "an encoded slash in a query is decoded",
        ((FETCH, FETCH.replace("url,", 'url.replace("%2F", "/"),')),),
    ),
    (
        "VAR-22",
        "vtrix",
        "JSON under another media type counts as no response",
        _refusing('not response.headers.get("content-type", "").lower().startswith(("application/json", "video/"))'),
    ),
    (
        "VAR-23",
        "vtrix",
        "only one status accepts the order",
        (
            (
                '        if job := answer.text("id"):\n',
                '        if answer.status == 200 and (job := answer.text("id")):\n',
            ),
        ),
    ),
)
