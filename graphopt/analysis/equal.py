"""The rule for "equal": a result may be off by a small multiple of the original's own rounding.

A fixed tolerance hides bugs in small outputs and cries wolf on deep networks. So the original's rounding is
measured: R is the original in float64, A₀, A₁, ... are runs of the original as it is, B is the result.

    err(X) = max |X − R| / (|R| + rms(R))
    noise  = max(err(A₀), err(A₁), ..., 16·eps)
    equal  ⇔ err(B) ≤ 4·noise + certified bounds, and shape, dtype, positions of NaN, +inf and −inf are A's

Where numbers are quantized, rounding may move a few of them by a whole step, and a limit on the worst element alone
would let all of them move: there the root mean square of the errors is held to the same rule.

Without R the first A takes its place. An element that is not a real number (integer, bool, string; also NaN
and ±inf) is A₀'s; it may differ only where the A differ among themselves too, and is then counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphopt.ir.types import dtype_of

NOISE_FLOOR_EPS = 16  # rounding of a few operations in a row, where the original shows less by luck
NOISE_FACTOR = 4  # the result's rounding is another draw from the same distribution: its worst may be larger
BLIND_NOISE = 0.05  # from here on the original's own rounding hides mistakes of a few per cent

Number: TypeAlias = float | int | bool | str


@dataclass(frozen=True)
class Worst:
    """The element that is furthest off: its index, the reference's value there, and the result's."""

    index: tuple[int, ...]
    reference: Number
    result: Number

    def __str__(self) -> str:
        where = f" at {list(self.index)}" if self.index else ""
        return f"{_short(self.result)} instead of {_short(self.reference)}{where}"

    def to_json(self) -> dict[str, object]:
        """As a JSON object; NaN and infinities as text."""
        return {"index": list(self.index), "reference": _plain(self.reference), "result": _plain(self.result)}


@dataclass(frozen=True)
class Verdict:
    """Whether one output is equal, and by how much.

    Attributes:
        equal: the answer.
        error: err(B), relative; the worst of all runs of the result. 0 where nothing is measured.
        noise: the original's own rounding, relative (not below 16 eps).
        allowed: what `error` may be.
        excused: elements that differ where the original's own runs differ as well.
        worst: the element that is furthest off, if any is off.
        reason: why it is not equal; empty when it is.
    """

    equal: bool
    error: float = 0.0
    noise: float = 0.0
    allowed: float = 0.0
    excused: int = 0
    worst: Worst | None = None
    reason: str = ""

    @property
    def blind(self) -> bool:
        """Whether the original's own rounding is so large that being equal says little."""
        return self.noise > BLIND_NOISE

    def __str__(self) -> str:
        excused = f"; {self.excused} elements differ where the original's own runs do" if self.excused else ""
        if not self.equal:
            return f"{self.reason}{excused}"
        if self.allowed == 0:
            return f"identical{excused}"
        doubt = ": the original's own rounding is that large" if self.blind else ""
        return f"error {self.error:.2g}, {self.allowed:.2g} is allowed{doubt}{excused}"

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "equal": self.equal,
            "error": _plain(self.error),
            "noise": _plain(self.noise),
            "allowed": _plain(self.allowed),
            "excused": self.excused,
            "worst": None if self.worst is None else self.worst.to_json(),
            "reason": self.reason,
        }


def compare(
    reference: np.ndarray,
    noise: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    dtype: np.dtype | type[np.generic] | None = None,
    bounds: float = 0.0,
    *,
    quantized: bool = False,
) -> Verdict:
    """Compare runs of a result with the original.

    Args:
        reference: R, any shape; the first of `noise` where there is no R.
        noise: A₀, A₁, ...: at least one run of the original.
        results: B: one or more runs of the result; the worst counts.
        dtype: the output's element type (its eps is the scale of rounding); by default A₀'s.
        bounds: sum of the certified relative bounds of BOUNDED rewrites.
        quantized: whether the mean error counts as well as the worst.

    Returns:
        The verdict; a result of another shape or dtype is not equal, never an error.
    """
    base = noise[0]
    element = np.dtype(dtype) if dtype is not None else base.dtype
    for result in results:
        if result.dtype not in (element, reference.dtype):
            return _differs(f"its dtype is {dtype_of(result.dtype)}, and the original's is {dtype_of(element)}")
        if result.shape not in [a.shape for a in noise]:
            return _differs(f"its shape is {list(result.shape)}, and the original's is {list(base.shape)}")
    if any(a.shape != base.shape for a in (*noise, *results)):  # the original itself has several shapes
        return Verdict(True, excused=max(a.size for a in (*noise, *results)))
    if is_real(element):
        if reference.shape != base.shape:
            reference = base
        return _compare_floats(reference, noise, results, element, bounds, quantized=quantized)
    return _compare_exactly(noise, results)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same dtype, shape and bits (−0 is not 0; NaNs differ by their payload)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "OSU":
        return bool(np.all(a == b))
    return bool(np.array_equal(_bits(a), _bits(b)))


def compare_bits(original: np.ndarray, result: np.ndarray) -> Verdict:
    """The rule for results of EXACT rewrites alone: bit for bit."""
    if same_bits(original, result):
        return Verdict(True)
    if original.dtype != result.dtype or original.shape != result.shape:
        return compare(original, [original], [result])
    if original.dtype.kind in "OSU":
        off = np.asarray(original != result)
    else:
        width = original.dtype.itemsize
        off = (_bits(original).reshape(-1, width) != _bits(result).reshape(-1, width)).any(axis=1)
    at = int(np.argmax(off.ravel()))
    worst = _worst(original, result, at)
    return Verdict(False, worst=worst, reason=f"{int(off.sum())} of {original.size} elements have other bits: {worst}")


def relative_error(x: np.ndarray, reference: np.ndarray) -> tuple[float, int]:
    """err(x) against `reference`, and the flat index of the worst element (−1: there is none).

    Elements where either is not finite do not count. Where all of `reference` is 0, so is the measure: any
    difference is infinite.
    """
    return _error(_wide(x), _wide(reference), _scale([reference]))


def _compare_floats(
    reference: np.ndarray,
    noise: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    element: np.dtype,
    bounds: float,
    *,
    quantized: bool,
) -> Verdict:
    excused = 0
    for result in results:
        native = result.dtype == element
        of_original = list(noise) if native else [reference]
        wrong, pardoned = _disagreements(_kinds(result), [_kinds(a) for a in of_original])
        excused = max(excused, pardoned)
        if wrong >= 0:
            place = _worst(of_original[0], result, wrong)
            return _differs(f"NaN and infinities stand elsewhere: {place}", place, excused)
    truth = _wide(reference)
    settled = np.isfinite(truth)
    if not settled.all():  # the oracle has no number there: the original's own run stands in
        truth = np.where(settled, truth, _wide(noise[0]))
    scale = _scale([truth, *noise])
    own = max(_error(_wide(a), truth, scale)[0] for a in noise)
    if not math.isfinite(own):
        return _differs("the original's own rounding cannot be measured: its runs have nothing in common")
    level = max(own, NOISE_FLOOR_EPS * eps(element))
    allowed = NOISE_FACTOR * level + bounds
    errors = [_error(_wide(r), truth, scale) for r in results]
    which = max(range(len(errors)), key=lambda i: errors[i][0])
    error, at = errors[which]
    worst = _worst(truth, results[which], at) if at >= 0 and error > 0 else None
    if error <= allowed:
        if quantized:
            floor = NOISE_FLOOR_EPS * eps(element)
            usual = NOISE_FACTOR * max(floor, *(_mean_error(_wide(a), truth, scale) for a in noise)) + bounds
            mean = max(_mean_error(_wide(r), truth, scale) for r in results)
            if mean > usual:
                reason = f"mean error {mean:.2g} is over the allowed {usual:.2g}: more moved than by rounding, {worst}"
                return Verdict(False, error, level, allowed, excused, worst, reason)
        return Verdict(True, error, level, allowed, excused, worst)
    reason = f"error {error:.2g} is over the allowed {allowed:.2g}: {worst}"
    return Verdict(False, error, level, allowed, excused, worst, reason)


def _compare_exactly(noise: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> Verdict:
    excused = 0
    for result in results:
        wrong, pardoned = _disagreements(result, noise)
        excused = max(excused, pardoned)
        if wrong >= 0:
            worst = _worst(noise[0], result, wrong)
            count = int(np.count_nonzero(result != noise[0]))
            return _differs(f"{count} of {result.size} elements differ: {worst}", worst, excused)
    return Verdict(True, excused=excused)


def _disagreements(result: np.ndarray, originals: Sequence[np.ndarray]) -> tuple[int, int]:
    """Flat index of the first element that may not differ and does (−1: none), and how many may and do."""
    off = np.asarray(result != originals[0])
    unsettled = np.zeros(off.shape, bool)
    for other in originals[1:]:
        unsettled |= np.asarray(other != originals[0])
    wrong = (off & ~unsettled).ravel()
    return (int(np.argmax(wrong)) if wrong.any() else -1), int((off & unsettled).sum())


def _kinds(x: np.ndarray) -> np.ndarray:
    """For each element 0 (finite), 1 (NaN), 2 (+inf) or 3 (−inf); complex parts on their own."""
    x = _wide(x)
    return np.isnan(x) * np.int8(1) + np.isposinf(x) * np.int8(2) + np.isneginf(x) * np.int8(3)


def _wide(x: np.ndarray) -> np.ndarray:
    """As float64; complex numbers as pairs on a last axis."""
    if x.dtype.kind == "c":
        return np.stack([x.real, x.imag], axis=-1).astype(np.float64)
    return x.astype(np.float64, copy=False)


def _scale(candidates: Sequence[np.ndarray]) -> float:
    """The rms of the finite elements of the first candidate that is not all zero; 0 where all are."""
    return next((size for size in map(rms, candidates) if size > 0), 0.0)


def rms(array: np.ndarray) -> float:
    """The root of the mean square of the finite elements; 0 where there are none."""
    x = _wide(array)
    x = x[np.isfinite(x)]
    top = float(np.max(np.abs(x))) if x.size else 0.0
    # divided by the largest first: squares of float64 values may overflow
    return top * math.sqrt(float(np.mean(np.square(x / top)))) if top > 0 else 0.0


def _error(x: np.ndarray, reference: np.ndarray, scale: float) -> tuple[float, int]:
    """The largest |x − reference| / (|reference| + scale) over finite elements, and where it is."""
    if x.size == 0:
        return 0.0, -1
    relative = _relative(x, reference, scale)
    at = int(np.argmax(relative))
    return float(relative.ravel()[at]), at


def _mean_error(x: np.ndarray, reference: np.ndarray, scale: float) -> float:
    """The root mean square of |x − reference| / (|reference| + scale) over finite elements."""
    return rms(_relative(x, reference, scale))


def _relative(x: np.ndarray, reference: np.ndarray, scale: float) -> np.ndarray:
    """|x − reference| / (|reference| + scale), and 0 where either is not finite."""
    with np.errstate(all="ignore"):
        off = np.abs(x / 2 - reference / 2)  # halves: the difference of two large values may overflow
        relative = np.where(off == 0, 0.0, off / (np.abs(reference) / 2 + scale / 2))
    return np.where(np.isfinite(x) & np.isfinite(reference), relative, 0.0)


def is_real(element: np.dtype) -> bool:
    """Whether elements are measured (floats and complex numbers), not compared exactly."""
    return element.kind == "c" or (element.kind not in "iubOSU" and dtype_of(element).is_float)


def eps(element: np.dtype) -> float:
    """Distance from 1 to the next number of a float or complex type."""
    if element.kind == "c":
        return float(np.finfo(element).eps)
    if element.name.startswith(("float16", "float32", "float64")):
        return float(np.finfo(element).eps)
    import ml_dtypes

    return float(ml_dtypes.finfo(element).eps)  # type: ignore[no-untyped-call]  # the package is not typed


def _bits(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a).reshape(-1).view(np.uint8)


def _worst(reference: np.ndarray, result: np.ndarray, flat: int) -> Worst:
    shape = _wide(result).shape if result.dtype.kind == "c" else result.shape
    index = tuple(int(i) for i in np.unravel_index(flat, shape))

    def pick(a: np.ndarray) -> Number:
        element = (_wide(a) if a.dtype.kind == "c" else a).reshape(-1)[flat]
        if isinstance(element, np.generic):
            value = element.item()
            return value if isinstance(value, int | float | bool | str) else float(element)
        return element if isinstance(element, int | float | bool) else str(element)

    return Worst(index, pick(reference), pick(result))


def _differs(reason: str, worst: Worst | None = None, excused: int = 0) -> Verdict:
    return Verdict(False, error=math.inf, worst=worst, excused=excused, reason=reason)


def _short(value: Number) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _plain(value: Number) -> Number:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
