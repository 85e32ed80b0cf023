"""`hobbyhorse serve`: the options as the server gets them, the banner, and the mistakes."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

from hobbyhorse.cli.main import app
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.control.access import Team
from hobbyhorse.server.front.authority import own_certificates
from hobbyhorse.server.front.gate import Front
from hobbyhorse.server.reloading.watch import ReloadError
from hobbyhorse.traces.trace import Trace
from hobbyhorse.worlds.limits import Limits
from tests.conftest import CONTRACTS, ROOT, Run


@dataclass(frozen=True)
class Given:
    """The parts of the server that `serve` would have run."""

    options: Options
    front: Front | None


@dataclass(frozen=True)
class Served:
    """The options of the server that `serve` would have run, its output on stderr, and its front."""

    options: Options
    err: str
    front: Front | None


@pytest.fixture
def served(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """Run `serve` without its server."""

    def served(*arguments: object) -> Served:
        found: list[Given] = []

        def serve(fake: Fake, bound: socket.socket, ready: Callable[[str], None], front: Front | None = None) -> None:
            with bound:
                ready("http://127.0.0.1:1")
            for one in front.sockets if front is not None else ():
                one.close()
            found.append(Given(fake.options, front))

        monkeypatch.setattr("hobbyhorse.cli.commands.serve.serve", serve)
        done = run("serve", "--port", 0, *arguments)
        assert (done.status, len(done.out.splitlines())) == (0, 1)
        return Served(found[0].options, done.err, found[0].front)

    return served


def test_limits_are_off_by_default(served: Callable[..., Served]) -> None:
    assert served().options.limits == Limits()
    found = served(
        *("--requests-per-second", 2.5, "--concurrent-jobs", 3, "--provider-workers", 2),
        *("--rivals", 4, "--balance", "1.40"),
    )
    assert found.options.limits == Limits(
        requests_per_second=2.5, concurrent_jobs=3, workers=2, rivals=4, balance=Decimal("1.40")
    )


def test_the_old_name_of_the_provider_workers_works_and_is_not_shown(served: Callable[..., Served], run: Run) -> None:
    assert served("--workers", 2).options.limits == served("--provider-workers", 2).options.limits == Limits(workers=2)
    assert "--workers" not in run("serve", "--help").out


def test_each_run_has_a_name_of_its_own(served: Callable[..., Served]) -> None:
    runs = {served("--seed", 5).options.run for _ in range(2)}
    assert len(runs) == 2
    assert None not in runs


def test_worlds_and_jobs_have_bounds_by_default(served: Callable[..., Served]) -> None:
    options = served().options
    assert (options.keep_worlds, options.keep_jobs) == (10_000, 100_000)
    options = served("--keep-worlds", 5, "--keep-jobs", 7).options
    assert (options.keep_worlds, options.keep_jobs) == (5, 7)
    assert (Options().keep_worlds, Options().keep_jobs) == (None, None)


def test_the_clock_runs_at_a_speed_or_is_manual(served: Callable[..., Served]) -> None:
    assert served().options.make_clock().speed == 1
    assert served("--speed", 60).options.make_clock().speed == 60
    assert served("--clock", "manual").options.make_clock().speed == 0


def test_scenarios_and_the_control_key_reach_the_server(served: Callable[..., Served], tmp_path: Path) -> None:
    found = served("--scenarios", tmp_path, "--control-key", "a secret").options
    assert (found.scenarios, found.control_key) == ((tmp_path,), "a secret")
    assert (served().options.scenarios, served().options.control_key) == ((), None)


def test_the_control_key_comes_from_the_environment_or_a_file(
    served: Callable[..., Served], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbfof a file\r\n")
    assert served("--control-key-file", file).options.control_key == "of a file"
    monkeypatch.setenv("HOBBYHORSE_CONTROL_KEY", "of the environment")
    assert served().options.control_key == "of the environment"
    assert served("--control-key", "of the option").options.control_key == "of the option"
    both = run("serve", "--port", 0, "--control-key-file", file)
    assert (both.status, "exclude each other" in both.err) == (2, True)
    monkeypatch.setenv("HOBBYHORSE_CONTROL_KEY", "")
    assert served().options.control_key is None
    for content, words in (
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\n", "cannot be sent"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        done = run("serve", "--port", 0, "--control-key-file", file)
        assert (done.status, words in done.err, len(done.err.splitlines())) == (2, True, 1), done.err


def command_of_serve() -> Any:
    group = get_group(app)
    _, command, _ = group.resolve_command(group.make_context("hobbyhorse", ["serve"]), ["serve"])
    return command


COMMAND = command_of_serve()
OPTIONS = [(name, option) for option in COMMAND.params for name in option.opts if name.startswith("--")]


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_variable_sets_each_option_as_the_command_line_does(
    name: str, option: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"int": "7", "integer range": "7", "int range": "7", "float": "2.5"}.get(option.type.name, "a-text")
    words = [name] if option.is_flag else [name, value]
    wanted = COMMAND.make_context("serve", words).params
    assert wanted != COMMAND.make_context("serve", []).params
    monkeypatch.setenv(f"HOBBYHORSE_SERVE_{name[2:].replace('-', '_').upper()}", "true" if option.is_flag else value)
    assert COMMAND.make_context("serve", []).params == wanted


def test_a_variable_of_a_repeatable_option_has_several_values(
    served: Callable[..., Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setenv("HOBBYHORSE_SERVE_API_KEY", "one two")
    monkeypatch.setenv("HOBBYHORSE_SERVE_SCENARIOS", f"{tmp_path}:{tmp_path / 'a b'}")
    options = served().options
    assert options.api_keys == {"one", "two"}
    assert options.scenarios == (tmp_path, tmp_path / "a b")


def test_a_log_or_spans_put_observers_around_the_server_and_by_default_there_are_none(
    served: Callable[..., Served], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("hobbyhorse")
    before = [*logger.handlers], logger.level, logger.propagate
    assert served().options.observe is None
    try:
        assert served("--otel").options.observe is not None
        assert served("--log-level", "debug").options.observe is not None
        (line,) = served("--log", "json").err.splitlines()
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert json.loads(line)["url"] == "http://127.0.0.1:1"
    for option, allowed in (("--log", "text, json"), ("--log-level", "debug, info, warning, error")):
        done = run("serve", "--port", 0, option, "xml")
        assert (done.status, done.err) == (2, f"hobbyhorse: {option} is 'xml'; allowed: {allowed}\n")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    done = run("serve", "--port", 0, "--otel")
    assert (done.status, "OTEL_TRACES_EXPORTER is 'zipkin'" in done.err) == (2, True)
    monkeypatch.setitem(sys.modules, "hobbyhorse.server.observing.spans", None)
    done = run("serve", "--port", 0, "--otel")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "--otel needs an extra: pip install 'hobbyhorse[otel]'" in done.err


def test_a_watch_reads_the_contracts_as_the_start_does(served: Callable[..., Served], tmp_path: Path) -> None:
    assert served().options.watch is None
    shutil.copytree(ROOT / "contracts" / CONTRACTS[0].key, tmp_path / CONTRACTS[0].key)
    options = served("--contracts", tmp_path, "--watch").options
    assert options.watch is not None
    contracts, _ = options.watch(Fake(options=options)).sources
    assert contracts.folders == (tmp_path,)
    assert [contract.key for contract in contracts.read()] == [CONTRACTS[0].key]
    lifecycle = tmp_path / CONTRACTS[0].key / "lifecycle.json"
    lifecycle.write_text(lifecycle.read_text().replace('"class": "success"', '"class": "wrong"'))
    with pytest.raises(ReloadError, match=re.escape(str(lifecycle))):
        contracts.read()
    kept, scenarios = served("--watch", "--state", tmp_path / "state").options.watch(Fake()).sources  # type: ignore[misc]
    with pytest.raises(ReloadError, match="a server with --state reads its contracts at its start only; restart it"):
        kept.read()
    assert scenarios.read()
    own, _ = served("--watch").options.watch(Fake()).sources  # type: ignore[misc]
    assert own.folders == (ROOT / "contracts",)


def test_a_mistake_in_a_variable_is_one_line_and_exit_status_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOBBYHORSE_SERVE_PORT", "tcp://10.0.0.1:8000")
    done = run("serve")
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "'--port'" in done.err


def test_the_admin_key_and_the_teams_reach_the_server(
    served: Callable[..., Served], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "teams.json"
    file.write_text('{"a secret": {"name": "team-a", "prefix": "a-"}}')
    found = served("--host", "0.0.0.0", "--control-keys", file, "--admin-key", "another secret")
    assert found.options.teams == {"a secret": Team("team-a", "a-")}
    assert found.options.admin_key == "another secret"
    assert "control plane" not in found.err
    monkeypatch.setenv("HOBBYHORSE_ADMIN_KEY", "of the environment")
    assert served().options.admin_key == "of the environment"
    both = run("serve", "--port", 0, "--control-keys", file, "--control-key", "a secret")
    assert (both.status, "also the key of a team" in both.err, "a secret" in both.err) == (2, True, False)
    file.write_text("{}")
    done = run("serve", "--port", 0, "--control-keys", file)
    assert (done.status, "--control-keys" in done.err, len(done.err.splitlines())) == (2, True, 1)


def test_origins_of_pages_reach_the_server(served: Callable[..., Served], run: Run) -> None:
    found = served("--allow-origin", "https://App.example", "--allow-origin", "null", "--allow-origin", "*").options
    assert found.allow_origins == {"https://app.example", "null", "*"}
    for mistake in ("app.example", "https://app.example/", "ftp://app.example"):
        done = run("serve", "--port", 0, "--allow-origin", mistake)
        assert (done.status, f"--allow-origin is {mistake!r}" in done.err) == (2, True)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home whose cache cannot be a directory, also for root."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    return tmp_path / "file" / "below" / "hobbyhorse"


def test_an_unwritable_home_is_one_line_and_another_directory_is_used(
    served: Callable[..., Served], run: Run, nowhere: Path
) -> None:
    found = served()
    (line,) = [line for line in found.err.splitlines() if "cannot be written to" in line]
    assert f"{str(nowhere)!r} cannot be written to: Not a directory" in line
    assert "--cache" in line
    assert found.options.cache is not None
    assert found.options.cache.is_dir()
    done = run("serve", "--port", 0, "--cache", nowhere)
    assert (done.status, f"--cache: {str(nowhere)!r} cannot be written to" in done.err) == (2, True)


def test_without_a_directory_for_temporary_files_there_is_one_line(
    served: Callable[..., Served], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)

    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", refuse)
    found = served("--cache", tmp_path / "cache")
    assert "no directory for temporary files can be written to; using the cache" in found.err
    assert found.options.cache == tmp_path / "cache"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run("serve", "--port", 0)
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "no directory can be written to" in done.err
    assert "set --cache or TMPDIR" in done.err


def test_a_scenario_that_fits_no_provider_is_a_warning(served: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"moves": {"submit": [{"move": "rate_limited"}]}}')
    assert "applies to no provider" not in served("--scenarios", tmp_path).err
    (tmp_path / "mistyped.json").write_text('{"moves": {"submit": [{"move": "ratelimited"}]}}')
    (line,) = [line for line in served("--scenarios", tmp_path).err.splitlines() if "applies to no provider" in line]
    assert "the scenario 'mistyped' applies to no provider" in line
    assert "rate_limited" in line


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", True), ("0.0.0.0", False)]
)
def test_the_banner_says_that_the_control_plane_is_off_if_other_machines_reach_it(
    host: str, loopback: bool, served: Callable[..., Served]
) -> None:
    found = served("--host", host)
    assert found.options.loopback is loopback
    assert ("control plane (/_mock) is off" in found.err) is not loopback
    assert "control plane" not in served("--host", host, "--control-key", "secret").err


def test_the_other_options_reach_the_server(served: Callable[..., Served], tmp_path: Path) -> None:
    network = ("--public-url", "https://mock.test", "--api-key", "one", "--api-key", "two", "--callback-secret", "")
    media = ("--fetch-from", "Images.Example.COM", "--cache", tmp_path / "new", "--cache-size", 3)
    found = served(*network, *media, "--pace", "instant", "--seed", 7, "--strict").options
    assert (found.public_url, found.callback_secret) == ("https://mock.test", None)
    assert found.api_keys == {"one", "two"}
    assert found.fetch_from == {"images.example.com"}
    assert found.cache == tmp_path / "new"
    assert found.cache_bytes == 3 * 1024 * 1024
    assert (found.pace, found.seed, found.strict) == ("instant", 7, True)


def test_the_server_judges_a_client_when_asked_to(served: Callable[..., Served]) -> None:
    contract = CONTRACTS[0]
    judge = served().options.judge
    assert judge is not None
    report = judge(contract, Trace(contract.key, f"http://127.0.0.1:1/{contract.key}"))
    assert {one["id"] for one in report["rules"]} == {rule.id for rule in rules()}


def test_the_options_are_in_panels(run: Run) -> None:
    told = run("serve", "--help").out
    panels = ["Network", "TLS", "Time", "Contracts", "Media", "State", "Control", "Limits", "Observing"]
    assert [line.split()[1] for line in told.splitlines() if line.startswith("╭")] == ["Options", *panels]
    assert told.index("Network") < told.index("--port") < told.index("Time") < told.index("--pace")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--requests-per-second", "0"], "--requests-per-second is 0.0; allowed: a number greater than 0"),
        (["--requests-per-second", "nan"], "--requests-per-second is nan; "),
        (["--concurrent-jobs=-1"], "--concurrent-jobs is -1; allowed: "),
        (["--provider-workers", "0"], "--provider-workers is 0; allowed: "),
        (["--provider-workers", "1.5"], "'--provider-workers'"),
        (["--provider-workers", "1", "--workers", "1"], "--workers is the old name of --provider-workers; "),
        (["--rivals=-1"], "--rivals is -1; allowed: "),
        (["--balance", "much"], "--balance is 'much'; allowed: a sum in USD, such as 2.50"),
        (["--balance=-1"], "--balance is -1; allowed: "),
        (["--balance", "nan"], "--balance is NaN; allowed: "),
        (["--clock", "sundial"], "--clock is 'sundial'; allowed: real, manual"),
        (["--clock", "manual", "--speed", "2"], "--speed is 2.0, but a manual clock does not run"),
        (["--admin-key", " secret"], "--admin-key cannot be sent"),
        (["--control-key", ""], "--control-key cannot be sent"),
        (["--control-key", " secret"], "--control-key cannot be sent"),
        (["--control-key", "se\ncret"], "--control-key cannot be sent"),
        (["--control-key", "geheimnisträger"], "--control-key cannot be sent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_value_is_one_line_without_secrets_and_exit_status_2(
    arguments: list[str], words: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.cli.commands.serve.serve", lambda *_: pytest.fail("the mistake is served"))
    done = run("serve", "--port", 0, *arguments)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line
    assert "secret" not in line


# ---- TLS and reverse proxies


def test_without_tls_there_is_no_front_and_nobody_is_trusted(served: Callable[..., Served]) -> None:
    found = served()
    assert (found.front, found.options.authority, found.options.connect_port) == (None, None, None)
    assert found.options.trusted_proxies == ()
    assert "HTTPS" not in found.err


def test_with_tls_the_banner_and_the_options_have_its_addresses(served: Callable[..., Served]) -> None:
    found = served("--tls", "--tls-port", 0, "--connect-port", 0, "--tls-name", "mock")
    assert found.front is not None
    addresses = found.front.addresses
    assert f"HTTPS is at {addresses['tls_url']}" in found.err
    assert addresses["connect_proxy"] == f"http://127.0.0.1:{found.options.connect_port}"
    assert found.options.authority is not None
    assert found.options.authority.startswith(b"-----BEGIN CERTIFICATE-----")
    assert found.front.destinations.find("mock", int(str(addresses["tls_url"]).rpartition(":")[2]))


def test_a_kept_state_has_the_authority(served: Callable[..., Served], tmp_path: Path) -> None:
    authority = own_certificates(tmp_path / "tls", ["localhost"]).authority
    assert authority is not None
    found = served("--tls", "--tls-port", 0, "--connect-port", 0, "--state", tmp_path)
    assert found.options.authority == authority.read_bytes()


def test_a_certificate_that_was_given_needs_no_authority(served: Callable[..., Served], tmp_path: Path) -> None:
    pem = own_certificates(tmp_path, ["localhost"]).chain
    found = served("--tls-cert", pem, "--tls-key", pem, "--tls-port", 0, "--connect-port", 0)
    assert found.front is not None
    assert (found.front.addresses["ca"], found.options.authority) == (None, None)
    assert found.options.connect_port


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        (["--trusted-proxies", "10.0.0.1"], ["10.0.0.1/32"]),
        (
            ["--trusted-proxies", "10.0.0.0/8, fd00::/8", "--trusted-proxies", "::1"],
            ["10.0.0.0/8", "fd00::/8", "::1/128"],
        ),
    ],
)
def test_trusted_proxies_are_addresses_and_ranges(
    given: list[str], networks: list[str], served: Callable[..., Served]
) -> None:
    assert [str(one) for one in served(*given).options.trusted_proxies] == networks


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tls-port", "0"], "--tls-port needs --tls"),
        (["--connect-port", "0"], "--connect-port needs --tls"),
        (["--tls-name", "mock"], "--tls-name needs --tls"),
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key need each other"),
        (["--tls-key", "a.pem"], "--tls-cert and --tls-key need each other"),
        (["--tls-cert", "a.pem", "--tls-key", "a.pem"], "--tls-cert: 'a.pem' cannot be read: No such file"),
        (["--tls", "--tls-port", "{taken}"], "--tls-port 0 picks a free port"),
        (["--tls", "--tls-port", "0", "--connect-port", "{taken}"], "--connect-port 0 picks a free port"),
        (["--tls", "--tls-name", "no name"], "--tls: the certificates in "),
        (["--trusted-proxies", "proxy.example"], "--trusted-proxies: 'proxy.example' does not appear to be"),
    ],
)
def test_a_mistake_about_tls_or_proxies_is_one_line(given: list[str], said: str, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", 0, *(one.format(taken=port) for one in given))
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err


def test_a_state_is_opened_and_a_wrong_one_refused_in_one_line(
    served: Callable[..., Served], run: Run, tmp_path: Path
) -> None:
    assert served().options.state is None
    keeper = served("--state", tmp_path, "--seed", 3).options.state
    assert keeper is not None
    done = run("serve", "--port", 0, "--state", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"hobbyhorse: --state: another server uses {str(tmp_path)!r}: process ")
    keeper._store.stop()
    done = run("serve", "--port", 0, "--state", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == "hobbyhorse: --state: the state was made with the seed 3, not 0; use --seed 3\n"
