"""The record of a compilation: what was done at each site, what was not and why, and what it was worth.

A record is plain data with a JSON form (schema: `record.schema.json` beside this file). It is enough to tell every
node's story (`graphopt.rewrite.explain`) and to repeat the compilation without searching (`graphopt.rewrite.replay`).
Nodes have ids: the input's nodes are numbered in order, nodes made by rules go on counting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, cast

from graphopt._version import __version__
from graphopt.analysis.cost import Cost
from graphopt.errors import RecordError

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph, Node
    from graphopt.rewrite.site import FactValue

FORMAT = "graphopt.record"
VERSION = 1

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node as the record knows it. `reads` and `gives` are value names; `scopes` the module path it came from."""

    id: int
    op: str
    name: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    source: str = ""  # the module path that PyTorch's exporter left


@dataclass(frozen=True, slots=True)
class Applied:
    """One rewrite that was made.

    `root` is a node's id, or a value's name for rules on values. `matched` are the ids of all nodes looked at,
    `removed` of those that went, `made` the new nodes, `kept` nodes that were there and now stand for the root;
    `replaced` pairs each value that went with the one that took its place (which has the same name where it is new).
    """

    number: int
    pass_name: str
    rule: str
    cls: str
    root: int | str
    matched: tuple[int, ...]
    removed: tuple[int, ...]
    made: tuple[NodeEntry, ...]
    kept: tuple[int, ...]
    replaced: tuple[tuple[str, str], ...]
    facts: Mapping[str, FactValue]
    saved: Cost
    bytes_added: int
    checked: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """A site that a rule looked at and refused, with the reason and what it was worth."""

    pass_name: str
    rule: str
    root: int | str
    label: str
    reason: str
    worth: Cost

    def __str__(self) -> str:
        return f"{self.rule} at `{self.label}`: {self.reason}"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A rule that raised or failed its check, and was not used again; the reproducer is a folder, '' if none."""

    pass_name: str
    rule: str
    root: int | str
    label: str
    error: str
    reproducer: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and counts of one rule."""

    pass_name: str
    rule: str
    seconds: float
    applied: int
    refused: int


@dataclass(frozen=True)
class Summary:
    """A graph in numbers; `sha256` over its text, weights included, is '' where it was not asked for."""

    nodes: int
    constants: int
    constant_bytes: int
    macs: int
    bytes_moved: int
    operators: Mapping[str, int]
    sha256: str = ""


@dataclass(frozen=True)
class Record:
    """Everything about one compilation."""

    options: Mapping[str, FactValue]
    input: Summary
    output: Summary
    nodes: tuple[NodeEntry, ...]
    remaining: tuple[NodeEntry, ...]
    applied: tuple[Applied, ...] = ()
    missed: tuple[Missed, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    timings: tuple[Timing, ...] = ()
    rounds: int = 0
    notes: tuple[str, ...] = ()
    version: str = field(default=__version__)

    def to_json(self) -> dict[str, Json]:
        """As JSON data that fits the schema."""
        body = cast("dict[str, Json]", asdict(self))
        return {"format": FORMAT, "format_version": VERSION, **body}

    def dumps(self) -> str:
        """As JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"


@cache
def schema() -> dict[str, Json]:
    """The JSON schema of records."""
    from importlib import resources

    text = resources.files(__package__).joinpath("record.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Json]", json.loads(text))


def load_record(text: str, where: str = "the record") -> Record:
    """Read a record.

    Raises:
        RecordError: it is not JSON, does not fit the schema, or was written by a version with another format.
    """
    import jsonschema

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"{where} is not JSON (line {error.lineno}): write it again with --record") from None
    if isinstance(data, dict) and data.get("format") == FORMAT and data.get("format_version") != VERSION:
        raise RecordError(f"{where} has format version {data.get('format_version')}, and this graphopt reads {VERSION}")
    try:
        jsonschema.validate(data, schema())
    except jsonschema.ValidationError as error:
        place = "/".join(map(str, error.absolute_path)) or "top"
        raise RecordError(f"{where} does not fit the record schema at {place}: {error.message}") from None
    return _from_json(data)


def _from_json(data: dict[str, object]) -> Record:
    body = {k: v for k, v in data.items() if k not in ("format", "format_version")}

    def rows(key: str) -> list[dict[str, object]]:
        return cast("list[dict[str, object]]", body[key])

    def entry(row: dict[str, object]) -> NodeEntry:
        return NodeEntry(**{**row, "reads": tuple(row["reads"]), "gives": tuple(row["gives"])})  # type: ignore[arg-type]

    def cost(value: object) -> Cost:
        return Cost(**cast("dict[str, int]", value))

    applied = tuple(
        Applied(
            **{  # type: ignore[arg-type]
                **row,
                "matched": tuple(cast("list[int]", row["matched"])),
                "removed": tuple(cast("list[int]", row["removed"])),
                "kept": tuple(cast("list[int]", row["kept"])),
                "made": tuple(entry(m) for m in cast("list[dict[str, object]]", row["made"])),
                "replaced": tuple((a, b) for a, b in cast("list[list[str]]", row["replaced"])),
                "saved": cost(row["saved"]),
            }
        )
        for row in rows("applied")
    )
    body.update(
        input=Summary(**cast("dict[str, int]", body["input"])),  # type: ignore[arg-type]
        output=Summary(**cast("dict[str, int]", body["output"])),  # type: ignore[arg-type]
        nodes=tuple(map(entry, rows("nodes"))),
        remaining=tuple(map(entry, rows("remaining"))),
        applied=applied,
        missed=tuple(Missed(**{**r, "worth": cost(r["worth"])}) for r in rows("missed")),  # type: ignore[arg-type]
        quarantined=tuple(Quarantined(**r) for r in rows("quarantined")),  # type: ignore[arg-type]
        timings=tuple(Timing(**r) for r in rows("timings")),  # type: ignore[arg-type]
        notes=tuple(cast("list[str]", body["notes"])),
    )
    return Record(**body)  # type: ignore[arg-type]


def entry_of(node: Node) -> NodeEntry:
    """How the record knows a node."""
    return NodeEntry(
        node.id,
        str(node.op),
        node.name,
        tuple(o.name if o is not None else "" for o in node.operands),
        node.gives,
        _source(node),
    )


def _source(node: Node) -> str:
    """The module path in PyTorch's metadata: the innermost scope that names a module."""
    scopes = node.metadata.get("pkg.torch.onnx.name_scopes", "")
    names = [s.strip(" '\"") for s in scopes.strip("[]").split(",")]
    return names[-2] if len(names) > 1 and not names[-2].startswith("_empty") else ""


def summarize(graph: Graph, *, digest: bool = False) -> Summary:
    """A graph in numbers; hashing reads every weight."""
    from graphopt.analysis.cost import constant_bytes, total

    cost = total(graph)
    operators: dict[str, int] = {}
    for node in graph.walk():
        operators[str(node.op)] = operators.get(str(node.op), 0) + 1
    return Summary(
        nodes=cost.nodes,
        constants=sum(len(g.constants) for g in graph.graphs()),
        constant_bytes=constant_bytes(graph),
        macs=cost.macs,
        bytes_moved=cost.bytes,
        operators=dict(sorted(operators.items())),
        sha256=graph_digest(graph) if digest else "",
    )


def graph_digest(graph: Graph) -> str:
    """SHA-256 over the graph's text, in which large constants stand by digest."""
    import hashlib

    return hashlib.sha256(str(graph).encode()).hexdigest()
