"""Functions that NumPy lacks: the error function and its complement, in float64."""

from __future__ import annotations

import numpy as np

_FAR = 2.0  # from here on the continued fraction converges within its 80 terms


def error_function(x: np.ndarray) -> np.ndarray:
    """2/√π ∫₀ˣ exp(-t²) dt: its Taylor series near 0, one less the complement elsewhere."""
    x = x.astype(np.float64, copy=False)
    a = np.abs(x)
    return np.where(np.isnan(x), x, np.sign(x) * np.where(a < _FAR, _near(a), 1 - _far(a)))


def complementary_error_function(x: np.ndarray) -> np.ndarray:
    """1 less the error function, also where that is next to 1."""
    x = x.astype(np.float64, copy=False)
    a = np.abs(x)
    below = np.where(x < 0, 2 - _far(a), _far(a))
    return np.where(np.isnan(x), x, np.where(a < _FAR, 1 - np.sign(x) * _near(a), below))


def _near(a: np.ndarray) -> np.ndarray:
    t = np.where(a < _FAR, a, 0)
    term = total = t
    for n in range(1, 60):
        term = term * (-t * t) / n
        total = total + term / (2 * n + 1)
    return np.asarray(2 / np.sqrt(np.pi) * total)


def _far(a: np.ndarray) -> np.ndarray:
    """The complement, by its continued fraction (Lentz)."""
    u = np.where(a < _FAR, _FAR, np.minimum(a, 40.0))  # exp(-40²) is 0
    tail = np.zeros_like(u)
    for n in range(80, 0, -1):
        tail = (n / 2) / (u + tail)
    return np.asarray(np.exp(-u * u) / (np.sqrt(np.pi) * (u + tail)))
