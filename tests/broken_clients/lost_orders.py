"""Changes that make a client lose an order or leave a job behind, as plain data for mutants.py.

Each has the rule, the working client, the bug in a few words, and the changes to the client's source.
"""

from __future__ import annotations

Change = tuple[str, str, str, tuple[tuple[str, str], ...]]

LOST_ORDERS: tuple[Change, ...] = (
    (
        "CON-01",
        "vtrix",
        "an order over the limit is given up at the first refusal",
        (
            (
                '        busy = answer.status in (-1, 429) or (answer.status == 503 and answer.body[:1] == b"{")\n',
                '        busy = answer.status == -1 or (answer.status == 503 and answer.body[:1] == b"{")\n',
            ),
        ),
    ),
    (
        "SUB-07",
        "runflow",
        "a submission is given up at the first refusal",
        (
            (
                '        busy = answer.status in (-1, 429) or (answer.status == 503 and answer.body[:1] == b"{")\n',
                "        busy = answer.status == -1\n",
            ),
        ),
    ),
    (
        "SUB-07",
        "hiapi",
        "a submission whose response is lost is given up, although the provider replays its key",
        (
            (
                '        if final or b"TASK_FAILED" in answer.body:\n',
                '        if final or not answer.status or b"TASK_FAILED" in answer.body:\n',
            ),
        ),
    ),
    (
        "SUB-07",
        "hiapi",
        "a submission is given up because its own first attempt is in progress",
        (
            (
                '        under_way = answer.status == 409 and b"IDEMPOTENCY_KEY_PROCESSING" in answer.body\n',
                "        under_way = False\n",
            ),
        ),
    ),
    (
        "CAN-01",
        "runcomfy",
        "the deadline is two minutes, and the job is left running",
        (
            ("LONGEST_WAIT = 1800.0  # seconds until TimedOut\n", "LONGEST_WAIT = 120.0  # seconds until TimedOut\n"),
            (
                '        told = ask(api, "POST", note["cancel_url"]) if ours(note, "cancel_url") else Answer()\n',
                "        raise\n",
            ),
        ),
    ),
    (
        "SCH-01",
        "hiapi",
        "the second attempt to submit has an empty body",
        (('json=note["request"], headers=key)', 'json=None if number else note["request"], headers=key)'),),
    ),
    (
        "SEC-05",
        "runcomfy",
        "links in a response are followed with the key if only their host is the provider's",
        (
            (
                "    return (there.scheme, there.host, there.port) == (home.scheme, home.host, home.port)\n",
                "    return there.host == home.host\n",
            ),
        ),
    ),
    (
        "SEC-05",
        "hiapi",
        "redirects to another port of the host are followed with the key",
        (
            (
                "            return Answer(response.status_code, bytes(body),",
                "            target = response.next_request.url if response.next_request else None\n"
                "            if target is not None and target.host == response.url.host:\n"
                "                return ask(http, method, str(target), within, **more)\n"
                "            return Answer(response.status_code, bytes(body),",
            ),
        ),
    ),
)
