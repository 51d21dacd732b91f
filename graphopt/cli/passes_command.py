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
    """List the passes in their order, or tell what NAME does, a pass or a rule's pass, with the IR before and after.

    \b
    Examples:
      graphopt passes
      graphopt passes fold_batch_norm
    """
    from graphopt.passes.pipeline import PASSES

    chosen = [p for p in PASSES.values() if name in (None, p.name, *(r.name for r in p.rules))]
    if not chosen:
        raise UsageError(f"there is no pass or rule {name!r}: `graphopt passes` lists the passes")
    if as_json:
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
    for p in chosen:
        click.echo(f"{p.name}: {p.doc.strip()}\n")
        rules = [(r.name, r.cls.value, r.doc.splitlines()[0] if r.doc else "") for r in p.rules]
        emit(grid("", ("rule", "class", "what it does"), rules))
