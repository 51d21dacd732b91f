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


PIPE_WIDTH = 10_000  # columns; so that a search finds a reason on one line

WHOLE = 20  # characters of a cell that a narrow terminal does not break: the names of passes and rules


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
    from rich.text import Text

    with Console(stderr=True).status("starting") as status:
        yield lambda what: status.update(Text(what))  # names of files are no markup


def emit_json(data: object) -> None:
    """JSON on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def emit(what: RenderableType) -> None:
    """Something rich on standard output, and an empty line; on a pipe plain, with lines as long as they need to be."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(what)
    lines = (line.rstrip() for line in captured.get().splitlines())
    click.echo("\n".join(lines).strip("\n") + "\n")


def grid(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> RenderableType:
    """A table; columns with an index in `right` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, no_wrap=True, overflow="ignore") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=any(columns),
    )
    for i, column in enumerate(columns):
        longest = max((len(row[i]) for row in rows if i < len(row)), default=0)
        table.add_column(
            column,
            justify="right" if i in right else "left",
            overflow="fold",
            min_width=min(longest, WHOLE),
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def pairs(title: str, rows: Mapping[str, str]) -> RenderableType:
    """A table of names and values."""
    return grid(title, ("", ""), list(rows.items()))
