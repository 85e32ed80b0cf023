"""`hobbyhorse conformance server`: checks the options, asks for consent to the cost, and runs the server suite."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hobbyhorse.cli.interruption import stoppable
from hobbyhorse.cli.options import (
    BaselineOption,
    ContractsOption,
    ProviderOption,
    ReportOption,
    keep_hypothesis_files_in_cache,
    load_contracts,
    model_of,
    one_of,
)
from hobbyhorse.cli.progress import probing
from hobbyhorse.cli.rule_options import AllowNotObservedOption, RuleOption, chosen_rules
from hobbyhorse.cli.server_verdicts import show_plan, show_server_result
from hobbyhorse.cli.usage import UsageError, reports_internal_errors
from hobbyhorse.conformance.report import ReportError, read_baseline
from hobbyhorse.conformance.server.budget import cheapest_first
from hobbyhorse.conformance.server.endpoint import without_login
from hobbyhorse.conformance.server.probes import most, probes
from hobbyhorse.conformance.server.report import write_server_report
from hobbyhorse.conformance.server.results import ServerResult
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.suite import TIMEOUT, SuiteOptions, examine, local, opened
from hobbyhorse.conformance.server_page import write_server_page
from hobbyhorse.contract.values import Contract, Model

# The port has to be fixed, because a tunnel from the public URL is set up before the suite starts.
HOST, PORT = "127.0.0.1", 8787
# Enough of the key to recognize it in the question; a key of at most twice this length is hidden completely.
SHOWN_KEY_CHARACTERS = 4
# No contract allows a larger input image.
MOST_IMAGE_BYTES = 20 * 1024 * 1024
# The value of --model for every model of the provider.
ALL = "all"
ENDPOINT, REQUESTS, CALLBACKS = "Endpoint", "Requests", "Callbacks"


@reports_internal_errors
def command(
    *,
    provider: ProviderOption,
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="The base URL of the API.", rich_help_panel=ENDPOINT)
    ],
    api_key: Annotated[
        str, typer.Option(metavar="K", envvar="HOBBYHORSE_API_KEY", help="The API key.", rich_help_panel=ENDPOINT)
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="The model, or 'all'; by default, the provider's first."),
    ] = None,
    contracts: ContractsOption = None,
    other_key: Annotated[
        str | None,
        typer.Option(
            metavar="K", help="The API key of a second account, for access to foreign jobs.", rich_help_panel=ENDPOINT
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="USD", help="Spend at most USD; without it, send no billable request.", rich_help_panel=REQUESTS
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print the requests and their greatest cost; send none.", rich_help_panel=REQUESTS),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Call another machine without asking.", rich_help_panel=REQUESTS)
    ] = False,
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An image, or its URL, for the submissions.", rich_help_panel=REQUESTS),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Stop the suite after SECONDS.", rich_help_panel=REQUESTS)
    ] = TIMEOUT,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed sends the same requests.", rich_help_panel=REQUESTS)
    ] = 0,
    callback_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A public URL that leads to --callback-listen.", rich_help_panel=CALLBACKS),
    ] = None,
    callback_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Receive callbacks here; by default 127.0.0.1:8787, or a free port without --callback-url.",
            rich_help_panel=CALLBACKS,
        ),
    ] = None,
    callback_secret: Annotated[
        str | None, typer.Option(metavar="S", help="The secret that signs the callbacks.", rich_help_panel=CALLBACKS)
    ] = None,
    rule: RuleOption = None,
    shard: Annotated[str | None, typer.Option(metavar="K/N", hidden=True)] = None,
    allow_not_observed: AllowNotObservedOption = False,
    report: ReportOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Test an endpoint against its contract: its responses and its behaviour.

    Exit status 0: nothing is broken; 1: broken rules; 2: nothing could be judged; 3: internal error; 4: a rule of
    --rule was not observed; 130: interrupted.
    """
    keep_hypothesis_files_in_cache()
    if shard is not None:
        raise UsageError(
            "--shard is for `conformance client`: the checks of an endpoint share a job, which is paid once"
        )
    wanted = chosen_rules(server_rules(), rule)
    contract = one_of(load_contracts(contracts), provider)
    models = cheapest_first(contract) if model == ALL else (model_of(contract, model),)
    chosen = models[0]
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
        raise UsageError(f"--base-url is {base_url!r}; allowed: a URL such as https://api.example.com")
    if not 0 < timeout < float("inf"):
        raise UsageError(f"--timeout is {timeout}; allowed: a finite number of seconds, greater than 0")
    if not all(key.isascii() and key.isprintable() for key in (api_key, other_key or "")):
        raise UsageError("--api-key or --other-key cannot be sent in a header; allowed: printable ASCII")
    options = SuiteOptions(
        base_url=base_url,
        api_key=api_key,
        budget=_budget(budget),
        other_key=other_key,
        picture=_image(image),
        callback_url=callback_url,
        callback_secret=callback_secret,
        listen=_listen_address(callback_listen, callback_url),
        timeout=timeout,
        seed=seed,
        models=models,
    )
    try:
        known = read_baseline(baseline, [one.id for one in server_rules()]) if baseline is not None else {}
        if plan:
            _show_plan(contract, chosen, options)
            return
        greatest = _greatest_cost(contract, chosen, options)
        _confirm(options, greatest, yes)
        print(f"this may cost at most {greatest:.2f} USD", file=sys.stderr)
        with stoppable(), probing(without_login(base_url)[0]) as show:
            result = examine(contract, chosen, options, wanted, known=known, on_probe=show)
        given = {"--model": model, "--contracts": contracts, "--budget": budget, "--image": image}
        given |= {"--callback-url": callback_url, "--callback-listen": callback_listen}
        result = replace(result, options=_again(result, options, given))
    except (ReportError, LookupError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        where = ":".join(map(str, options.listen))
        raise UsageError(f"--callback-listen: cannot listen on {where}: {error.strerror or error}") from None
    if report is not None:
        _write(result, contract, report)
    show_server_result(result, contract, report)
    raise typer.Exit(result.status_with(frozenset() if allow_not_observed else frozenset(rule or ())))


def _again(result: ServerResult, options: SuiteOptions, given: Mapping[str, object]) -> tuple[str, ...]:
    """Return the options that run the suite again; secrets are variables, as they have to stay out of reports."""
    words = ["--provider", result.provider, "--base-url", result.base_url]
    words += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    words += ["--seed", str(options.seed)] if options.seed else []
    words += ["--timeout", f"{options.timeout:g}"] if options.timeout != TIMEOUT else []
    secrets = {"--other-key": options.other_key, "--callback-secret": options.callback_secret}
    return (*words, *(word for name, value in secrets.items() if value for word in (name, "SECRET")))


def _budget(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")  # refused below, with the same message
    if not found.is_finite() or found < 0:
        raise UsageError(f"--budget is {text!r}; allowed: a sum in USD, such as 0.50")
    return found


def _image(text: str | None) -> bytes | str | None:
    """Return the bytes of an image file, or the URL of an image as it is. Raises UsageError."""
    if text is None or text.startswith(("http://", "https://")):
        return text  # the endpoint fetches it; this machine may not be able to
    try:
        data = Path(text).read_bytes()
    except OSError as error:
        raise UsageError(f"--image {text!r}: {error.strerror}") from None
    if not 0 < len(data) <= MOST_IMAGE_BYTES:
        raise UsageError(f"--image: {text!r} has {len(data)} bytes; allowed: 1 to {MOST_IMAGE_BYTES}")
    return data


def _listen_address(text: str | None, public_url: str | None) -> tuple[str, int]:
    """Return the host and port for callbacks; port 0, any free one, if the endpoint calls this machine directly."""
    if text is None:
        return HOST, 0 if public_url is None else PORT
    host, mark, port = text.rpartition(":")
    if not mark or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--callback-listen is {text!r}; allowed: HOST:PORT, such as 127.0.0.1:8787")
    return host, int(port)


def _show_plan(contract: Contract, model: Model, options: SuiteOptions) -> None:
    # Without a receiver of callbacks: a plan opens no port and no connection.
    with opened(contract, model, options, listening=False) as session:
        rows = [(one.name, one.family, one.cost(session), one.summary) for one in probes(session)]
        show_plan(rows, sum((cost for _, _, cost, _ in rows), Decimal(0)), options.budget)


def _greatest_cost(contract: Contract, model: Model, options: SuiteOptions) -> Decimal:
    """Return the most that a run may cost: the budget, or the price of all probes if that is less."""
    if not options.budget:
        return Decimal(0)
    with opened(contract, model, options, listening=False) as session:
        return min(most(session), options.budget)


def _confirm(options: SuiteOptions, greatest: Decimal, yes: bool) -> None:
    """Ask before calling another machine. Raises UsageError if the user refuses, or stdin is not a terminal."""
    if yes or local(options.base_url):
        return
    is_long = len(options.api_key) > 2 * SHOWN_KEY_CHARACTERS
    key = options.api_key[-SHOWN_KEY_CHARACTERS:] if is_long else "****"
    # Without a user and password in the URL: the question ends up in logs.
    host = urlsplit(without_login(options.base_url)[0]).netloc
    words = f"call {host} with the key that ends in {key}, at a cost of at most {greatest:.2f} USD"
    if not sys.stdin.isatty():
        raise UsageError(f"this would {words}; to confirm, add --yes")
    if not typer.confirm(f"{words[0].upper()}{words[1:]}?"):
        raise UsageError("nothing was sent")


def _write(result: ServerResult, contract: Contract, folder: Path) -> None:
    try:
        write_server_report(result, folder)
        write_server_page(result, contract, folder)
    except OSError as error:
        raise UsageError(f"--report: {str(folder)!r} cannot be written: {error.strerror}") from None
