"""The order of the passes, on one screen, each place with its reason; and `optimize`, which runs them.

Stage 1 runs round after round until a whole round changes nothing; stage 2 runs once, for the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from graphopt.errors import UsageError
from graphopt.ir.graph import Graph, copy_graph
from graphopt.passes import (
    eliminate_dead,
    fold_batch_norm,
    fold_constants,
    fuse_conv_activation,
    inline_branches,
    merge_common,
    normalize,
)
from graphopt.passes.result import Result
from graphopt.rewrite.engine import GROWTH, Check, Engine, Settings
from graphopt.rewrite.record import entry_of
from graphopt.rewrite.rule import Pass, Rule
from graphopt.rewrite.site import FactValue

SIMPLIFY: tuple[Pass, ...] = (
    normalize.PASS,  # first: everything below looks for constants and for neighbours without Identity in between
    fold_constants.PASS,  # biases behind Shape -> Expand -> Cast become constants, which folding a BN needs
    inline_branches.PASS,  # conditions on shapes are constants by now, and what a branch holds meets its neighbours
    eliminate_dead.PASS,  # the Shape of a weight no longer counts as a reader of the weight
    merge_common.PASS,  # before weights are folded: equal convolutions are found while their weights are shared
    fold_batch_norm.PASS,  # last: it sees each convolution's true readers
)
LOWER: tuple[Pass, ...] = (
    fuse_conv_activation.PASS,  # only when nothing is left to fold: rules know Conv, not the target's FusedConv
    eliminate_dead.PASS,  # what the last rewrites left
)
PASSES: Mapping[str, Pass] = MappingProxyType({p.name: p for p in (*SIMPLIFY, *LOWER)})
RULES: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {(p.name, r.name): r for p in PASSES.values() for r in p.rules}
)

LEVELS = ("O0", "O1", "O2")
TARGETS = ("portable", "cpu")
MAX_ROUNDS = 16  # a fixed point comes in two or three; more would be a rule that undoes another


def optimize(
    graph: Graph,
    level: str = "O2",
    *,
    target: str = "portable",
    passes: Iterable[str] | None = None,
    also: Iterable[str] = (),
    skip: Iterable[str] = (),
    check: Check = "sample",
    max_growth: float = GROWTH,
    reproducers: Path | None = None,
) -> Result:
    """Optimize a copy of `graph`.

    Args:
        graph: what to optimize; it stays as it is.
        level: `O0` carries the graph only; `O1` runs rewrites that every user wants; `O2` all.
        target: `portable` keeps to standard operators; `cpu` may use ONNX Runtime's own for the CPU.
        passes: names of the only passes to run, in the pipeline's order.
        also: passes to run that the level leaves out.
        skip: passes or rules not to run.
        check: which rewrites are evaluated on small inputs before they are made.
        max_growth: the constants may grow to this many times their bytes plus 1 MB.
        reproducers: a folder for reproducers of rules that fail.

    Raises:
        UsageError: an unknown level, target, pass or rule.
    """
    chosen = _choose(level, target, passes, also, skip)
    work = copy_graph(graph).seal()
    entries = tuple(entry_of(n) for n in work.walk())
    engine = Engine(work, Settings(target, check, max_growth, frozenset(skip), reproducers))
    rounds = 0
    simplify = [p for p in SIMPLIFY if p.name in chosen]
    while simplify and rounds < MAX_ROUNDS:
        rounds += 1
        if sum(engine.run(p) for p in simplify) == 0:
            break
    lowered = [engine.run(p) for p in LOWER if p.name in chosen]
    options: dict[str, FactValue] = {
        "level": level,
        "target": target,
        "passes": sorted(chosen),
        "skip": sorted(skip),
        "check": check,
        "max_growth": str(max_growth),
    }
    return Result(
        source=graph,
        graph=work,
        engine=engine,
        options=options,
        entries=entries,
        rounds=rounds + bool(lowered),
    )


def _choose(
    level: str, target: str, only: Iterable[str] | None, also: Iterable[str], skip: Iterable[str]
) -> frozenset[str]:
    if level not in LEVELS:
        raise UsageError(f"there is no level {level!r}: choose one of {', '.join(LEVELS)}")
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r}: choose one of {', '.join(TARGETS)}")
    rules = {name for _, name in RULES}
    for name in (*(only or ()), *also, *skip):
        if name not in PASSES and name not in rules:
            raise UsageError(f"there is no pass or rule {name!r}: `graphopt passes` lists them")
        if name not in PASSES and name not in skip:
            owner = next(p for p, rule in RULES if rule == name)
            raise UsageError(f"{name!r} is a rule, and passes are asked for: give its pass, {owner!r}")
    chosen = set(only) if only is not None else {p.name for p in PASSES.values() if p.level <= LEVELS.index(level)}
    chosen |= set(also)
    return frozenset(n for n in chosen - set(skip) if not PASSES[n].targets or target in PASSES[n].targets)
