"""Broken clients for the rules about redirects, files, ids and connections: rule, working client, bug, and changes."""

from __future__ import annotations

from .variation_mutants import ASKED, COLLECTED, FETCH, WAITED, Changes

STREAMED = "        with http.stream(method, url, follow_redirects=False, **more) as response:\n"
TRUSTED = "httpx.Client(timeout=10, verify=TLS, trust_env=False) as anybody"
IMPORTS = ("import sys\nimport time\n", "import sys\nimport tempfile\nimport time\n")
SAVED = "    return collect(api_key, new(base_url, request), lambda note: None)\n"
TLS = "TLS = httpx.create_ssl_context()"
POLLED = """        answer = ask(api, "GET", f"{base_url}/v1/runs/{quote(job, safe='')}")\n"""
NAMED = (
    IMPORTS,
    (TLS, f"NAMES: list[str] = []\n{TLS}"),
    (ASKED, '            NAMES.append(response.headers.get("Content-Disposition", ""))\n' + ASKED),
)
FOLLOWED = (STREAMED, STREAMED.replace("follow_redirects=False", 'follow_redirects="/media/" in url'))
SUGGESTED = """NAMES[-1].partition('filename="')[2].rstrip('"') or "video.mp4\""""


def _saving(path: str) -> Changes:
    """Return the change that saves the video, and returns its path."""
    saved = SAVED.replace("return ", "video = ")
    return ((SAVED, f"{saved}    path = {path}\n    path.write_bytes(video)\n    return path\n"),)


EXCHANGES: tuple[tuple[str, str, str, Changes], ...] = (
    (
        "RED-01",
        "vtrix",
        "a redirected submission is followed with GET",
        (
            (
                ASKED,
                '            if method == "POST" and response.next_request:\n'
                '                return ask(http, "GET", str(response.next_request.url))\n' + ASKED,
            ),
        ),
    ),
    (
        "RED-02",
        "vtrix",
        "a download follows every redirect",
        (FOLLOWED, (TRUSTED, TRUSTED.replace("trust_env=False", "trust_env=False, max_redirects=300"))),
    ),
    ("SEC-03", "vtrix", "only the first URL of a download is checked, not the targets of its redirects", (FOLLOWED,)),
    (
        "SEC-06",
        "vtrix",
        "the file has the path that the server suggests",
        (*NAMED, *_saving(f"Path(tempfile.mkdtemp()) / ({SUGGESTED})")),
    ),
    (
        "SEC-07",
        "vtrix",
        "the key of the first order is kept for all",
        (
            (TLS, f"KEPT: list[str] = []\n{TLS}"),
            (
                """    headers = {"Authorization": f"Bearer {api_key}"}\n""",
                """    KEPT.append(api_key)\n    headers = {"Authorization": f"Bearer {KEPT[0]}"}\n""",
            ),
        ),
    ),
    (
        "SEC-08",
        "vtrix",
        "the error shows the headers of its request",
        (
            (
                'f"the submission returned no job: {answer}")',
                'f"the submission returned no job: {answer}; it was sent with {dict(api.headers)}")',
            ),
        ),
    ),
    (
        "VAR-27",
        "vtrix",
        "the file has the name that the server suggests, whatever its length is",
        (*NAMED, *_saving(f"Path(tempfile.mkdtemp()) / Path({SUGGESTED}).name")),
    ),
    (
        "RES-13",
        "vtrix",
        "every video is saved under the same name",
        (IMPORTS, *_saving('Path(tempfile.gettempdir()) / "hobbyhorse-mutant.mp4"')),
    ),
    (
        "CAN-03",
        "runcomfy",
        "a job counts as cancelled as soon as that was requested",
        (
            (
                '        if told.text("status") != "completed" or told.text("outcome") == "cancelled":\n'
                "            raise\n",
                '        if told.text("status") != "completed" or told.text("outcome") == "cancelled":\n'
                '            raise Failed(note["job"], "it was cancelled") from None\n',
            ),
        ),
    ),
    (
        "CON-03",
        "hiapi",
        "all responses are collected in one buffer of the process",
        (
            (TLS, f"SHARED = bytearray()\n{TLS}"),
            ("            body = bytearray()\n", "            body = SHARED\n            body.clear()\n"),
        ),
    ),
    (
        "CON-02",
        "vtrix",
        "a response with an error stays open",
        (
            (TLS, f"OPEN: list[httpx.Response] = []\n{TLS}"),
            (
                STREAMED + COLLECTED,
                "        response = http.send(http.build_request(method, url, **more), stream=True)\n"
                "        if response.status_code >= 400:\n"
                "            OPEN.append(response)\n"
                "            return Answer(response.status_code)\n"
                "        for response in (response,):\n" + COLLECTED,
            ),
            ('"troubled": 8', '"troubled": 80'),
        ),
    ),
    (
        "RTY-08",
        "hiapi",
        "the code in the body of a response is ignored",
        (('"useless": 4', '"useless": 400'),),
    ),
    (
        "VAR-25",
        "vtrix",
        "a part of a file is appended, whichever part it is",
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
                "            answer = Answer(200, got + answer.body) if answer.status == 206 else answer\n",
            ),
        ),
    ),
    (
        "VAR-26",
        "vtrix",
        "an id is cut at its first dot",
        (("{quote(job, safe='')}", "{quote(job.split('.')[0], safe='')}"),),
    ),
    (
        "VAR-28",
        "runflow",
        "a poll without news counts as refused",
        (
            (TLS, f"TAGS: list[str] = []\n{TLS}"),
            (ASKED, '            TAGS.append(response.headers.get("ETag", ""))\n' + ASKED),
            (POLLED, POLLED.replace('")\n', '", headers={"If-None-Match": TAGS[-1]})\n')),
            ('"refused": 1', '"refused": 0'),
        ),
    ),
    (
        "VAR-07",
        "vtrix",
        "a response is decoded as ASCII",
        (
            (
                ASKED,
                "            if body[:1] == b'{' and not body.isascii():\n                return Answer()\n" + ASKED,
            ),
        ),
    ),
    (
        "VAR-10",
        "runcomfy",
        "the URL of the video is looked for at one place",
        ((' or answer.text("output", "videos", 0)', ""),),
    ),
    (
        "VAR-18",
        "hiapi",
        "the error of a failed job is expected to be an object",
        (
            (
                '        if stage == "fail":\n',
                '        if stage == "fail":\n            json.loads(answer.body)["data"]["error"].get("code")\n',
            ),
        ),
    ),
    (
        "RTY-01",
        "vtrix",
        "only one form of a date is read",
        ((WAITED, '    if not told.isdecimal() and told[3:4] != ",":\n        return None\n' + WAITED),),
    ),
    (
        "RTY-04",
        "hiapi",
        "a connection that was closed between two polls ends the wait",
        (
            ("1.0, 3.0, 10.0", "1.0, 8.0, 10.0"),
            (
                '        answer = ask(api, "GET", f"{base_url}/v1/tasks/{quote(job, safe=\'\')}")\n',
                "        if any(one.has_expired() for one in api._transport._pool.connections):\n"
                '            raise Lost(job, "the connection is gone")\n'
                '        answer = ask(api, "GET", f"{base_url}/v1/tasks/{quote(job, safe=\'\')}")\n',
            ),
            # The library's own age limit would close connections, too.
            (
                "httpx.Client(headers=headers,",
                "httpx.Client(limits=httpx.Limits(keepalive_expiry=3600), headers=headers,",
            ),
        ),
    ),
    (
        "RTY-10",
        "vtrix",
        "the second failure of a poll in a row ends the wait",
        (('"troubled": 8}', '"troubled": 1}'),),
    ),
    (
        "RTY-10",
        "runflow",
        "the second unusable body in a row ends the wait",
        (('"useless": 4,', '"useless": 1,'),),
    ),
    (
        "RTY-10",
        "runcomfy",
        "the second 404 of a new result ends the wait",
        (('"result_url", LEAST_INTERVAL, False', '"result_url", LEAST_INTERVAL, True'),),
    ),
    ("RTY-10", "hiapi", "the second 404 of a new job ends the wait", (('"missing": 3', '"missing": 1'),)),
    (
        "TMO-06",
        "vtrix",
        "a submission may take five seconds",
        (
            (
                "    until = time.monotonic() + within\n",
                '    until = time.monotonic() + within\n    more["timeout"] = 5 if method == "POST" else 10\n',
            ),
        ),
    ),
    ("TMO-05", "vtrix", "a download may take five seconds", (("within=300", "within=5"),)),
    (
        "TMO-05",
        "runflow",
        "the first byte of a file may take five seconds",
        (("as anybody:\n", "as anybody:\n        anybody.timeout = 5\n"),),
    ),
    (
        "TMO-04",
        "hiapi",
        "a read may take a quarter of an hour and more",
        ((STREAMED, STREAMED.replace("**more", "timeout=1_000, **more")),),
    ),
    (
        "RTY-02",
        "hiapi_callbacks",
        "a poll that is refused before the first stage is repeated like one for a missing job",
        (("answer.status == 404 and not seen", "answer.status <= 404 and not seen"),),
    ),
    (
        "SUB-01",
        "runcomfy",
        "a response that is lost after a refusal is taken for a dead connection",
        (
            (
                "        if not busy:\n            break\n",
                "        if not busy and not (number and not answer.status):\n            break\n",
            ),
        ),
    ),
    (
        "CBK-13",
        "runflow_callbacks",
        "only a forged callback wakes the client",
        (("if believed and (job :=", "if not believed and (job :="),),
    ),
    (
        "CBK-13",
        "hiapi_callbacks",
        "the receiver of callbacks wakes nobody",
        (("                heard.add(job)\n", "                pass\n"),),
    ),
    (
        "CBK-13",
        "hiapi_callbacks",
        "a callback that comes before the response to the submission is forgotten",
        (
            (
                '            note = {**note, "job": submit(api, note, deadline)}\n',
                '            note = {**note, "job": submit(api, note, deadline)}\n            heard.clear()\n',
            ),
        ),
    ),
    (
        "CBK-13",
        "hiapi_callbacks",
        "a callback that comes before the response to the submission is refused",
        (
            (
                '            note = {**note, "job": submit(api, note, deadline)}\n',
                '            note = {**note, "job": submit(api, note, deadline)}\n            heard.add("ready")\n',
            ),
            (
                "            if believed and (job :=",
                '            believed = believed and "ready" in heard\n            if believed and (job :=',
            ),
        ),
    ),
    (
        "RES-06",
        "hiapi",
        "a file of zero bytes is taken for an MP4 with one box",
        (("return at == len(data) and kinds", "return at == len(data) or kinds"),),
    ),
    (
        "VAR-29",
        "runflow",
        "a box of eight bytes at the end of a file is not seen",
        (("while at + 8 <= len(data)", "while at + 9 <= len(data)"),),
    ),
    (
        "VAR-29",
        "vtrix",
        "a box with a size of 64 bits is taken for one with a size of eight bytes",
        (
            ("if size == 1 else size or", "if size == 2 else size or"),
            ("at += max(size, 8)", "at += size if size >= 8 else len(data)"),
        ),
    ),
    (
        "END-03",
        "hiapi",
        "after a lost connection the response has no value",
        (
            (
                "    except (httpx.RequestError, httpx.InvalidURL):\n        return Answer()\n",
                "    except (httpx.RequestError, httpx.InvalidURL):\n        pass\n    return answer\n",
            ),
            (
                "    until = time.monotonic() + within\n    try:\n",
                "    until = time.monotonic() + within\n    if within < 0:\n        answer = Answer()\n    try:\n",
            ),
        ),
    ),
)
