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


class Inliner:
    """Replaces calls by the bodies of a model's functions, each time under names that nothing else in the model has.

    Args:
        functions: by domain, name and overload.
        taken: the names of the model's values and nodes.
    """

    def __init__(self, functions: Mapping[FunctionKey, onnx.FunctionProto], taken: Iterable[str] = ()) -> None:
        self.functions = functions
        self._prefixes = {name[: i + 1] for name in taken for i, c in enumerate(name) if c == "/"}
        self._calls = 0

    def expand(self, nodes: Iterable[onnx.NodeProto], opsets: Mapping[str, int], depth: int = 0) -> list[Versioned]:
        """The nodes of one graph with their calls replaced; each with the opsets that it was written for.

        Calls in the subgraphs of a node are left: they are replaced when the subgraph is read.

        Raises:
            ModelError: functions that call each other in a circle.
        """
        if not self.functions:
            return [Versioned(node, opsets, depth) for node in nodes]
        if depth > MAX_DEPTH:
            raise ModelError("functions call each other in a circle: export the model again")
        expanded: list[Versioned] = []
        for node in nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            function = self.functions.get((domain, node.op_type, node.overload))
            if function is None:
                expanded.append(Versioned(node, opsets, depth))
            else:
                expanded += self._call(node, function, depth)
        return expanded

    def _prefix(self, name: str) -> str:
        while True:
            self._calls += 1
            if self._calls > MAX_CALLS:
                raise ModelError(
                    f"its functions make more than {MAX_CALLS:,} calls when they are inlined: export the model "
                    "again, or leave them as they are with --keep-functions"
                )
            prefix = f"{name}.{self._calls}/"
            if prefix not in self._prefixes:
                return prefix

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, depth: int) -> list[Versioned]:
        prefix = self._prefix(node.name or function.name)
        names = dict(zip(function.input, node.input, strict=False))
        names.update((missing, "") for missing in function.input[len(node.input) :])
        results = [(i, o) for i, o in zip(function.output, node.output, strict=False) if o]
        passed = [(names[i], o) for i, o in results if i in names]
        names.update((i, o) for i, o in results if i not in names)
        given = {**{a.name: a for a in function.attribute_proto}, **{a.name: a for a in node.attribute}}
        body = [_instance(n, names, given, prefix) for n in function.node]
        body += [onnx.helper.make_node("Identity", [i], [o]) for i, o in passed]
        opsets = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in function.opset_import}
        return self.expand(body, opsets, depth + 1)


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
    for value in (*graph.input, *graph.initializer, *(t.values for t in graph.sparse_initializer)):
        local[value.name] = prefix + value.name
        value.name = local[value.name]
    local.update((o, prefix + o) for n in graph.node for o in n.output if o)
    body = [_instance(n, local, given, prefix) for n in graph.node]
    del graph.node[:]
    graph.node.extend(body)
    for output in graph.output:
        output.name = local.get(output.name, prefix + output.name)
    for info in graph.value_info:
        info.name = local.get(info.name, prefix + info.name)
