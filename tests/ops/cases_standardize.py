"""Nodes of normalizations by a tensor's own statistics, of every opset."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from ops.cases import Case, Node, axes_of, axis_of, normal, some

EPSILONS = st.sampled_from([1e-5, 1e-3, 0.125])
SUMS = 512  # ulps: a difference that is almost 0 is scaled up


def image(data: st.DataObject) -> tuple[int, ...]:
    return (2, data.draw(st.sampled_from([2, 4])), *data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=2)))


def instance(data: st.DataObject, _: int) -> Node:
    shape = image(data)
    attributes = some(data, {"epsilon": data.draw(EPSILONS)})
    held = data.draw(st.booleans())
    return Node([normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)], attributes, held=held, ulps=SUMS)


def group(data: st.DataObject, opset: int) -> Node:
    shape = image(data)
    count = data.draw(st.sampled_from([1, 2]))
    attributes = {"num_groups": count, **some(data, {"epsilon": data.draw(EPSILONS)})}
    length = shape[1] if opset >= 21 else count
    return Node([normal(*shape), normal(length, seed=1), normal(length, seed=2)], attributes, ulps=SUMS)


def layer(data: st.DataObject, _: int) -> Node:
    x = normal(*image(data))
    axis = axis_of(data, x.ndim, negative=True)
    attributes = {"axis": axis, **some(data, {"epsilon": data.draw(EPSILONS)})}
    more = [normal(*x.shape[axis:], seed=i) for i in range(data.draw(st.integers(1, 2)))]
    return Node([x, *more], attributes, results=data.draw(st.sampled_from([1, 3])), ulps=SUMS)


def rms(data: st.DataObject, _: int) -> Node:
    x = normal(*image(data))
    axis = axis_of(data, x.ndim, negative=True)
    return Node([x, normal(*x.shape[axis:], seed=1)], {"axis": axis, **some(data, {"epsilon": data.draw(EPSILONS)})})


def mean_variance(data: st.DataObject, _: int) -> Node:
    x = normal(*image(data))
    return Node([x], {"axes": axes_of(data, x.ndim, negative=False)}, ulps=SUMS)


def lp(data: st.DataObject, _: int) -> Node:
    x = normal(*image(data))
    return Node([x], some(data, {"axis": axis_of(data, x.ndim, negative=True), "p": data.draw(st.integers(1, 2))}))


CASES: Mapping[str, Case] = {
    "GroupNormalization": group,
    "InstanceNormalization": instance,
    "LayerNormalization": layer,
    "LpNormalization": lp,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": rms,
}
