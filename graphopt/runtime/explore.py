"""Runs of one model on all inputs of a verification, and the search for shapes that the original takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphopt.errors import GraphoptError, ModelError, UsageError
from graphopt.ir.types import TensorType, Type
from graphopt.runtime import inputs as made
from graphopt.runtime.onnxruntime import OnnxRuntimeSession
from graphopt.runtime.spool import Arrays, Spool
from graphopt.runtime.verification import Case


@dataclass(frozen=True)
class Options:
    """What a verification was asked for (see `graphopt.runtime.verify.verify`)."""

    exact_only: bool
    bounds: float
    seeds: int
    threads: int | None
    shapes: Mapping[str, Sequence[int]]
    given: Mapping[str, np.ndarray]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each input of a set of shapes is like."""
        return ("given",) if self.given else tuple(made.KINDS[i % len(made.KINDS)] for i in range(self.seeds))

    def feeds(self, inputs: Mapping[str, Type | None], case: Case) -> Arrays:
        """The arrays of a case; the same each time."""
        missing = {k: v for k, v in inputs.items() if k not in self.given}
        kind = case.kind if case.kind in made.KINDS else made.KINDS[0]
        return {**made.seeded(missing, case.shapes, kind, case.seed, case.integers), **self.given}


@dataclass(frozen=True)
class Runs:
    """One model under one setting, run on all cases: its interface, what it gave, and where it failed."""

    path: Path
    optimize: bool
    inputs: Mapping[str, Type | None]
    outputs: Mapping[str, Type | None]
    cases: tuple[Case, ...]
    spool: Spool
    errors: Mapping[Case, str] = field(default_factory=dict)
    refused: str = ""  # the last sentence with which shapes were refused

    def outputs_of(self, case: Case) -> Arrays | None:
        """What it gave, or None where it failed."""
        return None if case in self.errors else self.spool.get((str(self.path), self.optimize, case))

    @staticmethod
    def repeat(path: Path, optimize: bool, base: Runs, options: Options, spool: Spool) -> Runs:
        """Run a model on the cases that were found to work."""
        session = OnnxRuntimeSession(path, optimize=optimize, threads=options.threads)
        errors: dict[Case, str] = {}
        for case in base.cases:
            try:
                spool.put((str(path), optimize, case), session.run(options.feeds(base.inputs, case)))
            except GraphoptError as error:
                errors[case] = str(error)
        return Runs(path, optimize, session.inputs, session.outputs, base.cases, spool, errors)

    @staticmethod
    def explore(path: Path, options: Options, spool: Spool, notes: list[str]) -> Runs:
        """Run the original, without ONNX Runtime's optimizers, on all kinds of inputs at shapes that it takes."""
        session = OnnxRuntimeSession(path, optimize=False, threads=options.threads)
        given = {**_shapes_of(session, options.given), **options.shapes}
        free = made.free_dims(session.inputs)
        made.check_shapes(given, free)
        search = _Search(session, path, options, spool)
        worked: list[made.Shapes] = []
        cases: list[Case] = []
        for index in range(made.number_of_sets(free, given)):
            found = search.first(index, free, given, worked)
            if found is None:
                notes.append(_refusal(index, free, given, worked, search.refused))
                continue
            worked.append(found.shapes)
            cases.append(found)
            for seed, kind in list(enumerate(options.kinds))[1:] if index == 0 or given else ():
                case = Case(found.shapes, kind, seed, found.integers)
                if search.runs(case):
                    cases.append(case)
                else:
                    notes.append(f"the original refuses {case}: {search.refused}")
        return Runs(path, False, session.inputs, session.outputs, tuple(cases), spool, {}, search.refused)


class _Search:
    """Finds shapes that a network takes."""

    def __init__(self, session: OnnxRuntimeSession, path: Path, options: Options, spool: Spool) -> None:
        self.session, self.path, self.options, self.spool = session, path, options, spool
        self.refused = ""
        self.indices = any(
            isinstance(t, TensorType) and t.dtype.is_integer and t.dtype.bits > 8 for t in session.inputs.values()
        )

    def first(
        self,
        index: int,
        free: made.FreeDims,
        given: Mapping[str, Sequence[int]],
        worked: Sequence[made.Shapes],
    ) -> Case | None:
        """The first case of set `index`, on the first shapes that work."""
        for shapes in made.trials(index, free, given, worked):
            for integers in (made.INTEGERS, 1) if self.indices else (made.INTEGERS,):
                case = Case(shapes, self.options.kinds[0], 0, integers)
                if self.runs(case):
                    return case
        return None

    def runs(self, case: Case) -> bool:
        """Run a case and keep what it gives, if it runs."""
        try:
            feeds = self.options.feeds(self.session.inputs, case)
        except UsageError as error:  # an input that cannot be made up
            self.refused = str(error)
            return False
        try:
            results = self.session.run(feeds)
        except ModelError as error:
            self.refused = str(error)
            return False
        self.spool.put((str(self.path), False, case), results)
        return True


def _shapes_of(session: OnnxRuntimeSession, given: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Numbers for symbolic dims that follow from given arrays.

    Raises:
        UsageError: there is no input of that name.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, array in given.items():
        kind = session.inputs.get(name)
        if name not in session.inputs and name not in session.optional_inputs:
            raise UsageError(f"there is no input `{name}`: the inputs are {listed(session.inputs)}")
        if isinstance(kind, TensorType) and kind.shape is not None:
            for axis, (dim, size) in enumerate(zip(kind.shape, array.shape, strict=False)):
                label = made.dim_name(name, axis, dim)
                if label is not None:
                    found[label] = (size,)
    return found


def _refusal(
    index: int,
    free: made.FreeDims,
    given: Mapping[str, Sequence[int]],
    worked: Sequence[made.Shapes],
    refused: str,
) -> str:
    if given and all(n in given for n in (*free.batch, *free.other)):
        asked = next(made.trials(index, free, given), {})
        return f"the original refuses {made.describe(asked)}: {refused}"
    if worked:
        return f"the original takes no shapes but {made.describe(worked[0])} of those that were tried"
    return f"the original takes none of the shapes that were tried: {refused}"


def listed(names: Mapping[str, object]) -> str:
    """Names in backticks."""
    return ", ".join(f"`{n}`" for n in names) or "none"
