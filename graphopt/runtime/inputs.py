"""Inputs for a network: seeded arrays, numbers for symbolic dims, files of arrays."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from graphopt.errors import GraphoptError, UsageError
from graphopt.ir.dims import Dim, substitute, symbols
from graphopt.ir.types import TensorType, Type

Kind: TypeAlias = Literal["normal", "uniform", "scaled"]
Shapes: TypeAlias = Mapping[str, int]

KINDS: tuple[Kind, ...] = get_args(Kind)
SCALE = 64.0  # of the inputs that are to drive activations far from 0
INTEGERS = 4  # integer inputs are below this: mostly indices, and few tables are shorter

BATCHES = (1, 3, 2)  # a first dim: 1 is what most use; 3 is told apart from channels and from powers of 2
EXTENTS = (224, 256, 320, 640, 512, 384, 192, 128, 96, 64, 48, 32, 28, 16, 8, 4, 2, 1)
TRIALS = 48  # shapes that are tried before a network's own are asked for

MOST_ELEMENTS = 1 << 28  # of an input that is made up
_MAX_FILE_ENTRIES = 4096


# ---- seeded arrays


@dataclass(frozen=True)
class _Recipe:
    kind: Kind
    seed: int
    integers: int


def seeded(
    inputs: Mapping[str, Type | None],
    shapes: Shapes,
    kind: Kind = "normal",
    seed: int = 0,
    integers: int = INTEGERS,
) -> dict[str, np.ndarray]:
    """Arrays for `inputs`: the same for the same seed, name and shape, on every machine.

    Args:
        inputs: names and types.
        shapes: a number for each symbolic dim (by `dim_name`).
        kind: what floats are like: standard normal, uniform in [0, 1), or standard normal times 64.
        seed: another seed gives other arrays.
        integers: integers are in [0, `integers`), 8-bit ones over their whole range.

    Raises:
        UsageError: an input is not a tensor, or a dim has no number.
    """
    recipe = _Recipe(kind, seed, integers)
    return {name: _array(name, t, shapes, recipe) for name, t in inputs.items()}


def shape_of(name: str, kind: Type | None, shapes: Shapes) -> tuple[int, ...]:
    """The shape of an input with numbers for its symbols; a scalar's where the rank is not known.

    Raises:
        UsageError: the input is not a tensor, or a dim has no number.
    """
    if not isinstance(kind, TensorType):
        known = f"is {kind}" if kind is not None else "has a type that is not known"
        raise UsageError(f"the input `{name}` {known}: give one with --input {name}=FILE.npy")
    if kind.shape is None:  # ONNX Runtime does not tell it from a scalar
        return ()
    found = []
    for axis, dim in enumerate(kind.shape):
        bound: dict[str, Dim] = {s: shapes[n] for s, n in _symbols(name, axis, dim) if n in shapes}
        size = substitute(dim, bound)
        if not isinstance(size, int) or size < 0:
            raise UsageError(f"the input `{name}` is {kind}: give a number for its dim {axis} with --shapes")
        found.append(size)
    return tuple(found)


def _array(name: str, type_: Type | None, shapes: Shapes, recipe: _Recipe) -> np.ndarray:
    shape = shape_of(name, type_, shapes)
    assert isinstance(type_, TensorType)  # or there were no shape
    dtype = type_.dtype
    if math.prod(shape) >= MOST_ELEMENTS:
        raise UsageError(f"the input `{name}` would have {math.prod(shape):,} elements: give smaller --shapes")
    rng = np.random.default_rng([recipe.seed, zlib.crc32(name.encode())])
    if dtype.kind == "string":
        return np.array([f"word{i}" for i in rng.integers(0, 8, shape).ravel()], dtype=object).reshape(shape)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        if dtype.bits == 8:
            low, high = (-128, 128) if dtype.kind == "int" else (0, 256)
            return rng.integers(low, high, shape).astype(dtype.numpy)
        return rng.integers(0, recipe.integers, shape).astype(dtype.numpy)
    if recipe.kind == "uniform":
        data = rng.random(shape)
    else:
        data = rng.standard_normal(shape) * (SCALE if recipe.kind == "scaled" else 1.0)
    return np.asarray(data).astype(dtype.numpy)


def nudged(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same inputs with every float moved to its neighbour, up and down in turn."""
    return {name: _nudge(array) for name, array in feeds.items()}


def _nudge(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or array.size == 0:
        return array
    towards = np.full(array.size, np.inf, array.dtype)
    towards[1::2] = -np.inf
    with np.errstate(over="ignore"):
        moved = np.nextafter(array, towards.reshape(array.shape))
    return np.where(np.isfinite(moved), moved, array)


# ---- numbers for symbolic dims


def dim_name(name: str, axis: int, dim: Dim) -> str | None:
    """What a dim that needs a number is called: its symbol, or `x[0]` without a name; None for others."""
    found = _symbols(name, axis, dim)
    return found[0][1] if found else None


def _symbols(name: str, axis: int, dim: Dim) -> list[tuple[str, str]]:
    """The symbols of an input's dim, each with the name by which users give a number for it."""
    return [(s, f"{name}[{axis}]" if s.startswith("?") else s) for s in symbols(dim)]


@dataclass(frozen=True)
class FreeDims:
    """The dims of a network's inputs that need numbers: those that stand first somewhere, and others."""

    batch: tuple[str, ...]
    other: tuple[str, ...]


def free_dims(inputs: Mapping[str, Type | None]) -> FreeDims:
    """The dims that need numbers, in order of appearance."""
    batch: dict[str, None] = {}
    other: dict[str, None] = {}
    for name, kind in inputs.items():
        if isinstance(kind, TensorType) and kind.shape is not None:
            for axis, dim in enumerate(kind.shape):
                (batch if axis == 0 else other).update(dict.fromkeys(n for _, n in _symbols(name, axis, dim)))
    return FreeDims(tuple(batch), tuple(n for n in other if n not in batch))


def check_shapes(shapes: Mapping[str, Sequence[int]], free: FreeDims) -> None:
    """Every name that a user gave numbers for is a dim of the network.

    Raises:
        UsageError: one is not; the sentence lists those that are.
    """
    for name in shapes:
        if name not in (*free.batch, *free.other):
            known = ", ".join(f"`{n}`" for n in (*free.batch, *free.other)) or "none: all are numbers"
            raise UsageError(f"--shapes: no input has a symbolic dim `{name}`; there are {known}")


def number_of_sets(free: FreeDims, given: Mapping[str, Sequence[int]]) -> int:
    """How many sets of shapes a network is tried on: two where dims are free, or as many as were given."""
    longest = max((len(v) for v in given.values()), default=0)
    left = [n for n in (*free.batch, *free.other) if n not in given]
    return max(longest, 2 if left else 1)


def trials(
    index: int, free: FreeDims, given: Mapping[str, Sequence[int]], worked: Sequence[Shapes] = ()
) -> Iterator[Shapes]:
    """Shapes to try for set number `index`, best first; those in `worked` do not come again.

    A name's given numbers are taken in turn, one for each set; the last stands for further sets.
    """
    fixed = {name: values[min(index, len(values) - 1)] for name, values in given.items()}
    batch = [n for n in free.batch if n not in fixed]
    other = [n for n in free.other if n not in fixed]
    seen = [dict(w) for w in worked]
    for candidate in islice(_candidates(index, batch, other, worked), TRIALS):
        shapes = {**candidate, **fixed}
        if shapes not in seen:
            seen.append(shapes)
            yield shapes


def _candidates(
    index: int, batch: Sequence[str], other: Sequence[str], worked: Sequence[Shapes]
) -> Iterator[dict[str, int]]:
    batches = (BATCHES[index % 2], *(b for b in BATCHES if b != BATCHES[index % 2])) if batch else (1,)
    extents = (EXTENTS[index % 2], *(e for e in EXTENTS if e != EXTENTS[index % 2])) if other else (1,)

    def of(b: int, e: int) -> dict[str, int]:
        return {**dict.fromkeys(batch, b), **dict.fromkeys(other, e)}

    yield of(batches[0], extents[0])
    for known in worked:  # what worked with another batch
        yield {**dict.fromkeys(batch, batches[0]), **{n: known[n] for n in other if n in known}}
    yield from (of(b, extents[0]) for b in batches[1:])
    yield from (of(batches[0], e) for e in extents[1:])
    if len(other) > 1:  # one dim apart from the rest: a sequence beside an image
        for name in other:
            yield from ({**of(1, EXTENTS[0]), name: e} for e in (1, 16, 48))
    yield from (of(b, e) for b in batches[1:] for e in extents[1:])


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """`N=1,3;H=224` as `{"N": (1, 3), "H": (224,)}`; unnamed dims are called `x[2]`.

    Raises:
        UsageError: the text is something else.
    """
    found: dict[str, tuple[int, ...]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, values = part.rpartition("=")
        name = name.strip()
        numbers = [v.strip() for v in values.split(",")]
        if not equals or not name or not all(re.fullmatch(r"0*[1-9]\d{0,8}", v) for v in numbers):
            raise UsageError(
                f"--shapes: {part!r} is not NAME=NUMBER,NUMBER with numbers of 1 and more, as in N=1,3;H=224"
            )
        if name in found:
            raise UsageError(f"--shapes: {name!r} is given twice; put its numbers together, as in N=1,3")
        found[name] = tuple(map(int, numbers))
    if not found:
        raise UsageError("--shapes: nothing is given; write NAME=NUMBER,NUMBER, as in N=1,3;H=224")
    return found


# ---- files


def load_inputs(items: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by name from `x=FILE.npy`, `x=FILE.npz` (its array `x`, or its only one), `FILE.npz` (all).

    Raises:
        UsageError: a file is missing, broken, or holds Python objects, which are never loaded.
    """
    found: dict[str, np.ndarray] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals:
            name, path = "", item
        loaded = _load_file(name, Path(path))
        for key, array in loaded.items():
            if key in found:
                raise UsageError(f"--input: `{key}` is given twice")
            found[key] = array
    return found


def _load_file(name: str, path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"--input: {path}: there is no such file")
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"--input: {path} is neither a .npy nor a .npz file: save the array with numpy.save")
    if path.suffix == ".npy" and not name:
        raise UsageError(f"--input: {path}: say which input it is, as in x={path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {name: loaded}
        with loaded:
            keys = loaded.files
            if len(keys) > _MAX_FILE_ENTRIES:
                raise UsageError(f"--input: {path} holds {len(keys)} arrays; {_MAX_FILE_ENTRIES} are the limit")
            if not name:
                return {key: loaded[key] for key in keys}
            if name in keys or len(keys) == 1:
                return {name: loaded[name if name in keys else keys[0]]}
    except GraphoptError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for broken files
        why = "it holds Python objects (a pickle), which are not loaded" if "pickle" in str(error) else f"{error}"
        why = f"{path} cannot be read: {' '.join(why.split())}"
        raise UsageError(f"--input: {why}; save it again with numpy.save") from error
    raise UsageError(f"--input: {path} has no array {name!r}; it has {', '.join(map(repr, keys))}")


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed .npz file of `arrays`.

    Raises:
        UsageError: an array holds strings, which .npz cannot without pickling.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            raise UsageError(f"`{name}` holds strings, which a .npz file cannot hold: leave it out")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # numpy.savez takes no array called `file`, and writes the time
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def describe(shapes: Shapes) -> str:
    """`N=1, H=224`."""
    return ", ".join(f"{k}={v}" for k, v in shapes.items())
