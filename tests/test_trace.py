"""The tracer: what the captured graph looks like, and that every mistake is told with the user's own line."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

import graphopt
from graphopt import f32, f64, nn, ops
from graphopt.errors import TypeRuleError, UsageError
from graphopt.ir.graph import Graph
from graphopt.ir.types import TensorType
from graphopt.ir.verifier import verify
from graphopt.nn.init import Draw, Uniform, he_normal
from graphopt.ops.bind import Operand
from graphopt.ops.infer import infer
from graphopt.runtime.interpreter import Interpreter

X = f32["N", 3, 8, 8]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def outputs(graph: Graph) -> list[str]:
    return [v.name for v in graph.outputs]


def operators(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def traced(function: Callable[..., object], **inputs: TensorType) -> Graph:
    graph = graphopt.trace(function, **inputs)  # type: ignore[arg-type]
    verify(graph, lambda n: [i.type for i in infer(n)])
    return graph


# ---- errors name operator, operand, shapes and line

BROKEN: dict[str, tuple[Callable[..., Operand], str]] = {
    "conv_channels": (
        lambda x: ops.conv(x, zeros(4, 2, 3, 3)),
        "Conv(x: f32[N, 3, 8, 8], w: f32[4, 2, 3, 3]): the input has 3 channels and the weight expects 2",
    ),
    "conv_bias": (lambda x: ops.conv(x, zeros(4, 3, 3, 3), zeros(5)), "b: f32[5]): the bias is f32[5]"),
    "add": (
        lambda x: x + zeros(5),
        "Add(a: f32[N, 3, 8, 8], b: f32[5]): the shapes [N, 3, 8, 8], [5] do not broadcast: 8 meets 5",
    ),
    "radd": (lambda x: zeros(5) + x, "Add(a: f32[5], b: f32[N, 3, 8, 8])"),
    "matmul": (lambda x: x @ zeros(3, 3), "MatMul(a: f32[N, 3, 8, 8], b: f32[3, 3])"),
    "gemm": (lambda x: ops.gemm(x, zeros(3, 3)), "Gemm takes matrices"),
    "norm": (lambda x: ops.batch_normalization(x, *[zeros(4)] * 4), "variance: f32[4]): scale is f32[4]"),
    "concat": (
        lambda x: ops.concat(x, x, zeros(1, 3, 9, 8), axis=1),
        "Concat(xs: f32[N, 3, 8, 8], xs: f32[N, 3, 8, 8], xs: f32[1, 3, 9, 8]): the lengths 8, 8, 9 of axis 2 differ",
    ),
    "transpose": (lambda x: ops.transpose(x, (0, 1)), "Transpose(x: f32[N, 3, 8, 8])"),
    "split": (lambda x: ops.split(x, [1, 1], axis=1)[0], "sizes: i64[2]): the parts [1, 1] do not make up axis 1"),
    "reshape": (lambda x: ops.reshape(x, [0, -1, -1]), "one open dim at most"),
    "squeeze": (lambda x: ops.squeeze(x, [1]), "axis 1 of f32[N, 3, 8, 8] is not of length 1"),
    "pool": (lambda x: ops.max_pool(x, kernel_shape=(9, 9)), "a window of 9 does not fit on 8 padded by 0"),
    "softmax": (lambda x: ops.softmax(x, axis=9), "axis 9 is not an axis of f32[N, 3, 8, 8]"),
    "pad": (lambda x: ops.pad(x, [1, 1]), "Pad(x: f32[N, 3, 8, 8], pads: i64[2])"),
    "dtype": (lambda x: ops.gather(x, np.array([0.5])), "Gather's operand 'indices' is f64[1]"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_shape_errors_name_operator_operands_and_line(name: str) -> None:
    function, said = BROKEN[name]
    line = inspect.getsourcelines(function)[1]
    with pytest.raises(TypeRuleError) as caught:
        graphopt.trace(function, x=X)
    assert said in str(caught.value)
    assert str(caught.value).startswith("test_trace.py:")
    assert 0 <= int(str(caught.value).split(":")[1]) - line <= 1


def test_the_line_is_that_of_the_call_also_inside_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv(3, 4, 3)
            self.second = nn.Conv(5, 4, 3)

        def forward(self, x: Operand) -> Operand:
            return self.second(self.first(x))  # here

    lines, start = inspect.getsourcelines(Net)
    here = start + next(i for i, text in enumerate(lines) if "# here" in text)
    with pytest.raises(
        TypeRuleError, match=rf"^test_trace\.py:{here}: Conv\(x: f32\[N, 4, 6, 6\], w: f32\[4, 5, 3, 3\]"
    ):
        graphopt.trace(Net().initialize(), x=X)


def test_a_caught_error_leaves_no_node_behind() -> None:
    def function(x: Operand) -> Operand:
        with pytest.raises(TypeRuleError):
            ops.relu(x) + zeros(5)
        return ops.relu(x)

    graph = traced(function, x=X)
    assert operators(graph) == ["Relu", "Relu"]


def test_truth_of_a_traced_value() -> None:
    def function(x: Operand) -> Operand:
        return ops.relu(x) if x else x

    line = inspect.getsourcelines(function)[1] + 1
    with pytest.raises(UsageError, match=rf"^test_trace\.py:{line}: the truth of a traced value is not known"):
        graphopt.trace(function, x=X)


def test_a_value_of_another_trace() -> None:
    kept: list[Operand] = []

    def keep(x: Operand) -> Operand:
        kept.append(x)
        return x

    graphopt.trace(keep, x=X)
    with pytest.raises(UsageError, match=r"^test_trace\.py:\d+: a value of another trace was used"):
        graphopt.trace(lambda x: x + kept[0], x=X)
    with pytest.raises(UsageError, match="a value of another trace was used"):
        graphopt.trace(lambda x: kept[0], x=X)


def test_an_operator_on_arrays_alone() -> None:
    with pytest.raises(UsageError, match="Relu needs at least one operand that is not a plain array"):
        graphopt.trace(lambda x: ops.relu(zeros(3)), x=X)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: None, "this one gave NoneType"),
        (lambda x: 1, "this one gave int"),
        (lambda x: [], "this one gave an empty list"),
        (lambda x: {}, "this one gave an empty dict"),
        (lambda x: [x, 1], "this one gave list"),
        (lambda x: {"a": x, "b": 1}, "the output 'b' is not a traced value: it is int"),
        (lambda x: {"x": ops.relu(x)}, "the output 'x' has the name of an input"),
    ],
)
def test_what_a_function_may_not_give(given: Callable[..., object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        graphopt.trace(given, x=X)  # type: ignore[arg-type]


def test_inputs_must_fit() -> None:
    with pytest.raises(UsageError, match="at least one input"):
        graphopt.trace(lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match="the input 'x' is given as 3: give a type"):
        graphopt.trace(lambda x: x, x=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not take the inputs z"):
        graphopt.trace(lambda x: x, z=X)
    with pytest.raises(UsageError, match="does not take the inputs x, z"):
        graphopt.trace(nn.ReLU(), x=X, z=X)


# ---- outputs


def test_one_output_is_y() -> None:
    assert outputs(traced(ops.relu, x=X)) == ["y"]


def test_several_outputs_are_numbered_in_order() -> None:
    graph = traced(lambda x: (ops.tanh(x), ops.relu(x)), x=X)
    assert outputs(graph) == ["y0", "y1"]
    assert [v.producer.op.name for v in graph.outputs if v.producer] == ["Tanh", "Relu"]


def test_unnamed_outputs_step_aside_for_inputs() -> None:
    assert outputs(traced(lambda y: ops.tanh(ops.relu(y)), y=X)) == ["y_"]
    assert outputs(traced(lambda y0: (y0, ops.relu(y0)), y0=X)) == ["y0_", "y1"]


def test_a_dict_names_the_outputs() -> None:
    graph = traced(lambda x: {"logits": ops.relu(x), "features": ops.tanh(x)}, x=X)
    assert outputs(graph) == ["logits", "features"]


def test_names_of_outputs_hold_also_where_values_had_them() -> None:
    def function(x: Operand) -> dict[str, Operand]:
        a, b = ops.relu(x), ops.tanh(x)
        return {"Tanh": a, "Relu": b}

    graph = traced(function, x=X)
    assert outputs(graph) == ["Tanh", "Relu"]
    data = np.linspace(-1, 1, 384, dtype=np.float32).reshape(2, 3, 8, 8)
    got = Interpreter(graph).run({"x": data})
    np.testing.assert_array_equal(got["Tanh"], np.maximum(data, 0))
    np.testing.assert_array_equal(got["Relu"], np.tanh(data))


def test_one_value_as_two_outputs() -> None:
    def function(x: Operand) -> tuple[Operand, Operand, Operand]:
        y = ops.relu(x)
        return y, y, y

    graph = traced(function, x=X)
    assert outputs(graph) == ["y0", "y1", "y2"]
    assert operators(graph) == ["Relu", "Identity", "Identity"]


def test_an_input_returned_directly() -> None:
    graph = traced(lambda x: x, x=X)
    assert (outputs(graph), operators(graph)) == (["y"], ["Identity"])
    named = traced(lambda x: {"x": x, "again": x}, x=X)
    assert (outputs(named), operators(named)) == (["x", "again"], ["Identity"])


def test_inputs_keep_order_and_types() -> None:
    graph = traced(lambda b, a: a + b, b=f32["N", 1], a=f32["N", 4])
    assert [(v.name, str(v.type)) for v in graph.inputs] == [("b", "f32[N, 1]"), ("a", "f32[N, 4]")]
    assert str(graph.outputs[0].type) == "f32[N, 4]"


def test_unused_inputs_stay() -> None:
    assert [v.name for v in traced(lambda x, unused: ops.relu(x), x=X, unused=X).inputs] == ["x", "unused"]


def test_results_of_one_node_have_names_of_their_own() -> None:
    graph = traced(lambda x: ops.concat(*ops.split(x, [1, 2], axis=1)[::-1], axis=1), x=X)
    assert [v.name for v in next(iter(graph.nodes)).results] == ["Split.0", "Split.1"]


# ---- arithmetic and constants


def test_arithmetic_with_numbers_both_ways() -> None:
    graph = traced(lambda x: 1 - (2 / (x + 3.5)) * -(x**2), x=f64[4])
    data = np.array([1.0, 2.0, -1.0, 0.5])
    expected = 1 - (2 / (data + 3.5)) * -(data**2)
    np.testing.assert_allclose(Interpreter(graph).run({"x": data})["y"], expected, rtol=1e-15)


@pytest.mark.parametrize("kind", [f32["N", 3], f64["N", 3]])
def test_numbers_take_the_operand_s_element_type(kind: TensorType) -> None:
    graph = traced(lambda x: x * 2 + 0.5, x=kind)
    assert {str(c.type) for c in graph.constants} == {f"{kind.dtype}[]"}
    assert graph.outputs[0].type == kind


def test_names_of_nodes_follow_the_modules() -> None:
    net = nn.Sequential(nn.Conv(3, 4, 3), nn.Sequential(nn.BatchNorm(4), nn.ReLU())).initialize()
    graph = traced(net, x=X)
    assert [n.name for n in graph.nodes] == ["0.Conv", "1.0.BatchNormalization", "1.1.Relu"]
    assert [c.name for c in graph.constants] == [
        *("0.weight", "0.bias"),
        *("1.0.weight", "1.0.bias", "1.0.running_mean", "1.0.running_var"),
    ]
    assert graph.name == "Sequential"


def test_symbolic_dims_are_computed() -> None:
    graph = traced(lambda x: ops.max_pool(x, kernel_shape=(2, 2), strides=(2, 2)), x=f32["N", 3, "H", "W"])
    assert str(graph.outputs[0].type) == "f32[N, 3, (H//2), (W//2)]"


# ---- modules and parameters


class Tied(nn.Module):
    """One convolution used twice, and its weight once more by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv(3, 3, 1)

    def forward(self, x: Operand) -> Operand:
        return self.conv(self.conv(x)) + ops.conv(x, self.conv.weight)


def test_a_parameter_used_often_is_one_constant() -> None:
    graph = traced(Tied().initialize(), x=X)
    assert [c.name for c in graph.constants] == ["conv.weight", "conv.bias"]
    weight = graph.constants[0]
    assert len(weight.uses) == 3
    assert [n.name for n in graph.nodes] == ["conv.Conv", "conv.Conv_1", "Conv", "Add"]


def test_a_module_used_twice_under_two_names_is_one_set_of_parameters() -> None:
    shared = nn.Conv(3, 3, 1)
    graph = traced(nn.Sequential(shared, nn.ReLU(), shared).initialize(), x=X)
    assert len(graph.constants) == 2


def test_a_network_without_data_says_what_to_call() -> None:
    with pytest.raises(UsageError, match=r"call `\.initialize\(seed\)` first"):
        graphopt.trace(nn.Conv(3, 4, 3), x=X)


def test_data_depends_on_seed_and_name_only() -> None:
    def weights(*modules: nn.Module, seed: int = 0) -> dict[str, bytes]:
        net = nn.Sequential(*modules).initialize(seed)
        return {name: p.constant.array().tobytes() for name, p in net.named_parameters()}

    small = weights(nn.Conv(3, 4, 3), nn.BatchNorm(4))
    large = weights(nn.Conv(3, 4, 3), nn.BatchNorm(4), nn.ReLU(), nn.Conv(4, 9, 1))
    assert small.items() <= large.items()
    other = weights(nn.Conv(3, 4, 3), nn.BatchNorm(4), seed=1)
    assert small.keys() == other.keys()
    assert not set(small.values()) & set(other.values())
    twins = weights(nn.Conv(3, 4, 3), nn.Conv(3, 4, 3))
    assert twins["0.weight"] != twins["1.weight"]


def test_data_is_the_same_whenever_it_is_drawn() -> None:
    draw = Draw(7, "a.weight", he_normal, (4, 3, 3, 3))
    assert draw().tobytes() == draw().tobytes()
    assert draw().tobytes() != Draw(7, "b.weight", he_normal, (4, 3, 3, 3))().tobytes()
    assert draw().tobytes() != Draw(8, "a.weight", he_normal, (4, 3, 3, 3))().tobytes()
    uniform = Draw(0, "v", Uniform(0.5, 1.5), (1000,))()
    assert uniform.dtype == np.float32
    assert 0.5 <= uniform.min() < 0.51 < 1.49 < uniform.max() < 1.5


def test_a_traced_module_computes_what_numpy_does() -> None:
    net = nn.Linear(4, 2).initialize()
    graph = traced(net, x=f32["N", 4])
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = data @ np.asarray(net.weight).T + np.asarray(net.bias)
    np.testing.assert_allclose(Interpreter(graph).run({"x": data})["y"], expected, rtol=1e-5)
