"""`graphopt compile`: optimize a model, write it, verify it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli import options
from graphopt.cli.show import Step, emit, emit_json, grid, progress
from graphopt.errors import GraphoptError, ModelError, OpsetError, UsageError, VerificationError

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.passes.result import Result
    from graphopt.rewrite.site import FactValue
    from graphopt.runtime.verification import Verification

LEVELS = ("O0", "O1", "O2")
TARGETS = ("portable", "cpu")


@click.command(epilog="Run `graphopt passes` for what the passes do.")
@click.argument("model")
@click.option(
    "-o", "--output", "output", required=True, type=click.Path(path_type=Path), help="The ONNX file to write."
)
@click.option("--level", type=click.Choice(LEVELS), default="O2", show_default=True, help="O0 only carries the graph.")
@click.option("--target", type=click.Choice(TARGETS), default="portable", show_default=True,
              help="portable: standard operators only; cpu: for ONNX Runtime on the CPU.")  # fmt: skip
@click.option("--opset", type=int, help="The opset to write; the model's own by default.")
@options.shapes
@click.option("--passes", "only", multiple=True, callback=options.names, metavar="P1,P2", help="Only these passes.")
@click.option("--also", multiple=True, callback=options.names, metavar="P", help="Also these passes.")
@click.option("--skip", multiple=True, callback=options.names, metavar="P", help="Not these passes or rules.")
@click.option("--verify/--no-verify", default=True, help="Compare original and result in ONNX Runtime (default).")
@click.option("--check", type=click.Choice(("sample", "every", "off")), default="sample", show_default=True,
              help="Which rewrites are evaluated on small inputs before they are made.")  # fmt: skip
@click.option("--expect", multiple=True, callback=options.expectations, metavar="bn=0",
              help="Fail (exit 1) if the result has another number of these operators.")  # fmt: skip
@click.option("--max-growth", default="1.05", callback=options.growth, metavar="1.05|inf", show_default=True,
              help="The constants may grow by this factor, plus 1 MB.")  # fmt: skip
@click.option("--keep-functions", is_flag=True, help="Carry model-local functions instead of inlining them.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE.json",
              help="Write what was done, and what was not, as JSON.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Print every node's story.")
@options.as_json
def command(
    model: str,
    output: Path,
    level: str,
    target: str,
    opset: int | None,
    shapes: Mapping[str, tuple[int, ...]] | None,
    only: tuple[str, ...],
    also: tuple[str, ...],
    skip: tuple[str, ...],
    verify: bool,
    check: str,
    expect: dict[str, int],
    max_growth: float,
    keep_functions: bool,
    record: Path | None,
    explain: bool,
    as_json: bool,
) -> None:
    """Optimize MODEL, write it as ONNX, and verify the result against the original.

    \b
    Examples:
      graphopt compile model.onnx -o model.opt.onnx
      graphopt compile zoo:resnet18 -o resnet18.onnx --explain
      graphopt compile model.onnx -o out.onnx --expect bn=0 --json
      graphopt compile model.onnx -o out.onnx --shapes "N=1,8;H=224"
    """
    from graphopt.onnx_format.atomic import check_writable

    started = time.perf_counter()
    check_writable(output)
    if record is not None:
        check_writable(record)
        if record.resolve() == output.resolve():
            raise UsageError("--record and -o name the same file")
        if record.resolve() == Path(model).resolve():
            raise UsageError("--record names the model itself")
    refused: VerificationError | None = None
    with progress() as step:
        step(f"reading {model}")
        from graphopt.api import load
        from graphopt.passes.pipeline import optimize

        graph = load(model, keep_functions=keep_functions)
        step("optimizing")
        result = optimize(
            graph,
            level,
            target=target,
            passes=only or None,
            also=also,
            skip=skip,
            check=check,  # type: ignore[arg-type]  # click has checked the choice
            max_growth=max_growth,
            reproducers=_reproducers(record),
        )
        more: dict[str, FactValue] = {"keep_functions": keep_functions}
        if opset is not None:
            more["opset"] = opset
        result = replace(result, options={**result.options, **more})  # what else the same bytes take
        outcome = _Outcome(model, graph, result, output, opset, record)
        try:
            outcome.check_expectations(expect)
            outcome.write(verify, shapes, step)
        except VerificationError as error:
            refused = error
        except OpsetError as error:
            raise OpsetError(f"{model}: {error}") from None
        except ModelError as error:  # the original does not run: nothing to compare with
            raise ModelError(f"{error}; or compile it with --no-verify") from None
        outcome.write_record()
    seconds = time.perf_counter() - started
    if as_json:
        emit_json(_json(outcome, seconds, refused, explain))
    if refused is not None:
        raise refused
    if as_json:
        return
    if explain:
        from graphopt.rewrite.explain import explain as tell

        click.echo(tell(result.record))
    _show(outcome, seconds)


class _Outcome:
    """What a compilation led to, and how it is written."""

    def __init__(
        self, model: str, graph: Graph, result: Result, output: Path, opset: int | None, record: Path | None
    ) -> None:
        self.model, self.graph, self.result = model, graph, result
        self.output, self.opset, self.record = output, opset, record
        self.written: tuple[Path, ...] = ()
        self.verification: Verification | None = None

    def check_expectations(self, expect: Mapping[str, int]) -> None:
        """The result has as many of each operator as `--expect` says.

        Raises:
            UsageError: no operator has such a name, so that the count would say nothing.
            VerificationError: it has another number.
        """
        import onnx

        from graphopt.ops.registry import rooms

        before, after = self.result.input.operators, self.result.output.operators
        known = {*before, *after, *(f"{domain}::{name}" for domain, name in rooms())}
        for name, wanted in expect.items():
            if not onnx.defs.has(name) and not any(_is_called(op, name) for op in known):
                raise UsageError(
                    f"--expect: there is no operator {name!r}, here or in ONNX: write it as `inspect` does"
                )
            found = sum(n for op, n in after.items() if _is_called(op, name))
            if found != wanted:
                left = {n.id for n in self.result.graph.walk() if _is_called(str(n.op), name)}
                why = next((f": {m}" for m in self.result.missed if m.root in left), "")
                self.refuse(f"{wanted} {name} expected, {found} left{why}")

    def write(self, check: bool, shapes: Mapping[str, tuple[int, ...]] | None, step: Step) -> None:
        """Write the file; with `check` it takes its place only after it was verified.

        Raises:
            VerificationError: it is not equal, or nothing could be compared.
        """
        from graphopt.onnx_format.writer import save

        step(f"writing {self.output}")

        def approve(staged: Path) -> None:
            from graphopt.api import verify_result

            step("verifying: the original against the result in ONNX Runtime")
            self.verification = verify_result(
                self.model, self.graph, staged, self.result, opset=self.opset, shapes=shapes
            )
            if not self.verification.equal:
                self.refuse(self.verification.sentence)

        self.written = save(self.result.graph, self.output, opset=self.opset, approve=approve if check else None)

    def write_record(self) -> None:
        """Write the record where one is asked for."""
        if self.record is not None:
            _write_text(self.record, self.result.record.dumps())

    def refuse(self, why: str) -> None:
        """Keep the result where it can be looked at; the output stays as it was.

        Raises:
            VerificationError: always.
        """
        from graphopt.onnx_format.writer import save

        folder = _reproducers(self.record) / f"refused-{self.output.stem}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save(self.result.graph, folder / "result.onnx", opset=self.opset)
            _write_text(folder / "record.json", self.result.record.dumps())
        except (OSError, GraphoptError) as error:
            raise VerificationError(f"{self.model}: {why}; the refused result could not be kept: {error}") from None
        raise VerificationError(f"{self.model}: {why}; the refused result and its record are in {folder}")


def _write_text(path: Path, text: str) -> None:
    from graphopt.onnx_format.atomic import AtomicOutput

    with AtomicOutput() as writing:
        writing.write(path, [text.encode()])


def _reproducers(record: Path | None) -> Path:
    if record is not None:
        return record.parent / f"{record.stem}-reproducers"
    from platformdirs import user_cache_path

    return user_cache_path("graphopt") / "reproducers"


def _is_called(operator: str, name: str) -> bool:
    """Whether an operator has this name, with its domain or without."""
    return operator == name or operator.endswith(f"::{name}")


def _json(outcome: _Outcome, seconds: float, refused: VerificationError | None, explain: bool) -> dict[str, object]:
    from graphopt.rewrite.explain import explain as tell

    result, verification = outcome.result, outcome.verification
    return {
        "model": outcome.model,
        "output": str(outcome.output),
        "refused": None if refused is None else str(refused),
        "bytes": sum(f.stat().st_size for f in outcome.written),
        "seconds": round(seconds, 3),
        "options": dict(result.options),
        "before": _summary(result, before=True),
        "after": _summary(result, before=False),
        "applied": _applied(result),
        "missed": [
            {
                "pass": m.pass_name,
                "rule": m.rule,
                "node": m.label,
                "reason": m.reason,
                "worth": m.worth.to_json(),
            }
            for m in result.missed
        ],
        "quarantined": [
            {"rule": q.rule, "node": q.label, "error": q.error, "reproducer": q.reproducer} for q in result.quarantined
        ],
        "notes": list(outcome.graph.info.notes),
        "verified": None if verification is None else verification.to_json(),
        **({"explanation": tell(result.record)} if explain else {}),
    }


def _summary(result: Result, *, before: bool) -> dict[str, object]:
    s = result.input if before else result.output
    return {
        "nodes": s.nodes,
        "macs": s.macs,
        "bytes_moved": s.bytes_moved,
        "constant_bytes": s.constant_bytes,
        "operators": dict(s.operators),
    }


def _applied(result: Result) -> list[dict[str, object]]:
    from graphopt.rewrite.explain import rules_applied

    return [{"pass": p, "rule": r, "class": c, "times": n} for (p, r, c), n in rules_applied(result.records).items()]


def _show(outcome: _Outcome, seconds: float) -> None:
    from graphopt.rewrite.explain import count, rules_applied, size

    result, verification = outcome.result, outcome.verification
    before, after = result.input, result.output
    rows = [
        ("nodes", f"{before.nodes:,}", f"{after.nodes:,}"),
        ("multiply-accumulates", count(before.macs), count(after.macs)),
        ("bytes moved", size(before.bytes_moved), size(after.bytes_moved)),
        ("constants", size(before.constant_bytes), size(after.constant_bytes)),
    ]
    emit(grid(outcome.model, ("", "before", "after"), rows, right=(1, 2)))
    done = [(p, r, c, str(n)) for (p, r, c), n in rules_applied(result.records).items()]
    if done:
        emit(grid("", ("pass", "rule", "class", "times"), done, right=(3,)))
    else:
        click.echo("no rewrite was made\n")
    reasons: dict[tuple[str, str], int] = {}
    for miss in result.missed:
        reasons[miss.rule, miss.reason] = reasons.get((miss.rule, miss.reason), 0) + 1
    if reasons:
        ranked = sorted(reasons.items(), key=lambda item: -item[1])
        emit(
            grid(
                "not done",
                ("rule", "reason", "times"),
                [(r, why, str(n)) for (r, why), n in ranked[:12]],
                right=(2,),
            )
        )
        if len(ranked) > 12:
            click.echo(f"... and {len(ranked) - 12} more reasons: --explain or --record shows all")
    for q in result.quarantined:
        where = f"; reproducer in {q.reproducer}" if q.reproducer else ""
        click.echo(f"quarantined: {q.rule} at `{q.label}`: {q.error}{where}")
    for note in outcome.graph.info.notes[:5]:
        click.echo(f"note: {note}")
    if any(a.rule == "initializer_input" for a in result.records):
        click.echo("note: initializers that were inputs are constants now (--skip initializer_input keeps them)")
    written = sum(f.stat().st_size for f in outcome.written)
    if verification is not None:
        for line in verification.lines():
            click.echo(line)
    if outcome.record is not None:
        click.echo(f"record: {outcome.record}")
    word = "not verified" if verification is None else "verified"
    click.echo(f"{word}: {outcome.output} ({size(written)}) in {seconds:.2f} s")
