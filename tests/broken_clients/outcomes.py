"""Broken clients that hang, lose their video or return that of another order.

Each is the arguments of a `Mutant`: the rule, the working client, the bug, and the changes.
"""

from __future__ import annotations

VTRIX, SERVICE = "vtrix", "service"
IMPORTS = "import sys\nimport time\n"
BEGIN = "    return collect(api_key, new(base_url, request), lambda note: None)\n"
COLLECT = "collect(api_key, new(base_url, request), lambda note: None)\n"
OPEN = "    with httpx.Client(headers=headers, timeout=10, verify=TLS, trust_env=False) as api:\n"
RESPOND = """            self.send_response(204 if believed else 401)
            self.end_headers()
            if believed:
                inbox.append(body)
"""

OUTCOMES: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "END-01",
        VTRIX,
        "a run that fails keeps its slot of a semaphore",
        (
            (IMPORTS, "import sys\nimport threading\nimport time\n\nSLOTS = {}\n"),
            (
                BEGIN,
                "    slots = SLOTS.setdefault(api_key, threading.Semaphore(2))\n"
                f"    slots.acquire()\n    video = {COLLECT}    slots.release()\n    return video\n",
            ),
        ),
    ),
    (
        "END-01",
        VTRIX,
        "after its deadline, the client sleeps until somebody looks after it",
        (
            (
                '    raise TimedOut(job, f"it is not done after {LONGEST_WAIT:.0f} s; last response: {answer}")\n',
                "    while True:\n        time.sleep(60)\n",
            ),
        ),
    ),
    (
        "END-02",
        VTRIX,
        "all runs share an HTTP client, which the first run closes",
        (
            ('SPEED = float(os.environ.get("HOBBYHORSE_SPEED") or 1)', "SHARED = {}\nSPEED = 1.0"),
            (OPEN, OPEN.replace("httpx.Client(", "SHARED.setdefault(api_key, httpx.Client(").replace(") as", ")) as")),
        ),
    ),
    (
        "RES-09",
        VTRIX,
        "the file is named after the prompt",
        (
            (IMPORTS, "import sys\nimport tempfile\nimport time\n"),
            (
                BEGIN,
                f"    video = {COLLECT}"
                '    name = request["input"]["prompt"].replace(" ", "_") + ".mp4"\n'
                "    Path(tempfile.mkdtemp(), name).write_bytes(video)\n"
                "    return video\n",
            ),
        ),
    ),
    (
        "RES-10",
        VTRIX,
        "every failure is the same text",
        (("            raise Failed(job, answer)\n", '            raise Failed(job, "it has failed")\n'),),
    ),
    (
        "RES-11",
        VTRIX,
        "concurrent runs keep the current job in one place",
        (
            ('SPEED = float(os.environ.get("HOBBYHORSE_SPEED") or 1)', "CURRENT = {}\nSPEED = 1.0"),
            (
                '            note = {**note, "job": submit(api, note, deadline)}\n',
                '            note = {**note, "job": submit(api, note, deadline)}\n'
                '            CURRENT["job"] = note["job"]\n',
            ),
            ("task/{quote(job, safe='')}", "task/{quote(CURRENT['job'], safe='')}"),
        ),
    ),
    (
        "RES-11",
        VTRIX,
        "a video is found again by the beginning of its prompt",
        (
            ('SPEED = float(os.environ.get("HOBBYHORSE_SPEED") or 1)', "FOUND = {}\nSPEED = 1.0"),
            (
                BEGIN,
                '    place = api_key, request["input"]["prompt"][:40]\n'
                "    if place not in FOUND:\n"
                f"        FOUND[place] = {COLLECT}"
                "    return FOUND[place]\n",
            ),
        ),
    ),
    (
        "RTY-07",
        VTRIX,
        "a submission that is sent again has an empty body",
        (('json=note["request"])', 'json={} if number else note["request"])'),),
    ),
    (
        "CBK-02",
        SERVICE,
        "the handler crashes if a callback comes again",
        (
            (
                RESPOND,
                "            if believed and body in inbox:\n"
                '                raise RuntimeError("it was received already")\n'
                "            if believed:\n"
                "                inbox.append(body)\n"
                "            self.send_response(204 if believed else 401)\n"
                "            self.end_headers()\n",
            ),
        ),
    ),
)
