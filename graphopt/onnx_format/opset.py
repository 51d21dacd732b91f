"""Opsets: nodes are taken up to the rooms' definitions when read, and down again when written.

Nothing here knows an operator: each room brings its adapters. What comes out is checked against the schema of the
target opset, so that an operator, attribute or element type that it lacks is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphopt.errors import GraphoptError, OpsetError
from graphopt.ir.operator import Opaque, Operator
from graphopt.ops.registry import find_room
from graphopt.ops.room import NEWEST, Fact, Step

OLDEST = 7  # the oldest opset whose definitions the adapters know


def upgrade(domain: str, name: str, step: Step, version: int | None) -> tuple[Operator, Step]:
    """The operator of a node that was written for opset `version` of its domain, and its operands for it.

    An operator without a room, or with attributes that its room does not take, is opaque and keeps its version.
    """
    room = find_room(name, domain)
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


def downgrade(op: Operator, step: Step, version: int) -> Step:
    """A node's attributes and operands in the definition of opset `version`.

    Raises:
        OpsetError: the older definition lacks what this node needs, or the node was written for another opset.
    """
    if isinstance(op, Opaque):
        if op.domain == "" and op.version is not None and not _same_definition(op.name, op.version, version):
            raise OpsetError(
                f"{op.name} was written for opset {op.version} and is carried as it is: opset {version} defines it "
                "otherwise; leave --opset out, or keep a function that brought it with --keep-functions"
            )
        return step
    room = find_room(op.name, op.domain)
    if room is None or op.domain != "":
        return step
    for adapter in sorted(room.adapters, key=lambda a: -a.version):
        if adapter.version > version:
            step = adapter.down(step)
    _check_schema(op.name, step, version)
    return step


def _same_definition(name: str, a: int, b: int) -> bool:
    import onnx.defs

    try:
        first = onnx.defs.get_schema(name, a, "").since_version
        return bool(first == onnx.defs.get_schema(name, b, "").since_version)
    except onnx.defs.SchemaError:
        return a == b


def _check_schema(name: str, step: Step, version: int) -> None:
    """The target opset has the operator, its attributes, and the operands' element types.

    Raises:
        OpsetError: naming what it lacks.
    """
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(name, version, "")
    except onnx.defs.SchemaError:
        raise OpsetError(f"opset {version} has no {name}: choose a newer --opset") from None
    for key in step.attributes:
        if key not in schema.attributes:
            raise OpsetError(f"{name} has no attribute {key!r} in opset {version}: choose a newer --opset")
    formals = list(schema.inputs)
    constraints = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    for i, known in enumerate(step.facts):
        if known is None or not formals:
            continue
        formal = formals[min(i, len(formals) - 1)]
        allowed = constraints.get(formal.type_str, {formal.type_str})
        if _schema_name(known) not in allowed:
            raise OpsetError(
                f"{name} takes no {known.dtype} as its operand {formal.name!r} in opset {version}: "
                "choose a newer --opset, or export the model again"
            )


_SCHEMA_NAMES: Mapping[str, str] = {
    "f32": "float", "f64": "double", "str": "string", "c64": "complex64", "c128": "complex128", "bf16": "bfloat16",
    "f8e4m3fn": "float8e4m3fn", "f8e4m3fnuz": "float8e4m3fnuz", "f8e5m2": "float8e5m2", "f8e8m0": "float8e8m0",
    "f8e5m2fnuz": "float8e5m2fnuz", "f4e2m1": "float4e2m1", "f16": "float16", "bool": "bool",
}  # fmt: skip


def _schema_name(fact: Fact) -> str:
    dtype = fact.dtype
    short = _SCHEMA_NAMES.get(dtype.name) or f"{dtype.kind}{dtype.bits}"
    return f"tensor({short})"


def written_opset(declared: Mapping[str, int], wanted: int | None) -> int:
    """The opset of ONNX's own domain to write.

    Raises:
        OpsetError: it is older or newer than the adapters know.
    """
    version = wanted if wanted is not None else declared.get("", NEWEST)
    if wanted is not None and not OLDEST <= wanted <= NEWEST:
        raise OpsetError(f"--opset {wanted} is out of reach: choose one from {OLDEST} to {NEWEST}")
    return version
