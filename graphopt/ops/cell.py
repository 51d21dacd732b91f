"""The activation functions of recurrent cells, by name, and their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ops.activation import Sigmoid
from graphopt.ops.room import NoKernelError
from graphopt.ops.single import stored

Function = Callable[[np.ndarray], np.ndarray]

_NEEDED = float("nan")  # there is no default: runtimes take 0, and ONNX says another number or none


class _Activation(NamedTuple):
    """f(x, alpha, beta), and the defaults of alpha and beta; None where the function has none."""

    function: Callable[[np.ndarray, float, float], np.ndarray]
    alpha: float | None = None
    beta: float | None = None


_ACTIVATIONS: Mapping[str, _Activation] = {
    "Affine": _Activation(lambda x, a, b: a * x + b, _NEEDED, 0),
    "Relu": _Activation(lambda x, _a, _b: np.maximum(x, 0)),
    "LeakyRelu": _Activation(lambda x, a, _: np.where(x >= 0, x, a * x), 0.01),
    "ThresholdedRelu": _Activation(lambda x, a, _: np.where(x > a, x, 0), _NEEDED),  # the text has >=, runtimes >
    "Tanh": _Activation(lambda x, _a, _b: np.tanh(x)),
    "ScaledTanh": _Activation(lambda x, a, b: a * np.tanh(b * x), _NEEDED, _NEEDED),
    "Sigmoid": _Activation(lambda x, _a, _b: Sigmoid().kernel(x)),
    "HardSigmoid": _Activation(lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "Elu": _Activation(lambda x, a, _: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1),
    "Softsign": _Activation(lambda x, _a, _b: x / (1 + np.abs(x))),
    "Softplus": _Activation(lambda x, _a, _b: np.logaddexp(x, 0)),
}


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Function, ...]:
    """Functions by name. Parameters are handed out in order, to those functions that take some.

    Raises:
        TypeRuleError: there is no function of a name.
    """
    rest = iter(alphas), iter(betas)
    return tuple(_bound(name, *rest) for name in names)


def _bound(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Function:
    known = _ACTIVATIONS.get(name)
    if known is None:
        raise TypeRuleError(f"there is no activation {name!r}, but {', '.join(_ACTIVATIONS)}")
    alpha = 0.0 if known.alpha is None else stored(next(alphas, known.alpha))
    beta = 0.0 if known.beta is None else stored(next(betas, known.beta))

    def run(x: np.ndarray) -> np.ndarray:
        if np.isnan(alpha) or np.isnan(beta):
            raise NoKernelError(f"the parameters of the activation {name} are not given")
        return np.asarray(known.function(x, alpha, beta), x.dtype)

    return run
