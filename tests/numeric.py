"""Numbers for tests: seeded inputs for a graph, and two graphs compared by the rule for "equal"."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import graphopt
from graphopt.analysis.cost import binding
from graphopt.analysis.equal import Verdict, compare, compare_bits
from graphopt.ir.dims import substitute
from graphopt.ir.types import TensorType
from graphopt.ops.room import NoKernelError
from graphopt.runtime.interpreter import Interpreter

KINDS = ("normal", "uniform", "scaled")
EXTENT = 7  # stands for symbols that are not a batch


def feeds(graph: graphopt.Graph, kind: str = "normal", *, batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs; symbolic batches are `batch`, other symbols `EXTENT`."""
    batches = binding(graph)
    made = {}
    for i, value in enumerate(graph.inputs):
        if value.constant is not None:
            continue
        assert isinstance(value.type, TensorType)
        assert value.type.shape is not None
        shape = tuple(
            int(substitute(d, lambda name: batch if name in batches else EXTENT))  # type: ignore[arg-type]
            for d in value.type.shape
        )
        rng = np.random.default_rng([seed, i])
        dtype = value.type.dtype
        if dtype.is_float:
            data = rng.random(shape) if kind == "uniform" else rng.standard_normal(shape)
            made[value.name] = (data * (64 if kind == "scaled" else 1)).astype(dtype.numpy)
        elif dtype.is_integer:
            made[value.name] = rng.integers(0, 4, shape).astype(dtype.numpy)
        else:
            made[value.name] = rng.integers(0, 2, shape).astype(bool)
    return made


def differences(before: graphopt.Graph, after: graphopt.Graph, *, exact: bool) -> list[str]:
    """What differs between two graphs on seeded inputs, in the interpreter; [] when they are equal.

    Raises:
        NoKernelError: an operator cannot be evaluated.
    """
    found = []
    for kind in KINDS:
        given = feeds(before, kind)
        mine = {n: given[n] for n in given if any(v.name == n for v in after.inputs)}
        reference = Interpreter(before, np.float64).run(given)
        native, result = Interpreter(before).run(given), Interpreter(after).run(mine)
        for name, original in native.items():
            verdict = _compare(reference[name], original, result[name], exact)
            if not verdict.equal:
                found.append(f"{kind}: `{name}`: {verdict}")
    return found


def _compare(reference: np.ndarray, original: np.ndarray, result: np.ndarray, exact: bool) -> Verdict:
    return compare_bits(original, result) if exact else compare(reference, [original], [result])


def can_run(graph: graphopt.Graph) -> bool:
    """Whether every operator of a graph can be evaluated."""
    try:
        Interpreter(graph).run(feeds(graph))
    except NoKernelError:
        return False
    return True


def run(graph: graphopt.Graph, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A graph's outputs in the interpreter."""
    return Interpreter(graph).run(given)
