"""All rooms by domain and name. Common families are loaded with `graphopt.ops`, the others when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.errors import TypeRuleError
from graphopt.ir.attributes import Attribute
from graphopt.ir.operator import Opaque, Operator

if TYPE_CHECKING:
    from graphopt.ops.room import Room

_ROOMS: dict[tuple[str, str], type[Room]] = {}
_FORMER: dict[tuple[str, str], type[Room]] = {}  # by names of older opsets

# Modules of `graphopt.ops` that are loaded when one of their operators is met: start-up is a feature.
RARE: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("Mean", "Mod"),
    "bits": ("BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
    "columns": ("Col2Im",),
    "contraction": ("Einsum",),
    "control_flow": ("If", "Loop", "Scan", "SequenceMap"),
    "detection": ("NonMaxSuppression", "RoiAlign"),
    "extent": ("Size",),
    "indexing": ("Compress", "GatherElements", "GatherND", "NonZero", "Unique"),
    "indicator": ("EyeLike", "OneHot"),
    "integer": ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    "logic": (
        "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Where",
        "Xor",
    ),
    "loss": ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
    "microsoft": (
        "com.microsoft::BiasGelu", "com.microsoft::FastGelu", "com.microsoft::FusedGemm", "com.microsoft::FusedMatMul",
        "com.microsoft::Gelu", "com.microsoft::GridSample", "com.microsoft::Inverse", "com.microsoft::QuickGelu",
        "com.microsoft::SkipLayerNormalization", "com.microsoft::Trilu",
    ),
    "multihead": ("Attention", "RotaryEmbedding"),
    "qlinear": (
        "com.microsoft::QLinearAdd", "com.microsoft::QLinearConcat", "com.microsoft::QLinearLeakyRelu",
        "com.microsoft::QLinearMul", "com.microsoft::QLinearSigmoid", "com.microsoft::QLinearSoftmax",
        "com.microsoft::QLinearWhere",
    ),
    "qlinear_pool": (
        "com.microsoft::NhwcMaxPool", "com.microsoft::QLinearAveragePool", "com.microsoft::QLinearGlobalAveragePool",
    ),
    "quantize": (
        "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "com.microsoft::DequantizeLinear",
        "com.microsoft::QuantizeLinear",
    ),
    "quantized_product": (
        "com.microsoft::DynamicQuantizeMatMul", "com.microsoft::MatMulIntegerToFloat", "com.microsoft::MatMulNBits",
        "com.microsoft::QGemm", "com.microsoft::QLinearConv",
    ),
    "rare_activation": (
        "Celu", "Elu", "Gelu", "Mish", "Selu", "Shrink", "Softplus", "Softsign", "Swish", "ThresholdedRelu",
    ),
    "rare_pool": ("GlobalLpPool", "LpPool", "MaxRoiPool", "MaxUnpool"),
    "rearrange": ("CenterCropPad", "DepthToSpace", "ReverseSequence", "SpaceToDepth", "Tile", "Trilu"),
    "recurrent": ("GRU", "LSTM", "RNN"),
    "reductions": (
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd",
        "ReduceSumSquare",
    ),
    "sampling": (
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    ),
    "scatter": ("Scatter", "ScatterElements", "ScatterND", "TensorScatter"),
    "select": ("ArgMax", "ArgMin", "CumProd", "CumSum", "TopK"),
    "sequence": (
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
        "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence",
    ),
    "spectral": ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"),
    "standardize": (
        "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
        "MeanVarianceNormalization", "RMSNormalization",
    ),
    "trigonometry": (
        "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Det", "Round", "Sign", "Sin", "Sinh", "Tan",
    ),
    "warp": ("AffineGrid", "DeformConv", "GridSample"),
}  # fmt: skip
_RARE: Mapping[tuple[str, str], str] = {
    (domain, name): module for module, names in RARE.items() for domain, _, name in (n.rpartition("::") for n in names)
}


def register(cls: type[Room]) -> None:
    """Enter a room; each name once, and only from the modules of `graphopt.ops`."""
    module = cls.__module__
    if not module.startswith("graphopt.ops."):
        raise RuntimeError(f"{cls.name}: rooms are declared in graphopt/ops only")
    if (cls.domain, cls.name) in _ROOMS:
        raise RuntimeError(f"{cls.name} has two rooms")
    _ROOMS[cls.domain, cls.name] = cls
    if cls.formerly is not None:
        _FORMER[cls.domain, cls.formerly[0]] = cls


def load(module: str) -> object:
    """A module of rooms, by its name in `graphopt.ops`."""
    return importlib.import_module(f"graphopt.ops.{module}")


def rooms() -> Mapping[tuple[str, str], type[Room]]:
    """All rooms by (domain, name), the rare ones too."""
    for module in RARE:
        load(module)
    return MappingProxyType(_ROOMS)


def find_room(name: str, domain: str = "") -> type[Room] | None:
    """The room of an operator, or None: it is opaque."""
    found = _ROOMS.get((domain, name))
    if found is None and (module := _RARE.get((domain, name))) is not None:
        load(module)
        found = _ROOMS.get((domain, name))  # a former name has none
    return found


def find_room_of(name: str, domain: str, version: int | None) -> type[Room] | None:
    """The room of a node written for opset `version` of its domain, by the name that the operator had there."""
    found, former = find_room(name, domain), _FORMER.get((domain, name))
    return former if former is not None and version is not None and former.name_at(version) == name else found


def room(name: str, domain: str = "") -> type[Room]:
    """The room of an operator that certainly has one."""
    found = find_room(name, domain)
    if found is None:
        raise KeyError(name)
    return found


def make(domain: str, name: str, attributes: Mapping[str, Attribute]) -> Operator:
    """The operator of that name with its attributes bound; opaque without a room, or when they don't fit it."""
    cls = find_room(name, domain)
    if cls is not None:
        try:
            return cls.of(attributes)
        except TypeRuleError:
            pass
    return Opaque(name, domain, MappingProxyType(dict(attributes)))
