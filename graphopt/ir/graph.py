"""Graphs, nodes and values.

A `Graph` is a list of nodes in a valid order (every operand is defined before it is read) with inputs, outputs
and constants. Nodes may hold subgraphs in their attributes; a node inside one reads outer values directly, and
that counts as a use of the outer value. A graph's output is a use too: its user is the graph.

A new graph is open for building. After `seal()` it changes only inside `with graph.transaction():`, which checks
what changed and undoes everything when an exception passes or a check fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from graphopt.errors import GraphError

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

    from graphopt.ir.constant import Constant
    from graphopt.ir.operator import Operator
    from graphopt.ir.types import Type

_GAP = 1 << 20  # between the positions of neighbours, so that most insertions renumber nothing
OMITTED = "\udc5f"  # the name of a result that the node does not give: a lone surrogate, which no file can hold


class Use(NamedTuple):
    """A reader of a value: node and operand index, or the graph whose output it is and the output's index."""

    user: Node | Graph
    operand: int


class Value:
    """What an edge of the graph carries: the result of a node, an input, or a constant.

    Attributes:
        name: unique among the values visible at one place.
        type: what is known of its type; None for nothing.
        elements: for a small tensor whose contents are known as dims or bools, an object array of them, else None.
        constant: the data of a constant, or the default of an input that a caller may override.
        graph: the graph that defines it; None while detached.
        producer: the node whose result it is, or None; `index` says which result.
    """

    __slots__ = (
        "_disordered",
        "_next_use",
        "_uses",
        "constant",
        "doc",
        "elements",
        "graph",
        "index",
        "metadata",
        "name",
        "producer",
        "type",
    )

    def __init__(self, name: str = "", type: Type | None = None, constant: Constant | None = None) -> None:  # noqa: A002
        self.name = name
        self.type: Type | None = constant.type if constant is not None and type is None else type
        self.constant = constant
        self.elements: np.ndarray | None = None
        self.graph: Graph | None = None
        self.producer: Node | None = None
        self.index = 0
        self.doc = ""
        self.metadata: Mapping[str, str] = MappingProxyType({})
        self._uses: dict[Use, int] = {}  # with a number that grows, so that an undone removal finds its place again
        self._next_use = 0
        self._disordered = False

    @property
    def uses(self) -> tuple[Use, ...]:
        """All readers, in the order in which they began to read."""
        if self._disordered:
            self._uses = dict(sorted(self._uses.items(), key=lambda item: item[1]))
            self._disordered = False
        return tuple(self._uses)

    def _add_use(self, use: Use, number: int | None = None) -> None:
        if number is None:
            number = self._next_use
            self._next_use += 1
        else:
            self._disordered = True
        self._uses[use] = number

    def _drop_use(self, use: Use) -> int:
        return self._uses.pop(use)

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read this value, each once."""
        return tuple(dict.fromkeys(u.user for u in self.uses if isinstance(u.user, Node)))

    @property
    def is_read(self) -> bool:
        """Whether anything reads this value."""
        return bool(self._uses)

    @property
    def is_output(self) -> bool:
        """Whether this value is an output of its graph (or of a subgraph)."""
        return any(isinstance(u.user, Graph) for u in self._uses)

    @property
    def is_input(self) -> bool:
        """Whether this value is an input of its graph."""
        return self.graph is not None and self.producer is None and self in self.graph._inputs

    @property
    def is_constant(self) -> bool:
        """Whether this value always has the data in `constant` (an input's default does not count)."""
        return self.constant is not None and not self.is_input

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type or '?'}"


class Node:
    """One application of an operator. `None` among the operands is an optional operand left out.

    Attributes:
        id: a number that stays the node's own for the graph's life; replaying gives the same numbers.
        origins: names of the source nodes that this node stands for.
    """

    __slots__ = (
        "_next",
        "_operands",
        "_position",
        "_previous",
        "doc",
        "graph",
        "id",
        "metadata",
        "name",
        "op",
        "origins",
        "results",
    )

    def __init__(
        self,
        op: Operator,
        operands: Sequence[Value | None],
        results: Sequence[Value] | int = 1,
        *,
        name: str = "",
        origins: tuple[str, ...] = (),
    ) -> None:
        self.op = op
        self._operands: tuple[Value | None, ...] = tuple(operands)
        self.results: tuple[Value, ...] = (
            tuple(Value() for _ in range(results)) if isinstance(results, int) else tuple(results)
        )
        for i, result in enumerate(self.results):
            result.producer, result.index = self, i
        self.name = name
        self.origins = origins
        self.doc = ""
        self.metadata: Mapping[str, str] = MappingProxyType({})
        self.graph: Graph | None = None
        self.id = -1
        self._previous: Node | None = None
        self._next: Node | None = None
        self._position = 0

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """What the node reads."""
        return self._operands

    @property
    def is_attached(self) -> bool:
        """Whether the node is in a graph that is not a part of something taken out."""
        return self.graph is not None and self.graph.is_attached

    @property
    def gives(self) -> tuple[str, ...]:
        """The names of the results, '' for one that the node does not give."""
        return tuple("" if r.name == OMITTED else r.name for r in self.results)

    @property
    def result(self) -> Value:
        """The first result."""
        return self.results[0]

    @property
    def next(self) -> Node | None:
        """The node after this one in its graph."""
        return self._next

    @property
    def previous(self) -> Node | None:
        """The node before this one in its graph."""
        return self._previous

    @property
    def label(self) -> str:
        """The name to call the node by: its own, or its first named result's, with the operator."""
        return self.name or next((r.name for r in self.results if r.name), "") or str(self.op)

    def precedes(self, other: Node) -> bool:
        """Whether this node stands before `other` in the same graph."""
        return self._position < other._position

    def __repr__(self) -> str:
        return f"<{self.op} {self.label!r}>"


@dataclass(frozen=True)
class ModelInfo:
    """What an ONNX file says about itself, carried through.

    `opsets` maps domains to versions; `functions` are the bytes of model-local functions that were kept;
    `quantization` maps a tensor's name to the bytes of its annotation, `pinned` are the tensors that these name.
    A subgraph has its own `graph_doc`, `graph_metadata`, `quantization` and `pinned`.
    """

    opsets: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"": 21}))
    ir_version: int = 10
    producer: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc: str = ""
    graph_doc: str = ""
    graph_metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    functions: tuple[bytes, ...] = ()
    declared: Mapping[str, Type] = field(default_factory=lambda: MappingProxyType({}))  # the outputs' types
    annotated: bool = True  # whether types of values in the middle are written too
    quantization: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    pinned: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()  # what was odd about the file


_Undo: TypeAlias = Callable[[], None]


class _State:
    """What a graph and its subgraphs share: names that were taken, the id counter, and the open transaction."""

    __slots__ = ("journal", "names", "next_id", "serial", "touched")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.serial: dict[str, int] = {}
        self.next_id = 0
        self.journal: list[_Undo] | None = None
        self.touched: dict[Node | Graph, None] = {}


class Graph:
    """A computational graph, or a subgraph when `outer` is given."""

    def __init__(self, name: str = "graph", info: ModelInfo | None = None, outer: Graph | None = None) -> None:
        self.name = name
        self.info: ModelInfo = info or (outer.info if outer is not None else ModelInfo())
        self.outer = outer
        self.owner: Node | None = None  # the node whose attribute holds this graph
        self._state: _State = outer._state if outer is not None else _State()
        self._sealed = False
        self._inputs: dict[Value, None] = {}
        self._outputs: list[Value] = []
        self._constants: dict[Value, int] = {}  # numbered like uses
        self._next_constant = 0
        self._disordered = False
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0

    # ---- reading

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Inputs in order."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Outputs in order."""
        return tuple(self._outputs)

    @property
    def constants(self) -> tuple[Value, ...]:
        """Constants (initializers) in order."""
        if self._disordered:
            self._constants = dict(sorted(self._constants.items(), key=lambda item: item[1]))
            self._disordered = False
        return tuple(self._constants)

    @property
    def nodes(self) -> Iterator[Node]:
        """This graph's own nodes in order; valid while the graph changes."""
        node = self._first
        while node is not None:
            following = node._next
            yield node
            if node.graph is self:
                node = node._next
                continue
            node = following
            while node is not None and node.graph is not self:  # a detached node still knows what came after it
                node = node._next

    @property
    def root(self) -> Graph:
        """The outermost graph."""
        graph = self
        while graph.outer is not None:
            graph = graph.outer
        return graph

    @property
    def is_attached(self) -> bool:
        """Whether the nodes that hold this graph are still in place; True for a root."""
        graph = self
        while graph.outer is not None:
            if graph.owner is None or graph.owner.graph is None:
                return False
            graph = graph.outer
        return True

    @property
    def is_changing(self) -> bool:
        """Whether a transaction is open."""
        return self._state.journal is not None

    def __len__(self) -> int:
        return self._count

    def walk(self) -> Iterator[Node]:
        """All nodes, those of subgraphs after the node that holds them."""
        stack: list[Iterator[Node]] = [self.nodes]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node
            stack.extend(g.nodes for g in reversed(node.op.graphs))

    def graphs(self) -> Iterator[Graph]:
        """This graph and every subgraph, outer before inner."""
        stack = [self]
        while stack:
            graph = stack.pop()
            yield graph
            inner = [g for node in graph.nodes for g in node.op.graphs]
            stack.extend(reversed(inner))

    def values(self) -> Iterator[Value]:
        """Every value that this graph itself defines: inputs, constants, results."""
        yield from self._inputs
        yield from self.constants
        for node in self.nodes:
            yield from node.results

    def find(self, name: str) -> Value:
        """The value called `name` in this graph.

        Raises:
            GraphError: there is none.
        """
        for value in self.values():
            if value.name == name:
                return value
        raise GraphError(f"the graph {self.name!r} has no value {name!r}")

    def to_networkx(self) -> nx.DiGraph[Node]:
        """The nodes and data edges as a networkx graph; see `graphopt.ir.view`."""
        from graphopt.ir.view import to_networkx

        return to_networkx(self)

    def __str__(self) -> str:
        from graphopt.ir.text import print_graph

        return print_graph(self)

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self)} nodes>"

    # ---- transactions

    def seal(self) -> Graph:
        """End building: from now on the graph changes inside transactions only. Returns the graph."""
        for graph in self.graphs():
            graph._sealed = True
        return self

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Allow changes; check those that were made; undo all of them on an exception or a failed check.

        Raises:
            GraphError: a change broke the graph (undone by then), or transactions were nested.
        """
        state = self._state
        if state.journal is not None:
            raise GraphError("a transaction is already open on this graph")
        state.journal, state.touched, saved_id = [], {}, state.next_id
        try:
            yield
            for changed in state.touched:
                _check(changed)
            for changed in state.touched:
                if isinstance(changed, Node):
                    for inner in changed.op.graphs:
                        inner.seal()
        except BaseException:
            for undo in reversed(state.journal):
                undo()
            state.next_id = saved_id
            raise
        finally:
            state.journal, state.touched = None, {}

    def _log(self, undo: _Undo, *touched: Node | Graph) -> None:
        state = self._state
        if state.journal is not None:
            state.journal.append(undo)
            for changed in touched:
                state.touched[changed] = None
        elif self._sealed:
            raise GraphError("a sealed graph changes only inside `with graph.transaction():`")

    def _must_be_open(self) -> None:
        if self._sealed and self._state.journal is None:
            raise GraphError("a sealed graph changes only inside `with graph.transaction():`")

    # ---- changing

    def fresh_name(self, hint: str = "v") -> str:
        """A value name that is not taken in this graph or its subgraphs: `hint`, or `hint` with a number."""
        state = self._state
        name = hint or "v"
        if name in state.names:
            serial = before = state.serial.get(name, 0)
            while f"{name}_{serial}" in state.names:
                serial += 1
            state.serial[name] = serial + 1
            if state.journal is not None:  # after an undo the same names must come again
                state.journal.append(partial(state.serial.__setitem__, name, before))
            name = f"{name}_{serial}"
        return name

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for values that are still to come: `fresh_name` gives none of them."""
        self._must_be_open()
        self._state.names.update(names)

    def _take_name(self, name: str) -> None:
        state = self._state
        if name not in state.names:
            state.names.add(name)
            if state.journal is not None:
                state.journal.append(partial(state.names.discard, name))

    def _adopt(self, value: Value) -> None:
        value.graph = self
        if not value.name:
            value.name = self.fresh_name()
            if self._state.journal is not None:  # another may have the name when this one comes back
                self._state.journal.append(partial(setattr, value, "name", ""))
        self._take_name(value.name)

    def add_input(self, value: Value) -> Value:
        """Append an input."""
        self._must_be_open()
        self._adopt(value)
        self._inputs[value] = None
        self._log(lambda: self._drop_input(value))
        return value

    def _drop_input(self, value: Value) -> None:
        del self._inputs[value]
        value.graph = None

    def make_constant(self, value: Value) -> None:
        """Turn an input that has a default into a constant: no caller can override it from now on."""
        self._must_be_open()
        if value not in self._inputs or value.constant is None:
            raise GraphError(f"{value!r} is not an input with a default")
        before = dict(self._inputs)
        self.set_type(value, value.constant.type)
        del self._inputs[value]
        self._put_constant(value)

        def undo() -> None:
            self._inputs = before
            del self._constants[value]

        self._log(undo)

    def add_constant(self, value: Value | Constant, name: str = "c") -> Value:
        """Add a constant; a bare `Constant` gets a fresh name from `name`."""
        self._must_be_open()
        if not isinstance(value, Value):
            value = Value(self.fresh_name(name), constant=value)
        if value.constant is None:
            raise GraphError(f"{value!r} has no data")
        self._adopt(value)
        self._put_constant(value)
        added = value
        self._log(lambda: void(self._drop_constant(added)))
        return value

    def _put_constant(self, value: Value) -> None:
        self._constants[value] = self._next_constant
        self._next_constant += 1

    def _drop_constant(self, value: Value) -> int:
        value.graph = None
        return self._constants.pop(value)

    def remove_constant(self, value: Value) -> None:
        """Remove a constant that nobody reads."""
        self._must_be_open()
        if value._uses:
            raise GraphError(f"the constant {value!r} is still read")
        number = self._drop_constant(value)

        def undo() -> None:
            value.graph = self
            self._constants[value] = number
            self._disordered = True

        self._log(undo)

    def append(
        self,
        op: Operator,
        operands: Sequence[Value | None],
        results: Sequence[Value] | int = 1,
        *,
        name: str = "",
        origins: tuple[str, ...] = (),
    ) -> Node:
        """Make a node and put it at the end."""
        return self.insert(Node(op, operands, results, name=name, origins=origins))

    def insert(self, node: Node, before: Node | None = None) -> Node:
        """Attach a detached node (at the end by default); unnamed results get fresh names.

        It may hold subgraphs that another node of this graph holds or held: they are its own from then on.
        """
        self._must_be_open()
        if node.graph is not None:
            raise GraphError(f"{node!r} is in a graph already")
        if before is not None and before.graph is not self:
            raise GraphError(f"{before!r} is not in the graph {self.name!r}")
        numbered = node.id < 0
        if numbered:
            node.id = self._state.next_id
            self._state.next_id += 1
        owners = [(inner, inner.owner) for inner in node.op.graphs]
        self._link(node, before)
        captured = [(value, use) for value, use in captures(node) if use not in value._uses]
        for value, use in captured:
            value._add_use(use)

        def undo() -> None:
            for value, use in captured:
                value._drop_use(use)
            self._unlink(node)
            for inner, owner in owners:
                inner.owner = owner
            if numbered:
                node.id = -1

        self._log(undo, node)
        return node

    def _link(self, node: Node, before: Node | None, numbers: Sequence[int] | None = None) -> None:
        previous = self._last if before is None else before._previous
        node._previous, node._next = previous, before
        if previous is None:
            self._first = node
        else:
            previous._next = node
        if before is None:
            self._last = node
            node._position = (previous._position if previous else 0) + _GAP
        else:
            before._previous = node
            low = previous._position if previous else before._position - 2 * _GAP
            node._position = (low + before._position) // 2
            if node._position == low:
                for i, n in enumerate(self.nodes):
                    n._position = i * _GAP
        node.graph = self
        self._count += 1
        for i, operand in enumerate(node._operands):
            if operand is not None:
                operand._add_use(Use(node, i), None if numbers is None else numbers[i])
        for result in node.results:
            self._adopt(result)
        for inner in node.op.graphs:
            inner.owner = node

    def _unlink(self, node: Node) -> list[int]:
        """Detach a node; the numbers of its uses, to put them back."""
        if node._previous is None:
            self._first = node._next
        else:
            node._previous._next = node._next
        if node._next is None:
            self._last = node._previous
        else:
            node._next._previous = node._previous
        node.graph = None
        self._count -= 1
        numbers = [-1 if o is None else o._drop_use(Use(node, i)) for i, o in enumerate(node._operands)]
        for result in node.results:
            result.graph = None
        return numbers

    def erase(self, node: Node) -> None:
        """Take out a node whose results nobody reads, with the uses that its subgraphs make.

        Raises:
            GraphError: a result is still read, or the node is not in this graph.
        """
        self._must_be_open()
        if node.graph is not self:
            raise GraphError(f"{node!r} is not in the graph {self.name!r}")
        for result in node.results:
            if result._uses:
                raise GraphError(f"{node!r} cannot go: its result {result!r} is still read")
        following = node._next
        captured = [(value, use, value._drop_use(use)) for value, use in captures(node)]
        numbers = self._unlink(node)

        def undo() -> None:
            self._link(node, following, numbers)
            for value, use, number in captured:
                value._add_use(use, number)

        self._log(undo)

    def set_operand(self, node: Node, index: int, value: Value | None) -> None:
        """Let `node` read `value` as its operand `index`."""
        self._must_be_open()
        if node.graph is None:
            raise GraphError(f"{node!r} is not in a graph")
        old = node._operands[index]
        if old is value:
            return
        use = Use(node, index)
        number = -1 if old is None else old._drop_use(use)
        node._operands = (*node._operands[:index], value, *node._operands[index + 1 :])
        if value is not None:
            value._add_use(use)

        def undo() -> None:
            if value is not None:
                value._drop_use(use)
            node._operands = (*node._operands[:index], old, *node._operands[index + 1 :])
            if old is not None:
                old._add_use(use, number)

        self._log(undo, node)

    def set_output(self, index: int, value: Value) -> None:
        """Let `value` be the output `index`; an index one past the end appends."""
        self._must_be_open()
        use = Use(self, index)
        if index == len(self._outputs):
            self._outputs.append(value)
            value._add_use(use)

            def pop() -> None:
                self._outputs.pop()
                value._drop_use(use)

            self._log(pop, self)
            return
        old = self._outputs[index]
        number = old._drop_use(use)
        self._outputs[index] = value
        value._add_use(use)

        def undo() -> None:
            value._drop_use(use)
            self._outputs[index] = old
            old._add_use(use, number)

        self._log(undo, self)

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let everything that reads `old` read `new`, graph outputs and subgraphs included."""
        for user, index in old.uses:
            if isinstance(user, Graph):
                user.set_output(index, new)
            else:
                self.set_operand(user, index, new)

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name."""
        self._must_be_open()
        old = value.name
        value.name = name
        self._take_name(name)
        self._log(lambda: setattr(value, "name", old))

    def hand_over(self, old: Value, new: Value) -> None:
        """Give `new` the name, and what is said, of `old`, which is called `NAME.was` from then on."""
        name, before = old.name, (new.doc, new.metadata)
        self.rename(old, self.fresh_name(name + ".was"))
        self.rename(new, name)
        new.doc, new.metadata = old.doc or new.doc, old.metadata or new.metadata

        def undo() -> None:
            new.doc, new.metadata = before

        self._log(undo)

    def set_type(self, value: Value, type: Type | None, elements: np.ndarray | None = None) -> None:  # noqa: A002
        """Record what is known of a value's type and contents."""
        self._must_be_open()
        old = value.type, value.elements
        value.type, value.elements = type, elements

        def undo() -> None:
            value.type, value.elements = old

        self._log(undo)

    def set_info(self, info: ModelInfo) -> None:
        """Replace what the model says about itself."""
        self._must_be_open()
        old = self.info
        self.info = info
        self._log(lambda: setattr(self, "info", old))


def void(_: object) -> None:
    """Forget a result: an undo gives none."""


def captures(node: Node) -> list[tuple[Value, Use]]:
    """The uses that the subgraphs which a node owns make of values defined outside of them."""
    found: list[tuple[Value, Use]] = []
    for subgraph in node.op.graphs:
        if subgraph.owner is not node:
            continue
        inside = dict.fromkeys(subgraph.graphs())
        for graph in inside:
            reads = [(v, Use(graph, i)) for i, v in enumerate(graph._outputs)]
            reads += [(v, Use(n, i)) for n in graph.nodes for i, v in enumerate(n._operands) if v is not None]
            found += [(value, use) for value, use in reads if value.graph not in inside]
    return found


def _check(changed: Node | Graph) -> None:
    """Everything that an attached node reads, or that is an output, is defined before it, here or outside.

    Raises:
        GraphError: something is not.
    """
    graph = changed.graph if isinstance(changed, Node) else changed
    if graph is None or not _is_attached(graph):
        return
    if isinstance(changed, Graph):
        for value in changed._outputs:
            _check_read(value, changed, None, graph)
        return
    for operand in changed._operands:
        if operand is not None:
            _check_read(operand, changed, changed, graph)
    for value, use in captures(changed):
        _check_read(value, use.user, changed, graph)


def _is_attached(graph: Graph) -> bool:
    """Whether the nodes that hold `graph` are still in place.

    Raises:
        GraphError: no node ever held it, so what it reads would count as read for ever.
    """
    while graph.outer is not None:
        if graph.owner is None:
            raise GraphError(f"the subgraph {graph.name!r} was built, and no node holds it")
        if graph.owner.graph is None:
            return False
        graph = graph.outer
    return True


def _check_read(value: Value, reader: Node | Graph, at: Node | None, scope: Graph | None) -> None:
    """`value` is visible in `scope`, and defined before the node `at` (None: the end of `scope`)."""
    if value.graph is None:
        raise GraphError(f"{reader!r} reads {value!r}, which is not in the graph")
    while scope is not None and scope is not value.graph:
        at, scope = scope.owner, scope.outer
    if scope is None:
        raise GraphError(f"{reader!r} reads {value!r}, which is not visible there")
    if value.producer is not None and at is not None and not value.producer.precedes(at):
        raise GraphError(f"{reader!r} reads {value!r} before it is defined")


def path_of(value: Value) -> str:
    """A name that no other value of the model has: `NODE/GRAPH/NAME` inside of a node's graph, by the node's id."""
    path, graph = value.name, value.graph
    while graph is not None and graph.outer is not None and graph.owner is not None:
        path = f"{graph.owner.id}/{graph.owner.op.graphs.index(graph)}/{path}"
        graph = graph.outer
    return path


class ByName:
    """Finds values by path while a graph changes: a table that is made again when it turns out to be old."""

    def __init__(self, values: Callable[[], Iterable[Value]]) -> None:
        self._values = values
        self._table: dict[str, Value] = {}

    def __call__(self, name: str) -> Value | None:
        """The value that has the path now (see `path_of`); None where none does."""
        found = self._table.get(name)
        if found is None or found.graph is None or path_of(found) != name:
            self._table = {path_of(v): v for v in self._values()}
            found = self._table.get(name)
        return found


def copy_nodes(source: Iterable[Node], target: Graph, mapping: dict[Value, Value]) -> None:
    """Append copies of `source` to `target`; `mapping` takes old values to new and is extended.

    Values that the mapping lacks are read as they are (outer values). Subgraphs are copied with their captures
    rebound. Constants share their data.
    """
    for node in source:
        op = node.op
        if op.graphs:
            op = op.with_graphs(tuple(copy_graph(g, target, mapping) for g in op.graphs))
        copy = Node(
            op,
            [None if o is None else mapping.get(o, o) for o in node._operands],
            [_copy_value(r, mapping) for r in node.results],
            name=node.name,
            origins=node.origins,
        )
        copy.doc, copy.metadata = node.doc, node.metadata
        target.insert(copy)


def copy_graph(source: Graph, outer: Graph | None = None, mapping: dict[Value, Value] | None = None) -> Graph:
    """A copy of `source` that shares constants' data; open for building. Node ids start at 0 in a root."""
    mapping = {} if mapping is None else mapping
    copy = Graph(source.name, source.info, outer)
    for value in source._inputs:
        copy.add_input(_copy_value(value, mapping))
    for value in source.constants:
        copy.add_constant(_copy_value(value, mapping))
    copy_nodes(source.nodes, copy, mapping)
    for i, value in enumerate(source._outputs):
        copy.set_output(i, mapping.get(value, value))
    return copy


def _copy_value(value: Value, mapping: dict[Value, Value]) -> Value:
    copy = Value(value.name, constant=value.constant)
    copy.type = value.type  # which may be None although there is data
    copy.elements, copy.doc, copy.metadata = value.elements, value.doc, value.metadata
    mapping[value] = copy
    return copy
