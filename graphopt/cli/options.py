"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def as_json(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)


def shapes(function: F) -> F:
    """`--shapes`."""
    return click.option(
        "--shapes",
        metavar="N=1,3;H=224",
        callback=_read_shapes,
        help="Values for symbolic dims: for each name one or several, tried in turn.",
    )(function)


def _read_shapes(ctx: click.Context, param: click.Parameter, value: str | None) -> Mapping[str, tuple[int, ...]] | None:
    if value is None:
        return None
    from graphopt.runtime.inputs import parse_shapes

    return parse_shapes(value)


def names(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Comma-separated names of passes or rules, from options that may be repeated."""
    for item in value:
        if not item.replace(",", "").strip():
            raise click.BadParameter(f"{item!r} names nothing")
    return tuple(n.strip() for v in value for n in v.split(",") if n.strip())


def growth(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A factor of at least 1, or `inf`."""
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not factor >= 1:
        raise click.BadParameter(f"{value!r} is not a factor of 1 or more, or inf")
    return factor


def expectations(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, int]:
    """`bn=0`, `Conv=20`: operators and how many there may be."""
    found = {}
    for item in value:
        for part in item.split(","):
            name, _, number = part.partition("=")
            if not name.strip() or not number.strip().isdecimal():
                raise click.BadParameter(f"{part!r} is not OPERATOR=COUNT, as in bn=0")
            name = name.strip()
            found["BatchNormalization" if name.lower() == "bn" else name] = int(number)
    return found
