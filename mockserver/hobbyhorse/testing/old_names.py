"""Old names of records, readable for one release with a DeprecationWarning that names the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")
Method = TypeVar("Method", bound=Callable[..., Any])

# Frames between `warnings.warn` and the line that used the old name: `warn_of` and the special method.
CALLER = 3


def warn_of(old: str, new: str) -> None:
    """Warn the caller's caller that it uses an old name, and recommend the new one."""
    warnings.warn(f"{old} will be removed in the next release; use {new}", DeprecationWarning, stacklevel=CALLER)


def old_names(
    renamed: Mapping[str, tuple[str, Callable[[Any], Any]]] | None = None, live: Collection[str] = ()
) -> Callable[[type[Record]], type[Record]]:
    """Keep old names readable: as attributes, and as the keys of the JSON object that the record has replaced.

    `renamed` has the new name and the old value of each old name. The `live` names are read from the server's own
    object, which the record of a local world has in `_live`.
    """
    table = dict(renamed or {})

    def decorate(record: type[Record]) -> type[Record]:
        title = record.__name__
        by_position = getattr(record, "__getitem__", None)

        # Only called for names that the record does not have.
        def read_attribute(self: Any, name: str) -> Any:
            if name in table:
                new, read = table[name]
                warn_of(f"{title}.{name}", new)
                return read(self)
            if name in live and self._live is not None:
                warn_of(f"{title}.{name}", "the fields of the record: a world on a running server does not have it")
                return getattr(self._live, name)
            raise AttributeError(f"{title!r} object has no attribute {name!r}")

        def read_key(self: Any, key: Any) -> Any:
            if not isinstance(key, str):
                if by_position is None:
                    raise TypeError(f"{title!r} object has fields, no positions")
                return by_position(self, key)
            if key in table:
                new, read = table[key]
                warn_of(f"{title}[{key!r}]", new)
                return read(self)
            if key.startswith("_") or not hasattr(record, key):
                raise KeyError(key)
            warn_of(f"{title}[{key!r}]", f".{key}")
            return getattr(self, key)

        # Set here, and not in the classes: a type checker must not accept every attribute.
        record.__getattr__ = read_attribute  # type: ignore[attr-defined]
        record.__getitem__ = read_key  # type: ignore[index]
        return record

    return decorate


class FormerValue:
    """A method that was a value under the same name: it still compares, iterates and prints like that value."""

    def __init__(self, method: Callable[..., Any], name: str, new: str, value: Callable[[], Any]) -> None:
        self._method, self._name, self._new, self._value = method, name, new, value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self._method(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        warn_of(self._name, self._new)
        return bool(self._value() == other)

    def __hash__(self) -> int:
        warn_of(self._name, self._new)
        return hash(self._value())

    def __getattr__(self, name: str) -> Any:
        # Special names are looked up by libraries that inspect objects, not by tests.
        if name.startswith("__"):
            raise AttributeError(name)
        warn_of(self._name, self._new)
        return getattr(self._value(), name)

    def __str__(self) -> str:
        warn_of(self._name, self._new)
        return str(self._value())

    def __repr__(self) -> str:
        # Without a warning: assertions and debuggers print every attribute.
        return f"<method {self._name}>"

    def __bool__(self) -> bool:
        warn_of(self._name, self._new)
        return bool(self._value())

    def __len__(self) -> int:
        warn_of(self._name, self._new)
        return len(self._value())

    def __iter__(self) -> Iterator[Any]:
        warn_of(self._name, self._new)
        return iter(self._value())

    def __contains__(self, item: object) -> bool:
        warn_of(self._name, self._new)
        return item in self._value()

    def __getitem__(self, key: Any) -> Any:
        warn_of(self._name, self._new)
        return self._value()[key]


class _FormerValueMethod:
    """The descriptor that binds a `FormerValue` to a record."""

    def __init__(self, method: Callable[..., Any], new: str, value: Callable[[Any], Any]) -> None:
        self._method, self._new, self._value = method, new, value
        self.__doc__ = method.__doc__

    def __get__(self, record: Any, owner: type) -> Any:
        if record is None:
            return self._method
        name = f"{owner.__name__}.{self._method.__name__}"
        return FormerValue(self._method.__get__(record), name, self._new, lambda: self._value(record))


def formerly_value(new: str, value: Callable[[Any], Any]) -> Callable[[Method], Method]:
    """Let a method be read as the value that it has replaced, with a warning that recommends `new`."""
    # Typed as the method itself, so that the type checker reports the old use.
    return lambda method: _FormerValueMethod(method, new, value)  # type: ignore[return-value]
