"""The tokens of the IR's text form, one after the other, and errors that say their line.

One regular expression cuts the text; lines are counted only for an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from graphopt.errors import ParseError
from graphopt.ir import literal
from graphopt.ir.literal import STRING
from graphopt.ir.types import DTYPES

Read = TypeVar("Read")

_TOKEN = re.compile(
    rf"""
      (?P<space>(?:\s|\#[^\n]*)+)
    | (?P<value>%(?:[\w.]+|{STRING}))
    | (?P<type>\b(?:{"|".join(DTYPES)})\[(?:[^\[\]"\n]|{STRING})*\])
    | (?P<data>\bdense(?:\[(?:[^\[\]"]|{STRING})*\]|<[^>\n]*>))
    | (?P<foreign>\bforeign<[^>\n]*>)
    | (?P<bytes>b"[0-9a-fA-F]*")
    | (?P<string>{STRING})
    | (?P<number>-?(?:0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)|-inf\b|-nan\b)
    | (?P<word>[A-Za-z_][\w.]*)
    | (?P<punctuation>->|::|[(){{}}\[\]<>,:=@?!])
    | (?P<bad>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Tokens:
    """Stands at the current token: its `kind` (a group of the expression, or `end`), `text` and place `at`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = _TOKEN.finditer(source)
        self.kind, self.text, self.at = "", "", 0
        self.advance()

    def advance(self) -> str:
        """Go to the next token; the text of the one left behind."""
        left = self.text
        for match in self._tokens:
            kind = match.lastgroup
            if kind != "space":
                self.kind, self.text, self.at = kind or "", match.group(), match.start()
                return left
        self.kind, self.text, self.at = "end", "", len(self._source)
        return left

    def wrong(self, what: str, at: int) -> ParseError:
        """What to raise when the text at `at` is well formed and makes no sense."""
        return ParseError(f"line {self._source.count(chr(10), 0, at) + 1}: {what}")

    def error(self, expected: str) -> ParseError:
        """What to raise when the current token is not `expected`."""
        return self.wrong(f"expected {expected}, found {repr(self.text[:60]) if self.text else 'the end'}", self.at)

    def accept(self, text: str) -> bool:
        """Go past `text` if it is the current token."""
        if self.text != text:
            return False
        self.advance()
        return True

    def expect(self, text: str) -> None:
        """Go past `text`, which must be the current token."""
        if self.text != text:
            raise self.error(f"`{text}`")
        self.advance()

    def checked(self, at: int, read: Callable[..., Read], *arguments: object) -> Read:
        """`read(*arguments)`, with the line of `at` in its errors."""
        try:
            return read(*arguments)
        except ParseError as error:
            raise self.wrong(str(error), at) from None

    def quoted(self, what: str) -> str:
        """A quoted string that is not bytes."""
        if self.kind != "string":
            raise self.error(f"{what} in quotes")
        at = self.at
        return str(self.checked(at, literal.parse_string, self.advance()))

    def integer(self, what: str) -> int:
        """An integer."""
        if self.kind != "number":
            raise self.error(what)
        at = self.at
        return self.checked(at, literal.parse_int, self.advance())
