"""`graphopt text`: the IR as text."""

from __future__ import annotations

import click


@click.command()
@click.argument("model")
@click.option("--keep-functions", is_flag=True, help="Carry model-local functions instead of inlining them.")
def command(model: str, keep_functions: bool) -> None:
    """Print MODEL's IR as text, one line a node; `graphopt.parse` reads it back.

    \b
    Examples:
      graphopt text zoo:lenet5
      graphopt text model.onnx | less
    """
    from graphopt.api import load, text

    click.echo(text(load(model, keep_functions=keep_functions)))
