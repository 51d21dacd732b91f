"""Recurrent layers: LSTM, GRU and RNN.

Shapes: x [steps, batch, inputs], w [directions, gates · hidden, inputs], r [directions, gates · hidden, hidden],
b [directions, 2 · gates · hidden], states [directions, batch, hidden], the first result [steps, directions, batch,
hidden]. With layout 1 the batch comes first everywhere. The second direction, or a lone reverse one, runs over each
sequence from its end. Steps beyond the length of a sequence give zeros and leave its state; one of no steps ends with
zeros.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from graphopt.errors import TypeRuleError
from graphopt.ir.dims import Dim
from graphopt.ir.types import TensorType
from graphopt.ops.adapters import attribute_needs
from graphopt.ops.bind import Like, Operand, apply_all
from graphopt.ops.cell import Function, activations
from graphopt.ops.expect import dims_of, expect_one_of, expect_one_type, expect_shape, same_dim
from graphopt.ops.room import FLOAT, INTEGER, Fact, NoKernelError, Room, Trait, operand, operator
from graphopt.ops.single import at_least_single, stored

__all__ = ["gru", "lstm"]

_DIRECTIONS: Mapping[str, tuple[bool, ...]] = {  # whether each runs from the end
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}


class Direction(NamedTuple):
    """One direction's parameters: weights less the axis of directions, activations, and the room's peepholes."""

    w: np.ndarray
    r: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray
    functions: tuple[Function, ...]
    peepholes: np.ndarray


States = tuple[np.ndarray, ...]  # [batch, hidden] each; the first is the hidden state, which is given out


class _Recurrent(Room):
    """What the three share: `gates` of them, the `activations` of one direction, and a `cell` that makes one step."""

    gates: ClassVar[int]
    default: ClassVar[tuple[str, ...]]
    activation_alpha: tuple[float, ...]
    activation_beta: tuple[float, ...]
    activations: tuple[str, ...]
    clip: float | None
    direction: str
    hidden_size: int | None
    layout: int
    traits = frozenset({Trait.PARTIAL})  # a length is at most the number of steps

    @abstractmethod
    def cell(self, at: Direction, x: np.ndarray, states: States) -> States:
        """The states after a step. `x` [batch, gates · hidden] is the input by the weights, plus its bias."""

    # Types

    def layer(
        self, x: Fact, w: Fact, r: Fact, b: Fact | None, lengths: Fact | None, *states: Fact | None
    ) -> tuple[TensorType, ...]:
        """Types of the first result and of each state."""
        expect_one_of("direction", self.direction, tuple(_DIRECTIONS))
        if self.layout not in (0, 1):
            raise TypeRuleError(f"layout is {self.layout}, and only 0 and 1 are known")
        if self.clip is not None and not self.clip > 0:
            raise TypeRuleError(f"clip is {self.clip}, and it must be positive")
        self._functions()
        expect_one_type(x=x, w=w, r=r, b=b, **{f"initial_{n}": s for n, s in zip("hc", states, strict=False)})
        for name, fact in (("x", x), ("w", w), ("r", r)):
            expect_shape(name, fact, (None, None, None))
        hidden = self._hidden(w, r)
        count = len(_DIRECTIONS[self.direction])
        steps, batch, inputs = self._arranged(*dims_of(x, 3))
        expect_shape("w", w, (count, hidden * self.gates, inputs))
        expect_shape("r", r, (count, hidden * self.gates, hidden))
        expect_shape("b", b, (count, hidden * (2 * self.gates)))
        expect_shape("sequence_lens", lengths, (batch,))
        batch = same_dim(batch, *dims_of(lengths, 1))
        for name, state in zip("hc", states, strict=False):
            expect_shape(f"initial_{name}", state, self._state(count, batch, hidden))
            batch = same_dim(batch, dims_of(state, 3)[0 if self.layout else 1])
        y = (batch, steps, count, hidden) if self.layout else (steps, count, batch, hidden)
        state_type = TensorType(x.dtype, self._state(count, batch, hidden))
        return (TensorType(x.dtype, y), *(state_type for _ in states))

    def _arranged(self, first: Dim, second: Dim, last: Dim) -> tuple[Dim, Dim, Dim]:
        """Steps, batch, inputs of x."""
        return (second, first, last) if self.layout else (first, second, last)

    def _state(self, count: int, batch: Dim, hidden: Dim) -> tuple[Dim, Dim, Dim]:
        return (batch, count, hidden) if self.layout else (count, batch, hidden)

    def _hidden(self, w: Fact, r: Fact) -> Dim:
        if self.hidden_size is not None:
            if self.hidden_size < 1:
                raise TypeRuleError(f"hidden_size is {self.hidden_size}, and it must be positive")
            return self.hidden_size
        rows = dims_of(w, 3)[1]
        return same_dim(dims_of(r, 3)[2], *([rows // self.gates] if isinstance(rows, int) else []))

    def _functions(self) -> tuple[tuple[Function, ...], ...]:
        """Activations by direction."""
        count, each = len(_DIRECTIONS[self.direction]), len(self.default)
        names = self.activations or self.default * count
        if len(names) < count * each:
            raise TypeRuleError(f"activations are {list(names)}, and {count * each} are needed")
        made = activations(names[: count * each], self.activation_alpha, self.activation_beta)
        return tuple(made[i * each : (i + 1) * each] for i in range(count))

    # Kernel

    def scan(
        self,
        x: np.ndarray,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None,
        lengths: np.ndarray | None,
        initial: tuple[np.ndarray | None, ...],
        peepholes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        """The hidden states of all steps, and the last of each state."""
        dtype = x.dtype
        x, w, r = map(at_least_single, (x.swapaxes(0, 1) if self.layout else x, w, r))
        steps, batch = x.shape[:2]
        hidden = r.shape[2]
        if lengths is not None and ((lengths < 0) | (lengths > steps)).any():
            raise NoKernelError(f"sequence_lens are {lengths.tolist()}, and there are {steps} steps")
        zeros = np.zeros((len(w), batch, hidden), x.dtype)
        begin = [zeros if s is None else at_least_single(s.swapaxes(0, 1) if self.layout else s) for s in initial]
        biases = np.zeros((len(w), 2 * self.gates * hidden), x.dtype) if b is None else at_least_single(b)
        holes = np.zeros((len(w), 3 * hidden), x.dtype) if peepholes is None else at_least_single(peepholes)
        found = []
        for i, (functions, backward) in enumerate(zip(self._functions(), _DIRECTIONS[self.direction], strict=True)):
            bias, state_bias = np.split(biases[i], 2)
            at = Direction(w[i], r[i], bias, state_bias, functions, holes[i])
            order = _order(steps, batch, lengths) if backward else None
            found.append(self._pass(at, x, order, lengths, tuple(s[i] for s in begin)))
        y = np.stack([each for each, _ in found], axis=1)
        last = [np.stack(each) for each in zip(*(states for _, states in found), strict=True)]
        if self.layout:
            y, last = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in last]
        return tuple(np.ascontiguousarray(a).astype(dtype, copy=False) for a in (y, *last))

    def _pass(
        self, at: Direction, x: np.ndarray, order: np.ndarray | None, lengths: np.ndarray | None, states: States
    ) -> tuple[np.ndarray, States]:
        x = x if order is None else np.take_along_axis(x, order[:, :, None], axis=0)
        projected = x @ at.w.T + at.input_bias
        y = np.zeros((*x.shape[:2], at.r.shape[1]), x.dtype)
        for step in range(len(x)):
            after = self.cell(at, projected[step], states)
            if lengths is not None:
                runs = (step < lengths)[:, None]
                after = tuple(np.where(runs, new, old) for new, old in zip(after, states, strict=True))
                y[step] = np.where(runs, after[0], 0)
            else:
                y[step] = after[0]
            states = after
        some = np.full(x.shape[1], len(x)) if lengths is None else lengths
        states = tuple(np.where(some[:, None] > 0, s, 0) for s in states)
        return y if order is None else np.take_along_axis(y, order[:, :, None], axis=0), states

    def clipped(self, x: np.ndarray) -> np.ndarray:
        """What goes into an activation."""
        if self.clip is None:
            return x
        limit = x.dtype.type(stored(self.clip))
        return np.clip(x, -limit, limit)

    def macs(self, facts: tuple[Fact | None, ...], results: tuple[TensorType, ...]) -> Dim:
        """The products of inputs and states with the weights."""
        x, w, r = facts[:3]
        if x is None or w is None or r is None or not results:
            return 0
        return x.shape[0] * x.shape[1] * w.shape[0] * w.shape[1] * (w.shape[2] + r.shape[2])


def _order(steps: int, batch: int, lengths: np.ndarray | None) -> np.ndarray:
    """Each sequence from its end to its beginning, then what lies beyond it: [steps, batch], its own inverse."""
    step = np.arange(steps)[:, None]
    length = np.full(batch, steps) if lengths is None else lengths.astype(np.int64)
    return np.where(step < length, length - 1 - step, step)


_ADAPTERS = {name: (attribute_needs(name, 14, "layout", 0),) for name in ("LSTM", "GRU", "RNN")}


class _OneState(_Recurrent):
    """What GRU and RNN share."""

    def infer(
        self,
        x: Fact,
        w: Fact,
        r: Fact,
        b: Fact | None = None,
        sequence_lens: Fact | None = None,
        initial_h: Fact | None = None,
    ) -> tuple[TensorType, ...]:
        return self.layer(x, w, r, b, sequence_lens, initial_h)

    def kernel(
        self,
        x: np.ndarray,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None = None,
        sequence_lens: np.ndarray | None = None,
        initial_h: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        return self.scan(x, w, r, b, sequence_lens, (initial_h,))


@operator("LSTM", since=1)
class LSTM(_Recurrent):
    """C = f·C' + i·g(c), H = o·h(C), with gates i, o, f = f(x·W' + H'·R' + P·C + b). ONNX LSTM-22.

    Weights are stacked in the order i, o, f, c. The peepholes P of i and f see the cell before the step, that of o
    the one after it. With input_forget the gate f is 1 - i.
    """

    x = operand(FLOAT)
    w = operand(FLOAT)
    r = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    sequence_lens = operand(INTEGER, optional=True)
    initial_h = operand(FLOAT, optional=True)
    initial_c = operand(FLOAT, optional=True)
    p = operand(FLOAT, optional=True)
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    input_forget: int = 0
    layout: int = 0
    gates = 4
    default = ("Sigmoid", "Tanh", "Tanh")
    adapters = _ADAPTERS["LSTM"]

    def infer(
        self,
        x: Fact,
        w: Fact,
        r: Fact,
        b: Fact | None = None,
        sequence_lens: Fact | None = None,
        initial_h: Fact | None = None,
        initial_c: Fact | None = None,
        p: Fact | None = None,
    ) -> tuple[TensorType, ...]:
        expect_one_type(x=x, p=p)
        types = self.layer(x, w, r, b, sequence_lens, initial_h, initial_c)
        shape = types[0].shape or ()
        expect_shape("p", p, (len(_DIRECTIONS[self.direction]), shape[-1] * 3))
        return types

    def kernel(
        self,
        x: np.ndarray,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None = None,
        sequence_lens: np.ndarray | None = None,
        initial_h: np.ndarray | None = None,
        initial_c: np.ndarray | None = None,
        p: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        return self.scan(x, w, r, b, sequence_lens, (initial_h, initial_c), p)

    def cell(self, at: Direction, x: np.ndarray, states: States) -> States:
        before, cell = states
        f, g, h = at.functions
        i, o, forget, c = np.split(x + before @ at.r.T + at.state_bias, 4, axis=1)
        peep_i, peep_o, peep_f = np.split(at.peepholes, 3)
        i = f(self.clipped(i + peep_i * cell))
        forget = 1 - i if self.input_forget else f(self.clipped(forget + peep_f * cell))
        cell = forget * cell + i * g(self.clipped(c))
        o = f(self.clipped(o + peep_o * cell))
        return o * h(cell), cell


@operator("GRU", since=1)
class GRU(_OneState):
    """H = (1 - z)·g(h) + z·H', with h = x·Wh' + (r·H')·Rh' + b and gates z, r = f(x·W' + H'·R' + b). ONNX GRU-22.

    Weights are stacked in the order z, r, h. With linear_before_reset h = x·Wh' + Wbh + r·(H'·Rh' + Rbh).
    """

    x = operand(FLOAT)
    w = operand(FLOAT)
    r = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    sequence_lens = operand(INTEGER, optional=True)
    initial_h = operand(FLOAT, optional=True)
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ()
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = 0
    linear_before_reset: int = 0
    gates = 3
    default = ("Sigmoid", "Tanh")
    adapters = _ADAPTERS["GRU"]

    def cell(self, at: Direction, x: np.ndarray, states: States) -> States:
        (before,) = states
        f, g = at.functions
        both = 2 * before.shape[1]
        state = before @ at.r[:both].T + at.state_bias[:both]
        z, r = np.split(f(self.clipped(x[:, :both] + state)), 2, axis=1)
        if self.linear_before_reset:
            h = x[:, both:] + r * (before @ at.r[both:].T + at.state_bias[both:])
        else:
            h = x[:, both:] + (r * before) @ at.r[both:].T + at.state_bias[both:]
        return ((1 - z) * g(self.clipped(h)) + z * before,)


@operator("RNN", since=1)
class RNN(_OneState):
    """H = f(x·W' + H'·R' + b). ONNX RNN-22."""

    x = operand(FLOAT)
    w = operand(FLOAT)
    r = operand(FLOAT)
    b = operand(FLOAT, optional=True)
    sequence_lens = operand(INTEGER, optional=True)
    initial_h = operand(FLOAT, optional=True)
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    activations: tuple[str, ...] = ("Tanh", "Tanh")
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = 0
    gates = 1
    default = ("Tanh",)
    adapters = _ADAPTERS["RNN"]

    def cell(self, at: Direction, x: np.ndarray, states: States) -> States:
        (before,) = states
        (f,) = at.functions
        return (f(self.clipped(x + before @ at.r.T + at.state_bias)),)


def lstm(
    x: Like,
    w: Like,
    r: Like,
    b: Like | None = None,
    sequence_lens: Like | None = None,
    initial_h: Like | None = None,
    initial_c: Like | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    layout: int = 0,
) -> tuple[Operand, ...]:
    """All hidden states of a layer of long short-term memory, its last hidden state and its last cell; see `LSTM`."""
    op = LSTM(hidden_size=hidden_size, direction=direction, layout=layout)
    return apply_all(op, x, w, r, b, sequence_lens, initial_h, initial_c, results=3)


def gru(
    x: Like,
    w: Like,
    r: Like,
    b: Like | None = None,
    sequence_lens: Like | None = None,
    initial_h: Like | None = None,
    *,
    hidden_size: int,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: bool = False,
) -> tuple[Operand, ...]:
    """All hidden states of a layer of gated recurrent units, and the last; see `GRU`."""
    op = GRU(hidden_size=hidden_size, direction=direction, layout=layout, linear_before_reset=int(linear_before_reset))
    return apply_all(op, x, w, r, b, sequence_lens, initial_h, results=2)
