"""The image, the manifests and the Action: what can be run without a container runtime is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_group

from hobbyhorse.cli.listening import CONNECT_PORT, TLS_PORT
from hobbyhorse.cli.main import app
from hobbyhorse.server.run import bind
from tests.conftest import CONTRACTS, ROOT

BIN = Path(sys.executable).parent
PREFIX = "HOBBYHORSE_SERVE_"
PORT = 8000
"""The port of the image."""


def variables_of_serve() -> set[str]:
    """Return every variable that sets an option of `serve`."""
    group = get_group(app)
    _, command, _ = group.resolve_command(group.make_context("hobbyhorse", ["serve"]), ["serve"])
    return {name for option in command.params for name in option.envvar or ()}  # type: ignore[union-attr]


# The Dockerfile.


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the image's last stage, with their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]
    found = [(name, rest) for name, rest in lines]
    return found[max(at for at, (name, _) in enumerate(found) if name == "FROM") :]


def words(name: str) -> list[str]:
    """Return the words of an instruction in the form of a JSON array."""
    (rest,) = (rest for found, rest in instructions() if found == name)
    parsed: list[str] = json.loads(rest[rest.index("[") :])
    return parsed


def environment_of_image(data: Path) -> dict[str, str]:
    """Return the environment of the image, with its volume at `data` and this environment's commands."""
    (rest,) = (rest for found, rest in instructions() if found == "ENV")
    given = dict(pair.split("=", 1) for pair in shlex.split(rest))
    return {**{name: value.replace("/data", str(data)) for name, value in given.items()}, "PATH": f"{BIN}:{os.defpath}"}


def free_port() -> int:
    with bind("127.0.0.1", 0) as bound:
        return int(bound.getsockname()[1])


@contextmanager
def entry_point(environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the entry point of the image with its command, until the context ends."""
    command = [*words("ENTRYPOINT"), *words("CMD")]
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield server
        finally:
            server.terminate()


def test_the_entry_point_serves_and_the_health_check_sees_it(tmp_path: Path) -> None:
    port = free_port()
    environment = {**environment_of_image(tmp_path), f"{PREFIX}PORT": str(port)}
    check = words("HEALTHCHECK")
    assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 1
    with entry_point(environment, tmp_path) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["url"] == f"http://0.0.0.0:{port}"
        assert subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0
        # As another container asks, by the name of the service.
        health = httpx.get(f"http://127.0.0.1:{port}/_mock/health", headers={"host": f"hobbyhorse:{port}"})
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        closed = httpx.get(f"http://127.0.0.1:{port}/_mock/jobs", headers={"authorization": "Bearer k"})
        assert closed.status_code == 403
        server.terminate()
        assert server.wait(10) == 0


def test_the_image_writes_only_to_its_volume_and_to_tmp(tmp_path: Path) -> None:
    environment = environment_of_image(tmp_path)
    assert environment["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert dict(instructions())["VOLUME"] == "/data"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_image_runs_as_a_user_that_kubernetes_can_verify() -> None:
    uid = dict(instructions())["USER"].partition(":")[0]
    assert uid.isdecimal()
    assert int(uid) > 0
    (deployment, _) = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, int(uid), int(uid))


def test_the_image_gets_every_file_that_the_wheel_is_built_from() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    text = (ROOT / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == kept
    needed = (ROOT / "pyproject.toml").read_text()
    packaged = re.search(r"only-include = (\[.*\])", needed)
    assert packaged is not None
    assert {name.partition("/")[0] for name in json.loads(packaged[1])} < kept


# The manifests.


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "deploy/kubernetes.yaml", "docs/deployment.md"])
def test_every_variable_of_the_server_in_a_file_sets_an_option(name: str) -> None:
    found = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", (ROOT / name).read_text()))
    assert found
    assert found <= variables_of_serve()


FOR_DEPLOYMENT = ("Dockerfile", "compose.yaml", "action.yml", "deploy/*", "deploy/action/*", ".github/workflows/*")


def test_no_file_for_deployment_names_a_provider() -> None:
    files = [path for pattern in FOR_DEPLOYMENT for path in ROOT.glob(pattern) if path.is_file()]
    assert len(files) > len(FOR_DEPLOYMENT)
    names = re.compile("|".join(contract.key for contract in CONTRACTS), re.IGNORECASE)
    assert [path for path in files if names.search(path.read_text())] == []


def compose_client() -> tuple[dict[str, Any], Path]:
    """Return the example client of Compose with the service that it extends, and the folder of its paths."""
    client = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["client"]
    file = ROOT / client["extends"]["file"]
    extended = yaml.safe_load(file.read_text())["services"][client["extends"]["service"]]
    return {**extended, **client}, file.parent


def test_the_example_client_of_compose_starts_when_the_server_is_healthy() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    client, _ = compose_client()
    assert client["depends_on"] == {"hobbyhorse": {"condition": "service_healthy"}}
    assert client["environment"]["HOBBYHORSE_BASE_URL"].startswith(f"http://hobbyhorse:{PORT}/")
    assert client["image"] == services["hobbyhorse"]["image"]


def test_the_example_client_of_compose_gets_its_video(tmp_path: Path) -> None:
    """The client runs as its container would: with the server's commands, the mounted file, and this request."""
    client, folder = compose_client()
    mounted = {target: str(folder / source) for source, target, _ in (one.split(":") for one in client["volumes"])}
    port = free_port()
    environment = {**environment_of_image(tmp_path), f"{PREFIX}PORT": str(port)}
    with entry_point(environment, tmp_path) as server:
        assert server.stdout is not None
        server.stdout.readline()
        replaced = {
            f"http://hobbyhorse:{PORT}": f"http://127.0.0.1:{port}",
            **mounted,
            "/tmp/horse.mp4": str(tmp_path / "horse.mp4"),
        }
        given = {}
        for name, value in client["environment"].items():
            before = next((text for text in replaced if text in value), "")
            given[name] = value.replace(before, replaced[before]) if before else value
        command = [mounted.get(word, word) for word in client["entrypoint"]]
        done = subprocess.run(command, env={**environment, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "horse.mp4").stat().st_size > 1000


def test_the_server_for_several_teams_has_the_options_that_the_page_shows(tmp_path: Path) -> None:
    """The override of Compose on the page, with the entry point in place of a container."""
    (block,) = re.findall(r"```yaml\n# compose\.override\.yaml.*?\n(.*?)```", read("docs/deployment.md"), re.DOTALL)
    override = yaml.safe_load(block)
    service = override["services"]["hobbyhorse"]
    published = {int(port.rpartition(":")[2]) for port in service["ports"]}
    assert published == {TLS_PORT, CONNECT_PORT}
    teams = tmp_path / "teams.json"
    teams.write_text('{"key of a": {"name": "team-a", "prefix": "a-"}, "key of b": {"name": "team-b", "prefix": "b-"}}')
    secret = f"/run/secrets/{service['secrets'][0]}"
    assert override["secrets"].keys() == set(service["secrets"])
    given = {name: value.replace(secret, str(teams)) for name, value in service["environment"].items()}
    given["HOBBYHORSE_ADMIN_KEY"] = "admin"
    free = {f"{PREFIX}{name}": "0" for name in ("PORT", "TLS_PORT", "CONNECT_PORT")}
    state = {f"{PREFIX}STATE": str(tmp_path / "state")}
    with entry_point({**environment_of_image(tmp_path), **given, **free, **state}, tmp_path) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        url = ready["url"].replace("0.0.0.0", "127.0.0.1")
        assert ready["ca"] == str(tmp_path / "state" / "tls" / "ca.pem")
        with httpx.Client(trust_env=False, headers={"authorization": "Bearer a-ci"}) as client:
            for key, status in (("key of a", 200), ("key of b", 403), ("", 403)):
                assert client.get(f"{url}/_mock/ledger", headers={"x-mock-control-key": key}).status_code == status
            worlds = client.get(f"{url}/_mock/worlds", headers={"x-mock-admin-key": "admin"}).json()["worlds"]
            assert [one["team"] for one in worlds] == ["team-a"]
            for key, status in (("admin", 200), ("key of a", 403)):
                assert client.get(f"{url}/metrics", headers={"authorization": f"Bearer {key}"}).status_code == status
        trusted = ssl.create_default_context(cafile=ready["ca"])
        (name,) = (value for name, value in given.items() if name.endswith("TLS_NAME"))
        address = ("127.0.0.1", int(ready["tls_url"].rpartition(":")[2]))
        with socket.create_connection(address) as plain, trusted.wrap_socket(plain, server_hostname=name) as secure:
            assert secure.getpeercert()


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text()


def test_the_probes_and_the_service_lead_to_the_port_of_the_image() -> None:
    deployment, service = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert dict(instructions())["EXPOSE"] == str(port["containerPort"]) == str(PORT)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/_mock/health", "port": port["name"]}
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/data", "/tmp"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"].keys() == {"requests", "limits"}


# The Action.


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a job's step, in which hobbyhorse is installed already."""
    commands = tmp_path / "temporary" / "hobbyhorse" / "venv" / "bin"
    commands.mkdir(parents=True)
    for name in ("hobbyhorse", "python"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{BIN / name}" "$@"\n')
        (commands / name).chmod(0o755)
    files = {name: tmp_path / name for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.touch()
    return {
        **{name: str(path) for name, path in files.items()},
        "RUNNER_TEMP": str(tmp_path / "temporary"),
        "GITHUB_ACTION_PATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
    }


ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def step(name: str, job: Mapping[str, str], folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the Action with inputs, as the runner does: bash, with the step's environment."""
    (found,) = (one for one in ACTION["runs"]["steps"] if one["name"] == name)
    values = {key: str(spec["default"]) for key, spec in ACTION["inputs"].items()} | inputs
    environment = {
        variable: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: values[match[1]], text)
        for variable, text in found.get("env", {}).items()
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]],
        env={**job, **exported(job), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def exported(job: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that earlier steps exported."""
    return dict(line.split("=", 1) for line in Path(job["GITHUB_ENV"]).read_text().splitlines())


pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def test_the_action_starts_waits_exports_runs_and_stops(job: dict[str, str], tmp_path: Path) -> None:
    started = step(
        "Start the server", job, tmp_path, provider="hiapi", key="it's mine", options="--pace instant --log json"
    )
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        url = exported(job)["HOBBYHORSE_URL"]
        assert Path(job["GITHUB_OUTPUT"]).read_text() == f"url={url}\n"
        assert exported(job)["HIAPI_API_KEY"] == "it's mine"
        assert exported(job)["HIAPI_BASE_URL"].startswith(url)
        run = 'curl --silent --fail "$HOBBYHORSE_URL/_mock/health"\nfalse | true'
        ran = step("Run", job, tmp_path, run=run)
        assert (ran.returncode, json.loads(ran.stdout)["status"]) == (1, "ok")
        again = step("Start the server", job, tmp_path)
        assert (again.returncode, "still running" in again.stdout) == (1, True)
    finally:
        stopped = step("Stop the server", job, tmp_path)
    assert stopped.returncode == 0
    # The last record of a server that was not killed.
    assert '"message":"stopped"' in stopped.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert step("Stop the server", job, tmp_path).returncode == 0


MISTAKES = [
    {"options": "--pace wrong"},
    {"options": "*"},
    {"provider": "nobody"},
    {"provider": "hiapi", "key": "a\nPATH=/b"},
]


@pytest.mark.parametrize("inputs", MISTAKES, ids=str)
def test_a_mistake_fails_the_first_step_and_leaves_no_server(
    inputs: dict[str, str], job: dict[str, str], tmp_path: Path
) -> None:
    started = step("Start the server", job, tmp_path, **inputs)
    try:
        assert started.returncode != 0
        assert "hobbyhorse" in started.stdout + started.stderr
        assert "*" not in inputs.values() or "(*)" in started.stdout
        assert Path(job["GITHUB_ENV"]).read_text() == ""
    finally:
        assert step("Stop the server", job, tmp_path).returncode == 0


def test_the_inputs_reach_the_shell_only_as_variables() -> None:
    for found in ACTION["runs"]["steps"]:
        assert "${{" not in found.get("run", "")


def test_the_workflow_tests_a_client_and_shows_the_summary(job: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "python" / "vtrix.py", tmp_path / "my_client.py")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "conformance.yml").read_text())
    (found,) = (one for one in workflow["jobs"]["client"]["steps"] if one["name"] == "Test the client")
    (tmp_path / ".hobbyhorse").symlink_to(ROOT)
    command = ["bash", "-e", "-c", found["run"]]
    inputs = {"INPUT_PROVIDER": "vtrix", "INPUT_PYTHON": "my_client.py:generate", "INPUT_PROFILE": "nonsense"}
    assert inputs.keys() <= found["env"].keys()
    wrong = subprocess.run(command, env={**job, **inputs}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "--profile is 'nonsense'" in wrong.stderr) == (2, True), wrong.stderr
    failing = {"INPUT_PROVIDER": "vtrix", "INPUT_COMMAND": "exit 7", "INPUT_PROFILE": "ci"}
    broken = subprocess.run(command, env={**job, **failing}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert broken.returncode == 2, broken.stderr
    assert Path(job["GITHUB_PATH"]).read_text().splitlines()[0].endswith("hobbyhorse/venv/bin")
