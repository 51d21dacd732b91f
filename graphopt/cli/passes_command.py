"""`graphopt passes`: what each pass does."""

from __future__ import annotations

import click

from graphopt.cli import options
from graphopt.cli.show import emit, emit_json, grid
from graphopt.errors import UsageError


@click.command()
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """List the passes in their order, or tell what the pass NAME does, with the IR before and after.

    \b
    Examples:
      graphopt passes
      graphopt passes fold_batch_norm
    """
    from graphopt.passes.pipeline import PASSES

    if name is not None and name not in PASSES:
        raise UsageError(f"there is no pass {name!r}: `graphopt passes` lists them")
    if as_json:
        chosen = [PASSES[name]] if name else list(PASSES.values())
        emit_json([
            {"name": p.name, "targets": sorted(p.targets), "level": f"O{p.level}", "doc": p.doc,
             "rules": [{"name": r.name, "class": r.cls.value, "doc": r.doc} for r in p.rules]}
            for p in chosen
        ])  # fmt: skip
        return
    if name is None:
        rows = [
            (p.name, ", ".join(sorted({r.cls.value for r in p.rules})), f"O{p.level}", ", ".join(p.targets) or "all",
             p.doc.strip().splitlines()[0])
            for p in PASSES.values()
        ]  # fmt: skip
        emit(grid("", ("pass", "class", "from", "targets", "what it does"), rows))
        return
    chosen_pass = PASSES[name]
    click.echo(chosen_pass.doc.strip() + "\n")
    rules = [(r.name, r.cls.value, r.doc.splitlines()[0] if r.doc else "") for r in chosen_pass.rules]
    emit(grid("", ("rule", "class", "what it does"), rules))
