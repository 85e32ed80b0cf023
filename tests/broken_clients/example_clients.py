"""The clients of examples/python as modules, for a client that is made of two of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "examples" / "python"


def example(name: str) -> ModuleType:
    """Return the module of an example; each call gives a new one."""
    spec = importlib.util.spec_from_file_location(f"example_of_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before execution, because dataclasses look up the module of a class.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
