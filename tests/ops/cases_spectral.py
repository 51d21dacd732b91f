"""Cases of spectra."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, floats, some
from ops.harness import normal

FAR = 1 << 14  # ulps: a sum that nearly cancels


def dft(data: st.DataObject, opset: int) -> Node:
    x = normal(2, 4, 3, data.draw(st.integers(1, 2)))
    axis = data.draw(st.sampled_from([0, 1, 2, -2, -4]))
    length = np.array(data.draw(st.integers(2, 6))) if data.draw(st.booleans()) else None
    attributes = some(data, {data.draw(st.sampled_from(["inverse", "onesided"])): 1})
    arrays = [x] if length is None else [x, length]
    if opset < 20:
        return Node(arrays, {**attributes, **some(data, {"axis": axis})}, ulps=FAR)
    if length is None or data.draw(st.booleans()):
        return Node(arrays, attributes, ulps=FAR)
    return Node([x, length, np.array(axis)], attributes, ulps=FAR)


def stft(data: st.DataObject, _: int) -> Node:
    window = normal(data.draw(st.integers(2, 6)), seed=1)
    arrays = [normal(1, 9, 1), np.array(data.draw(st.integers(1, 3))), window]
    return Node(arrays, some(data, {"onesided": 0}), held=data.draw(st.booleans()), ulps=FAR)


def window(data: st.DataObject, _: int) -> Node:
    return Node([np.array(data.draw(st.integers(3, 9)))], some(data, {"periodic": 0}), ulps=FAR)


def mel(data: st.DataObject, _: int) -> Node:
    numbers = [np.array(v) for v in (data.draw(st.integers(1, 6)), data.draw(st.integers(32, 50)), 8000)]
    return Node([*numbers, floats(20.5), floats(3000.5)], some(data, {"output_datatype": 11}))


CASES: Mapping[str, Case] = {
    "DFT": dft,
    "STFT": stft,
    "HannWindow": window,
    "HammingWindow": window,
    "BlackmanWindow": window,
    "MelWeightMatrix": mel,
}
