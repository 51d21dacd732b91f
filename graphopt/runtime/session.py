"""What every session offers, whatever runs it: named, typed inputs and outputs, and runs on NumPy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir.types import TensorType, Type, dtype_of


@runtime_checkable
class Session(Protocol):
    """A network that can be run.

    Attributes:
        inputs: what `run` must be given: names with types (None: not known), in order.
        outputs: what it gives, in order.
    """

    @property
    def inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs, in order."""

    @property
    def outputs(self) -> Mapping[str, Type | None]:
        """Names and types of the outputs, in order."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for inputs by name.

        Raises:
            UsageError: an input is missing, unknown, or has another dtype or shape.
        """

    def __call__(self, *arrays: np.ndarray, **named: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run on inputs in order or by name: the one output, or all in order."""


class BaseSession(ABC):
    """What sessions share: checks of what they are given, and the call by position."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Type | None]:
        """Names and types of the inputs, in order."""

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, Type | None]:
        """Names and types of the outputs, in order."""

    @property
    def optional_inputs(self) -> Mapping[str, Type | None]:
        """Further inputs, which have a default: initializers that the model lets a caller override."""
        return {}

    @property
    def _order(self) -> tuple[str, ...]:
        """Names of the outputs in order; a graph may give one value twice."""
        return tuple(self.outputs)

    @abstractmethod
    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`run` on feeds that were checked."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for inputs by name.

        Raises:
            UsageError: an input is missing, unknown, or has another dtype or shape.
        """
        check_feeds(feeds, self.inputs, self.optional_inputs)
        return self._run(feeds)

    def __call__(self, *arrays: np.ndarray, **named: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run on inputs in order or by name: the one output, or all in order.

        Raises:
            UsageError: too many arrays, an input given twice, or what `run` refuses.
        """
        names = list(self.inputs)
        if len(arrays) > len(names):
            raise UsageError(f"the network takes {len(names)} inputs ({_listed(names)}), and {len(arrays)} were given")
        feeds = dict(zip(names, arrays, strict=False))
        for name, array in named.items():
            if name in feeds:
                raise UsageError(f"the input `{name}` was given twice, by position and by name")
            feeds[name] = array
        results = self.run(feeds)
        ordered = tuple(results[name] for name in self._order)
        return ordered[0] if len(ordered) == 1 else ordered


def tensors(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results with sequences and optionals taken apart: a sequence `y` is `y.length`, `y[0]`, `y[1]`, ..."""
    found: dict[str, np.ndarray] = {}
    for name, array in results.items():
        if array.dtype != object or not _holds_arrays(array):
            found[name] = array
        elif array.ndim == 0:
            found[f"{name}.length"] = np.asarray(array[()] is not None)
            if array[()] is not None:
                found.update(tensors({f"{name}[0]": np.asarray(array[()])}))
        else:
            found[f"{name}.length"] = np.asarray(len(array))
            found.update(tensors({f"{name}[{i}]": np.asarray(element) for i, element in enumerate(array)}))
    return found


def _holds_arrays(array: np.ndarray) -> bool:
    """Whether an array of objects is a sequence or an optional, and no tensor of strings."""
    return array.ndim <= 1 and all(isinstance(e, np.ndarray) or e is None for e in array.ravel().tolist())


def check_feeds(
    feeds: Mapping[str, np.ndarray],
    accepts: Mapping[str, Type | None],
    optional: Mapping[str, Type | None] = MappingProxyType({}),
) -> None:
    """Check names, dtypes and shapes of what a session is given.

    Raises:
        UsageError: naming the input, what was expected, and what was given.
    """
    for name in feeds:
        if name not in accepts and name not in optional:
            raise UsageError(f"there is no input `{name}`: the inputs are {_listed(accepts)}")
    sizes: dict[str, tuple[int, str]] = {}
    for name, kind in (*accepts.items(), *optional.items()):
        if name in feeds:
            _check_feed(name, feeds[name], kind, sizes)
        elif name in accepts:
            raise UsageError(f"the input `{name}` ({kind or 'of unknown type'}) is missing")


def _check_feed(name: str, array: np.ndarray, kind: Type | None, sizes: dict[str, tuple[int, str]]) -> None:
    if not isinstance(kind, TensorType):
        return
    if not isinstance(array, np.ndarray):
        raise UsageError(f"the input `{name}` must be a NumPy array of type {kind}, not {type(array).__name__}")
    given = f"{dtype_of(array.dtype)}{list(array.shape)}"
    wrong = UsageError(f"the input `{name}` must be {kind}, and {given} was given")
    if dtype_of(array.dtype) != kind.dtype:
        raise wrong
    if kind.shape is None:
        return
    if len(kind.shape) != array.ndim:
        raise wrong
    for dim, size in zip(kind.shape, array.shape, strict=True):
        if isinstance(dim, int):
            if dim != size:
                raise wrong
        elif dim.name is not None and not dim.name.startswith("?"):
            known, owner = sizes.setdefault(dim.name, (size, name))
            if known != size:
                clash = f"{dim.name} is {known} in `{owner}`"
                raise UsageError(f"the input `{name}` must be {kind}, and {given} was given: {clash}")


def _listed(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "none"
