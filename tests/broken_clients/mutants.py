"""The broken clients: a working client, one change to its source, and the rule that the change breaks.

A change is a text that occurs once in the client's source, and its replacement. Some bugs need two changes.
"""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hobbyhorse.runners.callable import Client

from .clock_mutants import CLOCKS
from .exchange_mutants import EXCHANGES
from .fallback_mutants import FALLBACKS
from .lost_orders import LOST_ORDERS
from .order_mutants import ORDERS
from .outcomes import OUTCOMES
from .variation_mutants import VARIATIONS

ROOT = Path(__file__).parents[2]
EXAMPLES, HERE = ROOT / "examples" / "python", Path(__file__).parent
HIAPI, RUNCOMFY, RUNFLOW, VTRIX = "hiapi", "runcomfy", "runflow", "vtrix"
HIAPI_CALLBACKS, RUNFLOW_CALLBACKS, SERVICE = "hiapi_callbacks", "runflow_callbacks", "service"
FALLBACK = "fallback"
# The provider of each client that is not named after its provider.
PROVIDERS = {SERVICE: HIAPI, HIAPI_CALLBACKS: HIAPI, RUNFLOW_CALLBACKS: RUNFLOW, FALLBACK: HIAPI}
# The providers to which clients fall back.
SECONDS = {FALLBACK: RUNCOMFY}
# The rules that no client here can break, with the reason.
NOT_SHOWN = {
    "CBK-05": "the callbacks of every provider here are signed; "
    "tests/conformance/client/rules/test_notified.py has a trace written by hand",
    "VAR-24": "only the drawn scenarios of a long search combine forms; "
    "tests/conformance/client/rules/test_variations.py has a trace written by hand",
    "CBK-07": "no provider here reports progress in a callback; "
    "tests/conformance/client/rules/test_notified.py has a trace written by hand",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken client: the rule that it breaks, the working client, the bug in a few words, and the changes.

    A mutant of kind `command` runs as a program that can be killed and restarted; a `python` mutant is called.
    """

    rule: str
    client: str
    bug: str
    changes: tuple[tuple[str, str], ...]
    kind: str = "python"

    @property
    def name(self) -> str:
        """A name that identifies the mutant: its rule and a letter."""
        same = [one for one in MUTANTS if one.rule == self.rule]
        return f"{self.rule}-{'abcdefgh'[same.index(self)]}"

    @property
    def provider(self) -> str:
        """The key of the provider's contract."""
        return PROVIDERS.get(self.client, self.client)

    @property
    def second(self) -> str | None:
        """The key of the provider that the client falls back to, if it does."""
        return SECONDS.get(self.client)

    @property
    def path(self) -> Path:
        """The file of the working client."""
        return (HERE if self.client in (SERVICE, FALLBACK) else EXAMPLES) / f"{self.client}.py"

    @property
    def working(self) -> str:
        """The source of the working client."""
        return self.path.read_text()

    @property
    def source(self) -> str:
        """The changed source. Raises ValueError unless each changed text occurs exactly once."""
        text = self.working
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(
                    f"{self.rule}, {self.bug!r}: {old!r} occurs {text.count(old)} times in {self.path}, not once"
                )
            text = text.replace(old, new)
        return text


def load(name: str, source: str) -> Client:
    """Compile a client's source and return its `generate`.

    The module has a name of its own and its lines are cached, so that tracebacks show them.
    """
    file = f"<{name}>"
    made = ModuleType(f"clients_{name.replace('-', '_')}")
    made.__file__ = file
    sys.modules[made.__name__] = made
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), made.__dict__)
    found: Client = made.__dict__["generate"]
    return found


# Texts that several mutants change.
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
CALLBACK_HANDLER = """                if read(message, "taskId") == job and not video:
                    polled, video = now, fetch(look(api, url))
"""
CALLBACK_LOOP = "            for message in [inbox.pop(0) for _ in list(inbox)]:\n"

SUBMISSIONS = (
    Mutant(
        "SUB-01",
        VTRIX,
        "a submission without a response, or with a 5xx, is sent again",
        ((BUSY, "        busy = answer.status in (-1, 0, 429) or answer.status >= 500\n"),),
    ),
    Mutant(
        "SUB-01",
        RUNCOMFY,
        "a submission whose request timed out counts as not sent",
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
        "a 502 counts as a refusal, and the submission is sent again",
        ((BUSY, '        busy = answer.status in (-1, 429, 502, 504) or answer.body[:1] == b"<"\n'),),
    ),
    Mutant(
        "SUB-02",
        HIAPI,
        "each attempt has a new key",
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
        "the key depends only on the model, so that all orders share it",
        (('"key": uuid.uuid4().hex', '"key": hashlib.sha256(request["model"].encode()).hexdigest()'),),
    ),
    Mutant(
        "SUB-02",
        HIAPI,
        "lost submissions are sent again without any key",
        (('json=note["request"], headers=key)', 'json=note["request"])'),),
    ),
    Mutant(
        "SUB-03",
        HIAPI,
        "a key that is refused as used is replaced by a new key",
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
        "a refused submission is retried immediately",
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
        "a refused submission is retried until it is accepted",
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
        "a failed job is submitted once more",
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
        "a failed job is submitted once more, with a new key",
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
        "after its own deadline the client submits again",
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
        "a job that is not done after two minutes is submitted again",
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
        "a known job that is suddenly not found (404) is submitted again",
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
        "a resumed client submits every order that has no job id yet",
        ((DOUBT, ""),),
        "command",
    ),
    Mutant(
        "PER-01",
        RUNFLOW,
        "a resumed client starts from the beginning",
        (
            ("json.loads(kept.read_text()) if kept.exists() else new(", "new("),
            ('        if "--resume" in sys.argv and not kept.exists():\n', "        if False:\n"),
        ),
        "command",
    ),
    Mutant(
        "PER-01",
        HIAPI,
        "the idempotency key is not stored with the order",
        (('"Idempotency-Key": note["key"]}', '"Idempotency-Key": uuid.uuid4().hex}'),),
        "command",
    ),
    Mutant(
        "PER-02",
        HIAPI,
        "a resumed client polls at its new base URL",
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
        "the order is stored without its base URL",
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
        "one HTTP client sends the key to the provider and to the media host",
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
        "the size of the video is requested with the key",
        ((FETCHED, '            if url and ask(api, "HEAD", url):\n                pass\n' + FETCHED),),
    ),
    Mutant(
        "SEC-02",
        RUNCOMFY,
        "every link in a response is followed with the key",
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
        "redirects are followed manually, with the key",
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
        "every URL in a response is fetched",
        (("    if not public(url, base_url):\n", "    if not url:\n"),),
    ),
    Mutant(
        "SEC-03",
        VTRIX,
        "host names are checked, IP addresses are not",
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
        "the key is also in the URL",
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
        "an abandoned job is not cancelled",
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
        "a cancelled job is submitted once more, whatever the response",
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
        "an abandoned job counts as cancelled, and its id is dropped, whatever the response",
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
        "the job is cancelled repeatedly until a response confirms it",
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
        "every response extends the deadline",
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
        "the timeout error does not contain the job id",
        ((TIMED_OUT, '    raise TimedOut(None, "it is not done in time")\n'),),
    ),
    Mutant(
        "TMO-03",
        RUNFLOW,
        "a timeout is returned as a success without a video",
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
        "a timeout is reported as a failure of the provider",
        (('{TimedOut: "timeout", Lost: "error"}', '{Lost: "error"}'),),
        "command",
    ),
    Mutant(
        "CON-01",
        VTRIX,
        "a submission over the limit is retried five times a second",
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
        HIAPI_CALLBACKS,
        "the work is done before the callback is acknowledged",
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
        "each callback starts a download",
        (
            (
                CALLBACK_HANDLER,
                '                if read(message, "taskId") == job:\n'
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-02",
        SERVICE,
        "concurrent callbacks are not deduplicated",
        (
            (
                CALLBACK_LOOP + CALLBACK_HANDLER,
                "            done = bool(video)\n"
                + CALLBACK_LOOP
                + '                if read(message, "taskId") == job and not done:\n'
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-03",
        SERVICE,
        "a callback restarts polling although the video was already fetched",
        (
            (
                CALLBACK_HANDLER,
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
        HIAPI_CALLBACKS,
        "the verifier accepts everything",
        ((SIGNED, "    return True or expected\n"),),
    ),
    Mutant(
        "CBK-04",
        HIAPI_CALLBACKS,
        "the verifier is never called",
        ((" and genuine(callback.secret, self.headers, body)\n", "\n"),),
    ),
    Mutant(
        "CBK-04",
        HIAPI_CALLBACKS,
        "an unsigned callback is not verified",
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
        "CBK-12",
        HIAPI_CALLBACKS,
        "a callback with a wrong signature ends the run",
        (
            ("TLS = httpx.create_ssl_context()", "FALSE: list[bytes] = []\nTLS = httpx.create_ssl_context()"),
            (
                "            self.send_response(204 if believed else 401)\n",
                "            if not believed:\n"
                "                FALSE.append(body)\n"
                "            self.send_response(204 if believed else 401)\n",
            ),
            (
                "    return True\n\n\n@contextlib",
                '    if FALSE:\n        raise ValueError("wrong signature")\n    return True\n\n\n@contextlib',
            ),
        ),
    ),
    Mutant(
        "CBK-11",
        HIAPI_CALLBACKS,
        "signatures never expire",
        ((" or abs(STARTED + (time.time() - STARTED) * SPEED - int(timestamp)) > TOLERANCE:", ":"),),
    ),
    Mutant(
        "CBK-04",
        RUNFLOW_CALLBACKS,
        "the re-serialised body is verified instead of the received bytes",
        (
            (
                "    expected = hmac.new(secret.encode(), body, ",
                "    expected = hmac.new(secret.encode(), json.dumps(json.loads(body)).encode(), ",
            ),
        ),
    ),
    Mutant(
        "CBK-06",
        HIAPI_CALLBACKS,
        "the client waits for a callback forever",
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
        "CBK-06",
        RUNFLOW_CALLBACKS,
        "the run is given up at the deadline if no callback has come, and never polled",
        (
            (
                "            interval = CALLED_BACK_INTERVAL\n",
                "            interval = CALLED_BACK_INTERVAL\n"
                "        elif interval == INTERVAL:\n"
                "            continue\n",
            ),
        ),
    ),
    Mutant(
        "CBK-08",
        HIAPI_CALLBACKS,
        "a callback for an unknown job starts polling",
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
        HIAPI_CALLBACKS,
        "a failure in any genuine callback is taken for that of the own job",
        (
            (
                '            if believed and (job := Answer(200, body).text("taskId")):\n',
                '            if believed and Answer(200, body).text("status") == "fail":\n'
                '                heard.add("failed")\n'
                '            if believed and (job := Answer(200, body).text("taskId")):\n',
            ),
            (
                "    while pause(answer, interval, deadline, lambda: job in heard):\n",
                "    while pause(answer, interval, deadline, lambda: job in heard):\n"
                '        if "failed" in heard:\n'
                '            raise Failed(job, "a callback says so")\n',
            ),
        ),
    ),
    Mutant(
        "CBK-08",
        SERVICE,
        "a callback for an unknown job starts work",
        (
            (
                CALLBACK_HANDLER,
                "                if not video:\n"
                "                    told = f\"{base_url}/v1/tasks/{read(message, 'taskId')}\"\n"
                "                    polled, video = now, fetch(look(api, told))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-09",
        SERVICE,
        "callbacks are deduplicated against one another, but not against polls",
        (
            ("        url, video, now = ", "        heard: set[str] = set()\n        url, video, now = "),
            (
                CALLBACK_HANDLER,
                '                if read(message, "taskId") == job and job not in heard:\n'
                "                    heard.add(job)\n"
                "                    polled, video = now, fetch(look(api, url))\n",
            ),
        ),
    ),
    Mutant(
        "CBK-10",
        HIAPI_CALLBACKS,
        "the payload is parsed before the callback is acknowledged",
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
        "a callback with a null payload counts as a failed job",
        (
            (
                CALLBACK_HANDLER,
                '                if read(message, "taskId") == job and not read(message, "output", 0, "url"):\n'
                '                    raise Failed(f"{job} has no output")\n' + CALLBACK_HANDLER,
            ),
        ),
    ),
)

POLLING = (
    Mutant(
        "POL-01",
        VTRIX,
        "a terminal stage is polled five more times",
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
        "a progress thread outlives the run",
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
        "`canceled` is not treated as terminal",
        (('        if stage in ("failed", "canceled", "cancelled"):\n', '        if stage == "failed":\n'),),
    ),
    Mutant(
        "POL-03",
        RUNCOMFY,
        "`failed` is not treated as terminal in the result",
        (('        if stage in ("failed", "cancelled"):\n', '        if stage == "cancelled":\n'),),
    ),
    Mutant(
        "POL-03",
        VTRIX,
        "every stage but success is polled again",
        (('        if stage == "failed":\n            raise Failed(job, answer)\n', ""),),
    ),
    Mutant(
        "POL-04",
        VTRIX,
        "an unknown stage raises an exception",
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
        "an unknown stage extends the deadline",
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
        "a job that is still queued at the third poll counts as failed",
        (('        if stage == "fail":\n', '        if stage == "fail" or (stage == "queued" and interval > 4):\n'),),
    ),
    Mutant(
        "POL-05",
        RUNCOMFY,
        "after the status has succeeded, any other stage in the result is a failure",
        (
            (
                '        if stage in ("failed", "cancelled"):\n            raise Failed(note["job"], answer)\n',
                '        if stage in ("failed", "cancelled") or (link == "result_url" and stage[:3] == "in_"):\n'
                '            raise Failed(note["job"], answer)\n',
            ),
        ),
    ),
    Mutant(
        "POL-06",
        HIAPI,
        "a failure ends the polls, and the caller waits for the deadline",
        (
            (
                '        if stage == "fail":\n',
                '        if stage == "fail":\n'
                "            time.sleep(max(0, deadline - time.monotonic() * SPEED) / SPEED)\n"
                "            break\n"
                '        if stage == "fails":\n',
            ),
        ),
    ),
    Mutant(
        "POL-06",
        HIAPI,
        "the deadline is checked before the response",
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
        "the job is polled ten times a second",
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
        "the URLs are built from the id",
        (("    return {link: url for link in LINKS if (url := answer.text(link))}\n", "    return {}\n"),),
    ),
    Mutant(
        "POL-08",
        RUNCOMFY,
        "the query of a returned URL is dropped",
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
        "every error with status 200 extends the deadline",
        (
            (
                USELESS,
                '            if answer.status == 200 and b"error" in answer.body:\n'
                "                deadline = time.monotonic() * SPEED + LONGEST_WAIT\n"
                "                continue\n" + USELESS,
            ),
        ),
    ),
    Mutant(
        "POL-11",
        VTRIX,
        "the interval doubles without a bound",
        (("        interval = min(interval * 1.25, LONGEST_INTERVAL)\n", "        interval *= 2\n"),),
    ),
    Mutant(
        "POL-10",
        RUNFLOW,
        "one unusable body loses the job",
        ((FEW, FEW.replace('"useless": 4', '"useless": 0')),),
    ),
    Mutant(
        "POL-10",
        VTRIX,
        "every body without a stage extends the deadline",
        (
            (
                USELESS,
                USELESS + '            if kind == "useless":\n'
                "                deadline = time.monotonic() * SPEED + LONGEST_WAIT\n"
                "                continue\n",
            ),
        ),
    ),
)

RETRIES = (
    Mutant(
        "RTY-01",
        HIAPI,
        "Retry-After is ignored",
        (('seconds(response.headers.get("Retry-After", ""))', "None"),),
    ),
    Mutant(
        "RTY-01",
        VTRIX,
        "Retry-After is interpreted as milliseconds",
        (("return float(told) if date is None", "return float(told) / 1000 if date is None"),),
    ),
    Mutant(
        "RTY-01",
        RUNFLOW,
        "a Retry-After date is not parsed",
        (
            (
                "else date.timestamp() - time.time()\n",
                "else None\n",
            ),
        ),
        "command",
    ),
    Mutant(
        "RTY-02",
        VTRIX,
        "a permanently refused poll is repeated like a transient failure",
        ((FEW, FEW.replace('"refused": 1', '"refused": 60')),),
    ),
    Mutant(
        "RTY-02",
        VTRIX,
        "a permanently refused submission is retried as if the provider were busy",
        ((BUSY, BUSY.replace('b"{")', 'b"{") or 400 <= answer.status < 405')),),
    ),
    Mutant(
        "RTY-03",
        HIAPI,
        "a failed download is retried immediately",
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
        "one 502 loses the job",
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
        "a failed poll leads to another submission",
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
        "a failed download is not retried",
        (
            (
                "        for number in range(TRIES):\n            if number and",
                "        for number in range(1):\n            if number and",
            ),
        ),
    ),
    Mutant(
        "RTY-04",
        RUNCOMFY,
        "a download that stalls for two minutes is not tried again",
        (
            (
                "    with httpx.Client(timeout=10, verify=TLS, trust_env=False) as anybody:\n",
                "    with httpx.Client(timeout=120, verify=TLS, trust_env=False) as anybody:\n",
            ),
            (
                '            answer = ask(anybody, "GET", url, within=300)\n',
                '            answer = ask(anybody, "GET", url, within=300)\n'
                "            if answer.status == 0:\n"
                "                break\n",
            ),
        ),
    ),
    Mutant(
        "RTY-05",
        HIAPI,
        "the client gives up if the first poll does not find the job",
        ((FEW, FEW.replace('"missing": 3', '"missing": 0')),),
    ),
    Mutant(
        "RTY-09",
        VTRIX,
        "good polls do not reset the number of failures",
        (("            seen, borne = True, Counter()\n", "            seen = True\n"),),
    ),
    Mutant(
        "RTY-06",
        RUNFLOW,
        "a download is retried endlessly",
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
        "each Retry-After is slept to its end",
        (
            ("    if left < LEAST_INTERVAL or (answer.again or 0) > left:\n", "    if left < LEAST_INTERVAL:\n"),
            (
                "    time.sleep((wait if wait < left - LEAST_INTERVAL else left) / SPEED)",
                "    time.sleep((wait if answer.again or wait < left - LEAST_INTERVAL else left) / SPEED)",
            ),
        ),
    ),
    Mutant(
        "RTY-06",
        VTRIX,
        "failed polls do not count against the deadline",
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
        "a failed job returns an empty video",
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
        "an empty list of videos raises an exception",
        (
            (
                '            return answer.text(*(videos or places)[0], "url")\n',
                '            return str(json.loads(answer.body)["output"][0]["content"][0]["url"])\n',
            ),
        ),
    ),
    Mutant(
        "RES-14",
        VTRIX,
        "a file that is not found at once is lost",
        (
            (
                "            if answer.status in (403, 410):\n",
                "            if answer.status == 404:\n"
                "                break\n"
                "            if answer.status in (403, 410):\n",
            ),
        ),
    ),
    Mutant(
        "RES-12",
        VTRIX,
        "a success without a URL is polled until a URL appears",
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
        "a success without a video counts as a success",
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
        "a refused result is requested repeatedly",
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
        "a result that is not ready counts as a failure",
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
        "the URL is stored instead of the video",
        ((FETCHED, "            if url and (video := url.encode()):\n"),),
    ),
    Mutant(
        "RES-05",
        HIAPI,
        "an expired link is treated as final",
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
        "an expired link leads to another submission",
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
        "an expired link is fetched repeatedly",
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
        "every response with status 200 counts as a video",
        ((LOADED, "            if answer.status == 200:\n"),),
    ),
    Mutant(
        "RES-06",
        HIAPI,
        "a file that begins like a video counts as a video",
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
        "every large enough file counts as a video",
        ((LOADED, "            if answer.status == 200 and len(answer.body) > 1000:\n"),),
    ),
    Mutant(
        "RES-07",
        RUNFLOW,
        "only the exact type video/mp4 is accepted",
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
        "the video is fetched once to check it and once to store it",
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
        "the status is requested at a wrong URL first",
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
        "a prompt is truncated after 500 characters",
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
        "a response with an unknown field is rejected",
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
        "the duration is omitted",
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
        "the seed differs from the requested seed",
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

# After the others, so that those keep their names.
INTERRUPTIONS = (
    Mutant(
        "RES-06",
        HIAPI,
        "the video is written in place, and a resumed client takes the file for done",
        (
            (
                "                body += chunk\n",
                "                body += chunk\n"
                '                if "media" in url:\n'
                '                    Path(os.environ["HOBBYHORSE_OUTPUT"]).write_bytes(body)\n',
            ),
            (
                '    kept = output.with_name(output.name + ".job")\n',
                '    kept = output.with_name(output.name + ".job")\n'
                '    if "--resume" in sys.argv and output.exists():\n'
                "        return 0\n",
            ),
        ),
        "command",
    ),
    Mutant(
        "VAR-30",
        HIAPI_CALLBACKS,
        "each part of a callback's body is decoded by itself",
        (
            (
                "            body = self.rfile.read(int(length)) if",
                "            text, left = str(), int(length)\n"
                "            while left and (part := self.rfile.read1(left)):\n"
                '                text, left = text + part.decode(errors="replace"), left - len(part)\n'
                "            body = text.encode() if",
            ),
        ),
    ),
)

MUTANTS = (
    *(*SUBMISSIONS, *RESTARTS, *SECRETS, *ENDINGS, *CALLBACKS, *POLLING, *RETRIES, *RESULTS, *REQUESTS),
    *(Mutant(*one) for one in (*OUTCOMES, *LOST_ORDERS, *VARIATIONS, *ORDERS, *CLOCKS, *FALLBACKS, *EXCHANGES)),
    *INTERRUPTIONS,
)
