"""The tracer is compiled once, into the cache, and a machine without a compiler is told so."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.runners.virtual import compiled
from hobbyhorse.runners.virtual.compiled import SOURCE, Unavailable, cache_folder, tracer

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc, which is not installed")


@needs_cc
def test_the_tracer_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled.compiled(SOURCE, tmp_path / "cache")
    assert os.access(first, os.X_OK)
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: pytest.fail("compiled again"))
    assert compiled.compiled(SOURCE, tmp_path / "cache") == first
    assert list((tmp_path / "cache").iterdir()) == [first]


@needs_cc
def test_the_tracer_compiles_without_a_warning(tmp_path: Path) -> None:
    command = ["cc", *compiled.FLAGS, "-Werror", "-fsyntax-only", str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_cc
def test_a_source_that_does_not_compile_is_an_error_with_the_first_line(tmp_path: Path) -> None:
    source = tmp_path / "tracer.c"
    source.write_text("int main(void) { return wrong; }\n")
    with pytest.raises(Unavailable, match=r"the tracer cannot be compiled: .*tracer\.c"):
        compiled.compiled(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tracer.c"]


def test_a_machine_without_a_compiler_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Unavailable, match="there is no cc"):
        compiled.compiled(SOURCE, tmp_path)


@pytest.mark.parametrize(
    ("system", "machine", "message"),
    [("darwin", "arm64", "on Linux only"), ("win32", "AMD64", "on Linux only"), ("linux", "riscv64", "is riscv64")],
)
def test_another_system_or_machine_is_refused(
    system: str, machine: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(Unavailable, match=message):
        tracer()


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hobbyhorse"
