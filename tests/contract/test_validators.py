"""The validators are loaded on first use, so that a server is ready before they are."""

from __future__ import annotations

import subprocess
import sys

import jsonschema_rs

from hobbyhorse.contract.validators import validators


def test_the_module_is_returned() -> None:
    assert validators() is jsonschema_rs


def test_loading_the_projects_contracts_does_not_load_the_validators() -> None:
    code = (
        "import sys; from hobbyhorse.contract.folder import load_all; load_all(); print('jsonschema_rs' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
