"""The broken clients: a client that works, of which one place is changed, and the rule that the change breaks.

A change is a text of the client's source that stands there once, and what takes its place; some need two.
"""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hobbyhorse.runners.callable import Client

ROOT = Path(__file__).parents[2]
EXAMPLES, HERE = ROOT / "examples" / "python", Path(__file__).parent
HIAPI, RUNCOMFY, RUNFLOW, VTRIX = "hiapi", "runcomfy", "runflow", "vtrix"
HIAPI_TOLD, RUNFLOW_TOLD, SERVICE = "hiapi_callbacks", "runflow_callbacks", "service"
PROVIDERS = {SERVICE: HIAPI, HIAPI_TOLD: HIAPI, RUNFLOW_TOLD: RUNFLOW}
"""The provider of a client, where it is not its name."""
NOT_SHOWN = {
    "CBK-07": "no provider here tells of progress in a callback; "
    "tests/conformance/client/rules/test_notified.py has a trace written by hand"
}
"""Rules that no client can be seen to break, and why."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken client: the rule it breaks, the client that it is made of, the bug in a few words, the changes.

    One of kind `command` is run as a program that can be killed and started again; a `python` one is called.
    """

    rule: str
    client: str
    bug: str
    changes: tuple[tuple[str, str], ...]
    kind: str = "python"

    @property
    def name(self) -> str:
        """What tells mutants apart."""
        same = [one for one in MUTANTS if one.rule == self.rule]
        return f"{self.rule}-{'abcdefgh'[same.index(self)]}"

    @property
    def provider(self) -> str:
        """The key of the provider's contract."""
        return PROVIDERS.get(self.client, self.client)

    @property
    def path(self) -> Path:
        """The file of the client that it is made of."""
        return (HERE if self.client == SERVICE else EXAMPLES) / f"{self.client}.py"

    @property
    def working(self) -> str:
        """The source of the client that it is made of."""
        return self.path.read_text()

    @property
    def source(self) -> str:
        """The changed source. Raises ValueError if a place is not there once."""
        text = self.working
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.rule}, {self.bug!r}: {old!r} stands {text.count(old)} times in {self.path}")
            text = text.replace(old, new)
        return text


def load(name: str, source: str) -> Client:
    """Compile a client's source, with a name of its own, so that tracebacks show its lines; return its `generate`."""
    file = f"<{name}>"
    made = ModuleType(f"clients_{name.replace('-', '_')}")
    made.__file__ = file
    sys.modules[made.__name__] = made
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), made.__dict__)
    found: Client = made.__dict__["generate"]
    return found


# Places that several mutants change.
LOOP = "    while pause(answer, interval, deadline):\n"
TIMED_OUT = '    raise TimedOut(job, f"it is not done after {LONGEST_WAIT:.0f} s; last response: {answer}")\n'
KEEP_NOTHING = "    return collect(api_key, new(base_url, request), lambda note: None)\n"
FETCHED = '            if url and (video := fetch(note["job"], url, base_url)):\n'
WAITED = '            url = wait(api, base_url, note["job"], deadline)\n'
SUBMITTED = '            note = {**note, "job": submit(api, note, deadline)}\n'
BUSY = '        busy = answer.status in (-1, 429) or (answer.status == 503 and answer.body[:1] == b"{")\n'
FEW = 'BORNE = {"refused": 1, "missing": 3, "useless": 4, "troubled": 8}'
USELESS = "            kind = trouble(answer, seen)\n"
LOADED = "            if answer.status == 200 and is_mp4(answer.body):\n"
DOUBT = """            if note["doubt"]:
                raise Lost(None, "the outcome of the submission is unknown: look for its job in the provider's console")
"""
BELIEVED = '            if believed and (job := Answer(200, body).text("taskId")):\n'
SIGNED = '    return hmac.compare_digest(expected.encode(), headers.get("X-HiAPI-Signature", "").encode())\n'
TOLD = """                if read(message, "taskId") == job and not video:
                    polled, video = now, fetch(look(api, url))
"""
TOLD_LOOP = "            for message in [inbox.pop(0) for _ in list(inbox)]:\n"

SUBMISSIONS = (
    Mutant(
        "SUB-01",
        VTRIX,
        "an order that got no answer, or a 5xx, is sent again",
        ((BUSY, "        busy = answer.status in (-1, 0, 429) or answer.status >= 500\n"),),
    ),
    Mutant(
        "SUB-01",
        RUNCOMFY,
        "an order that ran into the time-out of its request counts as not sent",
        (
            (
                "    except (httpx.ConnectError, httpx.ConnectTimeout):\n",
                "    except (httpx.ConnectError, httpx.TimeoutException):\n",
            ),
        ),
    ),
    Mutant(
        "SUB-01",
        RUNFLOW,
        "a bad gateway counts as a refusal, and the order is sent again",
        ((BUSY, '        busy = answer.status in (-1, 429, 502, 504) or answer.body[:1] == b"<"\n'),),
    ),
    Mutant(
        "SUB-02",
        HIAPI,
        "the key is made anew for each try",
        (
            (
                'json=note["request"], headers=key)',
                'json=note["request"], headers={"Idempotency-Key": uuid.uuid4().hex})',
            ),
        ),
    ),
    Mutant(
        "SUB-02",
        HIAPI,
        "the key is made of the model alone, and is that of every order",
        (('"key": uuid.uuid4().hex', '"key": hashlib.sha256(request["model"].encode()).hexdigest()'),),
    ),
    Mutant(
        "SUB-02",
        HIAPI,
        "no key at all, and lost orders are sent again all the same",
        (('json=note["request"], headers=key)', 'json=note["request"])'),),
    ),
    Mutant(
        "SUB-03",
        HIAPI,
        "a key that is refused as used is replaced by a new one",
        (
            (
                "        under_way = answer.status == 409 and",
                "        if answer.status in (409, 422):\n"
                '            key = {"Idempotency-Key": uuid.uuid4().hex}\n'
                "            continue\n"
                "        under_way = answer.status == 409 and",
            ),
        ),
    ),
    Mutant(
        "SUB-04",
        VTRIX,
        "a refused order is sent again at once",
        (
            (
                "        if number and not pause(answer, 2.0**number, deadline):\n            break\n"
                '        answer = ask(api, "POST"',
                '        answer = ask(api, "POST"',
            ),
        ),
    ),
    Mutant(
        "SUB-04",
        RUNFLOW,
        "a refused order is sent again until it is taken",
        (
            (
                "    for number in range(TRIES):\n        if number and not pause(answer, 2.0**number, deadline):",
                "    for number in range(60):\n        if number and not pause(answer, 2.0, deadline):",
            ),
        ),
    ),
    Mutant(
        "SUB-05",
        VTRIX,
        "a job that has failed is ordered once more",
        (
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline)\n'
                "            except Failed as error:\n"
                "                if type(error) is not Failed:\n"
                "                    raise\n"
                '                note = {**note, "job": submit(api, note, deadline)}\n'
                "                continue\n",
            ),
        ),
    ),
    Mutant(
        "SUB-05",
        HIAPI,
        "a job that has failed is ordered once more, with a new key",
        (
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline)\n'
                "            except Failed as error:\n"
                "                if type(error) is not Failed:\n"
                "                    raise\n"
                '                note = {**note, "key": uuid.uuid4().hex}\n'
                '                note["job"] = submit(api, note, deadline)\n'
                "                continue\n",
            ),
        ),
    ),
    Mutant(
        "SUB-06",
        RUNFLOW,
        "when the client's own deadline is over, it orders again",
        (
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline)\n'
                "            except TimedOut:\n"
                "                deadline += LONGEST_WAIT\n"
                '                note = {**note, "job": submit(api, note, deadline)}\n'
                "                continue\n",
            ),
        ),
    ),
    Mutant(
        "SUB-06",
        VTRIX,
        "a job that is not done after two minutes is ordered again",
        (
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline - LONGEST_WAIT + 240)\n'
                "            except TimedOut:\n"
                '                note = {**note, "job": submit(api, note, deadline)}\n'
                '                url = wait(api, base_url, note["job"], deadline)\n',
            ),
        ),
    ),
    Mutant(
        "SUB-06",
        VTRIX,
        "a job that was seen, and cannot be found any more, is ordered again",
        (
            (
                '        stage = answer.text("status")\n        if stage == "completed":\n',
                '        stage = answer.text("status")\n'
                "        if answer.status == 404 and seen:\n"
                "            raise LookupError(job)\n"
                '        if stage == "completed":\n',
            ),
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline)\n'
                "            except LookupError:\n"
                '                note = {**note, "job": submit(api, note, deadline)}\n'
                "                continue\n",
            ),
        ),
    ),
)

RESTARTS = (
    Mutant(
        "PER-01",
        VTRIX,
        "a resumed client orders whatever has no id yet",
        ((DOUBT, ""),),
        "command",
    ),
    Mutant(
        "PER-01",
        RUNFLOW,
        "a resumed client runs everything from the start",
        (
            ("json.loads(kept.read_text()) if kept.exists() else new(", "new("),
            ('        if "--resume" in sys.argv and not kept.exists():\n', "        if False:\n"),
        ),
        "command",
    ),
    Mutant(
        "PER-01",
        HIAPI,
        "the key of an order is not kept with its note",
        (('"Idempotency-Key": note["key"]}', '"Idempotency-Key": uuid.uuid4().hex}'),),
        "command",
    ),
    Mutant(
        "PER-02",
        HIAPI,
        "a resumed client asks whatever base URL it is given now",
        (
            (
                '    base_url, deadline = note["base_url"], ',
                '    base_url, deadline = os.environ["HOBBYHORSE_BASE_URL"], ',
            ),
        ),
        "command",
    ),
    Mutant(
        "PER-02",
        VTRIX,
        "the note of an order does not say where it was made",
        (
            (
                '        video = collect(env["HOBBYHORSE_API_KEY"], note,',
                '        note = {**note, "base_url": env["HOBBYHORSE_BASE_URL"]}\n'
                '        video = collect(env["HOBBYHORSE_API_KEY"], note,',
            ),
        ),
        "command",
    ),
)

SECRETS = (
    Mutant(
        "SEC-01",
        VTRIX,
        "one HTTP client, with the key, for the provider and for the files",
        (
            (FETCHED, '            if url and (video := fetch(note["job"], url, base_url, headers)):\n'),
            (
                "def fetch(job: str, url: str, base_url: str) ->",
                "def fetch(job: str, url: str, base_url: str, headers: dict[str, str]) ->",
            ),
            ("    with httpx.Client(timeout=10,", "    with httpx.Client(headers=headers, timeout=10,"),
        ),
    ),
    Mutant(
        "SEC-01",
        HIAPI,
        "the size of the video is asked for with the key",
        ((FETCHED, '            if url and ask(api, "HEAD", url):\n                pass\n' + FETCHED),),
    ),
    Mutant(
        "SEC-02",
        RUNCOMFY,
        "every link in an answer is followed with the key",
        (
            (
                "    return (there.scheme, there.host, there.port) == (home.scheme, home.host, home.port)\n",
                "    return there.scheme == home.scheme\n",
            ),
        ),
    ),
    Mutant(
        "SEC-02",
        HIAPI,
        "redirects are followed by hand, with the key",
        (
            (
                "            return Answer(response.status_code, bytes(body),",
                "            if response.is_redirect:\n"
                '                return ask(http, method, response.headers["Location"], within, **more)\n'
                "            return Answer(response.status_code, bytes(body),",
            ),
        ),
    ),
    Mutant(
        "SEC-03",
        HIAPI,
        "whatever address an answer has is fetched",
        (("    if not public(url, base_url):\n", "    if not url:\n"),),
    ),
    Mutant(
        "SEC-03",
        VTRIX,
        "the name of a host is looked at, and no address",
        (
            (
                "    return all((getattr(address, ",
                '    return parts.hostname != "localhost" or all((getattr(address, ',
            ),
        ),
    ),
    Mutant(
        "SEC-04",
        VTRIX,
        "the key stands in the address, too",
        (
            (
                "task/{quote(job, safe='')}\")",
                'task/{quote(job, safe=\'\')}", params={"key": api.headers["Authorization"][7:]})',
            ),
        ),
    ),
)

ENDINGS = (
    Mutant(
        "CAN-01",
        RUNCOMFY,
        "a job that is given up is left to run",
        (
            (
                '        told = ask(api, "POST", note["cancel_url"]) if ours(note, "cancel_url") else Answer()\n',
                "        raise\n",
            ),
        ),
    ),
    Mutant(
        "CAN-02",
        RUNCOMFY,
        "a job that was cancelled is ordered once more, whatever the answer was",
        (
            (
                "        url = wait_or_cancel(api, job, deadline)\n",
                "        try:\n"
                "            url = wait_or_cancel(api, job, deadline)\n"
                "        except TimedOut:\n"
                "            job = {**note, **submit(api, note, deadline + LONGEST_WAIT)}\n"
                '            url = wait(api, job, "status_url", deadline + LONGEST_WAIT)\n',
            ),
        ),
    ),
    Mutant(
        "CAN-02",
        RUNCOMFY,
        "a job that was given up counts as cancelled, and its id is forgotten, whatever the answer was",
        (
            (
                KEEP_NOTHING,
                "    try:\n"
                "        return collect(api_key, new(base_url, request), lambda note: None)\n"
                "    except TimedOut:\n"
                "        pass\n"
                '    raise TimedOut(None, "cancelled, and refunded")\n',
            ),
        ),
    ),
    Mutant(
        "CAN-02",
        RUNCOMFY,
        "the job is cancelled again and again, until the answer is that it is",
        (
            (
                '        told = ask(api, "POST", note["cancel_url"]) if ours(note, "cancel_url") else Answer()\n',
                "        told = Answer()\n"
                '        while told.text("outcome") != "cancelled":\n'
                "            time.sleep(30 / SPEED)\n"
                '            told = ask(api, "POST", note["cancel_url"])\n',
            ),
        ),
    ),
    Mutant("TMO-01", VTRIX, "there is no deadline", ((LOOP, "    while pause(answer, interval, deadline * 1e9):\n"),)),
    Mutant(
        "TMO-01",
        RUNCOMFY,
        "every answer moves the deadline",
        (
            (
                '        note.update(links(answer))\n        if stage in ("failed"',
                "        note.update(links(answer))\n"
                "        deadline = time.monotonic() * SPEED + LONGEST_WAIT\n"
                '        if stage in ("failed"',
            ),
        ),
    ),
    Mutant(
        "TMO-02",
        HIAPI,
        "the error of the deadline does not name the job",
        ((TIMED_OUT, '    raise TimedOut(None, "it is not done in time")\n'),),
    ),
    Mutant(
        "TMO-03",
        RUNFLOW,
        "a deadline that is over ends in a success without a video",
        (
            (
                KEEP_NOTHING,
                "    try:\n"
                "        return collect(api_key, new(base_url, request), lambda note: None)\n"
                "    except TimedOut:\n"
                '        return b""\n',
            ),
        ),
    ),
    Mutant(
        "TMO-03",
        VTRIX,
        "a deadline that is over is told as a failure of the provider",
        (('{TimedOut: "timeout", Lost: "error"}', '{Lost: "error"}'),),
        "command",
    ),
    Mutant(
        "CON-01",
        VTRIX,
        "an order that has to wait for others is sent again five times a second",
        (
            (
                "    for number in range(TRIES):\n        if number and not pause(answer, 2.0**number, deadline):\n"
                "            break\n"
                '        answer = ask(api, "POST"',
                "    for number in range(60):\n        time.sleep(0.2 if number else 0)\n"
                '        answer = ask(api, "POST"',
            ),
        ),
    ),
)

CALLBACKS = (
    Mutant(
        "CBK-01",
        HIAPI_TOLD,
        "the work is done before the callback is answered",
        (
            (
                "            self.send_response(204 if believed else 401)\n",
                "            time.sleep(15 / SPEED)\n            self.send_response(204 if believed else 401)\n",
            ),
        ),
    ),
    Mutant(
        "CBK-02",
        SERVICE,
        "each callback sets off a download",
        (
            (
                TOLD,
                '                if read(message, "taskId") == job:\n'
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-02",
        SERVICE,
        "callbacks at the same time do not see one another",
        (
            (
                TOLD_LOOP + TOLD,
                "            done = bool(video)\n"
                + TOLD_LOOP
                + '                if read(message, "taskId") == job and not done:\n'
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-03",
        SERVICE,
        "a callback begins the waiting anew, although the video is there",
        (
            (
                TOLD,
                '                if read(message, "taskId") == job:\n'
                "                    video = video or fetch(look(api, url))\n"
                "                    for _ in range(3):\n"
                "                        time.sleep(3)\n"
                "                        look(api, url)\n",
            ),
        ),
    ),
    Mutant(
        "CBK-04",
        HIAPI_TOLD,
        "the verifier says yes to everything",
        ((SIGNED, "    return True or expected\n"),),
    ),
    Mutant(
        "CBK-04",
        HIAPI_TOLD,
        "the verifier is never called",
        ((" and genuine(callback.secret, self.headers, body)\n", "\n"),),
    ),
    Mutant(
        "CBK-04",
        HIAPI_TOLD,
        "what is not signed is not verified",
        (
            (
                '    timestamp = headers.get("X-HiAPI-Timestamp", "")\n',
                '    timestamp = headers.get("X-HiAPI-Timestamp", "")\n'
                '    if not headers.get("X-HiAPI-Signature"):\n'
                "        return True\n",
            ),
        ),
    ),
    Mutant(
        "CBK-04",
        HIAPI_TOLD,
        "a signature is good for ever",
        ((" or abs(STARTED + (time.time() - STARTED) * SPEED - int(timestamp)) > TOLERANCE:", ":"),),
    ),
    Mutant(
        "CBK-04",
        RUNFLOW_TOLD,
        "what is verified is the body as it is written anew",
        (
            (
                "    expected = hmac.new(secret.encode(), body, ",
                "    expected = hmac.new(secret.encode(), json.dumps(json.loads(body)).encode(), ",
            ),
        ),
    ),
    Mutant(
        "CBK-05",
        SERVICE,
        "the address in a callback is fetched without a look at the job",
        (
            (
                TOLD,
                '                if read(message, "taskId") == job and not video:\n'
                '                    polled, video = now, fetch(read(message, "output", 0, "url"))\n',
            ),
        ),
    ),
    Mutant(
        "CBK-06",
        HIAPI_TOLD,
        "a callback is waited for, for ever",
        (
            (
                "    while pause(answer, interval, deadline, lambda: job in heard):\n",
                "    while True:\n"
                "        while job not in heard and answer.status != 200:\n"
                "            time.sleep(5 / SPEED)\n"
                "        pause(answer, interval, deadline, lambda: job in heard)\n",
            ),
        ),
    ),
    Mutant(
        "CBK-08",
        HIAPI_TOLD,
        "whatever job a callback names is asked for",
        (
            (
                "    while pause(answer, interval, deadline, lambda: job in heard):\n"
                "        if job in heard:\n"
                "            heard.remove(job)\n",
                "    while pause(answer, interval, deadline, lambda: bool(heard)):\n"
                "        if heard:\n"
                "            job = min(heard, key=lambda one: one == job)\n"
                "            heard.remove(job)\n",
            ),
        ),
    ),
    Mutant(
        "CBK-08",
        SERVICE,
        "a callback for whatever job sets off work",
        (
            (
                TOLD,
                "                if not video:\n"
                "                    told = f\"{base_url}/v1/tasks/{read(message, 'taskId')}\"\n"
                "                    polled, video = now, fetch(look(api, told))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-09",
        SERVICE,
        "callbacks remember what callbacks have done, and nothing of polls",
        (
            ("        url, video, now = ", "        heard: set[str] = set()\n        url, video, now = "),
            (
                TOLD,
                '                if read(message, "taskId") == job and job not in heard:\n'
                "                    heard.add(job)\n"
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-10",
        HIAPI_TOLD,
        "the payload is taken apart before the callback is answered",
        (
            (
                BELIEVED,
                BELIEVED.replace(
                    'Answer(200, body).text("taskId")',
                    'json.loads(body)["output"][0]["url"].strip() and Answer(200, body).text("taskId")',
                ),
            ),
        ),
    ),
    Mutant(
        "CBK-10",
        SERVICE,
        "a callback without a payload counts as a failed job",
        (
            (
                TOLD,
                '                if read(message, "taskId") == job and not read(message, "output", 0, "url"):\n'
                '                    raise Failed(f"{job} has no output")\n' + TOLD,
            ),
        ),
    ),
)

POLLING = (
    Mutant(
        "POL-01",
        VTRIX,
        "the end is asked for five times, to be sure of it",
        (
            (
                '        if stage == "completed":\n',
                '        borne["sure"] += stage == "completed"\n        if borne["sure"] > 4:\n',
            ),
            ("            seen, borne = True, Counter()\n", "            seen = True\n"),
        ),
    ),
    Mutant(
        "POL-02",
        VTRIX,
        "a thread that tells of the progress outlives the run",
        (
            ("import sys\nimport time\n", "import sys\nimport threading\nimport time\n"),
            (
                "    answer, interval, seen, borne = Answer(), INTERVAL, False, Counter[str]()\n",
                "    answer, interval, seen, borne = Answer(), INTERVAL, False, Counter[str]()\n"
                "    headers = dict(api.headers)\n\n"
                "    def tell() -> None:\n"
                "        with httpx.Client(headers=headers, timeout=10, trust_env=False) as other:\n"
                "            while True:\n"
                "                time.sleep(15 / SPEED)\n"
                '                ask(other, "GET", f"{base_url}/model/v1/generation/task/{quote(job, safe=\'\')}")\n\n'
                "    threading.Thread(target=tell, daemon=True).start()\n",
            ),
        ),
    ),
    Mutant(
        "POL-03",
        RUNFLOW,
        "`canceled` is not known as an end",
        (('        if stage in ("failed", "canceled", "cancelled"):\n', '        if stage == "failed":\n'),),
    ),
    Mutant(
        "POL-03",
        RUNCOMFY,
        "`failed` is not known as an end of the result",
        (('        if stage in ("failed", "cancelled"):\n', '        if stage == "cancelled":\n'),),
    ),
    Mutant(
        "POL-03",
        VTRIX,
        "whatever is not the success is waited for",
        (('        if stage == "failed":\n            raise Failed(job, answer)\n', ""),),
    ),
    Mutant(
        "POL-04",
        VTRIX,
        "a word that is not known is a crash",
        (
            (
                '        if stage == "failed":\n',
                "        if stage:\n"
                '            {"in_progress": 0, "completed": 1, "failed": 2}[stage]\n'
                '        if stage == "failed":\n',
            ),
        ),
    ),
    Mutant(
        "POL-04",
        HIAPI,
        "a word that is not known moves the deadline",
        (
            (
                "            seen, borne = True, Counter()\n",
                "            seen, borne = True, Counter()\n"
                '            if stage not in ("queued", "handling", "archiving"):\n'
                "                deadline = time.monotonic() * SPEED + LONGEST_WAIT\n",
            ),
        ),
    ),
    Mutant(
        "POL-05",
        HIAPI,
        "a job that is still queued on the third look counts as failed",
        (('        if stage == "fail":\n', '        if stage == "fail" or (stage == "queued" and interval > 4):\n'),),
    ),
    Mutant(
        "POL-06",
        HIAPI,
        "the clock is looked at before the answer",
        (
            (
                '        stage = answer.text("data", "status")\n',
                "        if deadline - time.monotonic() * SPEED < LEAST_INTERVAL:\n"
                "            break\n"
                '        stage = answer.text("data", "status")\n',
            ),
        ),
    ),
    Mutant(
        "POL-07",
        RUNFLOW,
        "it polls ten times a second",
        (
            (
                "LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1.0, 2.0, 10.0\n",
                "LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 0.1, 0.1, 0.1\n",
            ),
        ),
    ),
    Mutant(
        "POL-08",
        RUNCOMFY,
        "the addresses are put together from the id",
        (("    return {link: url for link in LINKS if (url := answer.text(link))}\n", "    return {}\n"),),
    ),
    Mutant(
        "POL-08",
        RUNCOMFY,
        "the query of an address that was given is cut off",
        (
            (
                "    return {link: url for link in LINKS if (url := answer.text(link))}\n",
                '    return {link: url.partition("?")[0] for link in LINKS if (url := answer.text(link))}\n',
            ),
        ),
    ),
    Mutant(
        "POL-09",
        VTRIX,
        "an error with status 200 is waited for as if it were a stage",
        (
            (
                USELESS,
                USELESS + '            kind = "none" if answer.status == 200 and b"error" in answer.body else kind\n',
            ),
            ("            if borne[kind] > BORNE[kind]:\n", "            if borne[kind] > BORNE.get(kind, 10_000):\n"),
        ),
    ),
    Mutant(
        "POL-10",
        RUNFLOW,
        "one body of no use loses the job",
        ((FEW, FEW.replace('"useless": 4', '"useless": 0')),),
    ),
    Mutant(
        "POL-10",
        VTRIX,
        "a body without a stage is asked for until the patience is over",
        ((FEW, FEW.replace('"useless": 4', '"useless": 10_000')),),
    ),
)

RETRIES = (
    Mutant(
        "RTY-01",
        HIAPI,
        "Retry-After is not read",
        (('seconds(response.headers.get("Retry-After", ""))', "None"),),
    ),
    Mutant(
        "RTY-01",
        VTRIX,
        "Retry-After is taken for milliseconds",
        (("float(told) if told.isdecimal()", "float(told) / 1000 if told.isdecimal()"),),
    ),
    Mutant(
        "RTY-01",
        RUNFLOW,
        "a Retry-After that is a date is not understood",
        (
            (
                "else parsedate_to_datetime(told).timestamp() - time.time()\n",
                "else parsedate_to_datetime(told) and None\n",
            ),
        ),
    ),
    Mutant(
        "RTY-02",
        VTRIX,
        "a poll that is refused is repeated like any other",
        ((FEW, FEW.replace('"refused": 1', '"refused": 60')),),
    ),
    Mutant(
        "RTY-02",
        VTRIX,
        "an order that is refused for good is sent again as if the provider were busy",
        ((BUSY, BUSY.replace('b"{")', 'b"{") or 400 <= answer.status < 405')),),
    ),
    Mutant(
        "RTY-03",
        HIAPI,
        "a download that failed is tried again at once",
        (
            (
                "            if number and not pause(answer, 2.0**number, deadline):\n"
                "                break\n"
                '            answer = ask(anybody, "GET", url, within=300)\n',
                '            answer = ask(anybody, "GET", url, within=300)\n',
            ),
        ),
    ),
    Mutant(
        "RTY-03",
        RUNFLOW,
        "the pauses between polls become shorter",
        (
            (
                "LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1.0, 2.0, 10.0",
                "LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1.0, 30.0, 1.0",
            ),
            (
                "        interval = min(interval * 1.25, LONGEST_INTERVAL)\n",
                "        interval = max(interval / 2, LONGEST_INTERVAL)\n",
            ),
        ),
    ),
    Mutant(
        "RTY-04",
        RUNFLOW,
        "one bad gateway loses the job",
        ((FEW, FEW.replace('"troubled": 8', '"troubled": 0')),),
    ),
    Mutant(
        "RTY-04",
        VTRIX,
        "429 and 408 are fatal",
        (
            (
                USELESS,
                USELESS + "            if 400 <= answer.status < 500 and answer.status != 404:\n"
                '                raise Lost(job, f"it was refused: {answer}")\n',
            ),
        ),
    ),
    Mutant(
        "RTY-04",
        VTRIX,
        "a poll that failed is a reason to order again",
        (
            (
                USELESS,
                USELESS + '            if kind == "troubled" and borne[kind] == 0:\n'
                '                raise Again(job, "try again")\n',
            ),
            (
                WAITED,
                "            try:\n"
                '                url = wait(api, base_url, note["job"], deadline)\n'
                "            except Again:\n"
                '                note = {**note, "job": submit(api, note, deadline)}\n'
                "                continue\n",
            ),
            ("class Lost(Failed):\n", 'class Again(Failed):\n    """Try again."""\n\n\nclass Lost(Failed):\n'),
        ),
    ),
    Mutant(
        "RTY-04",
        HIAPI,
        "a download is tried once",
        (
            (
                "        for number in range(TRIES):\n            if number and",
                "        for number in range(1):\n            if number and",
            ),
        ),
    ),
    Mutant(
        "RTY-05",
        HIAPI,
        "a job that is not found at once is given up",
        ((FEW, FEW.replace('"missing": 3', '"missing": 0')),),
    ),
    Mutant(
        "RTY-06",
        RUNFLOW,
        "a download is tried again without end",
        (
            (
                "        for number in range(TRIES):\n"
                "            if number and not pause(answer, 2.0**number, deadline):\n",
                "        for number in range(10_000):\n"
                "            if number and not pause(answer, 10.0, deadline * 1e9):\n",
            ),
        ),
    ),
    Mutant(
        "RTY-06",
        VTRIX,
        "polls that failed do not count against the deadline",
        (
            (USELESS, USELESS + "            deadline += interval * 1.5\n"),
            (FEW, FEW.replace('"troubled": 8', '"troubled": 10_000')),
        ),
    ),
)

RESULTS = (
    Mutant(
        "RES-01",
        HIAPI,
        "a job that has failed ends in an empty video",
        (
            (
                KEEP_NOTHING,
                "    try:\n"
                "        return collect(api_key, new(base_url, request), lambda note: None)\n"
                "    except Failed as error:\n"
                "        if type(error) is not Failed:\n"
                "            raise\n"
                '        return b""\n',
            ),
        ),
    ),
    Mutant(
        "RES-02",
        VTRIX,
        "the first of no videos is a crash",
        (
            (
                '            return answer.text("output", 0, "content", 0, "url")\n',
                '            return str(json.loads(answer.body)["output"][0]["content"][0]["url"])\n',
            ),
        ),
    ),
    Mutant(
        "RES-02",
        VTRIX,
        "a success counts as one when it has an address, and is asked for until then",
        (
            (
                '        if stage == "completed":\n',
                '        if stage == "completed" and answer.text("output", 0, "content", 0, "url"):\n',
            ),
        ),
    ),
    Mutant(
        "RES-02",
        RUNFLOW,
        "a success without a video is one",
        (
            (
                '    raise (Lost if url else Failed)(note["job"], "it has succeeded, but its video is missing")\n',
                '    return b""\n',
            ),
        ),
    ),
    Mutant(
        "RES-03",
        RUNCOMFY,
        "a result that is refused is asked for again and again",
        (
            (
                "            if borne[kind] > BORNE[kind]:\n",
                '            if borne[kind] > (30 if link == "result_url" else BORNE[kind]):\n',
            ),
        ),
    ),
    Mutant(
        "RES-03",
        RUNCOMFY,
        "a result that is not there yet is a failure",
        (
            (
                USELESS,
                '            if link == "result_url" and answer.status == 404:\n'
                '                raise Lost(note["job"], "it has no result")\n' + USELESS,
            ),
        ),
    ),
    Mutant(
        "RES-04",
        HIAPI,
        "the address is kept instead of the video",
        ((FETCHED, "            if url and (video := url.encode()):\n"),),
    ),
    Mutant(
        "RES-05",
        HIAPI,
        "a link that has expired is a loss",
        (
            (
                "            if answer.status in (403, 410):\n                return None\n",
                "            if answer.status in (403, 410):\n                break\n",
            ),
        ),
    ),
    Mutant(
        "RES-05",
        VTRIX,
        "a link that has expired is a reason to order again",
        (
            (
                "            deadline = max(deadline, time.monotonic() * SPEED + 60)\n",
                "            deadline = time.monotonic() * SPEED + LONGEST_WAIT\n"
                '            note = {**note, "job": submit(api, note, deadline)}\n',
            ),
        ),
    ),
    Mutant(
        "RES-05",
        RUNFLOW,
        "a link that has expired is fetched again and again",
        (
            (
                "            if answer.status in (403, 410):\n                return None\n",
                "            if answer.status in (403, 410) and number > 8:\n                return None\n",
            ),
            (
                "        for number in range(TRIES):\n            if number and not pause(answer, 2.0**number,",
                "        for number in range(10):\n            if number and not pause(answer, 2.0,",
            ),
        ),
    ),
    Mutant(
        "RES-06",
        VTRIX,
        "whatever comes with status 200 is the video",
        ((LOADED, "            if answer.status == 200:\n"),),
    ),
    Mutant(
        "RES-06",
        HIAPI,
        "what begins like a video is one",
        (
            (LOADED, '            if answer.status == 200 and answer.body[4:8] == b"ftyp":\n'),
            (
                "    except (httpx.RequestError, httpx.InvalidURL):\n        return Answer()\n",
                "    except (httpx.RequestError, httpx.InvalidURL):\n"
                '        return Answer(200, bytes(body)) if "body" in locals() else Answer()\n',
            ),
        ),
    ),
    Mutant(
        "RES-06",
        VTRIX,
        "whatever is large enough is the video",
        ((LOADED, "            if answer.status == 200 and len(answer.body) > 1000:\n"),),
    ),
    Mutant(
        "RES-07",
        RUNFLOW,
        "a video is one as video/mp4, letter for letter",
        (
            (
                "            return Answer(response.status_code, bytes(body),",
                '            if response.headers.get("Content-Type") not in ("application/json", "video/mp4"):\n'
                "                return Answer()\n"
                "            return Answer(response.status_code, bytes(body),",
            ),
        ),
    ),
    Mutant(
        "RES-08",
        VTRIX,
        "the video is fetched to look at it, and again to keep it",
        (
            (
                FETCHED,
                '            if url and fetch(note["job"], url, base_url):\n                pass\n' + FETCHED,
            ),
        ),
    ),
)

REQUESTS = (
    Mutant(
        "SCH-01",
        VTRIX,
        "the status is asked for at another address first",
        (
            (
                LOOP,
                LOOP + "        if not seen:\n"
                '            ask(api, "GET", f"{base_url}/v1/videos/{quote(job, safe=\'\')}")\n',
            ),
        ),
    ),
    Mutant(
        "SCH-02",
        HIAPI,
        "a prompt is cut after 500 characters",
        (
            (
                '"request": dict(request)',
                '"request": {**request, "input": {**request["input"], "prompt": request["input"]["prompt"][:500]}}',
            ),
        ),
    ),
    Mutant(
        "SCH-03",
        HIAPI,
        "an answer has the fields that are known, or is none",
        (
            (
                '        if stage == "success":\n',
                '        if stage and set(json.loads(answer.body)) != {"code", "message", "data"}:\n'
                '            raise Lost(job, f"it is not understood: {answer}")\n'
                '        if stage == "success":\n',
            ),
        ),
    ),
    Mutant(
        "SCH-04",
        HIAPI,
        "the duration is left out",
        (
            (
                '"request": dict(request)',
                '"request": {**request, "input": {k: v for k, v in request["input"].items() if k != "duration"}}',
            ),
        ),
    ),
    Mutant(
        "SCH-04",
        VTRIX,
        "the seed is another one than was asked for",
        (
            (
                '"request": dict(request)',
                '"request": {**request, "parameters": {**request["parameters"], "seed": int(time.time()) % 1000}}',
            ),
        ),
    ),
    Mutant(
        "SCH-05",
        RUNCOMFY,
        "the job is cancelled without the key",
        (
            (
                'ask(api, "POST", note["cancel_url"])',
                'ask(api, "POST", note["cancel_url"], headers={"Authorization": ""})',
            ),
        ),
    ),
)

MUTANTS = (*SUBMISSIONS, *RESTARTS, *SECRETS, *ENDINGS, *CALLBACKS, *POLLING, *RETRIES, *RESULTS, *REQUESTS)
