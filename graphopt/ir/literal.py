"""Constants' data as text, both ways: `dense[0, -1]`, `dense 0.5`, `splat 1.0`, `dense<sha256:…>`, `random 7`.

A float is the shortest decimal that rounds to the same bits of its dtype. `nan` is the dtype's usual NaN, and any
other NaN stands as its bits in hex (`0x7fc00001`). Complex numbers are pairs, strings are quoted as in JSON, and
bytes that are no UTF-8 are `b"hex"`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from graphopt.errors import ParseError
from graphopt.ir.constant import SMALL_BYTES, Constant
from graphopt.ir.types import DType, TensorType, f32, f64, static_size, string

SHOWN = 16  # constants of up to so many elements are printed by content
_SPLAT_FROM = 5  # short lists of integers are shapes and axes, and read better as lists
_BLOCK = 1 << 16  # elements compared at a time when looking for a splat
_MOST_RANDOM = 1 << 28  # elements; a text of a few bytes does not claim more memory than that

STRING = r'"(?:[^"\\\n]|\\.)*"'
_ELEMENT = re.compile(rf'\s*(b?{STRING}|\([^()]*\)|[^\s,()"]+)\s*(,|\Z)')
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|inf|nan)")


def format_data(constant: Constant) -> str:
    """The data of `constant`, without its type; more than 16 elements that differ are named by digest."""
    dtype, size = constant.type.dtype, constant.size
    if constant.is_absent:
        return f"dense<sha256:{constant.digest()}>"
    array = constant.array()
    listed = dtype.kind in ("int", "uint", "bool") and size < _SPLAT_FROM
    if size > 1 and not listed and _is_splat(array):
        return "splat " + format_element(array[(slice(0, 1),) * array.ndim].ravel(), dtype)
    if size > SHOWN:
        return f"dense<sha256:{constant.digest()}>"
    flat = array.ravel()
    texts = [format_element(flat[i : i + 1], dtype) for i in range(size)]
    return f"dense {texts[0]}" if array.ndim == 0 else f"dense[{', '.join(texts)}]"


def _is_splat(array: np.ndarray) -> bool:
    """Whether all elements have the same bits; leaves at the first block that differs."""
    if not any(array.strides):
        return True
    if array.dtype.kind == "O":
        first = array.flat[0]
        return all(type(s) is type(first) and s == first for s in array.flat)
    flat = array.reshape(-1)
    raw = np.ascontiguousarray(flat[:_BLOCK]).view(np.uint8).reshape(-1, array.itemsize)
    if not (raw == raw[0]).all():
        return False
    return all(
        (np.ascontiguousarray(flat[i : i + _BLOCK]).view(np.uint8).reshape(-1, array.itemsize) == raw[0]).all()
        for i in range(_BLOCK, flat.size, _BLOCK)
    )


def format_element(one: np.ndarray, dtype: DType) -> str:
    """The text of an array of one element."""
    if dtype == string:
        return format_string(one[0])
    if dtype.kind == "bool":
        return "true" if one[0] else "false"
    if dtype.kind == "complex":
        part, dtype = (np.float32, f32) if dtype.bits == f64.bits else (np.float64, f64)
        real, imaginary = np.ascontiguousarray(one).view(part)[:, None]
        return f"({format_element(real, dtype)}, {format_element(imaginary, dtype)})"
    return _format_float(one, dtype) if dtype.is_float else str(int(one[0]))


def _format_float(one: np.ndarray, dtype: DType) -> str:
    value, bits = float(one[0]), one.tobytes()
    if np.isnan(value):
        usual = _as_dtype([np.nan], dtype).tobytes() == bits
        return "nan" if usual else hex(int(np.ascontiguousarray(one).view(f"u{one.itemsize}")[0]))
    if dtype.bits < f64.bits:
        if dtype == f32:
            candidates = [float(str(one[0]))]
        else:
            candidates = [float(f"{value:.{digits}g}") for digits in range(1, 10)]
        for candidate in candidates:
            if _as_dtype([candidate], dtype).tobytes() == bits:
                return repr(candidate)
    return repr(value)


def format_string(text: str | bytes) -> str:
    """A string as JSON, with escapes for what does not show; bytes as `b"hex"`."""
    if isinstance(text, bytes):
        return f'b"{text.hex()}"'
    return json.dumps(str(text), ensure_ascii=not text.isprintable())


def parse_string(text: str) -> str | bytes:
    """The inverse of `format_string`.

    Raises:
        ParseError: a string with a wrong escape, or an odd count of hex digits.
    """
    try:
        if text.startswith("b"):
            return bytes.fromhex(text[2:-1])
        found = str(json.loads(text))
        found.encode()  # half of a surrogate pair is no text
    except ValueError:
        raise ParseError(f"{text[:80]} is not a string") from None
    return found


def dense(type: TensorType, body: str) -> Constant:  # noqa: A002  # the field's name everywhere in the IR
    """The constant whose elements `body` lists, separated by commas.

    Raises:
        ParseError: too few or too many elements, or one that does not fit the dtype.
    """
    texts, at = [], 0
    while at < len(body):
        match = _ELEMENT.match(body, at)
        if match is None:
            if not body.strip():
                break
            raise ParseError(f"expected elements separated by commas, found {body[at : at + 20]!r}")
        texts.append(match[1])
        at = match.end()
    if len(texts) != _size(type):
        raise ParseError(f"expected {_size(type)} elements for {type}, found {len(texts)}")
    return _of(type, parse_elements(texts, type.dtype).reshape(type.static_shape))


def splat(type: TensorType, text: str) -> Constant:  # noqa: A002
    """The constant all of whose elements are `text`; large ones are made when they are needed.

    Raises:
        ParseError: the element does not fit the dtype.
    """
    _size(type)
    element = parse_elements([text], type.dtype)[0]
    make = partial(_full, type, element)
    small = static_size(type.static_shape) * max(type.dtype.bits, 8) <= 8 * SMALL_BYTES
    return _of(type, make()) if small else Constant(type, recipe=make)


def _full(type: TensorType, element: object) -> np.ndarray:  # noqa: A002
    return np.broadcast_to(np.array(element, type.dtype.numpy), type.static_shape)


def by_digest(type: TensorType, digest: str, constants: Mapping[str, Constant]) -> Constant:  # noqa: A002
    """The constant with that digest out of `constants`, or one that is known by its digest only.

    Raises:
        ParseError: the digest is malformed, or the data that was given has another type.
    """
    name, _, digest = digest.partition(":")
    if name != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ParseError("expected `sha256:` and 64 hex digits (elided constants cannot be read back)")
    _size(type)
    given = constants.get(digest)
    if given is None:
        return Constant(type, digest=digest)
    if given.type != type:
        raise ParseError(f"the data for sha256:{digest[:12]}… is {given.type}, and the text says {type}")
    return given


def random(type: TensorType, seed: int, uniform: Sequence[str] = ()) -> Constant:  # noqa: A002
    """Seeded data from NumPy's PCG64, in the order of the elements.

    Floats are standard normal, or uniform in [low, high), drawn in double precision and rounded to the dtype;
    integers are uniform in 0..7 as far as the dtype has them, or in [low, high).

    Raises:
        ParseError: the dtype is not numeric, or the tensor is larger than a text should claim.
    """
    dtype, size = type.dtype, _size(type)
    if size > _MOST_RANDOM:
        raise ParseError(f"random data for {type} is more than {_MOST_RANDOM:,} elements")
    if seed < 0:
        raise ParseError(f"the seed {seed} is negative")
    bounds = [_parse_float(t) for t in uniform]
    if bounds and not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ParseError(f"random data cannot be uniform from {uniform[0]} to {uniform[1]}")
    generator, shape = np.random.Generator(np.random.PCG64(seed)), type.static_shape
    if dtype.is_float:
        drawn = generator.uniform(bounds[0], bounds[1], shape) if bounds else generator.standard_normal(shape)
        return _of(type, _as_dtype(drawn, dtype))
    if not dtype.is_integer and dtype.kind != "bool":
        raise ParseError(f"random data is numeric, and {dtype} is not")
    lowest, highest = _range(dtype)
    low, high = (int(bounds[0]), int(bounds[1]) - 1) if bounds else (0, min(7, highest))
    if not lowest <= low <= high <= highest:
        raise ParseError(f"random data from {uniform[0]} to {uniform[1]} does not fit {dtype}")
    wide = np.uint64 if low >= 0 else np.int64
    return _of(type, generator.integers(low, high, shape, wide, endpoint=True).astype(dtype.numpy))


def parse_elements(texts: Sequence[str], dtype: DType) -> np.ndarray:
    """A flat array of the elements.

    Raises:
        ParseError: one is not an element of `dtype`, or out of its range.
    """
    if dtype == string:
        out = np.empty(len(texts), object)
        for i, text in enumerate(texts):
            if not text.endswith('"'):
                raise ParseError(f"expected a quoted string, found {text}")
            out[i] = parse_string(text)
        return out
    if dtype.kind == "bool":
        if wrong := next((t for t in texts if t not in ("true", "false")), None):
            raise ParseError(f"expected true or false, found {wrong}")
        return np.array([t == "true" for t in texts], bool)
    if dtype.is_integer:
        low, high = _range(dtype)
        values = [parse_int(t) for t in texts]
        if any(not low <= v <= high for v in values):
            raise ParseError(f"{next(v for v in values if not low <= v <= high)} is not in the range of {dtype}")
        return np.array(values, np.uint64 if low >= 0 else np.int64).astype(dtype.numpy)
    if dtype.kind == "complex":
        part = f32 if dtype.bits == f64.bits else f64
        pairs = [t[1:-1].split(",") if t.startswith("(") else [t, "0"] for t in texts]
        if any(len(p) != 2 for p in pairs):
            raise ParseError(f"expected pairs of a real and an imaginary part for {dtype}")
        return parse_elements([t.strip() for p in pairs for t in p], part).view(dtype.numpy)
    return _parse_floats(texts, dtype)


def _parse_floats(texts: Sequence[str], dtype: DType) -> np.ndarray:
    values = [0.0 if t.startswith("0x") else _parse_float(t) for t in texts]
    array = _as_dtype(values, dtype)
    exact = array.astype(np.float64)
    for i, (text, value, got) in enumerate(zip(texts, values, exact, strict=True)):
        if text.startswith("0x"):
            bits = parse_int(text)
            if bits >= 1 << 8 * array.itemsize:
                raise ParseError(f"{text} is more than the {dtype.bits} bits of {dtype}")
            array[i : i + 1] = np.array([bits], f"u{array.itemsize}").view(dtype.numpy)
        elif (np.isfinite(got) != np.isfinite(value)) or (np.isinf(value) and "inf" not in text):
            raise ParseError(f"{text} is not in the range of {dtype}")
    return array


def _parse_float(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ParseError(f"expected a number, found {text}")
    return float(text)


def parse_int(text: str) -> int:
    """An integer, decimal or hex.

    Raises:
        ParseError: it is none.
    """
    if not re.fullmatch(r"-?[0-9]{1,400}|0x[0-9a-fA-F]{1,400}", text):
        raise ParseError(f"expected an integer, found {text[:80]}")
    return int(text, 0) if text.startswith("0x") else int(text)


def _as_dtype(values: Sequence[float] | np.ndarray, dtype: DType) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float64).astype(dtype.numpy)


def _range(dtype: DType) -> tuple[int, int]:
    if dtype.kind == "bool":
        return 0, 1
    return (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)


def _size(type: TensorType) -> int:  # noqa: A002
    """The number of elements of a static type.

    Raises:
        ParseError: the type is not static.
    """
    if not type.is_static or min(type.static_shape, default=0) < 0:
        raise ParseError(f"a constant needs a static shape, found {type}")
    return static_size(type.static_shape)


def _of(type: TensorType, array: np.ndarray) -> Constant:  # noqa: A002
    array = array.view()
    array.flags.writeable = False
    return Constant(type, array=array)
