"""The interpreter: precision, liveness, constants, and what it says when it cannot go on."""

import gc
import weakref
from typing import ClassVar

import numpy as np
import pytest

import graphopt.ops  # noqa: F401  # fills the registry
from graphopt.analysis import evaluate as evaluation
from graphopt.analysis.evaluate import has_kernel, needed, reads, run_nodes, widened
from graphopt.errors import TypeRuleError, UsageError
from graphopt.ir.attributes import Attribute, Kind
from graphopt.ir.constant import Constant
from graphopt.ir.dims import symbol
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operator import Opaque
from graphopt.ir.types import TensorType, f16, f32, f64, i64
from graphopt.ops.activation import LeakyRelu, Relu
from graphopt.ops.registry import rooms
from graphopt.ops.room import NoKernelError, Room
from graphopt.runtime.interpreter import Interpreter, without_kernel

N = symbol("N")


class Shape(Room):
    """Shape of a tensor, for tests that must not wait for the real room."""

    name = "TestShape"
    type_only = frozenset({0})

    def infer(self, x):
        return TensorType(i64, (x.rank,))

    def kernel(self, x):
        return np.array(x.shape, np.int64)


class ToFloat(Room):
    """Integers to float32."""

    name = "TestToFloat"

    def infer(self, x):
        return TensorType(f32, x.shape)

    def kernel(self, x):
        return x.astype(np.float32)


class Times(Room):
    """x * y."""

    name = "TestTimes"

    def infer(self, x, y):
        return x.type

    def kernel(self, x, y):
        return x * y


class Floor(Room):
    """Floor as int64."""

    name = "TestFloor"

    def infer(self, x):
        return TensorType(i64, x.shape)

    def kernel(self, x):
        return np.floor(x).astype(np.int64)


class Cast(Room):
    """A cast by declared types; its name is that of the real one, which the evaluation knows."""

    name = "Cast"

    def __init__(self, to):
        object.__setattr__(self, "to", to)

    def infer(self, x):
        return x.type

    def kernel(self, x):
        raise AssertionError("wide float casts are not the kernel's")


class Spy(Room):
    """Passes its operand on, and keeps weak references to what it gives."""

    name = "TestSpy"
    made: ClassVar[list] = []

    def infer(self, x):
        return x.type

    def kernel(self, x):
        result = x + 1
        alive = sum(r() is not None for r in Spy.made)
        Spy.made.append(weakref.ref(result))
        Spy.most = max(Spy.most, alive)
        return result

    most = 0


class TwoResults(Room):
    """x, -x."""

    name = "TestTwo"

    def infer(self, x):
        return x.type, x.type

    def kernel(self, x):
        return x, -x


class Random(Room):
    """A random operator with a kernel that must not be used."""

    name = "TestRandom"

    def infer(self, x):
        return x.type

    def kernel(self, x):
        raise AssertionError("a random operator was evaluated")

    def is_pure(self, *facts):
        return False


def node(graph, op, *operands, type=None, results=1):  # noqa: A002
    made = graph.append(op, list(operands), results)
    for result in made.results:
        graph.set_type(result, type)
    return made.results[0] if results == 1 else made.results


def chain(dtype=f32):
    """LeakyRelu(Relu(x))."""
    graph = Graph()
    x = graph.add_input(Value("x", dtype["N", 3]))
    y = node(graph, Relu(), x, type=x.type)
    z = node(graph, LeakyRelu(alpha=0.1), y, type=x.type)
    graph.set_output(0, z)
    return graph


def test_runs_by_name_and_by_position():
    graph = chain()
    x = np.array([[-1, 2, -3]], np.float32)
    session = Interpreter(graph)
    assert list(session.inputs) == ["x"]
    (name,) = session.outputs
    expected = np.array([[0, 2, 0]], np.float32)
    np.testing.assert_array_equal(session.run({"x": x})[name], expected)
    np.testing.assert_array_equal(session(x), expected)
    np.testing.assert_array_equal(session(x=x), expected)
    assert session(x).dtype == np.float32


def test_several_outputs_come_in_order():
    graph = Graph()
    x = graph.add_input(Value("x", f32[2]))
    a, b = node(graph, TwoResults(), x, type=x.type, results=2)
    graph.set_output(0, b)
    graph.set_output(1, a)
    first, second = Interpreter(graph)(np.array([1, 2], np.float32))
    np.testing.assert_array_equal(first, [-1, -2])
    np.testing.assert_array_equal(second, [1, 2])


def test_floats_are_widened_and_stay_wide():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    third = graph.add_constant(Constant.of(np.array([1 / 3], np.float32)), "third")
    y = node(graph, Times(), x, third, type=x.type)
    z = node(graph, Times(), y, y, type=x.type)
    graph.set_output(0, z)
    given = np.array([0.1], np.float32)
    wide = Interpreter(graph, np.float64)(given)
    assert wide.dtype == np.float64
    product = float(given[0]) * float(np.float32(1 / 3))
    assert wide[0] == product * product
    assert Interpreter(graph)(given).dtype == np.float32


def test_integers_are_not_widened():
    graph = Graph()
    x = graph.add_input(Value("x", i64[1]))
    graph.set_output(0, node(graph, Times(), x, x, type=x.type))
    assert Interpreter(graph, np.float64)(np.array([3])).dtype == np.int64


def test_halves_and_bfloat16_are_widened():
    import ml_dtypes

    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert widened(np.ones(2, dtype), np.float64).dtype == np.float64
    assert widened(np.ones(2, np.complex64), np.float64).dtype == np.complex128
    strings = np.array(["a"], object)
    assert widened(strings, np.float64) is strings


def cast_graph(source, target, declared=True):
    graph = Graph()
    x = graph.add_input(Value("x", source[1]))
    if not declared:
        x = node(graph, Relu(), x)  # a value whose type nobody knows
    graph.set_output(0, node(graph, Cast(target.code), x, type=target[1]))
    return graph


def test_a_narrowing_cast_rounds_on_purpose():
    wide = Interpreter(cast_graph(f32, f16), np.float64)(np.array([0.1], np.float32))
    assert wide.dtype == np.float64
    assert wide[0] == float(np.float16(np.float32(0.1)))


def test_a_cast_to_the_same_or_a_wider_type_keeps_float64():
    x64 = np.array([0.1])
    for source, target in ((f32, f32), (f32, f64), (f16, f32)):
        graph = Graph()
        x = graph.add_input(Value("x", source[1]))
        y = node(graph, Times(), node(graph, Times(), x, x, type=x.type), x, type=x.type)
        graph.set_output(0, node(graph, Cast(target.code), y, type=target[1]))
        given = x64.astype(source.numpy)
        assert Interpreter(graph, np.float64)(given)[0] == float(given[0]) * float(given[0]) * float(given[0])


def test_a_cast_from_an_unknown_type_rounds():
    wide = Interpreter(cast_graph(f32, f16, declared=False), np.float64)(np.array([0.1], np.float32))
    assert wide[0] == float(np.float16(np.float32(0.1)))


def test_shape_arithmetic_keeps_its_own_precision():
    """0.7 in float32 times 10 is 7 in float32 and 6.99999988 in float64."""
    graph = Graph()
    x = graph.add_input(Value("x", TensorType(f32, (N,))))
    shape = node(graph, Shape(), x, type=i64[1])
    extent = node(graph, ToFloat(), shape, type=f32[1])
    ratio = graph.add_constant(Constant.of(np.array([0.7], np.float32)), "ratio")
    scaled = node(graph, Times(), extent, ratio, type=f32[1])
    graph.set_output(0, node(graph, Floor(), scaled, type=i64[1]))
    given = np.zeros(10, np.float32)
    assert Interpreter(graph)(given)[0] == 7
    assert Interpreter(graph, np.float64)(given)[0] == 7


def test_data_with_a_shape_in_it_is_wide():
    graph = Graph()
    x = graph.add_input(Value("x", TensorType(f32, (N,))))
    extent = node(graph, ToFloat(), node(graph, Shape(), x, type=i64[1]), type=f32[1])
    graph.set_output(0, node(graph, Times(), x, extent, type=x.type))
    given = np.array([0.1, 0.2, 0.3], np.float32)
    np.testing.assert_array_equal(Interpreter(graph, np.float64)(given), given.astype(np.float64) * 3)


def test_integers_from_an_input_are_data_not_shapes():
    graph = Graph()
    x = graph.add_input(Value("x", i64[1]))
    y = node(graph, ToFloat(), x, type=f32[1])
    third = graph.add_constant(Constant.of(np.array([1 / 3], np.float32)))
    graph.set_output(0, node(graph, Times(), y, third, type=f32[1]))
    assert Interpreter(graph, np.float64)(np.array([7]))[0] == 7 * float(np.float32(1 / 3))


def test_values_go_after_their_last_reader():
    Spy.made, Spy.most = [], 0
    graph = Graph()
    value = graph.add_input(Value("x", f32[4]))
    for _ in range(6):
        value = node(graph, Spy(), value, type=value.type)
    graph.set_output(0, value)
    Interpreter(graph)(np.zeros(4, np.float32))
    assert Spy.most == 1  # the operand, while its reader computes


def test_a_value_read_again_later_is_kept():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    early = node(graph, Relu(), x, type=x.type)
    late = node(graph, LeakyRelu(), node(graph, Relu(), early, type=x.type), type=x.type)
    graph.set_output(0, node(graph, Times(), early, late, type=x.type))
    assert Interpreter(graph)(np.array([3], np.float32))[0] == 9


def test_captured_values_are_read():
    outer = Graph()
    x = outer.add_input(Value("x", f32[1]))
    y = node(outer, Relu(), x, type=x.type)
    inner = Graph("branch", outer=outer)
    inner.set_output(0, node(inner, Relu(), y, type=x.type))
    branch = Node(Opaque("If", bound={"then_branch": Attribute(Kind.GRAPH, inner)}), [x], 1)
    outer.insert(branch)
    outer.set_output(0, branch.result)
    assert set(reads(branch)) == {x, y}
    assert evaluation._last_reads(list(outer.nodes), {branch.result})[1] == [x, y]
    assert needed(outer, outer.outputs)[0] is y.producer


def test_an_input_that_is_an_output_and_a_value_that_is_two():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    y = node(graph, Relu(), x, type=x.type)
    c = graph.add_constant(Constant.of(np.array([5], np.float32)), "c")
    for i, v in enumerate((x, y, y, c)):
        graph.set_output(i, v)
    results = Interpreter(graph)(np.array([-2], np.float32))
    assert [float(r[0]) for r in results] == [-2, 0, 0, 5]


def test_constants_are_read_when_needed_and_not_kept():
    calls = []

    def recipe():
        calls.append(None)
        array = np.full(3, 2, np.float32)
        return array

    graph = Graph()
    x = graph.add_input(Value("x", f32[3]))
    weight = graph.add_constant(Constant(f32[3], recipe=recipe))
    graph.set_output(0, node(graph, Times(), x, weight, type=x.type))
    session = Interpreter(graph)
    for _ in range(2):
        session(np.ones(3, np.float32))
        gc.collect()
    assert len(calls) == 2


def test_a_mapped_file_is_told_when_a_weight_was_used():
    used = []
    constant = Constant(f32[3], buffer=memoryview(np.full(3, 2, np.float32).tobytes()))
    constant.on_used = lambda: used.append(None)
    graph = Graph()
    x = graph.add_input(Value("x", f32[3]))
    graph.set_output(0, node(graph, Times(), x, graph.add_constant(constant), type=x.type))
    Interpreter(graph)(np.ones(3, np.float32))
    assert used == [None]


def test_an_input_with_a_default_may_be_left_out_or_given():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    w = graph.add_input(Value("w", constant=Constant.of(np.array([3], np.float32))))
    graph.set_output(0, node(graph, Times(), x, w, type=x.type))
    session = Interpreter(graph)
    assert list(session.inputs) == ["x"]
    assert session(np.array([2], np.float32))[0] == 6
    assert session(x=np.array([2], np.float32), w=np.array([5], np.float32))[0] == 10


def test_only_what_the_outputs_need_is_computed():
    graph = chain()
    x = graph.inputs[0]
    graph.append(Opaque("Mystery"), [x], 1, name="unused")
    assert without_kernel(graph) is None
    Interpreter(graph)(np.zeros((1, 3), np.float32))


def test_no_kernel_names_operator_and_node():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    mystery = graph.append(Opaque("Mystery", "my.domain"), [x], 1, name="middle")
    graph.set_output(0, mystery.result)
    assert without_kernel(graph) is mystery
    with pytest.raises(NoKernelError, match=r"my.domain::Mystery.*'middle'"):
        Interpreter(graph)(np.zeros(1, np.float32))


def test_random_operators_are_not_evaluated():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    made = graph.append(Random(), [x], 1, name="dice")
    graph.set_output(0, made.result)
    assert not has_kernel(made)
    with pytest.raises(NoKernelError, match=r"random.*'dice'"):
        Interpreter(graph)(np.zeros(1, np.float32))


def test_a_kernel_that_refuses_names_its_node():
    graph = Graph()
    x = graph.add_input(Value("x", TensorType(f32, (N,))))
    c = graph.add_constant(Constant.of(np.ones(3, np.float32)))
    made = graph.append(Times(), [x, c], 1, name="product")
    graph.set_output(0, made.result)
    with pytest.raises(TypeRuleError, match=r"'product'.*broadcast"):
        Interpreter(graph)(np.zeros(2, np.float32))


def test_a_subgraph_is_refused():
    outer = chain()
    with pytest.raises(UsageError, match="subgraph"):
        Interpreter(Graph("inner", outer=outer))


def test_a_list_of_nodes_on_given_values():
    graph = chain()
    first, second = graph.nodes
    values = {first.operands[0]: np.array([[-1, 2, 3]], np.float32)}
    run_nodes([first, second], values, np.float64)
    assert values[second.result].dtype == np.float64
    np.testing.assert_array_equal(values[second.result], [[0, 2, 3]])
    assert first.result in values
    with pytest.raises(TypeRuleError, match="was not computed"):
        run_nodes([second], {})


def test_constants_among_the_given_values_are_widened_from_their_own_data():
    graph = Graph()
    x = graph.add_input(Value("x", f32[1]))
    c = graph.add_constant(Constant.of(np.array([1 / 3], np.float32)))
    made = graph.append(Times(), [x, c], 1)
    values = {x: np.array([2], np.float32), c: c.constant.array()}
    run_nodes([made], values, np.float64)
    assert values[made.result][0] == 2 * float(np.float32(1 / 3))


def test_scalars_stay_arrays():
    graph = Graph()
    x = graph.add_input(Value("x", TensorType(f32, ())))
    graph.set_output(0, node(graph, Relu(), x, type=x.type))
    result = Interpreter(graph)(np.array(-1, np.float32))
    assert isinstance(result, np.ndarray)
    assert result.shape == ()


def test_every_room_that_declares_a_kernel_takes_its_operands():
    """Operands that may be left out at the end have a default in the kernel."""
    import inspect

    for room in rooms().values():
        if not hasattr(room, "kernel"):
            continue
        parameters = list(inspect.signature(room.kernel).parameters.values())[1:]
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            continue
        optional = {p.name for p in parameters if p.default is not p.empty}
        behind = max((i for i, s in enumerate(room.slots) if not s.optional), default=-1) + 1
        assert {s.name for s in room.slots[behind:]} <= optional, room.name
