"""Every golden file: the output as written, the refusals as written, and the numbers equal."""

from __future__ import annotations

import pytest
from golden import PEERS, Case, cases, refusals, run, shown
from numeric import can_run, differences

from graphopt.ir.verifier import verify
from graphopt.ops.infer import infer
from graphopt.passes.pipeline import PASSES, RULES

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_golden(case: Case) -> None:
    graph, result = run(case)
    assert not result.quarantined
    assert shown(result) == case.out
    assert refusals(result) == case.refused
    verify(result.graph, lambda n: [i.type for i in infer(n)])
    if can_run(graph):
        assert differences(graph, result.graph, exact=result.is_exact) == []


def test_every_rule_has_a_case_and_a_refusal_where_it_refuses() -> None:
    applied, refused = set(), set()
    own = [case for case in CASES if case.group != PEERS]
    for case in own:
        _, result = run(case)
        applied |= {a.rule for a in result.records}
        refused |= {m.rule for m in result.missed}
    assert {r.name for r in RULES.values()} - applied == {"carried_normalization"}, "which only refuses"
    assert {p.name for p in PASSES.values()} == {c.group for c in own}
    assert refused >= {"fold_affine", "computed_constant", "conv_activation", "conv_sum_activation", "unread_node"}
