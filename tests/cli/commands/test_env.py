"""`hobbyhorse env`: the lines that it prints are valid in a shell, and name what each client reads."""

from __future__ import annotations

import subprocess

from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from tests.conftest import Run


def test_a_shell_evaluates_the_lines_to_the_values(contract: Contract, run: Run) -> None:
    done = run("env", contract.key, "--url", "http://127.0.0.1:8123/", "--key", "sk 1'\"$HOME`id`\\")
    assert (done.status, done.err) == (0, "")
    names = [line.split("=")[0].removeprefix("export ") for line in done.out.splitlines() if line.startswith("export ")]
    expected = {"BASE_URL": f"http://127.0.0.1:8123/{contract.key}", "API_KEY": "sk 1'\"$HOME`id`\\"}
    shell = subprocess.run(
        ["bash", "-c", 'eval "$1"; shift; for name; do printf "%s\\0" "${!name}"; done', "bash", done.out, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    values = dict(zip(names, shell.stdout.split("\0"), strict=False))
    for name, value in expected.items():
        assert values[f"{contract.key.upper()}_{name}"] == value
    for client in contract.clients:
        for name, text in client.environment.items():
            assert values[name] == text.format(url=expected["BASE_URL"], key=expected["API_KEY"], secret=DEFAULT_SECRET)
