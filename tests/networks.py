"""Random small convolutional networks, traced: branches, shared weights, dead ends, the same thing computed twice.

A network is grown step by step. Each step takes a value that is there, and gives a new one; `STEPS` lists them. Every
value is known at `BATCH` × `EXTENT`, so that only steps which fit are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st
from numeric import EXTENT

import graphopt
from graphopt import f32, ops
from graphopt.frontends.tracer import Traced
from graphopt.ir.dims import is_anonymous, substitute, symbols
from graphopt.ir.graph import Graph

BATCH = 2
ACTIVATIONS: dict[str, Callable[..., object]] = {
    "relu": ops.relu,
    "leaky": partial(ops.leaky_relu, alpha=0.3),
    "clip": lambda x: ops.clip(x, 0.0, 6.0),
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_swish": ops.hard_swish,
    "softmax": partial(ops.softmax, axis=1),
    "abs": ops.abs,
}


Step: TypeAlias = "Callable[[Growth, Traced], Callable[[], object] | None]"


def extents(x: Traced) -> tuple[int, ...]:
    """The shape at batch 2 and extent 7; () where a dim has no name to give a number to."""
    if any(is_anonymous(d) or any(is_anonymous(s) for s in symbols(d)) for d in x.type.shape or ()):
        return ()
    return tuple(int(substitute(d, lambda n: BATCH if n == "N" else EXTENT)) for d in x.type.shape or ())  # type: ignore[arg-type]


@dataclass
class Growth:
    """A network while it grows."""

    draw: st.DrawFn
    rng: np.random.Generator
    host: Traced
    values: list[Traced] = field(default_factory=list)
    pool: dict[tuple[object, ...], list[Traced]] = field(default_factory=dict)
    done: list[Callable[[], list[Traced]]] = field(default_factory=list)
    next: list[Step] = field(default_factory=list)  # what is to follow in a block

    def constant(self, kind: str, *shape: int) -> Traced:
        """A weight (`w`), a vector (`v`) or a positive vector (`p`): new, or one that is in use already."""
        known = self.pool.setdefault((kind, shape), [])
        if known and self.draw(st.integers(0, 2)) == 0:
            return self.draw(st.sampled_from(known))
        if kind == "p":
            array = self.rng.uniform(0.5, 1.5, shape)
        elif kind == "w":
            array = self.rng.standard_normal(shape) * np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        else:
            array = self.rng.uniform(-0.8, 0.8, shape)
        made = self.host.lift(array.astype(np.float32))
        assert isinstance(made, Traced)
        known.append(made)
        return made

    def pick(self) -> Traced | None:
        """A value, most often one that nobody reads yet; in the middle of a block the one just made."""
        fit = [v for v in self.values if extents(v)]
        if not fit:
            return None
        if self.next or self.draw(st.integers(0, 2)) == 0:
            return fit[-1]
        unread = [v for v in fit if not v.value.is_read] if self.draw(st.integers(0, 3)) else fit
        return self.draw(st.sampled_from(unread or fit))


def _conv(g: Growth, x: Traced) -> Callable[[], object]:
    _, c, h, w = extents(x)
    group = g.draw(st.sampled_from([d for d in (1, c, 2) if c % d == 0]))
    out = group * g.draw(st.integers(1, 3))
    k = g.draw(st.sampled_from([k for k in (1, 2, 3) if k <= min(h, w)]))
    d = 2 if k == 2 and min(h, w) > 4 and g.draw(st.booleans()) else 1
    pads = g.draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)])) if k > 1 else (0, 0, 0, 0)
    strides = g.draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 2)])) if min(h, w) > 3 else (1, 1)
    weight = g.constant("w", out, c // group, k, k)
    bias = g.constant("v", out) if g.draw(st.booleans()) else None
    return lambda: ops.conv(x, weight, bias, strides=strides, pads=pads, dilations=(d, d), group=group)


def _conv_same(g: Growth, x: Traced) -> Callable[[], object]:
    _, c, h, w = extents(x)
    if min(h, w) < 3:
        return _conv(g, x)
    weight, place = g.constant("w", c, c, 3, 3), g.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    return lambda: ops.conv(x, weight, auto_pad=place)


def _conv_transpose(g: Growth, x: Traced) -> Callable[[], object]:
    _, c, _, _ = extents(x)
    group = g.draw(st.sampled_from([d for d in (1, 2) if c % d == 0]))
    out = g.draw(st.integers(1, 3))
    stride, pad = g.draw(st.sampled_from([(1, 0), (2, 0), (1, 1), (2, 1)]))
    weight = g.constant("w", c, out, 3, 3)
    bias = g.constant("v", out * group) if g.draw(st.booleans()) else None
    return lambda: ops.conv_transpose(x, weight, bias, strides=(stride,) * 2, pads=(pad,) * 4, group=group)


def _norm(g: Growth, x: Traced) -> Callable[[], object]:
    c = extents(x)[1]
    scale, shift, mean, variance = (g.constant(k, c) for k in "vvvp")
    if g.draw(st.integers(0, 4)) == 0:
        scale, variance = ops.mul(scale, g.constant("p", c)), ops.add(variance, g.constant("p", 1))
    epsilon = g.draw(st.sampled_from([1e-5, 1e-3, 0.1]))
    return lambda: ops.batch_normalization(x, scale, shift, mean, variance, epsilon=epsilon)


def _arithmetic(g: Growth, x: Traced) -> Callable[[], object]:
    shape = extents(x)
    rank, c = len(shape), shape[1]
    op = g.draw(st.sampled_from([ops.add, ops.sub, ops.mul, ops.div]))
    along = [(1,) * rank, (1, c, *(1,) * (rank - 2)), (c, *(1,) * (rank - 2)), ()]
    if isinstance(x.type.shape[-1] if x.type.shape else None, int):
        along.append((shape[-1],))
    other = g.constant("p", *g.draw(st.sampled_from(along)))
    if op is not ops.div and g.draw(st.integers(0, 3)) == 0:
        return lambda: op(other, x)
    return lambda: op(x, other)


def _activation(g: Growth, x: Traced) -> Callable[[], object]:
    function = ACTIVATIONS[g.draw(st.sampled_from(sorted(ACTIVATIONS)))]
    return lambda: function(x)


def _pool(g: Growth, x: Traced) -> Callable[[], object]:
    _, _, h, w = extents(x)
    if min(h, w) < 3:
        return lambda: ops.global_average_pool(x)
    options = {
        "kernel_shape": g.draw(st.sampled_from([(2, 2), (3, 3), (1, 2)])),
        "strides": g.draw(st.sampled_from([(1, 1), (2, 2)])),
        "pads": g.draw(st.sampled_from([(0, 0, 0, 0), (0, 0, 0, 1)])),
        "ceil_mode": g.draw(st.booleans()),
    }
    if g.draw(st.booleans()):
        return lambda: ops.max_pool(x, **options)
    counts = g.draw(st.booleans())
    return lambda: ops.average_pool(x, count_include_pad=counts, **options)


def _residual(g: Growth, x: Traced) -> Callable[[], object] | None:
    same = [v for v in g.values if v.type == x.type]
    other = g.draw(st.sampled_from(same))
    op = g.draw(st.sampled_from([ops.add, ops.add, ops.mul, ops.sub, ops.maximum]))
    return lambda: op(x, other)


def _concat(g: Growth, x: Traced) -> Callable[[], object]:
    shape = x.type.shape or ()
    fit = [v for v in g.values if len(v.shape) == len(shape) and (v.shape[0], *v.shape[2:]) == (shape[0], *shape[2:])]
    others = g.draw(st.lists(st.sampled_from(fit), max_size=2))
    return lambda: ops.concat(x, *others, axis=1)


def _split(g: Growth, x: Traced) -> Callable[[], object] | None:
    c = (x.type.shape or ())[1]
    if not isinstance(c, int):
        return None
    first = g.draw(st.integers(1, c))
    return lambda: ops.split(x, [first, c - first] if first < c else [c], axis=1)


def _slice(g: Growth, x: Traced) -> Callable[[], object]:
    shape = extents(x)
    axis = g.draw(st.integers(1, len(shape) - 1))
    begin = g.draw(st.sampled_from([b for b in (0, 1, -2) if -shape[axis] <= b < shape[axis]]))
    end, step = g.draw(st.sampled_from([(2**63 - 1, 1), (2**31 - 1, 2), (shape[axis], 1)]))
    if g.draw(st.integers(0, 4)) == 0:
        begin, end, step = -1, -(2**63) + 1, -1
    return lambda: ops.slice_(x, [begin], [end], [axis], [step])


def _transpose(g: Growth, x: Traced) -> Callable[[], object]:
    perm = g.draw(st.sampled_from([(0, 1, 3, 2), (0, 1, 2, 3)] if len(extents(x)) == 4 else [(0, 1)]))
    return lambda: ops.transpose(x, perm)


def _pad(g: Growth, x: Traced) -> Callable[[], object]:
    pads = g.draw(st.sampled_from([[0, 0, 1, 1, 0, 0, 0, 1], [0] * 8, [0, 1, 0, 0, 0, 0, 0, 0]]))
    value = g.draw(st.sampled_from([None, 0.0, 0.25]))
    return lambda: ops.pad(x, pads, value)


def _flat(g: Growth, x: Traced) -> Callable[[], object]:
    form = g.draw(st.sampled_from(["flatten", "reshape", "shape", "mean", "global"]))
    if form == "mean":
        return lambda: ops.reduce_mean(x, (2, 3), keepdims=False)
    if form == "global":
        return lambda: ops.flatten(ops.global_average_pool(x))
    if form == "shape":
        tail = np.asarray([-1], np.int64)
        return lambda: ops.reshape(x, ops.concat(ops.slice_(ops.shape(x), [0], [1]), tail, axis=0))
    return lambda: ops.flatten(x) if form == "flatten" else ops.reshape(x, [0, -1])


def _linear(g: Growth, x: Traced) -> Callable[[], object] | None:
    columns = (x.type.shape or ())[1]
    if not isinstance(columns, int):
        return None
    out = g.draw(st.integers(1, 4))
    if g.draw(st.booleans()):
        weight = g.constant("w", columns, out)
        return lambda: ops.matmul(x, weight)
    transposed = g.draw(st.booleans())
    weight = g.constant("w", *((out, columns) if transposed else (columns, out)))
    bias = g.constant("v", *g.draw(st.sampled_from([(out,), (1, out), (), (1,)]))) if g.draw(st.booleans()) else None
    alpha, beta = g.draw(st.sampled_from([(1.0, 1.0), (0.5, 2.0)]))
    return lambda: ops.gemm(x, weight, bias, alpha=alpha, beta=beta, transB=int(transposed))


def _nothing(g: Growth, x: Traced) -> Callable[[], object]:
    return g.draw(
        st.sampled_from([lambda: ops.identity(x), lambda: ops.dropout(x), lambda: ops.cast(x, f32), lambda: ops.neg(x)])
    )


LINEAR: tuple[Step, ...] = (_conv, _conv_same, _conv_transpose, _linear)
BLOCKS: list[list[Step]] = [
    [],
    [_norm],
    [_norm, _activation],
    [_arithmetic],
    [_arithmetic, _norm, _arithmetic],
    [_activation],
    [_residual, _activation],
    [_norm, _residual, _activation],
    [_norm, _norm, _nothing, _norm],
]
STEPS: dict[int | None, list[Step]] = {
    4: [_conv, _conv, _conv, _norm, _norm, _conv_same, _conv_transpose, _pool, _transpose, _pad, _slice, _flat],
    2: [_linear, _linear, _norm],
    None: [_activation, _activation, _arithmetic, _arithmetic, _residual, _residual, _concat, _split, _nothing],
}


def _step(g: Growth) -> None:
    """One more step, or an earlier one again."""
    if not g.next and g.done and g.draw(st.integers(0, 6)) == 0:
        g.values += g.draw(st.sampled_from(g.done))()
        return
    x = g.pick()
    if x is None:
        g.next = []
        return
    rank = len(extents(x))
    options = STEPS.get(rank, []) + [s for s in STEPS[None] if rank in (2, 4)]
    if not options or int(np.prod(extents(x))) > 4000:
        return
    step = g.next.pop(0) if g.next else g.draw(st.sampled_from(options))
    apply = step(g, x)
    if apply is None:
        return
    if step in LINEAR and not g.next:
        g.next = g.draw(st.sampled_from(BLOCKS))[:]

    def run() -> list[Traced]:
        made = apply()
        return [m for m in (made if isinstance(made, tuple) else (made,)) if isinstance(m, Traced)]

    made = run()
    g.done.append(run)
    g.values += [m for m in made if extents(m) and 0 not in extents(m)]


@st.composite
def networks(draw: st.DrawFn, steps: int = 16) -> Graph:
    """A network of as many steps, or fewer, with one or two inputs and one to four outputs."""
    batch = draw(st.sampled_from(["N", "N", 1, 2]))
    height, width = draw(st.sampled_from([("H", "W"), (EXTENT, EXTENT), (6, "W"), (5, 8)]))
    inputs = {"x": f32[batch, draw(st.integers(1, 4)), height, width]}
    if draw(st.booleans()):
        inputs["z"] = f32[batch, draw(st.integers(1, 3)), height, width]

    def network(**given: Traced) -> dict[str, Traced]:
        seed = draw(st.integers(0, 2**16))
        g = Growth(draw, np.random.default_rng(seed), given["x"], list(given.values()))
        for _ in range(draw(st.sampled_from(sorted({2, steps // 2, steps})))):
            _step(g)
        # Most ends of branches, so that much of what was grown is alive; some stay dead. Others, inputs and
        # repetitions too.
        ends = [v for v in g.values if not v.value.is_read][-draw(st.integers(1, 5)) :] or g.values[-1:]
        ends += draw(st.lists(st.sampled_from(g.values), max_size=draw(st.sampled_from([0, 0, 2]))))
        return {f"out{i}": value for i, value in enumerate(ends)}

    return graphopt.trace(network, **inputs)
