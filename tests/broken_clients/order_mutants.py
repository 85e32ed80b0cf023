"""Broken clients that change, drop or lose the order, or take two orders for one.

Each is the arguments of a `Mutant`: the rule, the working client, the bug, the changes, and perhaps its kind.
"""

from __future__ import annotations

from typing import Any

HIAPI, RUNFLOW, VTRIX = "hiapi", "runflow", "vtrix"
GIVEN = '"request": dict(request)'
SENT = 'json=note["request"])'
BEGIN = "    return collect(api_key, new(base_url, request), lambda note: None)\n"
REQUEST = '    request = json.loads(Path(env["HOBBYHORSE_REQUEST"]).read_text())\n'


def prompt(text: str) -> str:
    """Return the change that replaces the prompt of an order by an expression of `text`."""
    new = text.replace("text", 'request["input"]["prompt"]')
    return f'"request": {{**request, "input": {{**request["input"], "prompt": {new}}}}}'


ORDERS: tuple[tuple[Any, ...], ...] = (
    (
        "ORD-01",
        VTRIX,
        "parameters that are 0 or false are left out",
        (
            (
                GIVEN,
                '"request": {**request, "parameters": '
                '{name: value for name, value in request.get("parameters", {}).items() if value}}',
            ),
        ),
    ),
    ("ORD-02", VTRIX, "the white space of a prompt is normalised", ((GIVEN, prompt('" ".join(text.split())')),)),
    (
        "ORD-02",
        HIAPI,
        "characters beyond Latin-1 become question marks",
        ((GIVEN, prompt('text.encode("latin-1", "replace").decode("latin-1")')),),
    ),
    (
        "SCH-02",
        VTRIX,
        "a prompt is cut at its limit of characters in bytes",
        ((GIVEN, prompt('text.encode()[:5000].decode(errors="ignore")')),),
    ),
    ("SCH-02", HIAPI, "a prompt is cut at 1,500 characters", ((GIVEN, prompt("text[:1500]")),)),
    (
        "ORD-03",
        RUNFLOW,
        "only the input is sent, and not the metadata",
        ((SENT, 'json={"input": note["request"]["input"]})'),),
    ),
    (
        "ORD-03",
        VTRIX,
        "the client's own resolution replaces the requested one",
        (
            (
                GIVEN,
                '"request": {**request, "parameters": {**request.get("parameters", {}), "resolution": "720P"}}',
            ),
        ),
    ),
    (
        "ORD-04",
        VTRIX,
        "a retry is built anew, without the parameters",
        (
            (
                SENT,
                'json=note["request"] if not number else '
                '{name: value for name, value in note["request"].items() if name != "parameters"})',
            ),
        ),
    ),
    (
        "ORD-05",
        VTRIX,
        "the body is encoded as Latin-1",
        ((GIVEN, '"request": json.loads(json.dumps(request, ensure_ascii=False).encode("latin-1"))'),),
    ),
    (
        "ORD-07",
        RUNFLOW,
        "the input is merged into that of all orders",
        (
            ("TRIES = 5", "INPUT = {}\nTRIES = 5"),
            (
                '"request": body, "job": None',
                '"request": {**body, "input": INPUT.update(body["input"]) or dict(INPUT)}, "job": None',
            ),
        ),
    ),
    (
        "ORD-07",
        VTRIX,
        "the order is merged into a template that all orders share",
        (
            ("TRIES = 5", "ORDER = {}\nTRIES = 5"),
            (GIVEN, '"request": ORDER.update(request) or dict(ORDER)'),
        ),
    ),
    (
        "ORD-06",
        HIAPI,
        "the key is a hash of the order, so that equal orders share it",
        (('"key": uuid.uuid4().hex', '"key": hashlib.sha256(json.dumps(request).encode()).hexdigest()'),),
    ),
    (
        "ORD-06",
        VTRIX,
        "videos are cached by the prompt",
        (
            ("TRIES = 5", "CACHE = {}\nTRIES = 5"),
            (
                BEGIN,
                '    key = api_key, request["input"].get("prompt")\n'
                "    if key not in CACHE:\n"
                "        CACHE[key] = collect(api_key, new(base_url, request), lambda note: None)\n"
                "    return CACHE[key]\n",
            ),
        ),
    ),
    (
        "ORD-06",
        VTRIX,
        "a video that exists already is not ordered",
        ((REQUEST, "    if output.exists():\n        return 0\n" + REQUEST),),
        "command",
    ),
)
