"""The example that keeps a rule is found by the name of a function, with its present lines."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.examples import FOLDER, Example, example_for
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS, ROOT
from tests.judging import made_up

OWN = (ROOT / FOLDER / f"{CONTRACTS[0].key}.py").is_file()


def functions(path: Path) -> set[str]:
    """Return the names of the functions, classes and methods of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.skipif(not OWN, reason="made-up contracts have no example clients")
def test_every_rule_that_applies_has_a_function_of_the_providers_own_example(contract: Contract) -> None:
    for rule in rules():
        example = example_for(rule, contract)
        if not rule.applies(contract) or (example is None and contract.callbacks is None):
            continue
        assert example is not None, rule.id
        assert Path(example.path).name.startswith(contract.key), (rule.id, example)
        assert example.function.rpartition(".")[2] in functions(ROOT / example.path), (rule.id, example)
        assert re.match(r"(@.*\n)?\s*(def|class) ", example.code), (rule.id, example.code)


def test_every_client_rule_has_an_example_and_a_fix_of_one_sentence() -> None:
    for rule in rules():
        assert rule.example is not None, rule.id
        assert rule.fix.endswith("."), rule.id
        assert ". " not in rule.fix, rule.id


def repository(folder: Path) -> Path:
    """Write a repository with two example clients."""
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "zebra.py").write_text(
        "class A:\n    def first(self):\n        return 1\n\n\ndef last():\n    pass\n"
    )
    (folder / FOLDER / "aardvark.py").write_text("def last():\n    return 2\n")
    (folder / FOLDER / "zebra_callbacks.py").write_text("import x\n\n\n@x.made\ndef last():\n    return 3\n")
    return folder


def found(name: str, example: str | None, root: Path, has_callbacks: bool = True) -> Example | None:
    callbacks = next(one.callbacks for one in CONTRACTS if one.callbacks is not None) if has_callbacks else None
    return example_for(made_up("XXX-01", example=example), replace(CONTRACTS[0], key=name, callbacks=callbacks), root)


def test_the_providers_own_example_comes_before_others(tmp_path: Path) -> None:
    root = repository(tmp_path)
    assert found("zebra", "last", root) == Example(f"{FOLDER}/zebra.py", "last", (6, 7), "def last():\n    pass")
    assert found("monkey", "last", root) == Example(
        f"{FOLDER}/aardvark.py", "last", (1, 2), "def last():\n    return 2"
    )
    method = found("zebra", "A.first", root)
    assert method is not None
    assert (method.lines, str(method)) == ((2, 3), f"{FOLDER}/zebra.py:2-3 (A.first)")
    assert found("zebra", "nothing", root) is None
    assert found("zebra", None, root) is None


def test_a_function_about_callbacks_stands_in_the_client_with_callbacks(tmp_path: Path) -> None:
    root = repository(tmp_path)
    example = found("zebra", "callbacks.last", root)
    assert example is not None
    assert (example.path, example.lines) == (f"{FOLDER}/zebra_callbacks.py", (4, 6))
    assert found("zebra", "callbacks.last", root, has_callbacks=False) is None


def test_an_installed_package_names_the_path_and_the_function(tmp_path: Path) -> None:
    example = found(CONTRACTS[0].key, "last", tmp_path)
    if OWN:
        assert example == Example(f"{FOLDER}/{CONTRACTS[0].key}.py", "last")
        assert example.to_json() == {"path": f"{FOLDER}/{CONTRACTS[0].key}.py", "function": "last"}
        assert str(example) == f"{FOLDER}/{CONTRACTS[0].key}.py (last)"
    assert found("monkey", "last", tmp_path) is None
