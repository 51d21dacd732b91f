"""`graphopt verify`: compare two models."""

from __future__ import annotations

from collections.abc import Mapping

import click

from graphopt.cli import options
from graphopt.cli.show import emit_json, progress
from graphopt.errors import VerificationError


@click.command()
@click.argument("original")
@click.argument("result")
@options.shapes
@click.option("--input", "inputs", multiple=True, metavar="x=FILE.npy|FILE.npz", help="Inputs to compare on.")
@options.as_json
def command(
    original: str,
    result: str,
    shapes: Mapping[str, tuple[int, ...]] | None,
    inputs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare RESULT with ORIGINAL: equal when it differs by no more than the original's own rounding.

    \b
    Examples:
      graphopt verify model.onnx model.opt.onnx
      graphopt verify a.onnx b.onnx --shapes "N=1,3"
      graphopt verify a.onnx b.onnx --input image=photo.npy
    """
    from graphopt.api import verify
    from graphopt.runtime.inputs import load_inputs

    with progress() as step:
        step("comparing")
        verification = verify(original, result, shapes=shapes, inputs=load_inputs(inputs) if inputs else None)
    if as_json:
        emit_json(verification.to_json())
    else:
        for line in verification.lines():
            click.echo(line)
    if not verification.equal:
        raise VerificationError(f"{result}: {verification.sentence}")
    if not as_json:
        click.echo("verified")
