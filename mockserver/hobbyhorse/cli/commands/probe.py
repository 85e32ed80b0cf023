"""`hobbyhorse probe`: the properties of a video file. Starts no ffmpeg."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.media.probe import Mp4Error, facts_json, probe


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An MP4 file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the properties of a video, read from its bytes; exit status 1 if it is not a complete MP4."""
    try:
        facts = probe(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except Mp4Error as error:
        # 1, not 2: the command is correct but the file is not, and a script can distinguish the two cases.
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    values = facts_json(facts)
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name.replace('_', ' '):20} {value}")
