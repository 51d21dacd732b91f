"""LSTM, GRU and RNN beside ONNX Runtime; with the batch first, which it lacks, beside onnx's reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import OpsetError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.dims import symbol
from graphopt.ir.types import TensorType, f32, i32
from graphopt.onnx_format.opset import downgrade
from graphopt.ops.recurrent import GRU, LSTM, RNN
from graphopt.ops.room import Fact, NoKernelError, Step
from ops.harness import check, check_old, compute, normal, refuses, run_ort, run_reference
from ops.harness import inferred as inferred_types

ROOMS = (LSTM, GRU, RNN)
RESULTS = {LSTM: 3, GRU: 2, RNN: 2}
STEPS = 1024  # ulps: a sequence hands its rounding on
SMOOTH = ("Relu", "Tanh", "Sigmoid", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Softplus")
SCALED = ("Affine", "ScaledTanh", "ThresholdedRelu")
N, S = symbol("N"), symbol("S")


def small(*shape, seed=0):
    return normal(*shape, seed=seed) * np.float32(0.5)


@st.composite
def layers(draw, room, lengths=True):
    """Attributes, and operands of which the optional ones are there or not."""
    steps, batch, inputs, hidden = (draw(st.integers(1, most)) for most in (4, 3, 3, 4))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count = 1 + (direction == "bidirectional")
    arrays = [
        small(steps, batch, inputs),
        small(count, room.gates * hidden, inputs, seed=1),
        small(count, room.gates * hidden, hidden, seed=2),
        small(count, 2 * room.gates * hidden, seed=3),
        np.array(draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)), np.int32),
        *(small(count, batch, hidden, seed=4 + i) for i in range(RESULTS[room] - 1)),
        *([small(count, 3 * hidden, seed=6)] if room is LSTM else []),
    ]
    arrays = [a if i < 3 or ((i != 4 or lengths) and draw(st.booleans())) else None for i, a in enumerate(arrays)]
    attributes = {"hidden_size": hidden, "direction": direction}
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.125, 0.5, 1.0]))
    flag = {LSTM: "input_forget", GRU: "linear_before_reset"}.get(room)
    if flag is not None and draw(st.booleans()):
        attributes[flag] = 1
    return attributes, arrays


@st.composite
def activated(draw, room):
    """A layer with other activations; those without defaults get their parameters."""
    attributes, arrays = draw(layers(room))
    count = len(room.default) * (2 if attributes["direction"] == "bidirectional" else 1)
    parameters = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(SMOOTH + SCALED * parameters), min_size=count, max_size=count))
    attributes["activations"] = tuple(names)
    if parameters:
        eighths = st.lists(st.integers(1, 7).map(lambda n: n / 8), min_size=count, max_size=count)
        attributes |= {"activation_alpha": tuple(draw(eighths)), "activation_beta": tuple(draw(eighths))}
    return attributes, arrays


@pytest.mark.parametrize("room", ROOMS)
@settings(deadline=None)
@given(st.data(), st.sampled_from([14, 22, 26]), st.booleans())
def test_layers(room, data, opset, constant):
    attributes, arrays = data.draw(layers(room))
    constants = [i for i in (1, 2, 3) if arrays[i] is not None] if constant else []
    check(room(**attributes), arrays, opset=opset, constants=constants, results=RESULTS[room], ulps=STEPS)


@pytest.mark.parametrize("room", ROOMS)
@settings(deadline=None)
@given(st.data())
def test_activations(room, data):
    attributes, arrays = data.draw(activated(room))
    check(room(**attributes), arrays, results=RESULTS[room], ulps=8 * STEPS)


@pytest.mark.parametrize("room", ROOMS)
@settings(deadline=None, max_examples=30)
@given(st.data(), st.sampled_from([7, 13, 14, 21]))
def test_layers_of_old_opsets(room, data, opset):
    attributes, arrays = data.draw(layers(room))
    check_old(room.name, arrays, attributes, opset, constants=(1, 2), results=RESULTS[room], ulps=STEPS)


@pytest.mark.parametrize("room", ROOMS)
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_layers_with_the_batch_first(room, data):
    """The reference knows neither lengths nor clip nor the flags of LSTM; a lone result comes without a state."""
    attributes, arrays = data.draw(layers(room, lengths=False))
    kept = {k: v for k, v in attributes.items() if k not in ("clip", "input_forget")}
    arrays = [a if a is None or i not in (0, 5, 6) else a.swapaxes(0, 1) for i, a in enumerate(arrays)]
    op = room(layout=1, **kept)
    check(op, arrays, results=RESULTS[room], ulps=STEPS, run=run_reference)


@pytest.mark.parametrize("room", ROOMS)
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_batch_first_is_the_same_layer(room, data):
    attributes, arrays = data.draw(layers(room))
    plain = compute(room(**attributes), arrays)
    arrays = [a if a is None or i not in (0, 5, 6) else a.swapaxes(0, 1) for i, a in enumerate(arrays)]
    y, *last = compute(room(layout=1, **attributes), arrays)
    np.testing.assert_array_equal(y, plain[0].transpose(2, 0, 1, 3))
    for state, other in zip(last, plain[1:], strict=True):
        np.testing.assert_array_equal(state, other.swapaxes(0, 1))


@pytest.mark.parametrize("room", ROOMS)
def test_half_precision(room):
    arrays = [small(3, 2, 4), small(1, room.gates * 3, 4, seed=1), small(1, room.gates * 3, 3, seed=2)]
    op = room(hidden_size=3)
    check(op, [a.astype(np.float16) for a in arrays], results=RESULTS[room], ulps=2)


def test_not_a_number_stays_in_its_sequence():
    x = small(3, 2, 4)
    x[1, 0, 2] = np.nan
    for room in ROOMS:
        y, *last = compute(room(hidden_size=3), [x, small(1, room.gates * 3, 4), small(1, room.gates * 3, 3)])
        assert np.isnan(y[1:, 0, 0]).all()
        assert not np.isnan(y[:, 0, 1]).any()
        assert all(np.isnan(s[0, 0]).all() and not np.isnan(s[0, 1]).any() for s in last)


@pytest.mark.parametrize("room", ROOMS)
def test_no_steps(room):
    """A sequence of no steps ends in zeros, whatever it began with, as ONNX Runtime has it."""
    arrays = [small(2, 2, 1), small(1, room.gates, 1), small(1, room.gates, 1), None, np.array([0, 2], np.int32)]
    arrays.append(small(1, 2, 1) + np.float32(3))
    _, last, *_ = check(room(hidden_size=1), arrays, results=RESULTS[room])
    assert last[0, 0, 0] == 0
    empty = [arrays[0][:0], *arrays[1:4], None, arrays[5]]
    y, last, *_ = compute(room(hidden_size=1), empty)
    assert y.shape == (0, 1, 2, 1)
    assert not last.any()


def test_parameters_go_to_the_functions_that_take_some():
    arrays = [small(2, 1, 3), small(2, 4, 3), small(2, 4, 4)]
    names = ("Tanh", "LeakyRelu")
    op = RNN(hidden_size=4, direction="bidirectional", activations=names, activation_alpha=(0.5,))
    check(op, arrays, results=2, ulps=STEPS)
    assert run_ort("RNN", dict(zip("xwr", arrays, strict=True)), op.attributes)[0].shape == (2, 2, 1, 4)


@pytest.mark.parametrize("name", SCALED)
def test_parameters_without_a_default(name):
    """ONNX Runtime takes 0; ONNX's text refers to operators of these names, which have 1 or no default."""
    op = RNN(hidden_size=4, activations=(name,))
    with pytest.raises(NoKernelError, match=f"the parameters of the activation {name} are not given"):
        compute(op, [small(2, 1, 3), small(1, 4, 3), small(1, 4, 4)])


# Types


def test_types():
    x, w, r = Fact(f32["S", "N", 5]), Fact(f32[2, 16, 5]), Fact(f32[2, 16, 4])
    op = LSTM(hidden_size=4, direction="bidirectional")
    assert inferred_types(op, x, w, r) == (f32["S", 2, "N", 4], f32[2, "N", 4], f32[2, "N", 4])
    assert op.macs((x, w, r), (f32[2],)) == S * N * (2 * 16 * 9)
    first = LSTM(hidden_size=4, direction="bidirectional", layout=1)
    assert inferred_types(first, Fact(f32["N", "S", 5]), w, r) == (f32["N", "S", 2, 4], f32["N", 2, 4], f32["N", 2, 4])
    gru = GRU()
    assert inferred_types(gru, x, Fact(f32[1, 12, 5]), Fact(f32[1, 12, 4])) == (f32["S", 1, "N", 4], f32[1, "N", 4])
    unknown = Fact(TensorType(f32, None))
    y, last = inferred_types(gru, unknown, Fact(f32[1, 12, 5]), unknown, None, Fact(i32["N"]))
    assert y.shape[1:] == (1, N, 4)
    assert last == f32[1, "N", 4]
    assert (
        inferred_types(RNN(hidden_size=3), unknown, unknown, unknown, None, None, Fact(f32[1, 7, 3]))[1] == f32[1, 7, 3]
    )


def test_refusals():
    x, w, r = normal(3, 2, 5), normal(1, 12, 5), normal(1, 12, 4)
    refuses(GRU(direction="back"), [x, w, r], "direction is 'back', and it is one of forward, reverse, bidirectional")
    refuses(GRU(direction="bidirectional"), [x, w, r], r"w is f32\[1, 12, 5\], and its shape must be \[2, 12, 5\]")
    refuses(GRU(hidden_size=5), [x, w, r], r"must be \[1, 15, 5\]")
    refuses(GRU(hidden_size=-1), [x, w, r], "hidden_size is -1")
    refuses(GRU(), [x, normal(1, 12, 6), r], r"must be \[1, 12, 5\]")
    refuses(GRU(), [normal(3, 5), w, r], r"x is f32\[3, 5\]")
    refuses(GRU(), [x, w, r, normal(1, 12)], r"b is f32\[1, 12\], and its shape must be \[1, 24\]")
    refuses(GRU(), [x, w, r, None, np.zeros(3, np.int32)], r"sequence_lens is i32\[3\], and its shape must be \[2\]")
    refuses(GRU(), [x, w, r, None, None, normal(2, 1, 4)], r"initial_h is .* must be \[1, 2, 4\]")
    refuses(GRU(layout=1), [x, w, r, None, None, normal(1, 2, 4)], r"initial_h is .* must be \[3, 1, 4\]")
    refuses(GRU(layout=2), [x, w, r], "layout is 2")
    refuses(GRU(clip=0.0), [x, w, r], "clip is 0.0, and it must be positive")
    refuses(GRU(activations=("Sigmoid",)), [x, w, r], r"activations are \['Sigmoid'\], and 2 are needed")
    refuses(GRU(activations=("Sigmoid", "Sin")), [x, w, r], "there is no activation 'Sin'")
    refuses(GRU(), [x, w, r.astype(np.float64)], "they must have one element type")
    lstm = [x, normal(1, 16, 5), normal(1, 16, 4), None, None, None, None]
    refuses(LSTM(), [*lstm, normal(1, 16)], r"p is f32\[1, 16\], and its shape must be \[1, 12\]")
    with pytest.raises(NoKernelError, match=r"sequence_lens are \[4, 1\], and there are 3 steps"):
        compute(GRU(), [x, w, r, None, np.array([4, 1], np.int32)])


@pytest.mark.parametrize("room", ROOMS)
def test_the_batch_first_needs_opset_14(room):
    step = Step({"layout": Attribute(Kind.INT, 1)}, ("x", "w", "r"), ("y",), ())
    with pytest.raises(OpsetError, match=f"{room.name} with layout=1 needs opset 14"):
        downgrade(room(layout=1), step, 13)
