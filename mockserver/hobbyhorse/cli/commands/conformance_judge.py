"""`hobbyhorse conformance judge`: judges a recording by the rules for clients. Starts no server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import typer

from hobbyhorse.cli.options import ContractsOption, ProviderOption, load_contracts, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.cli.verdicts import show_verdicts
from hobbyhorse.conformance.client.report import judged
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, judge
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.traces.har import HarError, read_har
from hobbyhorse.traces.har_file import open_har
from hobbyhorse.traces.trace import TraceError, read_trace

# A schema error quotes the value that is wrong, which may be a whole recorded body.
MOST_MESSAGE_CHARACTERS = 300


def command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A HAR file (also as .har.zip, .zhar or .har.gz), or a trace as JSON."),
    ],
    provider: ProviderOption,
    base: Annotated[
        str | None, typer.Option(metavar="URL", help="The base URL in the recording, if it is not the provider's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Judge the recorded traffic of a client, without a server.

    Exit status 0: no finding; 1: findings; 2: the file cannot be judged.
    """
    contract = one_of(load_contracts(contracts), provider)
    notes: tuple[str, ...] = ()
    try:
        opened = open_har(file)
        document = opened.document
        if isinstance(document, dict) and "log" in document:
            recording = read_har(document, contract, base, opened.attached)
            trace, notes = recording.trace, recording.notes
        else:
            trace = read_trace(_valid_trace(document))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (HarError, TraceError) as error:
        raise UsageError(f"{file}: {error}") from None
    verdicts = judge(contract, [trace], rules())
    if as_json:
        typer.echo(json.dumps({**judged(contract, trace), "notes": list(notes)}))
    else:
        show_verdicts(verdicts)
    for note in notes:
        typer.echo(note, err=True)
    raise typer.Exit(1 if any(one.verdict == BROKEN for one in verdicts) else 0)


def _valid_trace(document: Any) -> Any:
    """Return a document that satisfies the schema of traces. Raises TraceError."""
    schema = json.loads((data_directory("fixtures") / "trace.schema.json").read_text())
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(document))
    # Any other JSON file fails the schema in many places; its message says which two formats are meant.
    if not isinstance(document, dict) or "format" not in document:
        raise TraceError("neither a HAR file, which has a `log`, nor a trace, which has a `format`")
    if error is not None:
        raise TraceError(
            f"neither a HAR file nor a trace: {error.json_path}: {error.message[:MOST_MESSAGE_CHARACTERS]}"
        )
    return document
