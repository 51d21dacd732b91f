"""Cases of recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from ops.cases import Case, Node, some
from ops.harness import normal


def layer(gates: int, states: int) -> Case:
    def case(data: st.DataObject, _: int) -> Node:
        steps, batch, inputs, hidden = 3, 2, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
        direction = data.draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
        count = 1 + (direction == "bidirectional")
        arrays = [
            normal(steps, batch, inputs),
            normal(count, gates * hidden, inputs),
            normal(count, gates * hidden, hidden),
        ]
        optional = [
            normal(count, 2 * gates * hidden),
            np.array([3, 1], np.int32),
            *(normal(count, batch, hidden, seed=i) for i in range(states)),
        ]
        arrays = [a * np.float32(0.5) for a in arrays] + [a if data.draw(st.booleans()) else None for a in optional]
        attributes = {"hidden_size": hidden, **some(data, {"direction": direction} if count == 1 else {})}
        attributes |= {"direction": direction} if count == 2 else {}
        attributes |= some(data, {"clip": 1.0} | ({"linear_before_reset": 1} if gates == 3 else {}))
        return Node(arrays, attributes, data.draw(st.integers(1, states + 1)), held=False, ulps=1024)

    return case


CASES: Mapping[str, Case] = {"LSTM": layer(4, 2), "GRU": layer(3, 1), "RNN": layer(1, 1)}
