"""Activations beside ONNX Runtime."""

import numpy as np

from graphopt.ops.activation import Relu
from ops.harness import check, normal


def test_relu():
    check(Relu(), [normal(2, 3)])
    check(Relu(), [np.array([np.nan, -0.0, 1, -1, np.inf, -np.inf], np.float32)], exact=True)
