"""Compile models with graphopt and with its peers: time, peak memory, and what comes out.

    python benchmarks/compile.py                     a raw export of ResNet-152 (made here), 7 rounds
    python benchmarks/compile.py DIR model.onnx      also every DIR/*.raw.onnx, and model.onnx
    python benchmarks/compile.py --growth            also time(100,000 nodes) / time(10,000)

graphopt runs as `graphopt compile IN -o OUT --no-verify --check sample`. Times end when the output file is complete;
the time to the process' exit stands beside. Nodes are counted with functions inlined, those of subgraphs with them,
Constant nodes not. The peers' environments and the made models go to the user's cache folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import peers
import raw_export
import report
from onnx import GraphProto, ModelProto, NodeProto, inliner
from rich.console import Console

import graphopt
from graphopt.errors import GraphoptError
from graphopt.runtime import bench
from graphopt.runtime.bench import OUTPUT, Column, Comparison, Contender, Row

BASE = "graphopt"
SYNTHETIC = "resnet152"
GROWTH = (10_000, 100_000)  # nodes
LOAD = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 3
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


@dataclass(frozen=True)
class Facts:
    """What a model file holds: nodes and BatchNormalizations by the rule above, bytes with external data."""

    nodes: int
    batch_norms: int
    bytes: int
    loads: bool  # in ONNX Runtime on the CPU


@dataclass(frozen=True)
class Measured:
    """One model: the comparison, facts of the input, and of each row's output."""

    model: str
    comparison: Comparison
    input: Facts
    outputs: dict[str, Facts]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        outputs = {name: asdict(facts) for name, facts in self.outputs.items()}
        return {"model": self.model, "input": asdict(self.input), "outputs": outputs, **self.comparison.to_json()}

    def columns(self) -> tuple[Column, ...]:
        """What came out, for tables."""

        def of(row: Row) -> Facts:
            return self.outputs[row.name]

        return (
            Column("nodes", lambda row: f"{of(row).nodes:,}"),
            Column("BNs", lambda row: str(of(row).batch_norms)),
            Column("file", lambda row: size(of(row).bytes)),
            Column("loads", lambda row: "yes" if of(row).loads else "no"),
        )

    def title(self) -> str:
        """The model and its size, in words."""
        known = self.input
        return f"{self.model}: {known.nodes:,} nodes, {known.batch_norms} BNs, {size(known.bytes)}"


def facts(path: Path, folder: Path | None = None) -> Facts:
    """What the model at `path` holds; bytes are those of all files in `folder`, where external data may lie."""
    model = onnx.load(path, load_external_data=False)
    if model.functions:
        model = inliner.inline_local_functions(model)
    kinds = [node.op_type for node in nodes(model.graph) if node.op_type != "Constant"]
    files = folder.iterdir() if folder else [path]
    size = sum(file.stat().st_size for file in files)
    return Facts(len(kinds), kinds.count("BatchNormalization"), size, loads(path))


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def loads(path: Path) -> bool:
    """Whether ONNX Runtime makes a session of the file; asked in another process, which may end as it likes."""
    return not subprocess.run([sys.executable, "-c", LOAD, path], capture_output=True, check=False).returncode


def graphopt_on(model: Path, name: str = BASE) -> Contender:
    """Graphopt itself, by the Python that runs this script."""
    command = (
        sys.executable,
        "-m",
        "graphopt",
        "compile",
        str(model),
        "-o",
        OUTPUT,
        "--no-verify",
        "--check",
        "sample",
    )
    # The child must find the package that this process found, wherever it runs.
    paths = [str(Path(graphopt.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    version = graphopt.__version__ if name == BASE else ""
    # Installed packages have their bytecode; so has the checkout, from its first run on.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": ""}
    return Contender(name, command, environment, version)


def peer_on(peer: peers.Peer, model: Path) -> Contender:
    """A peer; one that cannot be installed is a contender that says so and fails."""
    try:
        return peers.contender(peer, model)
    except GraphoptError as error:
        return Contender(peer.name, (sys.executable, "-c", f"import sys; sys.exit({str(error)!r})"))


def made(name: str, count: int | None = None) -> Path:
    """A model of `raw_export.py`, written once for each version of that file into the cache folder."""
    source = Path(raw_export.__file__).read_bytes()
    folder = peers.cache() / "models" / hashlib.sha256(source).hexdigest()[:12]
    path = folder / f"{name}{count or ''}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        model: ModelProto = raw_export.blocks(count) if count else raw_export.resnet(name)
        raw_export.write(model, path)
    return path


def expand(arguments: Sequence[str]) -> dict[str, Path]:
    """Models by name: files, folders' `*.raw.onnx`, and the names that `raw_export.py` knows.

    Raises:
        GraphoptError: nothing is there.
    """
    models = {}
    for argument in arguments:
        path = Path(argument)
        if argument in raw_export.DEPTHS:
            models[f"{argument} (synthetic raw export)"] = made(argument)
        elif path.is_dir():
            models |= {file.name.removesuffix(".onnx"): file.resolve() for file in sorted(path.glob("*.raw.onnx"))}
        elif path.is_file():
            models[path.name.removesuffix(".onnx")] = path.resolve()
        else:
            raise GraphoptError(f"{argument}: no such file or folder, and not one of {', '.join(raw_export.DEPTHS)}")
    return models


def measure(name: str, model: Path, chosen: Sequence[peers.Peer], rounds: int, console: Console) -> Measured:
    """All contenders on one model."""
    contenders = [graphopt_on(model), *(peer_on(peer, model) for peer in chosen)]
    with tempfile.TemporaryDirectory(prefix="graphopt-compile-") as scratch, console.status(name) as status:
        comparison = bench.measure(
            contenders,
            base=BASE,
            rounds=rounds,
            folder=Path(scratch),
            say=lambda what: status.update(f"{name}: {what}"),
        )
        outputs = {}
        for row in comparison.rows:
            if not row.error:
                path = bench.output_path(Path(scratch), row.name)
                outputs[row.name] = facts(path, path.parent)
    return Measured(name, comparison, facts(model), outputs)


def growth(rounds: int, console: Console) -> Comparison:
    """Chains of conv-BN-Relu-Add blocks: graphopt's time on the longer over that of the shorter."""
    names = [f"{count:,} nodes" for count in GROWTH]
    contenders = [graphopt_on(made("blocks", count), name) for count, name in zip(GROWTH, names, strict=True)]
    with console.status("growth") as status:
        return bench.measure(
            contenders, base=names[0], rounds=rounds, say=lambda what: status.update(f"growth: {what}")
        )


def page(results: Sequence[Measured], grown: Comparison | None, chosen: Sequence[peers.Peer], warning: str = "") -> str:
    """The section of docs/benchmarks.md."""
    parts = [
        "## Compiling: time, memory, and what comes out",
        f"Machine: {report.machine()}. ONNX Runtime for `loads`: {onnxruntime_version()}."
        + (f" Note: {warning}." if warning else ""),
        "Times end when the output file is complete; `to exit` is the whole process. Peak memory is the largest "
        "resident set. Nodes are counted with functions inlined and those of subgraphs, Constants not; `BNs` are the "
        "BatchNormalizations among them; `loads` says whether ONNX Runtime makes a session of the output.",
        "- graphopt: `graphopt compile IN -o OUT --no-verify --check sample`\n"
        + "\n".join(f"- {peer.name}: {peer.note}" for peer in chosen),
    ]
    for result in results:
        parts += [f"### {result.title()}", bench.markdown(result.comparison, result.columns())]
    if grown:
        parts += [
            "### Growth",
            f"Chains of conv-BN-Relu-Add blocks; the last row's ratio is time({GROWTH[1]:,}) / time({GROWTH[0]:,}).",
            bench.markdown(grown),
        ]
    return report.without_folders("\n\n".join([*parts, f"```sh\n{report.command('compile.py')}\n```"]))


def onnxruntime_version() -> str:
    """The version of the ONNX Runtime that outputs are loaded in, without loading it here."""
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()["onnxruntime"][0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="*", default=[SYNTHETIC], help=f"files, folders, names (default: {SYNTHETIC})")
    parser.add_argument("--rounds", type=int, default=bench.ROUNDS)
    parser.add_argument("--peers", default=",".join(peer.name for peer in peers.PEERS), help="which, with commas")
    parser.add_argument("--growth", action="store_true", help="also time(100,000 nodes) / time(10,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to FILE")
    parser.add_argument("--write-docs", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    console = Console()
    chosen = [peer for peer in peers.PEERS if peer.name in args.peers.split(",")]
    warning = report.busy()
    if warning:
        console.print(f"note: {warning}", style="yellow")
    results = []
    for name, model in expand(args.models).items():
        results.append(measure(name, model, chosen, args.rounds, console))
        console.print(bench.rich_table(results[-1].comparison, results[-1].title(), results[-1].columns()))
    grown = growth(args.rounds, console) if args.growth else None
    if grown:
        console.print(bench.rich_table(grown, "growth"))
    if args.json:
        data = {"machine": report.machine(), "note": warning, "models": [result.to_json() for result in results]}
        args.json.write_text(
            json.dumps(data | ({"growth": grown.to_json()} if grown else {}), indent=1), encoding="utf-8"
        )
    if args.write_docs:
        report.write_section("compile", page(results, grown, chosen, warning))


if __name__ == "__main__":
    try:
        main()
    except GraphoptError as error:
        sys.exit(f"compile.py: {error}")
