"""Find the tracer: it comes with the wheel, or is compiled from `tracer.c` on first use."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("tracer.c")
# Put there by the build of the wheel, if the machine that built it had a compiler.
PACKAGED = Path(__file__).with_name("tracer")
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
# The machines for which the tracer is written. It was run on the first one only.
MACHINES = ("x86_64", "aarch64")
# Real seconds for a compiler: it takes one or two, and many on a busy machine.
COMPILING_SECONDS = 120.0


class Unavailable(Exception):
    """Virtual time cannot be used; the message says why."""


def tracer() -> Path:
    """Return the path of the tracer, compiling it if need be. Raises Unavailable."""
    if sys.platform != "linux":
        raise Unavailable("programs run in virtual time on Linux only")
    if platform.machine() not in MACHINES:
        raise Unavailable(f"the machine is {platform.machine()}; virtual time needs {' or '.join(MACHINES)}")
    if os.access(PACKAGED, os.X_OK):
        return PACKAGED
    return compiled(SOURCE, cache_folder())


def cache_folder() -> Path:
    """Return the folder of files that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hobbyhorse"


def compiled(source: Path, folder: Path) -> Path:
    """Return the program of a source, compiled into a folder unless it is there already. Raises Unavailable."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    code = source.read_bytes()
    target = folder / f"tracer-{platform.machine()}-{hashlib.sha256(code).hexdigest()[:16]}"
    if os.access(target, os.X_OK):
        return target
    if compiler is None:
        raise Unavailable("virtual time needs a C compiler, and there is no cc; install one, such as gcc")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In a folder of its own, then moved: another process may compile the same source at the same time.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "tracer"
            command = [compiler, *FLAGS, "-o", str(made), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILING_SECONDS, check=False)
            if done.returncode:
                words = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
                raise Unavailable(f"the tracer cannot be compiled: {words}")
            made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the tracer cannot be compiled: {error}") from None
    return target
