"""`hobbyhorse conformance server`: the options of the suite for servers, and the consent to its requests."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hobbyhorse.cli.options import (
    BaselineOption,
    ContractsOption,
    ModelOption,
    ProviderOption,
    ReportOption,
    keep_hypothesis_away,
    load_contracts,
    model_of,
    one_of,
)
from hobbyhorse.cli.server_verdicts import probing, show_plan, show_server_result
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.report import ReportError, read_baseline
from hobbyhorse.conformance.server.probes import most, probes
from hobbyhorse.conformance.server.report import write_server_report
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.suite import SuiteOptions, examine, local, opened
from hobbyhorse.contract.values import Contract, Model

HOST, PORT = "127.0.0.1", 8787
"""Where callbacks that come by a public address are listened for."""
MOST_SHOWN_PROBES = 4
MOST_PICTURE_BYTES = 20 * 1024 * 1024


def command(
    provider: ProviderOption,
    base_url: Annotated[str, typer.Option("--base-url", metavar="URL", help="Where the endpoint is.")],
    api_key: Annotated[str, typer.Option(metavar="K", envvar="HOBBYHORSE_API_KEY", help="The API key.")],
    other_key: Annotated[
        str | None, typer.Option(metavar="K", help="The key of a second account, for jobs of somebody else.")
    ] = None,
    model: ModelOption = None,
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="What may be spent at most; without it nothing can be billed.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="A picture (or its address) that orders send instead.")
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A public address that leads to --callback-listen.")
    ] = None,
    callback_secret: Annotated[str | None, typer.Option(metavar="S", help="What signs the callbacks.")] = None,
    callback_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where that leads to; 127.0.0.1:8787 if nothing says so.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long the whole suite may take.")] = 300.0,
    report: ReportOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be sent, and what it may cost.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed sends the same.")] = 0,
    baseline: BaselineOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing before a host is called that is elsewhere.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Hold an endpoint against its contract: what it answers, and what it does.

    Exit status 0: nothing is broken; 1: broken rules; 2: nothing could be judged.
    """
    keep_hypothesis_away()
    contract = one_of(load_contracts(contracts), provider)
    chosen = model_of(contract, model)
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
        raise UsageError(f"--base-url {base_url!r}; it is an address such as https://api.example.com")
    if not 0 < timeout < float("inf"):
        raise UsageError(f"--timeout {timeout}; it is a number of seconds, greater than 0")
    if not api_key.isascii() or not api_key.isprintable() or not (other_key or "").isascii():
        raise UsageError("--api-key has letters that no header can hold")
    asked = SuiteOptions(
        base_url,
        api_key,
        _budget(budget),
        other_key,
        _picture(image),
        callback_url,
        callback_secret,
        _listen(callback_listen, callback_url),
        timeout,
        seed,
    )
    try:
        known = read_baseline(baseline, [one.id for one in server_rules()]) if baseline is not None else {}
        if plan:
            _plan(contract, chosen, asked)
            return
        _confirm(contract, chosen, asked, yes)
        with probing(base_url) as told:
            result = examine(contract, chosen, asked, server_rules(), known=known, told=told)
    except (ReportError, LookupError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        where = ":".join(map(str, asked.listen))
        raise UsageError(f"--callback-listen {where}: {error.strerror or error}") from None
    if report is not None:
        _write(result, contract, report)
    show_server_result(result, report)
    raise typer.Exit(result.status)


def _budget(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or found < 0:
        raise UsageError(f"--budget {text!r}; it is a sum in USD such as 0.50")
    return found


def _picture(text: str | None) -> bytes | str | None:
    if text is None or text.startswith(("http://", "https://")):
        return text
    try:
        data = Path(text).read_bytes()
    except OSError as error:
        raise UsageError(f"--image {text!r}: {error.strerror}") from None
    if not 0 < len(data) <= MOST_PICTURE_BYTES:
        raise UsageError(f"--image {text!r} has {len(data)} bytes; a picture has 1 to {MOST_PICTURE_BYTES}")
    return data


def _listen(text: str | None, public_url: str | None) -> tuple[str, int]:
    """Return where callbacks are listened for: any free port where the endpoint is on this machine, too."""
    if text is None:
        return HOST, 0 if public_url is None else PORT
    host, mark, port = text.rpartition(":")
    if not mark or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-listen {text!r}; it is HOST:PORT such as 127.0.0.1:8787")
    return host, int(port)


def _plan(contract: Contract, model: Model, asked: SuiteOptions) -> None:
    with opened(contract, model, asked, listening=False) as bench:
        lines = [(one.name, one.family, one.cost(bench), one.says) for one in probes(bench)]
        show_plan(lines, sum((cost for _, _, cost, _ in lines), Decimal(0)), asked.budget)


def _confirm(contract: Contract, model: Model, asked: SuiteOptions, yes: bool) -> None:
    """Ask before a host is called that is not this machine. Raises Wrong where nobody can be asked."""
    if yes or local(asked.base_url):
        return
    with opened(contract, model, asked, listening=False) as bench:
        greatest = min(most(bench), asked.budget or Decimal(0))
    key = asked.api_key[-MOST_SHOWN_PROBES:] if len(asked.api_key) > 2 * MOST_SHOWN_PROBES else "****"
    host = urlsplit(asked.base_url).netloc.rpartition("@")[2]
    words = f"call {host} with the key that ends in {key}, at a cost of at most {greatest:.2f} USD"
    if not sys.stdin.isatty():
        raise UsageError(f"would {words}: --yes says that this is meant")
    if not typer.confirm(f"{words[0].upper()}{words[1:]}?"):
        raise UsageError("nothing was sent")


def _write(result: ServerResult, contract: Contract, folder: Path) -> None:
    try:
        write_server_report(result, contract, folder)
    except OSError as error:
        raise UsageError(f"--report {str(folder)!r} cannot be written: {error.strerror}") from None
