"""The zoo: parameter counts as published, weights that hide nothing, the same network every time, and compilation."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.frontends.zoo import NETWORKS, build
from graphopt.ir.graph import Graph
from graphopt.ir.verifier import verify
from graphopt.ops.infer import infer

PARAMETERS = {"lenet5": 61_706, "resnet18": 11_689_512, "vgg16": 138_357_544}
CONVOLUTIONS = {"lenet5": 3, "resnet18": 20, "vgg16": 13}


def learnable(graph: Graph) -> int:
    """Elements of all weights and biases; BN's statistics are buffers."""
    return sum(
        math.prod(v.constant.shape)
        for v in graph.constants
        if v.constant is not None and not v.name.endswith(("running_mean", "running_var"))
    )


def digests(graph: Graph) -> dict[str, str]:
    return {v.name: v.constant.digest() for v in graph.constants if v.constant is not None}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parameters_are_as_published(name: str) -> None:
    graph = graphopt.load(f"zoo:{name}")
    assert learnable(graph) == PARAMETERS[name]
    verify(graph, lambda n: [i.type for i in infer(n)])


def test_every_network_is_counted() -> None:
    assert set(PARAMETERS) == set(NETWORKS)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_batch_is_symbolic_and_the_output_has_a_name(name: str) -> None:
    graph = build(name)
    (x,), (y,) = graph.inputs, graph.outputs
    assert str(x.type).startswith("f32[N, ")
    assert str(y.type) in ("f32[N, 10]", "f32[N, 1000]")
    assert (x.name, y.name) == ("x", "y")


def test_unknown_network_is_told_with_the_choices() -> None:
    with pytest.raises(UsageError, match="lenet5, resnet18, vgg16"):
        graphopt.load("zoo:alexnet9000")


def test_batch_normalization_statistics_are_never_trivial() -> None:
    graph = build("resnet18")
    norms = [n for n in graph.nodes if n.op.name == "BatchNormalization"]
    assert len(norms) == 20
    for node in norms:
        for operand in node.operands[1:]:
            assert operand is not None
            assert operand.constant is not None
            data = operand.constant.array()
            assert data.dtype == np.float32
            assert not np.any(data == 0), operand.name
            assert not np.any(data == 1), operand.name
            assert len(np.unique(data)) > data.size // 2, operand.name
        variance = node.operands[4]
        assert variance is not None
        assert variance.constant is not None
        assert variance.constant.array().min() > 0.4


@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_same_seed_same_network_other_seed_other_weights(name: str) -> None:
    first, again, other = build(name), build(name), build(name, seed=1)
    assert str(first) == str(again)
    assert digests(first) == digests(again)
    assert digests(first).keys() == digests(other).keys()
    assert not set(digests(first).values()) & set(digests(other).values())


def test_weights_stay_the_same_from_version_to_version() -> None:
    # Results that people keep were made with these weights: a change of them is a decision, not an accident.
    body = "".join(f"{n} {d}\n" for n, d in sorted(digests(build("lenet5")).items()))
    assert hashlib.sha256(body.encode()).hexdigest()[:16] == "b6cbe7c85aa6ab26"


def test_vgg16_is_built_without_making_its_weights() -> None:
    graph = build("vgg16")
    assert all(v.constant is not None and v.constant.recipe is not None for v in graph.constants)


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_lenet5_compiles_and_is_verified(target: str, tmp_path: Path) -> None:
    result = graphopt.optimize(graphopt.load("zoo:lenet5"), target=target, check="every")
    assert not result.quarantined
    graphopt.save(result.graph, tmp_path / "lenet5.onnx")
    verification = graphopt.verify("zoo:lenet5", tmp_path / "lenet5.onnx")
    assert verification.equal, str(verification)
    assert len(verification.cases) >= 3


@pytest.mark.parametrize("target", ["portable", "cpu"])
def test_resnet18_compiles_and_is_verified(target: str, tmp_path: Path) -> None:
    result = graphopt.optimize(graphopt.load("zoo:resnet18"), target=target)
    assert not result.quarantined
    assert result.output.operators.get("BatchNormalization", 0) == 0
    graphopt.save(result.graph, tmp_path / "resnet18.onnx")
    verification = graphopt.verify("zoo:resnet18", tmp_path / "resnet18.onnx")
    assert verification.equal, str(verification)
    if target == "portable":
        onnx.checker.check_model(tmp_path / "resnet18.onnx", full_check=True)


def test_target_cpu_leaves_one_node_for_each_conv_bn_relu() -> None:
    result = graphopt.optimize(graphopt.load("zoo:resnet18"), target="cpu")
    operators = dict(result.output.operators)
    assert operators.pop("com.microsoft::FusedConv") + operators.pop("Conv") == CONVOLUTIONS["resnet18"]
    # Three shortcuts end in a sum and have no activation of their own; everything else is one node a convolution.
    assert result.output.operators["Conv"] == 3
    assert set(operators) == {"MaxPool", "GlobalAveragePool", "Flatten", "Gemm"}
    assert result.output.nodes == CONVOLUTIONS["resnet18"] + 4


def test_target_cpu_leaves_no_activation_in_lenet5_and_vgg16() -> None:
    lenet = graphopt.optimize(graphopt.load("zoo:lenet5"), target="cpu").output.operators
    assert lenet["com.microsoft::FusedConv"] == CONVOLUTIONS["lenet5"]
    assert lenet["Tanh"] == 1  # between the fully connected layers
    vgg = graphopt.optimize(graphopt.load("zoo:vgg16"), target="cpu", check="off").output.operators
    assert vgg["com.microsoft::FusedConv"] == CONVOLUTIONS["vgg16"]
    assert vgg["Relu"] == 2


def test_portable_uses_standard_operators_only() -> None:
    for name in NETWORKS:
        result = graphopt.optimize(graphopt.load(f"zoo:{name}"), check="off")
        assert all(n.op.domain == "" for n in result.graph.nodes)
