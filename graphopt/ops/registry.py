"""All rooms by domain and name. Common families are loaded with `graphopt.ops`, the others when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.errors import TypeRuleError
from graphopt.ir.attributes import Attribute
from graphopt.ir.operator import Opaque, Operator

if TYPE_CHECKING:
    from graphopt.ops.room import Room

_ROOMS: dict[tuple[str, str], type[Room]] = {}

# Modules of `graphopt.ops` that are loaded when one of their operators is met: start-up is a feature.
RARE: Mapping[str, tuple[str, ...]] = {
}  # fmt: skip
_RARE: Mapping[tuple[str, str], str] = {
    (domain, name): module for module, names in RARE.items() for domain, _, name in (n.rpartition("::") for n in names)
}


def register(cls: type[Room]) -> None:
    """Enter a room; each name once, and only from the modules of `graphopt.ops`."""
    module = cls.__module__
    if not module.startswith("graphopt.ops."):
        raise RuntimeError(f"{cls.name}: rooms are declared in graphopt/ops only")
    if (cls.domain, cls.name) in _ROOMS:
        raise RuntimeError(f"{cls.name} has two rooms")
    _ROOMS[cls.domain, cls.name] = cls


def load(module: str) -> object:
    """A module of rooms, by its name in `graphopt.ops`."""
    return importlib.import_module(f"graphopt.ops.{module}")


def rooms() -> Mapping[tuple[str, str], type[Room]]:
    """All rooms by (domain, name), the rare ones too."""
    for module in RARE:
        load(module)
    return MappingProxyType(_ROOMS)


def find_room(name: str, domain: str = "") -> type[Room] | None:
    """The room of an operator, or None: it is opaque."""
    found = _ROOMS.get((domain, name))
    if found is None and (module := _RARE.get((domain, name))) is not None:
        load(module)
        found = _ROOMS[domain, name]
    return found


def room(name: str, domain: str = "") -> type[Room]:
    """The room of an operator that certainly has one."""
    found = find_room(name, domain)
    if found is None:
        raise KeyError(name)
    return found


def make(domain: str, name: str, attributes: Mapping[str, Attribute]) -> Operator:
    """The operator of that name with its attributes bound; opaque without a room, or when they don't fit it."""
    cls = find_room(name, domain)
    if cls is not None:
        try:
            return cls.of(attributes)
        except TypeRuleError:
            pass
    return Opaque(name, domain, MappingProxyType(dict(attributes)))
