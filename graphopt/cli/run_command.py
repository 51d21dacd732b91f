"""`graphopt run`: run a model once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from graphopt.cli import options
from graphopt.cli.show import emit, emit_json, grid, progress


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
    import numpy as np

    from graphopt.api import compile as compile_model
    from graphopt.onnx_format.atomic import check_writable
    from graphopt.runtime.inputs import load_inputs

    if output is not None:
        check_writable(output)
    with progress() as step:
        step(f"compiling {model}")
        session = compile_model(model, target=target)
        if inputs:
            feeds, said = load_inputs(inputs), ""
        else:
            feeds, said = (
                session.random_inputs(shapes),
                "random inputs from seed 0: give --input for your own",
            )
        step("running")
        results = session.run(feeds)
    if output is not None:
        from graphopt.onnx_format.atomic import AtomicOutput
        from graphopt.runtime.inputs import npz_bytes

        with AtomicOutput() as writing:
            writing.write(output, [npz_bytes(results)])
    if as_json:
        emit_json({"seeded": not inputs, "outputs": {k: _facts(v) for k, v in results.items()}})
        return
    if said:
        click.echo(said)
    rows = [(n, *map(str, _facts(np.asarray(v)).values())) for n, v in results.items()]
    emit(grid("", ("output", "dtype", "shape", "min", "mean", "max"), rows, right=(3, 4, 5)))
    if output is not None:
        click.echo(f"saved: {output}")


def _facts(array: object) -> dict[str, object]:
    import numpy as np

    data = np.asarray(array)
    facts: dict[str, object] = {"dtype": str(data.dtype), "shape": list(data.shape)}
    if data.size and data.dtype.kind in "fiub":
        wide = data.astype(np.float64)
        facts.update(min=float(wide.min()), mean=float(wide.mean()), max=float(wide.max()))
    return facts
