"""docs/coverage.md: every ONNX operator, what graphopt knows of it, and what the node tests of the onnx package show.

    python tests/coverage.py            # print the page
    python tests/coverage.py --write    # write docs/coverage.md

The refusals are those of all node tests of the installed onnx package that ONNX Runtime runs, each taken to every
opset around which a definition of its operators changes, and to the newest.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

import backend
import onnx.defs

from graphopt.onnx_format.opset import OLDEST
from graphopt.ops.registry import find_room_of, rooms
from graphopt.ops.room import NEWEST, Room

PAGE = Path(__file__).resolve().parent.parent / "docs" / "coverage.md"
RUNTIME_LACKS = "ONNX Runtime: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED"  # a kernel at that opset, not graphopt


@dataclass
class Sweep:
    """What the node tests showed: how many ran at how many opsets, refusals, faults, and what the runtime lacks."""

    cases: int = 0
    runs: int = 0
    equal: int = 0
    refusals: set[str] = field(default_factory=set)
    refused: int = 0
    lacking: list[str] = field(default_factory=list)
    faults: list[backend.Outcome] = field(default_factory=list)
    tests: Counter[str] = field(default_factory=Counter)  # by operator


def sweep(folder: Path) -> Sweep:
    """Take every node test to every opset that matters."""
    found = Sweep()
    for case in backend.node_cases():
        outcomes = list(backend.moved(case, folder))
        if backend.reference(case) is not None:
            found.tests.update({n.op_type for n in case.model.graph.node})
        found.cases += bool(outcomes)
        for outcome in outcomes:
            found.runs += 1
            if outcome.refusal:
                found.refused += 1
                found.refusals.add(general(outcome.refusal))
            elif outcome.fault.startswith(RUNTIME_LACKS):
                found.lacking.append(f"{outcome.case} at opset {outcome.way}")
            elif outcome.fault:
                found.faults.append(outcome)
            else:
                found.equal += 1
    return found


def general(refusal: str) -> str:
    """A refusal without what belongs to one test: the node's name, numbers of attributes, the opset asked for."""
    text = re.sub(r"^[\w.:]+ `.*?`: ", "", refusal)
    text = re.sub(r"=(\([^)]*\)|\[[^]]*\]|-?[\d.]+(e-?\d+)?)(?= )", "", text)
    return re.sub(r": opset \d+ defines it otherwise.*", "", text)


def listed_refusals() -> set[str]:
    """The refusals that the page lists."""
    part = PAGE.read_text(encoding="utf-8").split("## Refusals", 1)[1]
    return set(re.findall(r"^- (.*)$", part, re.MULTILINE))


def is_documented_version() -> bool:
    """Whether the installed packages are those that the page was made with."""
    return versions() in PAGE.read_text(encoding="utf-8")


def versions() -> str:
    """The packages that matter here, with their versions."""
    runtime = next(v for name in ("onnxruntime-gpu", "onnxruntime") if (v := _version(name)))
    return f"onnx {version('onnx')} and ONNX Runtime {runtime}"


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _definitions() -> dict[tuple[str, str], list[int]]:
    """The versions of every operator's definition up to the newest opset, by domain and name."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain != "" or schema.since_version <= NEWEST:
            found[schema.domain, schema.name].append(schema.since_version)
    return {key: sorted(v) for key, v in sorted(found.items()) if not key[0].startswith("ai.onnx.preview")}


def room_of(domain: str, name: str, numbers: list[int]) -> type[Room] | None:
    """The room that holds an operator, under its own name or the one that took its place."""
    found = (find_room_of(name, domain, version) for version in numbers)
    return rooms().get((domain, name)) or next(filter(None, found), None)


def table(tests: Counter[str]) -> Iterable[str]:
    """One line for each operator."""
    yield "| operator | here | opsets that define it | traits | kernel | node tests |"
    yield "|---|---|---|---|---|--:|"
    definitions = dict(_definitions())
    definitions.update({key: [1] for key in rooms() if key not in definitions})
    for (domain, name), numbers in definitions.items():
        room = room_of(domain, name, numbers)
        what = "opaque" if room is None else "room" if room.name == name else f"room of {room.name}"
        traits = ", ".join(sorted(t.name.lower().replace("_", " ") for t in room.traits)) if room else ""
        kernel = "yes" if room and (hasattr(room, "kernel") or hasattr(room, "run")) else ""
        shown = f"{domain}::{name}" if domain else name
        yield f"| {shown} | {what} | {', '.join(map(str, numbers))} | {traits} | {kernel} | {tests[name] or ''} |"


def page(found: Sweep) -> str:
    """The whole page."""
    known = [key for key, v in _definitions().items() if room_of(*key, v)]
    own = [key for key in _definitions() if key[0] == ""]
    held = sum(key[0] == "" for key in known)
    foreign = sum(key[0] != "" for key in rooms())
    lacking = f"ONNX Runtime itself has no kernel for {len(found.lacking)}: {', '.join(found.lacking)}."
    lines = [
        "# Coverage",
        "",
        f"Made by `python tests/coverage.py --write` with {versions()}. A *room* is graphopt's",
        "definition of an operator: its type rule, traits, cost and adapters between opsets, and a kernel where the",
        "column says so. An *opaque* operator is carried through untouched. *Node tests* counts the tests of the onnx",
        "package with the operator that ONNX Runtime runs.",
        "",
        f"{held} of the {len(own)} operators of ONNX's own domain have a room, and {foreign} of other domains.",
        f"{found.cases} node tests were taken to {found.runs:,} opsets (from {OLDEST} to {NEWEST}): {found.equal:,}",
        f"give the same numbers in ONNX Runtime, {found.refused:,} are refused with one of the reasons below,",
        f"{len(found.faults)} are wrong.",
        *([lacking] if found.lacking else []),
        "",
        *table(found.tests),
        "",
        "## Refusals",
        "",
        "What `--opset` refuses in these tests, without the names of nodes and the numbers of attributes.",
        "",
        *(f"- {refusal}" for refusal in sorted(found.refusals)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page, or write it."""
    with tempfile.TemporaryDirectory() as folder:
        found = sweep(Path(folder))
    for outcome in found.faults:
        print(f"wrong: {outcome}", file=sys.stderr)
    if "--write" in sys.argv:
        PAGE.write_text(page(found), encoding="utf-8")
    else:
        print(page(found))


if __name__ == "__main__":
    main()
