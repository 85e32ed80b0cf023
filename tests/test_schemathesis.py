"""Each contract is plain OpenAPI, and the fake keeps it in the eyes of somebody else's tool, too."""

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
SECONDS = 240

EXCLUDED = {
    "positive_data_acceptance": "documents refuse more than a schema can say: models and cursors that are not there, "
    "pictures that are none, numbers that are too large to be pages",
}
"""Default checks that are at odds with every contract, and why."""

FORMATS = {
    "negative_data_rejection": "`format` is an annotation here, as in JSON Schema 2020-12: a text that a URI's grammar "
    "does not have is not refused for that",
}
"""Those that are at odds with contracts whose bodies have a format."""

OVERLAPS = {
    "allow_header_conformance": "one documented path is also one of the paths of a template: a POST to it orders from "
    "a model of that name, and Allow says so",
}
"""Those that are at odds with contracts that have a path like that, and why."""

NO_KEY_IS_401 = "unauthenticated-401"
"""The variant of contracts that answer 401 to no key, where the contract itself has another status."""


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
        if "run" in contract.operations:  # each of its calls waits for a whole video
            words += ["--exclude-path", contract.operations["run"].path]
        done = subprocess.run(
            [str(word) for word in words], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"[1-9][0-9]* generated", done.stdout)
