"""Puts a node list into a valid order, keeping the file's order wherever it is valid."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TypeAlias

import onnx

from graphopt.errors import ModelError

Versioned: TypeAlias = tuple[onnx.NodeProto, Mapping[str, int]]


def in_order(nodes: Sequence[Versioned], scope: Container[str], visible: Container[str]) -> Iterator[Versioned]:
    """Nodes so that each comes after those whose results it reads, in subgraphs too.

    Raises:
        ModelError: a value that nothing defines, or a cycle.
    """
    makers: dict[str, int] = {}
    for i, (node, _) in enumerate(nodes):
        for name in node.output:
            if name and name in makers:
                raise ModelError(f"the value `{name}` is defined twice, by {_label(nodes[makers[name]][0])} and "
                                 f"{_label(node)}: export the model again")  # fmt: skip
            if name:
                makers[name] = i
    waits: list[int] = [0] * len(nodes)
    readers: dict[int, list[int]] = {}
    for i, (node, _) in enumerate(nodes):
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
        node = nodes[stuck][0]
        raise ModelError(
            f"{_label(node)} depends on its own result `{next(filter(None, node.output), '')}`: the graph "
            "has a cycle; export it again"
        )


def reads(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads, with those that its subgraphs take from outside."""
    names = [n for n in node.input if n]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            names += free_names(graph)
    return names


def free_names(graph: onnx.GraphProto) -> list[str]:
    """Names that a subgraph reads and does not define."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {s.values.name for s in graph.sparse_initializer} | {o for n in graph.node for o in n.output}
    found = [name for node in graph.node for name in reads(node)] + [o.name for o in graph.output]
    return [name for name in dict.fromkeys(found) if name not in own]


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} `{node.name or (node.output[0] if node.output else '')}`"
