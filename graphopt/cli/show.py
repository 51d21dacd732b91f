"""What commands share for showing things: tables, JSON, progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


class Step(Protocol):
    """Says what is being done now."""

    def __call__(self, what: str) -> None:
        """Replace the line on the terminal by `what`."""


@contextmanager
def progress() -> Iterator[Step]:
    """A line on the terminal that says what is being done; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda what: status.update(what)  # noqa: PLW0108  # `update` has more parameters


def emit_json(data: object) -> None:
    """JSON on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def emit(what: RenderableType) -> None:
    """Something rich on standard output, plain on a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 110
    Console(width=width, soft_wrap=not sys.stdout.isatty(), highlight=False).print(what)


def grid(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> RenderableType:
    """A table; columns with an index in `right` are aligned to the right."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def pairs(title: str, rows: Mapping[str, str]) -> RenderableType:
    """A table of names and values."""
    return grid(title, ("", ""), [(k, v) for k, v in rows.items()])
