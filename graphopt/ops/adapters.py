"""Small functions that adapters are made of: attributes that became operands, attributes that went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ops.room import Adapter, Step


def same(step: Step) -> Step:
    """Nothing to do."""
    return step


def without(step: Step, *names: str) -> Mapping[str, Attribute]:
    """A step's attributes less some."""
    return {k: a for k, a in step.attributes.items() if k not in names}


def dropping(*names: str) -> Callable[[Step], Step]:
    """A step that loses attributes which say nothing any more."""
    return lambda step: replace(step, attributes=without(step, *names))


def became_operands(operator: str, version: int, names: Mapping[str, int], *, scalar: bool = False) -> Adapter:
    """Integer or float attributes that became operands (by index) in `version`."""

    def up(step: Step) -> Step:
        operands = list(step.operands)
        for name, index in names.items():
            attribute = step.attributes.get(name)
            if attribute is not None:
                operands += [""] * (index + 1 - len(operands))
                operands[index] = _constant(attribute, step)
        return replace(step, attributes=without(step, *names), operands=tuple(operands))

    def down(step: Step) -> Step:
        attributes = dict(step.attributes)
        operands = list(step.operands)
        for name, index in sorted(names.items(), key=lambda item: -item[1]):
            if index < len(operands):
                if operands[index] != "":
                    attributes[name] = _attribute(operator, version, name, step, index, scalar=scalar)
                operands[index] = ""
        while operands and operands[-1] == "":
            operands.pop()
        return replace(step, attributes=attributes, operands=tuple(operands))

    return Adapter(version, up, down)


def _constant(attribute: Attribute, step: Step) -> Constant:
    if attribute.kind is Kind.INTS:
        return Constant.of(np.asarray(attribute.value, np.int64))
    if attribute.kind is Kind.INT:
        return Constant.of(np.asarray(attribute.value, np.int64))
    known = step.facts[0] if step.facts else None
    dtype = known.dtype.numpy if known is not None else np.dtype(np.float32)
    return Constant.of(np.asarray(attribute.value, dtype))


def _attribute(operator: str, version: int, name: str, step: Step, index: int, *, scalar: bool) -> Attribute:
    known = step.facts[index] if index < len(step.facts) else None
    if known is None or known.constant is None:
        raise OpsetError(f"{operator} with computed {name} needs opset {version}")
    array = known.constant.array()
    if array.dtype.kind == "f":
        return Attribute(Kind.FLOAT, float(array.reshape(()).item()))
    numbers = tuple(int(v) for v in array.ravel())
    return Attribute(Kind.INT, numbers[0]) if scalar else Attribute(Kind.INTS, numbers)


def constant_of(step: Step, index: int) -> np.ndarray | None:
    """The data of a step's constant operand, None where it is left out or computed."""
    known = step.facts[index] if index < len(step.facts) else None
    return None if known is None or known.constant is None else known.constant.array()


def given(step: Step, index: int) -> bool:
    """Whether a step has operand `index`."""
    return index < len(step.operands) and step.operands[index] != ""


def operand_needs(operator: str, version: int, name: str, index: int) -> Adapter:
    """An optional operand that appeared in `version`."""

    def down(step: Step) -> Step:
        if given(step, index):
            raise OpsetError(f"{operator} with {name} needs opset {version}")
        return replace(step, operands=step.operands[:index])

    return Adapter(version, same, down)


def attribute_needs(operator: str, version: int, name: str, default: object) -> Adapter:
    """An attribute that appeared in `version`, whose default says what was done before."""

    def down(step: Step) -> Step:
        attribute = step.attributes.get(name)
        if attribute is not None and attribute.value != default:
            raise OpsetError(f"{operator} with {name}={attribute.value} needs opset {version}")
        return replace(step, attributes=without(step, name))

    return Adapter(version, same, down)
