"""Each contract is plain OpenAPI: schemathesis, an independent tool, finds no fault with the fake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hobbyhorse.contract.folder import load
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests.conftest import DIRECTORY

KEY = "key-of-the-first-account"
COMMAND = Path(sys.executable).with_name("schemathesis")
# Long enough for a busy machine; a hang must not block the run.
SECONDS = 240

EXCLUDED = {
    "positive_data_acceptance": "providers refuse more than a schema can express: unknown models and cursors, "
    "files that are not pictures, page numbers beyond the last one",
}
"""Default checks that contradict every contract, with the reason."""

FORMATS = {
    "negative_data_rejection": "`format` is an annotation, as in JSON Schema 2020-12: a string that is not a valid "
    "URI is not refused for that",
}
"""Checks that contradict contracts with a `format` in their bodies."""

OVERLAPS = {
    "allow_header_conformance": "one documented path also matches a path template: a POST to it submits to a model of "
    "that name, so Allow lists POST",
}
"""Checks that contradict contracts with such a path, with the reason."""

NO_KEY_IS_401 = "unauthenticated-401"
"""The variant with a 401 for a missing key, if the contract itself has another status."""


def test_the_fake_passes_the_default_checks_of_schemathesis(contract: Contract, tmp_path: Path) -> None:
    variants = [one.name for one in contract.variants if one.name == NO_KEY_IS_401]
    served = load(DIRECTORY / contract.key, variants)
    document = DIRECTORY / contract.key / "openapi.json"
    excluded = EXCLUDED | (FORMATS if '"format": "uri"' in document.read_text() else {})
    excluded |= OVERLAPS if "categories" in contract.operations else {}
    options = Options(api_keys=frozenset({KEY}), strict=True, pace="instant")
    with serving(Fake([served], options)) as url:
        words = [COMMAND, "run", document, "--url", f"{url}/{contract.key}", "-H", f"Authorization: Bearer {KEY}"]
        words += ["--max-examples", "5", "--seed", "1", "--no-color", "--exclude-checks", ",".join(excluded)]
        if "run" in contract.operations:  # each of its calls waits for a complete video
            words += ["--exclude-path", contract.operations["run"].path]
        done = subprocess.run(
            [str(word) for word in words], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"[1-9][0-9]* generated", done.stdout)
