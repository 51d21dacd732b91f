"""What a verification found: every input that was tried, every output's verdict, and one sentence for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.analysis.equal import BLIND_NOISE, Verdict
from graphopt.runtime.inputs import Shapes, describe


@dataclass(frozen=True)
class Case:
    """One set of inputs: numbers for the symbolic dims, and what the numbers are like (`normal`, ..., `given`)."""

    shapes: Shapes = field(hash=False)
    kind: str
    seed: int = 0
    integers: int = 0  # integer inputs are below this

    def __str__(self) -> str:
        where = f" with {describe(self.shapes)}" if self.shapes else ""
        return f"{self.kind} inputs{where}"


@dataclass(frozen=True)
class OutputVerdict:
    """The verdict on one output in one case."""

    name: str
    verdict: Verdict


@dataclass(frozen=True)
class CaseVerdict:
    """What came of one case.

    Attributes:
        reference: `float64` where the original was evaluated by the interpreter, `runtime` where its own run in
            ONNX Runtime stands in, empty where nothing was compared.
        error: why the result could not be run although the original could; empty otherwise.
        note: why there is no float64 reference; empty where there is one.
    """

    case: Case
    outputs: tuple[OutputVerdict, ...] = ()
    reference: str = ""
    error: str = ""
    note: str = ""

    @property
    def equal(self) -> bool:
        """Whether the result ran and every output is equal."""
        return not self.error and all(o.verdict.equal for o in self.outputs)

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "shapes": dict(self.case.shapes),
            "inputs": self.case.kind,
            "seed": self.case.seed,
            "equal": self.equal,
            "reference": self.reference,
            "error": self.error,
            "note": self.note,
            "outputs": {o.name: o.verdict.to_json() for o in self.outputs},
        }


@dataclass(frozen=True)
class Suspect:
    """Where original and result part: the first value, by how much, and the rules that touched it.

    Attributes:
        value: the first value whose name survives in both and that differs.
        verdict: how it differs.
        rules: rules that touched it, as far as the record says.
        after: the last values before it that are still equal.
    """

    value: str
    verdict: Verdict
    rules: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __str__(self) -> str:
        by = f", touched by {', '.join(self.rules)}" if self.rules else ""
        return f"the first value that parts is `{self.value}`{by} ({self.verdict})"

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "value": self.value,
            "rules": list(self.rules),
            "after": list(self.after),
            "verdict": self.verdict.to_json(),
        }


@dataclass(frozen=True)
class Verification:
    """Whether a result is equal to its original.

    Attributes:
        cases: what was compared, in order.
        problem: why the result is not equal apart from numbers, or why nothing could be compared; else empty.
        ran: whether anything was compared.
        suspect: where a difference begins, where that was looked for and found.
        notes: what a reader should know: shapes that the original refuses, references that were left out.
    """

    cases: tuple[CaseVerdict, ...] = ()
    problem: str = ""
    ran: bool = True
    suspect: Suspect | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether inputs were compared and everything was equal on all of them."""
        return self.ran and bool(self.cases) and not self.problem and all(c.equal for c in self.cases)

    @property
    def failed(self) -> CaseVerdict | None:
        """The first case that is not equal."""
        return next((c for c in self.cases if not c.equal), None)

    @property
    def sentence(self) -> str:
        """All in one sentence."""
        if not self.ran:
            return f"could not be verified: {self.problem}"
        if self.problem:
            return self.problem
        failed = self.failed
        if failed is None:
            return self._praise()
        if failed.error:
            return f"the result fails on {failed.case}, which the original takes: {failed.error}"
        output = next(o for o in failed.outputs if not o.verdict.equal)
        suspect = f"; {self.suspect}" if self.suspect is not None else ""
        return f"the output `{output.name}` differs on {failed.case}: {output.verdict}{suspect}"

    def _praise(self) -> str:
        verdicts = [o.verdict for c in self.cases for o in c.outputs]
        outputs = len(self.cases[0].outputs) if self.cases else 0
        counted = f"{_count(outputs, 'output')} on {_count(len(self.cases), 'input')}"
        measured = [v for v in verdicts if v.allowed > 0]
        excused = sum(v.excused for v in verdicts)
        more = f", {excused} elements differ where the original's own runs do" if excused else ""
        if not measured:
            return f"identical: {counted}{more}"
        worst = max(measured, key=lambda v: v.error / v.allowed)
        blind = any(v.blind for v in verdicts)
        doubt = f"; its own rounding is over {BLIND_NOISE:.0%} on some, which shows little" if blind else ""
        return f"equal: {counted}, error {worst.error:.2g} where {worst.allowed:.2g} is the original's own{more}{doubt}"

    def lines(self) -> list[str]:
        """For a person: one line a set of inputs, and the notes."""
        if not self.ran:
            return [self.sentence]
        found = [self.problem] if self.problem else []
        for c in self.cases:
            if c.error:
                found.append(f"not equal on {c.case}: {c.error}")
                continue
            word = "equal" if c.equal else "not equal"
            against = " (against float64)" if c.reference == "float64" else ""
            found.append(f"{word} on {c.case}{against}: {_worst(c.outputs)}")
        if self.suspect is not None:
            found.append(str(self.suspect))
        return [*found, *(f"note: {n}" for n in self.notes)]

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "equal": self.equal,
            "ran": self.ran,
            "sentence": self.sentence,
            "cases": [c.to_json() for c in self.cases],
            "suspect": None if self.suspect is None else self.suspect.to_json(),
            "notes": list(self.notes),
        }


def _worst(outputs: Sequence[OutputVerdict]) -> str:
    if not outputs:
        return "no outputs"

    def badness(output: OutputVerdict) -> float:
        v = output.verdict
        if not v.equal:
            return math.inf
        return v.error / v.allowed if v.allowed else 0.0

    worst = max(outputs, key=badness)
    return f"`{worst.name}` {worst.verdict}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def not_run(problem: str, notes: Sequence[str] = ()) -> Verification:
    """A verification that compared nothing, which is never equal."""
    return Verification(problem=problem, ran=False, notes=tuple(notes))


def broken(problem: str, notes: Sequence[str] = (), cases: Mapping[Case, CaseVerdict] | None = None) -> Verification:
    """A result that is not equal whatever its numbers are."""
    return Verification(tuple((cases or {}).values()), problem, True, None, tuple(notes))
