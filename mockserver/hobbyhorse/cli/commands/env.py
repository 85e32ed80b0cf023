"""`hobbyhorse env`: print the variables that point a client at the server, in the syntax of a shell or a file."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hobbyhorse.cli.options import ContractsOption, load_contracts, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.server.files.cache import user_directory
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.front.variables import proxy_variables

AUTHORITY_PATH, PORT_HEADER = "/_mock/ca.pem", "X-Mock-Connect-Port"
# A server on this machine or in its network responds in milliseconds.
TIMEOUT_SECONDS = 5.0
# A certificate has some 700 bytes; another server's page must not be read to its end.
MOST_AUTHORITY_BYTES = 65_536
# Characters that need no quotes in any file of variables.
_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+=-]*")


def _dotenv(name: str, value: str) -> str:
    # `docker run --env-file` keeps quotes, so a value has them only if it needs them.
    quoted = value if _PLAIN.fullmatch(value) else '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'
    return f"{name}={quoted}"


def _powershell(name: str, value: str) -> str:
    return f"$env:{name} = '" + value.replace("'", "''") + "'"


LINES: Mapping[str, Callable[[str, str], str]] = {
    "shell": lambda name, value: f"export {name}={shlex.quote(value)}",
    "powershell": _powershell,
    "dotenv": _dotenv,
}


def command(
    *,
    provider: Annotated[str, typer.Argument(help="The provider.")],
    url: Annotated[str, typer.Option(help="The URL of the server.")] = "http://127.0.0.1:8000",
    key: Annotated[
        str | None, typer.Option(help="The client's API key; by default, one of the documented form, or `test`.")
    ] = None,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            help="Leave the client at the provider's own host, and lead it to the server with the proxy variables; "
            "fetches the certificate authority of a running `serve --tls`.",
        ),
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the authority to FILE; by default, into the user's cache."),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The forward proxy, if clients reach it at another address."),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="shell|powershell|dotenv|json", help="The syntax.")
    ] = "shell",
    contracts: ContractsOption = None,
) -> None:
    """Print the environment variables and SDK settings that point a client at the server."""
    if format not in (*LINES, "json"):
        raise UsageError(f"--format is {format!r}; allowed: {', '.join(LINES)}, json")
    for option, value in (("--ca-file", ca_file), ("--proxy", proxy)):
        if value is not None and not tls:
            raise UsageError(f"{option} needs --tls")
    contract = one_of(load_contracts(contracts), provider)
    key = contract.example_key if key is None else key
    # `serve` signs callbacks with this secret unless it is given another one.
    values = {"url": f"{url.rstrip('/')}/{contract.key}", "key": key, "secret": DEFAULT_SECRET}
    if tls:
        if not contract.hosts:
            raise UsageError(f"the contract of {contract.key} names no host; add `servers` to its openapi.json")
        base = f"https://{contract.hosts[0]}"
        variables = contract.environment(url, key, DEFAULT_SECRET, base) | _fetched(url.rstrip("/"), proxy, ca_file)
    else:
        variables = contract.environment(url, key, DEFAULT_SECRET)
    if format == "json":
        typer.echo(json.dumps(variables, indent=2))
        return
    for variable, text in variables.items():
        typer.echo(LINES[format](variable, text))
    for client in contract.clients if not tls else ():
        if client.code:  # as a comment, so that a shell can evaluate the whole output
            typer.echo(f"# {client.name}: {client.code.format(**values)}")


def _fetched(url: str, proxy: str | None, file: Path | None) -> dict[str, str]:
    """Fetch the authority of a server, write it to a file, and return the variables. Raises UsageError."""
    if split(url) is None:
        raise UsageError(f"--url is {url!r}; allowed: http:// or https:// and a host")
    certificate, port = _authority(url)
    parts = urlsplit(url)
    host = str(parts.hostname)
    if proxy is None:
        if port is None:
            raise UsageError(f"the server at {url} has no forward proxy; start it with `hobbyhorse serve --tls`")
        proxy = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    path = None
    if certificate is not None:
        name = f"ca-{hashlib.sha256(certificate).hexdigest()[:16]}.pem"
        path = (file or user_directory() / name).absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(certificate)
        except OSError as error:
            raise UsageError(f"{str(path)!r} cannot be written to: {error.strerror or error}; set --ca-file") from None
    return proxy_variables(proxy, None if path is None else str(path), [host])


def _authority(url: str) -> tuple[bytes | None, str | None]:
    """Return the certificate of a server's authority, and the port of its proxy. Raises UsageError.

    A server with a certificate that it was given has no authority of its own.
    """
    # Nothing to verify an https:// URL with: the authority is what this request fetches.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.ProxyHandler({})
    opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url + AUTHORITY_PATH, timeout=TIMEOUT_SECONDS) as response:
            certificate, port = response.read(MOST_AUTHORITY_BYTES), response.headers.get(PORT_HEADER)
    except urllib.error.HTTPError as error:
        with error:
            port = error.headers.get(PORT_HEADER)
            if error.code == 404 and port is not None:
                return None, port
            raise UsageError(f"the server at {url} serves no HTTPS; start it with `hobbyhorse serve --tls`") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UsageError(f"no server at {url}: {getattr(reason, 'strerror', None) or reason}") from None
    if not certificate.startswith(b"-----BEGIN CERTIFICATE-----"):
        raise UsageError(f"the server at {url} is not a hobbyhorse server with TLS")
    return certificate, port
