"""Inlines model-local functions: each call becomes the function's nodes, with attributes handed down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import onnx

from graphopt.errors import ModelError
from graphopt.onnx_format.order import Versioned

FunctionKey: TypeAlias = tuple[str, str, str]  # domain, name, overload
MAX_DEPTH = 64  # calls within calls; ONNX forbids recursion
MAX_CALLS = 200_000  # a few small functions that call each other twice and more would fill any memory


def expand(
    nodes: Iterable[onnx.NodeProto],
    functions: Mapping[FunctionKey, onnx.FunctionProto],
    opsets: Mapping[str, int],
) -> list[Versioned]:
    """The nodes with every call replaced by the function's body, each with the opsets that it was written for.

    Raises:
        ModelError: functions that call each other in a circle, or lack an attribute.
    """
    if not functions:
        return [(node, opsets) for node in nodes]
    return _Inliner(functions).run(list(nodes), opsets, 0)


class _Inliner:
    def __init__(self, functions: Mapping[FunctionKey, onnx.FunctionProto]) -> None:
        self.functions = functions
        self.calls = 0

    def run(self, nodes: list[onnx.NodeProto], opsets: Mapping[str, int], depth: int) -> list[Versioned]:
        if depth > MAX_DEPTH:
            raise ModelError("functions call each other in a circle: export the model again")
        expanded: list[Versioned] = []
        for node in nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            function = self.functions.get((domain, node.op_type, node.overload))
            if function is not None:
                expanded += self.call(node, function, depth)
                continue
            holds_graphs = any(a.HasField("g") or a.graphs for a in node.attribute)
            expanded.append((self.inside(node, opsets, depth) if holds_graphs else node, opsets))
        return expanded

    def inside(self, node: onnx.NodeProto, opsets: Mapping[str, int], depth: int) -> onnx.NodeProto:
        """The node with calls in its subgraphs expanded (their bodies must be of the model's own opsets)."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for graph in graphs:
                body = self.run(list(graph.node), opsets, depth + 1)
                if any(version != opsets for _, version in body):
                    raise ModelError(
                        f"{node.op_type} `{node.name}` holds a function of another opset in a subgraph: "
                        "leave the functions as they are with --keep-functions"
                    )
                del graph.node[:]
                graph.node.extend(n for n, _ in body)
        return copy

    def call(self, node: onnx.NodeProto, function: onnx.FunctionProto, depth: int) -> list[Versioned]:
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ModelError(
                f"its functions make more than {MAX_CALLS:,} calls when they are inlined: export the model "
                "again, or leave them as they are with --keep-functions"
            )
        prefix = f"{node.name or function.name}.{self.calls}/"
        names = dict(zip(function.input, node.input, strict=False))
        names.update((missing, "") for missing in function.input[len(node.input) :])
        names.update((inner, outer) for inner, outer in zip(function.output, node.output, strict=False) if outer)
        given = {a.name: a for a in node.attribute}
        given = {**{a.name: a for a in function.attribute_proto if a.name not in given}, **given}
        body = [_instance(n, names, given, prefix) for n in function.node]
        opsets = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in function.opset_import}
        passed = {i: o for i, o in zip(function.output, node.output, strict=False) if i in set(function.input) and o}
        body += [
            onnx.helper.make_node("Identity", [dict(zip(function.input, node.input, strict=False))[i]], [o])
            for i, o in passed.items()
        ]
        return self.run(body, opsets, depth + 1)


def _instance(
    node: onnx.NodeProto, names: dict[str, str], given: Mapping[str, onnx.AttributeProto], prefix: str
) -> onnx.NodeProto:
    """A copy of a body's node with the caller's names and attributes."""

    def renamed(name: str) -> str:
        if not name:
            return ""
        return names.setdefault(name, prefix + name)

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + node.name if node.name else ""
    copy.input[:] = [renamed(n) for n in node.input]
    copy.output[:] = [renamed(n) for n in node.output]
    kept = []
    for attribute in copy.attribute:
        if attribute.ref_attr_name:
            source = given.get(attribute.ref_attr_name)
            if source is None:
                continue  # left out by the caller: the operator's own default holds
            bound = onnx.AttributeProto()
            bound.CopyFrom(source)
            bound.name = attribute.name
            kept.append(bound)
            continue
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            _rename_inside(graph, names, given, prefix)
        kept.append(attribute)
    del copy.attribute[:]
    copy.attribute.extend(kept)
    return copy


def _rename_inside(
    graph: onnx.GraphProto, names: dict[str, str], given: Mapping[str, onnx.AttributeProto], prefix: str
) -> None:
    local = dict(names)
    for value in (*graph.input, *graph.initializer):
        local[value.name] = prefix + value.name
        value.name = local[value.name]
    body = [_instance(n, local, given, prefix) for n in graph.node]
    del graph.node[:]
    graph.node.extend(body)
    for output in graph.output:
        output.name = local.get(output.name, prefix + output.name)
    for info in graph.value_info:
        info.name = local.get(info.name, prefix + info.name)
