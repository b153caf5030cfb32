"""Frozen record types: named tuples with a type of their own.

Neither `dataclasses` nor `typing.NamedTuple` will do: importing either costs as much as a bare interpreter start, and
ten thousand reports a second need records that are made in a third of a microsecond.
"""

from __future__ import annotations

from _collections import _tuplegetter  # what collections.namedtuple is made of, without importing `collections`

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T", bound="Frozen")


class _Missing:
    """Stands for the default of a field that has none."""


_MISSING: Any = _Missing()
_new_tuple = tuple.__new__


class _FrozenType(type):
    """Makes the annotated names of a class body the fields of a tuple."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        fields = tuple(body.get("__annotations__", ()))
        defaults = tuple([body.pop(field, _MISSING) for field in fields])
        for place, field in enumerate(fields):
            body[field] = _tuplegetter(place, "")
        body["__slots__"] = ()
        body["__match_args__"] = fields
        body["_defaults"] = defaults
        body["_required"] = defaults.count(_MISSING)
        return super().__new__(cls, name, bases, body)


if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True)
    class Frozen:
        """Base of the record types: immutable, equal and hashed by type and fields, made by position or by name."""

        __match_args__: tuple[str, ...]

else:

    class Frozen(tuple, metaclass=_FrozenType):
        """Base of the record types: immutable, equal and hashed by type and fields, made by position or by name."""

        __slots__ = ()

        def __new__(cls, *args, **kwargs):
            """Raises TypeError where a field is missing, unknown or given twice."""
            names = cls.__match_args__
            if kwargs:
                args = _by_name(cls, args, kwargs)
            given = len(args)
            if given != len(names):
                if not cls._required <= given <= len(names):
                    raise TypeError(f"{cls.__name__} takes the fields {', '.join(names)}; some are missing or too many")
                args += cls._defaults[given:]
            return _new_tuple(cls, args)

        __hash__ = tuple.__hash__

        def __eq__(self, other):
            return type(other) is type(self) and tuple.__eq__(self, other)

        def __ne__(self, other):
            return not (type(other) is type(self) and tuple.__eq__(self, other))

        def __bool__(self):
            return True

        def __reduce__(self):
            return type(self), tuple(self)

        def __repr__(self):
            fields = ", ".join(f"{name}={value!r}" for name, value in zip(self.__match_args__, self))
            return f"{type(self).__name__}({fields})"


def _by_name(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    rest = cls.__match_args__[len(args) :]
    values = [kwargs.get(name, default) for name, default in zip(rest, cls._defaults[len(args) :])]
    wrong = [name for name in kwargs if name not in rest] or [n for n, v in zip(rest, values) if v is _MISSING]
    if wrong:
        fields = ", ".join(cls.__match_args__)
        raise TypeError(
            f"{cls.__name__} takes the fields {fields}; unknown, given twice or missing: {', '.join(wrong)}"
        )
    return args + tuple(values)


def replace(record: T, **changes: Any) -> T:
    """A copy of a frozen record with some fields changed. Raises TypeError for a field that it does not have."""
    values: list[Any] = list(record)  # type: ignore[call-overload]
    names = record.__match_args__
    for name, value in changes.items():
        try:
            values[names.index(name)] = value
        except ValueError:
            raise TypeError(f"{type(record).__name__} has no field {name}") from None
    copy: T = _new_tuple(type(record), values)  # type: ignore[type-var]
    return copy
