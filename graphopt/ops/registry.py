"""All rooms by domain and name. Filled when `graphopt.ops` is imported, frozen afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.errors import TypeRuleError
from graphopt.ir.attributes import Attribute
from graphopt.ir.operator import Opaque, Operator

if TYPE_CHECKING:
    from graphopt.ops.room import Room

_ROOMS: dict[tuple[str, str], type[Room]] = {}
_FROZEN: list[bool] = []  # not empty once registration has ended


def register(cls: type[Room]) -> None:
    """Enter a room; each name once, and only while `graphopt.ops` is being imported."""
    if _FROZEN:
        raise RuntimeError(f"{cls.name}: rooms are declared in graphopt/ops only")
    if (cls.domain, cls.name) in _ROOMS:
        raise RuntimeError(f"{cls.name} has two rooms")
    _ROOMS[cls.domain, cls.name] = cls


def freeze() -> None:
    """End registration."""
    _FROZEN.append(True)


def rooms() -> Mapping[tuple[str, str], type[Room]]:
    """All rooms by (domain, name)."""
    return MappingProxyType(_ROOMS)


def find_room(name: str, domain: str = "") -> type[Room] | None:
    """The room of an operator, or None: it is opaque."""
    return _ROOMS.get((domain, name))


def room(name: str, domain: str = "") -> type[Room]:
    """The room of an operator that certainly has one."""
    return _ROOMS[domain, name]


def make(domain: str, name: str, attributes: Mapping[str, Attribute]) -> Operator:
    """The operator of that name with its attributes bound; opaque without a room, or when they don't fit it."""
    cls = _ROOMS.get((domain, name))
    if cls is not None:
        try:
            return cls.of(attributes)
        except TypeRuleError:
            pass
    return Opaque(name, domain, MappingProxyType(dict(attributes)))
