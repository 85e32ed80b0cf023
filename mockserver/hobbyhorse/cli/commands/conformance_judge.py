"""`hobbyhorse conformance judge`: recorded traffic against the rules for clients. No server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import typer

from hobbyhorse.cli.client_verdicts import show_verdicts
from hobbyhorse.cli.options import ContractsOption, ProviderOption, load_contracts, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.conformance.client.judge import BROKEN, judge
from hobbyhorse.conformance.client.report import judged
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.traces.har import HarError, parse_har, read_har
from hobbyhorse.traces.trace import TraceError, read_trace


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A HAR file, or a trace as JSON.")],
    provider: ProviderOption,
    base: Annotated[str | None, typer.Option(metavar="URL", help="The base URL, if it is not the provider's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Judge recorded traffic of a client; no server takes part.

    Exit status 0: no finding; 1: findings; 2: the file cannot be judged.
    """
    contract = one_of(load_contracts(contracts), provider)
    notes: tuple[str, ...] = ()
    try:
        said = parse_har(file.read_bytes())
        if isinstance(said, dict) and "log" in said:
            read = read_har(said, contract, base)
            trace, notes = read.trace, read.notes
        else:
            trace = read_trace(_valid(said))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (HarError, TraceError) as error:
        raise UsageError(f"{file}: {error}") from None
    verdicts = judge(contract, [trace])
    if as_json:
        typer.echo(json.dumps(judged(contract, trace)))
    else:
        show_verdicts(verdicts)
    for note in notes:
        typer.echo(note, err=True)
    raise typer.Exit(1 if any(one.verdict == BROKEN for one in verdicts) else 0)


def _valid(said: Any) -> Any:
    """Return a trace that keeps the schema of traces. Raises TraceError."""
    schema = json.loads((data_directory("fixtures") / "trace.schema.json").read_text())
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(said))
    if not isinstance(said, dict) or "format" not in said:
        raise TraceError("neither a HAR file, which has a `log`, nor a trace, which has a `format`")
    if wrong is not None:
        raise TraceError(f"neither a HAR file nor a trace: {wrong.json_path}: {wrong.message[:300]}")
    return said
