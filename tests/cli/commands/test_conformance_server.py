"""`hobbyhorse conformance server`: the mistakes, the plan, the consent, and a whole run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hobbyhorse import MockServer
from hobbyhorse.cli.commands.conformance_server import MOST_IMAGE_BYTES, _image, _listen_address
from hobbyhorse.cli.usage import UsageError
from tests.conftest import CONTRACTS, Done, Run

CONTRACT = CONTRACTS[0]
KEY = "key-of-the-first-account"


class Terminal:
    """Stands in for stdin: a terminal at which the user types an answer."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self._answer}\n"


def server(run: Run, url: str, *options: object, key: str = KEY) -> Done:
    return run("conformance", "server", "--provider", CONTRACT.key, "--base-url", url, "--api-key", key, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "lots"), "--budget is 'lots'; allowed: a sum in USD, such as 0.50"),
        (("--budget=-1",), "--budget is '-1'; "),
        (("--budget", "nan"), "--budget is 'nan'; "),
        (("--timeout", "0"), "--timeout is 0.0; allowed: a finite number of seconds, greater than 0"),
        (("--timeout", "inf"), "--timeout is inf; "),
        (("--other-key", "schlüssel"), "--api-key or --other-key cannot be sent in a header"),
        (("--other-key", "two\nlines"), "--api-key or --other-key cannot be sent in a header"),
        (("--image", "/no/such/file"), "--image '/no/such/file': No such file or directory"),
        (("--callback-listen", "here"), "--callback-listen is 'here'; allowed: HOST:PORT, such as 127.0.0.1:8787"),
        (("--callback-listen", "127.0.0.1:70000"), "--callback-listen is '127.0.0.1:70000'; "),
        (("--model", "acme"), f"--model is 'acme'; allowed for {CONTRACT.key}: "),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(options: tuple[str, ...], message: str, run: Run) -> None:
    done = server(run, "http://127.0.0.1:1", *options)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


@pytest.mark.parametrize("url", ["ftp://x", "http://", "api.example.com"])
def test_a_base_url_without_scheme_or_host_is_refused(url: str, run: Run) -> None:
    done = server(run, url)
    assert (done.status, done.out) == (2, "")
    assert f"--base-url is {url!r}; allowed: a URL such as https://api.example.com" in done.err


def test_another_machine_is_called_only_after_consent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    done = server(run, "http://user:word@endpoint.invalid", "--budget", "0.5")
    assert (done.status, done.err) == (2, "hobbyhorse: nothing was sent\n")
    question = "Call endpoint.invalid with the key that ends in ount, at a cost of at most 0.50 USD? [y/N]: "
    assert done.out.startswith(question)
    assert KEY not in done.out


def test_a_short_key_is_hidden_completely(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    done = server(run, "http://endpoint.invalid", key="12345678")
    assert "the key that ends in ****, at a cost of at most 0.00 USD" in done.out


def test_an_image_has_a_bounded_size(tmp_path: Path) -> None:
    assert _image("https://x/y.png") == "https://x/y.png"
    file = tmp_path / "image"
    for size, is_allowed in ((0, False), (1, True), (MOST_IMAGE_BYTES, True), (MOST_IMAGE_BYTES + 1, False)):
        with file.open("wb") as sparse:
            sparse.truncate(size)
        if is_allowed:
            assert len(_image(str(file)) or b"") == size
        else:
            with pytest.raises(UsageError, match=f"has {size} bytes; allowed: 1 to {MOST_IMAGE_BYTES}"):
                _image(str(file))


@pytest.mark.parametrize(
    ("text", "public_url", "expected"),
    [
        (None, None, ("127.0.0.1", 0)),
        (None, "https://tunnel.example", ("127.0.0.1", 8787)),
        ("0.0.0.0:9000", "https://tunnel.example", ("0.0.0.0", 9000)),
    ],
)
def test_callbacks_have_a_fixed_port_only_behind_a_public_url(
    text: str | None, public_url: str | None, expected: tuple[str, int]
) -> None:
    assert _listen_address(text, public_url) == expected


def test_an_endpoint_is_judged_and_reported(run: Run, tmp_path: Path) -> None:
    with MockServer(strict=False) as mock:
        url = f"{mock.url}/{CONTRACT.key}"
        done = server(run, url, "--report", tmp_path / "report")
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        verdicts = {one["id"]: one["verdict"] for one in report["rules"]}
        broken = sorted(rule for rule, verdict in verdicts.items() if verdict == "broken")
        assert done.status == (1 if broken else 0)
        assert f"report: {tmp_path / 'report' / 'index.html'}" in done.out
        (tmp_path / "known.json").write_text(json.dumps(dict.fromkeys(broken, "known")))
        accepted = server(run, url, "--baseline", tmp_path / "known.json")
        assert accepted.status == 0, accepted.out
        (tmp_path / "file").write_text("")
        done = server(run, url, "--report", tmp_path / "file")
        assert done.status == 2
        assert f"--report: {str(tmp_path / 'file')!r} cannot be written: " in done.err
