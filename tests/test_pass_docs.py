"""What each pass says of itself is run: the IR before, through the pass, is the IR after."""

from __future__ import annotations

import re
import textwrap

import pytest
from golden import shown

import graphopt
from graphopt.passes.pipeline import PASSES
from graphopt.rewrite.rule import Pass

DATA = re.compile(r" = (?:dense|splat|random)\b.*$", re.MULTILINE)


def section(doc: str, name: str) -> str:
    body = re.search(rf"^{name}:\n((?:    .*\n)+)", doc, re.MULTILINE)
    assert body, f"the docstring has no IR {name}"
    return textwrap.dedent(body[1]).strip()


@pytest.mark.parametrize("pass_", PASSES.values(), ids=list(PASSES))
def test_before_and_after(pass_: Pass) -> None:
    graph = graphopt.parse(section(pass_.doc, "before"))
    target = next(iter(pass_.targets), "portable")
    result = graphopt.optimize(graph, passes=[pass_.name], target=target, check="every")
    assert not result.quarantined
    assert shown(result) == DATA.sub("", section(pass_.doc, "after"))


@pytest.mark.parametrize("pass_", PASSES.values(), ids=list(PASSES))
def test_every_rule_says_what_it_does(pass_: Pass) -> None:
    assert all(rule.doc.strip().endswith(".") for rule in pass_.rules)
    assert pass_.doc.strip().splitlines()[0].endswith(".")
