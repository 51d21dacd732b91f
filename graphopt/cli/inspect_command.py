"""`graphopt inspect`: what a model holds and costs."""

from __future__ import annotations

from pathlib import Path

import click

from graphopt.cli import options
from graphopt.cli.show import emit, emit_json, grid, pairs


@click.command()
@click.argument("model")
@click.option("--layers", is_flag=True, help="Also a row for each node that computes.")
@options.as_json
def command(model: str, layers: bool, as_json: bool) -> None:
    """Show MODEL's inputs, outputs, opset, operators, parameters, buffers, MACs, bytes, and what is odd about it.

    \b
    Examples:
      graphopt inspect zoo:resnet18
      graphopt inspect model.onnx --layers
      graphopt inspect model.onnx --json
    """
    from graphopt.analysis.inspect import inspect
    from graphopt.api import load
    from graphopt.rewrite.explain import count, size

    graph = load(model)
    found = inspect(graph)
    if as_json:
        on_disk = Path(model).stat().st_size if Path(model).is_file() else None
        emit_json({"model": model, "file_bytes": on_disk, **found.to_json()})
        return
    rows = {
        "inputs": "\n".join(f"{n}: {t}" for n, t in found.inputs.items()),
        "outputs": "\n".join(f"{n}: {t}" for n, t in found.outputs.items()),
        "opset": ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in found.opsets.items()),
        "producer": found.producer,
        "nodes": f"{found.nodes:,}",
        "parameters": f"{found.parameters:,}",
        "buffers": f"{found.buffers:,}",
        "constants": size(found.constant_bytes),
        "multiply-accumulates": f"{count(found.macs)} ({found.bound})",
        "activations": f"{count(found.activations)}, {size(found.activation_bytes)}",
        "alive at once": f"{size(found.peak_activation_bytes)} at most",
    }
    emit(pairs(model, rows))
    emit(grid("", ("operator", "nodes"), [(k, str(v)) for k, v in found.operators.items()], right=(1,)))
    if layers:
        table = [
            (x.name, x.op, x.output_shape, f"{x.parameters:,}", count(x.macs), size(x.bytes_moved))
            for x in found.layers
        ]
        emit(grid("", ("layer", "operator", "output", "parameters", "MACs", "moved"), table, right=(3, 4, 5)))
    for odd in found.odd:
        click.echo(f"odd: {odd}")
