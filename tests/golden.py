"""Golden files: a rule's input and output as text, refusals included.

A file in `tests/golden/PASS/NAME.txt`:

    # What the case shows.
    in:
      (%x: f32[N, 2, 8, 8]) -> (%y) {
        ...
      }
    out:
      (%x: f32[N, 2, 8, 8]) -> (%y) {
        ...
      }
    refused: fold_affine at `bn`: `c` is also read by `other`

Optional lines before `in:` set options, as in `target: cpu`, `max_growth: 1.0`, `skip: rule`. `refused: none` says
that nothing is. Constants are elided in `out:`; their values are checked by running both graphs.

`tests/golden/peers/PROJECT-NUMBER.txt` shows a public bug of another optimizer: its comment names the issue and what
went wrong there. These run the whole pipeline, unless a line `passes: NAME, NAME` picks some.

`python tests/golden.py [FOLDER...]` rewrites `out:` and `refused:` from what the code does now: read the diff.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import graphopt
from graphopt.ir.text import print_graph
from graphopt.passes.result import Result

FOLDER = Path(__file__).parent / "golden"
PEERS = "peers"  # the folder that is not named after a pass
HEADER = re.compile(r'^graph "(?:[^"\\]|\\.)*"( opset \{[^}]*\})? ')


@dataclass
class Case:
    path: Path
    comment: str
    options: dict[str, str] = field(default_factory=dict)
    source: str = ""
    out: str = ""
    refused: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        return self.path.parent.name

    @property
    def id(self) -> str:
        return f"{self.group}/{self.path.stem}"


def read(path: Path) -> Case:
    case = Case(path, "")
    section = ""
    bodies: dict[str, list[str]] = {"in": [], "out": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not section:
            case.comment += line + "\n"
        elif line in ("in:", "out:"):
            section = line[:-1]
        elif line.startswith("refused:"):
            section = "refused"
            case.refused.append(line.removeprefix("refused:").strip())
        elif section in bodies:
            bodies[section].append(line)
        elif line.strip():
            key, _, value = line.partition(":")
            case.options[key.strip()] = value.strip()
    case.source, case.out = (textwrap.dedent("\n".join(bodies[k])).strip() for k in ("in", "out"))
    return case


def cases() -> list[Case]:
    return [read(p) for p in sorted(FOLDER.glob("*/*.txt"))]


def run(case: Case) -> tuple[graphopt.Graph, Result]:
    graph = graphopt.parse(case.source)
    options = dict(case.options)
    passes = options.pop("passes", "" if case.group == PEERS else case.group)
    result = graphopt.optimize(
        graph,
        passes=[p.strip() for p in passes.split(",")] if passes else None,
        check="every",
        target=options.pop("target", "portable"),
        max_growth=float(options.pop("max_growth", "1.05")),
        skip=[s for s in options.pop("skip", "").split(",") if s],
    )
    assert not options, f"{case.path}: unknown options {options}"
    return graph, result


def shown(result: Result) -> str:
    return HEADER.sub("", print_graph(result.graph, constants="elide")).strip()


def refusals(result: Result) -> list[str]:
    return [str(m) for m in result.missed] or ["none"]


def write(case: Case, result: Result) -> None:
    options = "".join(f"{k}: {v}\n" for k, v in case.options.items())
    body = f"{case.comment}{options}in:\n{textwrap.indent(case.source, '  ')}\n"
    body += f"out:\n{textwrap.indent(shown(result), '  ')}\n"
    body += "".join(f"refused: {r}\n" for r in refusals(result))
    case.path.write_text(body, encoding="utf-8")


def main(groups: list[str]) -> None:
    for case in cases():
        if groups and case.group not in groups:
            continue
        _, result = run(case)
        before = case.path.read_text(encoding="utf-8")
        write(case, result)
        if case.path.read_text(encoding="utf-8") != before:
            print(f"updated {case.id}")


if __name__ == "__main__":
    main(sys.argv[1:])
