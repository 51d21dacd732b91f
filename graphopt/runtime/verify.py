"""Is a result equal to its original? Both run in ONNX Runtime, with its optimizers off and on.

A₀, A₁ are the original with ONNX Runtime's optimizers off and on, B₀, B₁ the result; R is the original in float64.
`graphopt.analysis.equal` holds the rule. Models run one after the other and inputs are made again from their seeds,
so that one model's weights and one input's outputs are in memory at a time.

Nothing is silently left out: an original that cannot be run is "could not be verified", which is not equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.analysis.equal import (
    NOISE_FACTOR,
    NOISE_FLOOR_EPS,
    Verdict,
    compare,
    compare_bits,
    eps,
    is_real,
    relative_error,
    same_bits,
)
from graphopt.errors import GraphoptError, ModelError
from graphopt.ir.types import TensorType
from graphopt.runtime import inputs as made
from graphopt.runtime.bisect import Touched, first_difference
from graphopt.runtime.explore import Options, Runs, listed
from graphopt.runtime.onnxruntime import OnnxRuntimeSession
from graphopt.runtime.oracle import ORACLE_MACS, GraphSource, Oracle
from graphopt.runtime.session import tensors
from graphopt.runtime.spool import Arrays, Spool
from graphopt.runtime.verification import Case, CaseVerdict, OutputVerdict, Verification, broken, not_run

SEEDS = 3  # normal, uniform, scaled
TRUST = 16  # times the original's spread; an oracle further off than that is itself wrong


def verify(
    original: str | Path,
    result: str | Path,
    *,
    graph: GraphSource = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    exact_only: bool = False,
    bounds: float = 0.0,
    seeds: int = SEEDS,
    threads: int | None = None,
    oracle_macs: int = ORACLE_MACS,
    touched: Touched | None = None,
) -> Verification:
    """Compare two ONNX files.

    Args:
        original: the file that says what is right.
        result: the file to judge.
        graph: the original's graph, or a function that loads it, for the float64 reference; None for none.
        shapes: for each symbolic dim's name (`x[2]` for one without a name) numbers, one for each set of shapes.
            By default a batch is 1 and then 3, other dims are 224 and then 256, or what the original takes;
            the second set then sees normal inputs only.
        inputs: arrays to compare on, instead of seeded ones; inputs that are left out are seeded.
        exact_only: only EXACT rewrites were made: without ONNX Runtime's optimizers the bits must be the same.
        bounds: the certified relative bounds of BOUNDED rewrites, summed.
        seeds: how many seeded inputs for each set of shapes; normal, uniform and scaled in turn.
        threads: for one operator; ONNX Runtime's choice by default.
        oracle_macs: budget for the float64 reference, all inputs together; 0 for none.
        touched: names the rules that made or changed a value, for the report on a difference.

    Raises:
        ModelError: ONNX Runtime cannot load the original.
        UsageError: `shapes` or `inputs` do not fit the original.
    """
    options = Options(exact_only, bounds, seeds, threads, dict(shapes or {}), dict(inputs or {}))
    a, b = Path(original), Path(result)
    notes: list[str] = []
    with Spool() as spool:
        base = Runs.explore(a, options, spool, notes)
        if not base.cases:
            return not_run(_ask_for_shapes(a, base), notes)
        try:
            runs = [Runs.repeat(b, optimize, base, options, spool) for optimize in (False, True)]
        except ModelError as error:
            return broken(f"the result cannot be loaded: {error}", notes)
        problem = _interface(base, runs[0])
        if problem:
            return broken(problem, notes)
        try:
            second = Runs.repeat(a, True, base, options, spool)
        except ModelError as error:
            second = Runs(a, True, base.inputs, base.outputs, base.cases, spool, dict.fromkeys(base.cases, ""))
            notes.append(f"with its optimizers on, ONNX Runtime refuses the original: {error}")
        judge = _Judge(options, (base, second), (runs[0], runs[1]), Oracle(graph, oracle_macs), notes)
        verdicts = tuple(judge.case(case) for case in base.cases)
    verification = Verification(verdicts, judge.independence(), True, None, tuple(dict.fromkeys(notes)))
    failed = verification.failed
    if failed is None or failed.error:
        return verification
    try:
        suspect = first_difference(a, b, options.feeds(base.inputs, failed.case), touched=touched, threads=threads)
    except GraphoptError:
        suspect = None
    return Verification(verdicts, verification.problem, True, suspect, verification.notes)


class _Judge:
    """Compares what the runs gave, case by case."""

    def __init__(
        self,
        options: Options,
        original: tuple[Runs, Runs],
        result: tuple[Runs, Runs],
        oracle: Oracle,
        notes: list[str],
    ) -> None:
        self.options, self.original, self.result = options, original, result
        self.oracle, self.notes = oracle, notes
        self._session: OnnxRuntimeSession | None = None
        self._digests: dict[tuple[str, str], list[tuple[tuple[int, ...], bytes]]] = {}

    def case(self, case: Case) -> CaseVerdict:
        """Every output's verdict in one case."""
        for run in self.result:
            if case in run.errors:
                return CaseVerdict(case, error=run.errors[case])
        a0, a1 = (run.outputs_of(case) for run in self.original)
        b0, b1 = (run.outputs_of(case) for run in self.result)
        assert a0 is not None  # or it were no case
        assert b0 is not None
        assert b1 is not None
        if a1 is None:
            self.notes.append(f"with its optimizers on, ONNX Runtime cannot run the original on {case}")
        truth = self.oracle.evaluate(self.options.feeds(self.original[0].inputs, case))
        note = truth if isinstance(truth, str) else ""
        lazy = _Lazy(self, case)
        verdicts = []
        for name, base in a0.items():
            if any(name not in run for run in (a0 if a1 is None else a1, b0, b1)):
                continue  # an element of a sequence of another length, which `NAME.length` tells
            self._remember(name, base, b0[name])
            noise = [base] if a1 is None else [base, a1[name]]
            wide = truth.get(name) if isinstance(truth, dict) else None
            if wide is not None and is_real(base.dtype) and not self._trusted(wide, noise, lazy, name):
                wide, note = None, f"the interpreter disagrees with ONNX Runtime on `{name}`, so it is no reference"
            verdicts.append(OutputVerdict(name, self._output(name, wide, noise, (b0[name], b1[name]), lazy)))
        if note:
            self.notes.append(f"the original's own run stands in for a float64 reference: {note}")
        return CaseVerdict(case, tuple(verdicts), "runtime" if note else "float64", note=note)

    def _output(
        self,
        name: str,
        wide: np.ndarray | None,
        noise: list[np.ndarray],
        results: tuple[np.ndarray, np.ndarray],
        lazy: _Lazy,
    ) -> Verdict:
        base = noise[0]
        judged = list(results)
        if any(r.dtype != base.dtype for r in judged):
            wide = base  # fails on the dtype
        elif self.options.exact_only:
            bits = compare_bits(base, judged[0])
            if bits.equal:
                judged = judged[1:]
            elif not any(same_bits(other, judged[0]) for other in (*noise[1:], *lazy.folded(name))):
                return bits  # else ONNX Runtime treats the result as it treats the original once constants are folded
        real = is_real(base.dtype)
        if real and wide is None:
            noise = [*noise, *lazy.output(name)]
        verdict = self._compare(base if wide is None else wide, noise, judged, base.dtype)
        if verdict.equal or (real and not self.oracle.quantizes):
            return verdict
        if real:
            more = lazy.nudged(name)
            return self._compare(wide, [*noise, *more], judged, base.dtype) if wide is not None and more else verdict
        return compare(base, [*noise, *lazy.output(name), *lazy.nudged(name)], judged, base.dtype)

    def _compare(
        self, reference: np.ndarray, noise: Sequence[np.ndarray], judged: Sequence[np.ndarray], dtype: np.dtype
    ) -> Verdict:
        return compare(reference, noise, judged, dtype, self.options.bounds, quantized=self.oracle.quantizes)

    def _trusted(self, wide: np.ndarray, noise: Sequence[np.ndarray], lazy: _Lazy, name: str) -> bool:
        """Whether a float64 reference is as near to the original's runs as these are to each other, give or take.

        A wrong kernel would otherwise pass for a large rounding error of the original, and excuse anything. Where
        numbers are quantized the original's runs differ by whole steps, and many of these are no rounding error.
        """
        base = noise[0]
        if wide.shape != base.shape:
            return False
        trust = NOISE_FACTOR if self.oracle.quantizes else TRUST
        own = max(relative_error(a, wide)[0] for a in noise)
        spread = max(NOISE_FLOOR_EPS * eps(base.dtype), *(relative_error(a, base)[0] for a in noise))
        if own <= trust * spread:
            return True
        moved = [relative_error(a, base)[0] for a in lazy.output(name) if a.shape == base.shape]
        if own <= trust * max([spread, *moved]):
            return True
        steps = lazy.nudged(name)
        return bool(steps) and compare(wide, steps, noise, base.dtype, quantized=True).equal

    def folded(self, case: Case) -> Arrays:
        """The original with its constants computed by ONNX Runtime, which then takes other kernels for them."""
        base = self.original[0]
        try:
            session = OnnxRuntimeSession(base.path, optimize="fold", threads=self.options.threads)
            return tensors(session.run(self.options.feeds(base.inputs, case)))
        except GraphoptError:
            return {}

    def nudged(self, case: Case) -> Arrays:
        """A₀ on the case's inputs moved by one ulp; nothing where it fails."""
        base = self.original[0]
        try:
            if self._session is None:
                self._session = OnnxRuntimeSession(base.path, optimize=False, threads=self.options.threads)
            return tensors(self._session.run(made.nudged(self.options.feeds(base.inputs, case))))
        except GraphoptError:
            return {}

    def _remember(self, name: str, a: np.ndarray, b: np.ndarray) -> None:
        for side, array in (("a", a), ("b", b)):
            self._digests.setdefault((side, name), []).append((array.shape, _digest(array)))

    def independence(self) -> str:
        """A sentence on an output that depended on the inputs and is the same for all of them now, or nothing."""
        for (side, name), mine in self._digests.items():
            yours = self._digests["b", name]
            if side == "a" and _varies(mine) and not _varies(yours):
                return f"the output `{name}` does not depend on the inputs any more"
        return ""


class _Lazy:
    """Further runs of the original in one case, made when they are first needed."""

    def __init__(self, judge: _Judge, case: Case) -> None:
        self._judge, self._case = judge, case
        self._arrays: Arrays | None = None
        self._folded: Arrays | None = None
        self._nudged: list[dict[str, np.ndarray]] | None = None

    def folded(self, name: str) -> list[np.ndarray]:
        """The output of the run with constants folded, if there is one."""
        if self._folded is None:
            self._folded = self._judge.folded(self._case)
        return [self._folded[name]] if name in self._folded else []

    def nudged(self, name: str) -> list[np.ndarray]:
        """The output of the oracle's runs with numbers nudged before they are quantized, if there are any."""
        if self._nudged is None:
            feeds = self._judge.options.feeds(self._judge.original[0].inputs, self._case)
            self._nudged = self._judge.oracle.nudged(feeds)
        return [run[name] for run in self._nudged]

    def output(self, name: str) -> list[np.ndarray]:
        """The output of the nudged run, if there is one."""
        if self._arrays is None:
            self._arrays = self._judge.nudged(self._case)
        return [self._arrays[name]] if name in self._arrays else []


def _interface(a: Runs, b: Runs) -> str:
    """What differs in names, number and declared types of inputs and outputs; empty for nothing."""
    if list(a.outputs) != list(b.outputs):
        return f"the outputs were {listed(a.outputs)} and are {listed(b.outputs)}"
    if list(a.inputs) != list(b.inputs):
        return f"the inputs were {listed(a.inputs)} and are {listed(b.inputs)}"
    for name, old in a.inputs.items():
        new = b.inputs[name]
        if not isinstance(old, TensorType) or not isinstance(new, TensorType):
            continue
        if old.dtype != new.dtype or (old.rank is not None and new.rank is not None and old.rank != new.rank):
            return f"the input `{name}` was {old} and is {new}"
        for o, n in zip(old.shape or (), new.shape or (), strict=False):
            if isinstance(n, int) and o != n:
                return f"the input `{name}` was {old} and is {new}: a dim is frozen"
    return ""


def _ask_for_shapes(path: Path, base: Runs) -> str:
    free = made.free_dims(base.inputs)
    names = [*free.batch, *free.other]
    if names:
        example = ";".join(f"{n}=1" for n in names)
        return (
            f"{path}: the original takes none of the shapes that were tried ({base.refused}): "
            f"give numbers for its symbolic dims with --shapes '{example}'"
        )
    return f"{path}: the original takes none of the inputs that were made ({base.refused}): give yours with --input"


def _varies(seen: Sequence[tuple[tuple[int, ...], bytes]]) -> bool:
    """Whether outputs of the same shape differ."""
    first: dict[tuple[int, ...], bytes] = {}
    return any(first.setdefault(shape, digest) != digest for shape, digest in seen)


def _digest(array: np.ndarray) -> bytes:
    if array.dtype.kind == "O":
        return hashlib.blake2b(repr(array.tolist()).encode(), digest_size=16).digest()
    return hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, digest_size=16).digest()
