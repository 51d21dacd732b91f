"""`graphopt run`: run a model once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import click

from graphopt.cli import options
from graphopt.cli.show import emit, emit_json, grid, progress
from graphopt.errors import UsageError


@click.command()
@click.argument("model")
@click.option("--target", type=click.Choice(("cpu",)), default="cpu", show_default=True, help="Where to run.")
@click.option("--input", "inputs", multiple=True, metavar="x=FILE.npy|FILE.npz", help="Inputs; random without.")
@options.shapes
@click.option("--output", type=click.Path(path_type=Path), metavar="OUT.npz", help="Save the outputs.")
@options.as_json
def command(
    model: str,
    target: str,
    inputs: tuple[str, ...],
    shapes: Mapping[str, tuple[int, ...]] | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compile MODEL for a target, run it once, and show its outputs.

    \b
    Examples:
      graphopt run zoo:lenet5
      graphopt run model.onnx --input image=photo.npy --output out.npz
    """
    from graphopt.api import compile as compile_model
    from graphopt.onnx_format.atomic import check_writable
    from graphopt.runtime.inputs import load_inputs
    from graphopt.runtime.session import tensors

    if inputs and shapes:
        raise UsageError("--shapes is for random inputs: leave it out where --input gives arrays")
    if output is not None:
        check_writable(output)
        if output.resolve() == Path(model).resolve():
            raise UsageError("--output names the model itself")
    with progress() as step:
        step(f"compiling {model}")
        session = compile_model(model, target=target)
        feeds = load_inputs(inputs) if inputs else session.random_inputs(shapes)
        step("running")
        results = tensors(session.run(feeds))
    if output is not None:
        from graphopt.onnx_format.atomic import AtomicOutput
        from graphopt.runtime.inputs import npz_bytes

        with AtomicOutput() as writing:
            writing.write(output, [npz_bytes(results)])
    given, made = ({k: _facts(v) for k, v in arrays.items()} for arrays in (feeds, results))
    if as_json:
        emit_json({"seeded": not inputs, "inputs": given, "outputs": made})
        return
    if not inputs:
        which = ", ".join(f"{n} {f['dtype']}{f['shape']}" for n, f in given.items())
        click.echo(f"random inputs from seed 0: {which}; give --input for your own\n")
    rows = [(n, *map(_shown, f.values())) for n, f in made.items()]
    emit(grid("", ("output", "dtype", "shape", "min", "mean", "max"), rows, right=(3, 4, 5)))
    if output is not None:
        click.echo(f"saved: {output}")


def _shown(fact: object) -> str:
    return f"{fact:.6g}" if isinstance(fact, float) else str(fact)


def _facts(array: object) -> dict[str, object]:
    import numpy as np

    data = np.asarray(array)
    facts: dict[str, object] = {"dtype": str(data.dtype), "shape": list(data.shape)}
    if data.size and data.dtype.kind in "fiub":
        wide = data.astype(np.float64)
        with np.errstate(all="ignore"):
            facts.update(
                {k: _plain(float(v)) for k, v in (("min", wide.min()), ("mean", wide.mean()), ("max", wide.max()))}
            )
    return facts


def _plain(number: float) -> float | str:
    """NaN and infinities as text: JSON has none."""
    return number if math.isfinite(number) else str(number)
