"""How `serve` shares its state: the options that do not fit together."""

from __future__ import annotations

import pytest

from hobbyhorse.cli.processes import sharing
from hobbyhorse.cli.processes.sharing import Sharing, read_sharing
from hobbyhorse.cli.usage import UsageError


def test_only_a_state_in_redis_is_shared() -> None:
    assert read_sharing(None, 1) is None
    assert read_sharing("./state", 1) is None
    for url in ("redis://cache", "rediss://cache:7000/1"):
        assert read_sharing(url, 4) == Sharing(url, 4)


@pytest.mark.parametrize("state", [None, "./state"])
def test_several_processes_need_redis(state: str | None) -> None:
    with pytest.raises(UsageError, match="--processes is 2, but processes share nothing without --state redis://HOST"):
        read_sharing(state, 2)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'hobbyhorse\[redis\]'"):
        read_sharing("redis://cache", 1)
