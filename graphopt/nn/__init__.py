"""Layers with weights: modules to build networks of, in the manner of PyTorch's `nn`."""

from graphopt.nn.layers import BatchNorm, Conv, Linear, ReLU, Tanh
from graphopt.nn.module import Module, Parameter, Sequential

__all__ = ["BatchNorm", "Conv", "Linear", "Module", "Parameter", "ReLU", "Sequential", "Tanh"]
