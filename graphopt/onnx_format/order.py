"""Puts a node list into a valid order, keeping the file's order wherever it is valid."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

import onnx

from graphopt.errors import ModelError


class Versioned(NamedTuple):
    """A node, the opsets that it was written for, and within how many calls of functions it stands."""

    node: onnx.NodeProto
    opsets: Mapping[str, int]
    depth: int = 0


def in_order(nodes: Sequence[Versioned], scope: Container[str], visible: Container[str]) -> Iterator[Versioned]:
    """Nodes so that each comes after those whose results it reads, in subgraphs too.

    Raises:
        ModelError: a value that nothing defines, or a cycle.
    """
    makers: dict[str, int] = {}
    for i, (node, *_) in enumerate(nodes):
        for name in node.output:
            if name and name in makers:
                raise ModelError(f"the value `{name}` is defined twice, by {_label(nodes[makers[name]].node)} and "
                                 f"{_label(node)}: export the model again")  # fmt: skip
            if name:
                makers[name] = i
    waits: list[int] = [0] * len(nodes)
    readers: dict[int, list[int]] = {}
    for i, (node, *_) in enumerate(nodes):
        for name in reads(node):
            maker = makers.get(name)
            if maker is None:
                if name not in scope and name not in visible:
                    raise ModelError(f"{_label(node)} reads `{name}`, which nothing defines: export the model again")
                continue
            waits[i] += 1
            readers.setdefault(maker, []).append(i)
    ready = [i for i, count in enumerate(waits) if count == 0]
    heapq.heapify(ready)
    done = 0
    while ready:
        i = heapq.heappop(ready)
        done += 1
        yield nodes[i]
        for reader in readers.get(i, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if done < len(nodes):
        stuck = next(i for i, count in enumerate(waits) if count > 0)
        node = nodes[stuck].node
        raise ModelError(
            f"{_label(node)} depends on its own result `{next(filter(None, node.output), '')}`: the graph "
            "has a cycle; export it again"
        )


def reads(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads, with those that its subgraphs take from outside."""
    names = [n for n in node.input if n]
    for graph in _held(node):
        names += free_names(graph)
    return names


def _held(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute for g in (*([a.g] if a.HasField("g") else ()), *a.graphs)]


def value_names(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto] | None = None) -> Iterator[str]:
    """The names that a graph, and those within it, give to values; `nodes` take the place of its own."""
    yield from (v.name for v in (*graph.input, *graph.initializer))
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node if nodes is None else nodes:
        yield from node.output
        for inner in _held(node):
            yield from value_names(inner)


def free_names(graph: onnx.GraphProto) -> list[str]:
    """Names that a subgraph reads and does not define."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {s.values.name for s in graph.sparse_initializer} | {o for n in graph.node for o in n.output}
    found = [name for node in graph.node for name in reads(node)] + [o.name for o in graph.output]
    return [name for name in dict.fromkeys(found) if name not in own]


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} `{node.name or (node.output[0] if node.output else '')}`"
