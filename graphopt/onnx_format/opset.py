"""Opsets: nodes are taken up to the rooms' definitions when read, and down again when written.

Nothing here knows an operator: each room brings its adapters. What comes out is checked against the schema of the
target opset, so that an operator, attribute or element type that it lacks is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.errors import GraphoptError, OpsetError, TypeRuleError
from graphopt.ir.constant import Constant
from graphopt.ir.operator import Opaque, Operator
from graphopt.ir.types import OptionalType, SequenceType, TensorType, Type
from graphopt.ops.registry import find_room, find_room_of
from graphopt.ops.room import NEWEST, Step

if TYPE_CHECKING:
    from onnx.defs import OpSchema

OLDEST = 7  # the oldest opset whose definitions the adapters know


def upgrade(domain: str, name: str, step: Step, version: int | None) -> tuple[Operator, Step]:
    """The operator of a node that was written for opset `version` of its domain, and its operands for it.

    An operator without a room, or with attributes that its room does not take, is opaque and keeps its version.
    """
    room = find_room_of(name, domain, version)
    opaque = Opaque(name, domain, step.attributes, version)
    if room is None or (domain == "" and version is not None and not OLDEST <= version <= NEWEST):
        return opaque, step
    raised = step
    try:
        for adapter in sorted(room.adapters, key=lambda a: a.version):
            if version is not None and adapter.version > version:
                raised = adapter.up(raised)
        return room.of(raised.attributes), raised
    except GraphoptError as error:
        return replace(opaque, why=str(error)), step


def downgrade(op: Operator, step: Step, version: int, collections: Mapping[str, Type] = MappingProxyType({})) -> Step:
    """A node's attributes and operands in the definition of opset `version`.

    `collections` are the types of the operands and results, by name, that are sequences or optionals.

    Raises:
        OpsetError: the older definition lacks what this node needs, or the node was written for another opset.
    """
    if isinstance(op, Opaque):
        if op.domain == "" and op.version is not None and not _same_definition(op.name, op.version, version):
            _definition(op.name, version)  # which is refused where there is none
            why = op.why or f"{op.name} was written for opset {op.version} and is carried as it is"
            raise OpsetError(
                f"{why}: opset {version} defines it otherwise; leave --opset out, or keep a function that brought it "
                "with --keep-functions"
            )
        return step
    room = find_room(op.name, op.domain)
    if room is None or op.domain != "":
        return step
    try:
        for adapter in sorted(room.adapters, key=lambda a: -a.version):
            if adapter.version > version:
                step = adapter.down(step)
    except TypeRuleError as error:
        raise OpsetError(f"{op.name} breaks its type rule, and stays at its opset: {error}") from None
    _check_schema(room.name_at(version), step, version, collections)
    return step


def _same_definition(name: str, a: int, b: int) -> bool:
    import onnx.defs

    try:
        first = onnx.defs.get_schema(name, a, "").since_version
        return bool(first == onnx.defs.get_schema(name, b, "").since_version)
    except onnx.defs.SchemaError:
        return a == b


@dataclass(frozen=True)
class _Definition:
    """What the check asks of an operator's definition in an opset: the types by operand and result."""

    since: int
    attributes: frozenset[str]
    types: Mapping[str, tuple[frozenset[str], ...]]


def _takes(definition: _Definition, part: str, index: int, kind: Type) -> bool:
    """Whether an operand or a result (the last may repeat) may be of a type."""
    places = definition.types[part]
    allowed = places[min(index, len(places) - 1)] if places else frozenset()
    told = _schema_type(kind)
    start = told.partition("?")[0]  # of an element type that is not known
    return not places or told in allowed or (start != told and any(t.startswith(start) for t in allowed))


def _lists(definition: _Definition, key: str) -> bool:
    return key in definition.attributes


def _of_schema(schema: OpSchema) -> _Definition:
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    types = {
        part: tuple(allowed.get(f.type_str, frozenset({f.type_str})) for f in formals)
        for part, formals in (("of", schema.inputs), ("that gives", schema.outputs))
    }
    return _Definition(schema.since_version, frozenset(schema.attributes), types)


@cache
def _definition(name: str, version: int) -> _Definition:
    """An operator's definition in an opset.

    Raises:
        OpsetError: it has none.
    """
    import onnx.defs

    try:
        return _of_schema(onnx.defs.get_schema(name, version, ""))
    except onnx.defs.SchemaError:
        raise OpsetError(f"{name} needs opset {_first(name)}") from None


def _check_schema(name: str, step: Step, version: int, collections: Mapping[str, Type]) -> None:
    """The target opset has the operator, its attributes, and the operands' types.

    Raises:
        OpsetError: naming what it lacks.
    """
    definition = _definition(name, version)
    for key in step.attributes:
        if not _lists(definition, key):
            raise OpsetError(f"{name} with {key} needs opset {_first(name, partial(_lists, key=key))}")
    known: dict[str | Constant, Type] = dict(collections.items())
    known.update({o: f.type for o, f in zip(step.operands, step.facts, strict=False) if f is not None})
    for part, names in (("of", step.operands), ("that gives", step.results)):
        for i, name_ in enumerate(names):
            kind = known.get(name_)
            if kind is not None and not _takes(definition, part, i, kind):
                newer = _first(name, partial(_takes, part=part, index=i, kind=kind))
                raise OpsetError(f"{name} {part} {_told(kind)} needs opset {newer}")


def _told(kind: Type) -> str:
    """A type without its shape."""
    if isinstance(kind, SequenceType | OptionalType):
        return "sequences" if isinstance(kind, SequenceType) else "optionals"
    return str(kind.dtype) if isinstance(kind, TensorType) else str(kind)


def _first(name: str, has: Callable[[_Definition], bool] = bool) -> int | str:
    """The oldest opset that defines an operator so."""
    import onnx.defs

    history = [s for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", name)]
    found = [d.since for d in map(_of_schema, history) if has(d)]
    return min(found, default="newer than any that graphopt knows")


_SCHEMA_NAMES: Mapping[str, str] = {
    "f32": "float", "f64": "double", "str": "string", "c64": "complex64", "c128": "complex128", "bf16": "bfloat16",
    "f8e4m3fn": "float8e4m3fn", "f8e4m3fnuz": "float8e4m3fnuz", "f8e5m2": "float8e5m2", "f8e8m0": "float8e8m0",
    "f8e5m2fnuz": "float8e5m2fnuz", "f4e2m1": "float4e2m1", "f16": "float16", "bool": "bool",
}  # fmt: skip


def _schema_type(kind: Type | None) -> str:
    """A type as ONNX's schemas write it."""
    if isinstance(kind, SequenceType):
        return f"seq({_schema_type(kind.element)})"
    if isinstance(kind, OptionalType):
        return f"optional({_schema_type(kind.element)})"
    if not isinstance(kind, TensorType):
        return "?"
    return f"tensor({_SCHEMA_NAMES.get(kind.dtype.name) or f'{kind.dtype.kind}{kind.dtype.bits}'})"


def written_opset(declared: Mapping[str, int], wanted: int | None) -> int:
    """The opset of ONNX's own domain to write.

    Raises:
        OpsetError: it is older or newer than the adapters know.
    """
    version = wanted if wanted is not None else declared.get("", NEWEST)
    if wanted is not None and not OLDEST <= wanted <= NEWEST:
        raise OpsetError(f"--opset {wanted} is out of reach: choose one from {OLDEST} to {NEWEST}")
    return version
