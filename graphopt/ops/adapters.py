"""What adapters are made of: attributes that became operands, features that appeared, negative axes.

An adapter table is read from old to new when a node is taken up, and from new to old when it is taken down; two
adapters of the same version run in the order of the table both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.types import dtype_of
from graphopt.ops.room import Adapter, Fact, Step


def same(step: Step) -> Step:
    """Nothing to do."""
    return step


def without(step: Step, *names: str) -> Mapping[str, Attribute]:
    """A step's attributes less some."""
    return {k: a for k, a in step.attributes.items() if k not in names}


def dropping(*names: str) -> Callable[[Step], Step]:
    """A step that loses attributes which say nothing any more."""
    return lambda step: replace(step, attributes=without(step, *names))


def given(step: Step, index: int) -> bool:
    """Whether a step has operand `index`."""
    return index < len(step.operands) and step.operands[index] != ""


def constant_of(step: Step, index: int) -> np.ndarray | None:
    """The data of a step's operand that is constant or follows from shapes; None where it is left out or computed."""
    operand = step.operands[index] if index < len(step.operands) else ""
    if isinstance(operand, Constant):
        return operand.array()
    known = step.facts[index] if index < len(step.facts) else None
    if known is None:
        return None
    if known.constant is not None and not known.constant.is_absent:
        return known.constant.array()
    integers = known.integers
    return None if integers is None else np.asarray(integers, known.dtype.numpy)


def shape_of(step: Step, index: int = 0) -> tuple[object, ...] | None:
    """The dims of a step's operand, None where not even the rank is known."""
    known = step.facts[index] if index < len(step.facts) else None
    return None if known is None else known.type.shape


def integer_of(step: Step, name: str, default: int) -> int:
    """An integer attribute.

    Raises:
        OpsetError: it is of another kind.
    """
    attribute = step.attributes.get(name)
    if attribute is None:
        return default
    if not isinstance(attribute.value, int):
        raise OpsetError(f"the attribute {name!r} is {attribute.kind.name}, not INT")
    return attribute.value


def with_operand(step: Step, index: int, operand: Constant | None) -> Step:
    """A step with a constant as operand `index`, or without that operand; what is known of it goes with it."""
    missing = max(index + 1 - len(step.operands), 0)
    operands: list[str | Constant] = [*step.operands, *[""] * missing]
    operands[index] = "" if operand is None else operand
    while operands and operands[-1] == "":
        operands.pop()
    facts = [*step.facts, *[None] * (index + 1 - len(step.facts))]
    facts[index] = None if operand is None else Fact(operand.type, operand)
    return replace(step, operands=tuple(operands), facts=tuple(facts[: len(operands)]))


def first_operands(step: Step, count: int) -> Step:
    """A step without the operands from `count` on."""
    return replace(step, operands=step.operands[:count], facts=step.facts[:count])


def attribute_to_operand(name: str, index: int) -> Callable[[Step], Step]:
    """An integer or float attribute as the constant operand `index`; floats take the type of operand 0.

    The step raises `OpsetError` where that type is not known.
    """

    def up(step: Step) -> Step:
        attribute = step.attributes.get(name)
        if attribute is None:
            return step
        moved = with_operand(step, index, _constant(attribute, step, name))
        return replace(moved, attributes=without(step, name))

    return up


def operand_to_attribute(
    operator: str, version: int, name: str, index: int, *, scalar: bool = False
) -> Callable[[Step], Step]:
    """The constant operand `index` as an attribute; `scalar` makes an INT of one integer, not INTS.

    The step raises `OpsetError` where the operand is computed, or a float that single precision does not hold.
    """

    def down(step: Step) -> Step:
        if not given(step, index):
            return step
        array = constant_of(step, index)
        if array is None:
            raise OpsetError(f"{operator} with computed {name} needs opset {version}")
        attribute = _attribute(operator, version, name, array, scalar=scalar)
        moved = with_operand(step, index, None)
        return replace(moved, attributes={**step.attributes, name: attribute})

    return down


def became_operands(operator: str, version: int, names: Mapping[str, int], *, scalar: bool = False) -> Adapter:
    """Integer or float attributes that became operands (by index) in `version`."""
    ups = [attribute_to_operand(name, index) for name, index in names.items()]
    downs = [operand_to_attribute(operator, version, name, i, scalar=scalar) for name, i in names.items()]
    return Adapter(version, _chain(*ups), _chain(*downs))


def operand_needs(
    operator: str, version: int, name: str, index: int, neutral: Callable[[np.ndarray], bool] | None = None
) -> Adapter:
    """An optional last operand that appeared in `version`; constants that are `neutral` say what was done before."""

    def down(step: Step) -> Step:
        if not given(step, index):
            return first_operands(step, index)
        array = constant_of(step, index)
        if array is None or neutral is None or not neutral(array):
            raise OpsetError(f"{operator} with {name} needs opset {version}")
        return with_operand(step, index, None)

    return Adapter(version, same, down)


def attribute_needs(operator: str, version: int, name: str, default: object) -> Adapter:
    """An attribute that appeared in `version`, whose default says what was done before."""

    def down(step: Step) -> Step:
        attribute = step.attributes.get(name)
        if attribute is not None and attribute.value != default:
            raise OpsetError(f"{operator} with {name}={attribute.value} needs opset {version}")
        return replace(step, attributes=without(step, name))

    return Adapter(version, same, down)


def counted_from_front(operator: str, version: int, name: str, *, inserted: bool = False) -> Adapter:
    """Axes in attribute `name` that may be negative from `version` on; they are counted from the front before.

    `inserted` axes are axes of the result, which has as many more.
    """

    def down(step: Step) -> Step:
        attribute = step.attributes.get(name)
        if attribute is None:
            return step
        axes = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
        numbers = [a for a in axes if isinstance(a, int)]
        if all(a >= 0 for a in numbers):
            return step
        shape = shape_of(step)
        if shape is None:
            raise OpsetError(f"{operator} with a negative axis of a tensor of unknown rank needs opset {version}")
        rank = len(shape) + (len(numbers) if inserted else 0)
        front = tuple(a + rank if a < 0 else a for a in numbers)
        value = front if isinstance(attribute.value, tuple) else front[0]
        return replace(step, attributes={**step.attributes, name: Attribute(attribute.kind, value)})

    return Adapter(version, same, down)


def _chain(*steps: Callable[[Step], Step]) -> Callable[[Step], Step]:
    def run(step: Step) -> Step:
        for each in steps:
            step = each(step)
        return step

    return run


def _constant(attribute: Attribute, step: Step, name: str) -> Constant:
    if attribute.kind in (Kind.INTS, Kind.INT):
        return Constant.of(np.asarray(attribute.value, np.int64))
    if attribute.kind not in (Kind.FLOAT, Kind.FLOATS):
        raise OpsetError(f"the attribute {name!r} is {attribute.kind.name}, and numbers are expected")
    known = step.facts[0] if step.facts else None
    if known is None:
        raise OpsetError(f"the attribute {name!r} became an operand of the data's type, which is not known here")
    return Constant.of(np.asarray(attribute.value, known.dtype.numpy))


def _attribute(operator: str, version: int, name: str, array: np.ndarray, *, scalar: bool) -> Attribute:
    if dtype_of(array.dtype).is_float:
        if array.size != 1:
            raise OpsetError(f"{operator} with {array.size} numbers as {name} needs opset {version}")
        value = float(array.reshape(()).item())
        with np.errstate(over="ignore"):
            narrow = float(np.float32(value))
        if narrow != value and not np.isnan(value):
            raise OpsetError(f"{operator} with {name}={value!r}, which float32 does not hold, needs opset {version}")
        return Attribute(Kind.FLOAT, narrow)
    numbers = tuple(int(v) for v in array.ravel())
    return Attribute(Kind.INT, numbers[0]) if scalar else Attribute(Kind.INTS, numbers)
