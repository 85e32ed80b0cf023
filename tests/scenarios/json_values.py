"""Strategies of JSON values."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('abé"\\{}', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), JSON, max_size=4
)


def leaves(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the pointers to the values of a document that are not objects or lists."""
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, (*at, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*at, str(index)))]
    return [at]
