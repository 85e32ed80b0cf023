"""Compile the tracer of virtual time into the wheel, if this machine has a C compiler.

Without one, the wheel has only the source, which is compiled on first use. A wheel with the program is for this system
and machine only, and says so in its tag.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("mockserver/hobbyhorse/runners/virtual")
MACHINES = ("x86_64", "aarch64")


class TracerHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the tracer to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the tracer. Does nothing if that fails, or the installation is editable."""
        compiler = shutil.which("cc")
        machine = platform.machine()
        if version == "editable" or sys.platform != "linux" or machine not in MACHINES or compiler is None:
            return
        source, target = Path(self.root) / FOLDER / "tracer.c", Path(self.root) / "build" / "tracer"
        target.parent.mkdir(exist_ok=True)
        # Static, so that it runs with every C library; a machine without the static one builds a dynamic program.
        for more, system in ((["-static"], "manylinux2014"), ([], "linux")):
            command = [compiler, "-O2", "-s", "-std=gnu11", *more, "-o", str(target), str(source)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                build_data["force_include"][str(target)] = "hobbyhorse/runners/virtual/tracer"
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{system}_{machine}"
                return
