"""Built-in networks: `zoo:NAME` is a model wherever a file is one. Weights are seeded, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

NETWORKS: Mapping[str, str] = {"lenet5": "lenet", "resnet18": "resnet", "vgg16": "vgg"}  # name: file


def build(name: str, seed: int = 0) -> Graph:
    """The graph of a built-in network with seeded weights.

    Raises:
        UsageError: there is no such network.
    """
    if name not in NETWORKS:
        raise UsageError(f"the zoo has no {name!r}: choose one of {', '.join(sorted(NETWORKS))}")
    module = import_module(f"graphopt.frontends.zoo.{NETWORKS[name]}")
    graph: Graph = getattr(module, name)(seed)
    return graph
