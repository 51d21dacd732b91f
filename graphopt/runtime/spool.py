"""A place for the outputs of many runs until they are compared: small ones in memory, large ones on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np

from graphopt.runtime.session import tensors
from graphopt.runtime.verification import Case

SPILL_BYTES = 1 << 24  # larger arrays go to temporary files, and are mapped when they are asked for

Arrays: TypeAlias = dict[str, np.ndarray]


class Spool:
    """Outputs that wait for their comparison: small ones in memory, large ones in temporary files."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool, Case], dict[str, np.ndarray | Path]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="graphopt-verify-")
        self._serial = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.clear()
        self._folder.cleanup()

    def put(self, key: tuple[str, bool, Case], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the outputs of one run, sequences taken apart."""
        self._kept[key] = {name: self._store(array) for name, array in tensors(arrays).items()}

    def get(self, key: tuple[str, bool, Case]) -> Arrays | None:
        """The outputs of a run."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        return {n: np.load(a, mmap_mode="r") if isinstance(a, Path) else a for n, a in kept.items()}

    def _store(self, array: np.ndarray) -> np.ndarray | Path:
        if array.nbytes < SPILL_BYTES or array.dtype.kind == "O":
            return array
        self._serial += 1
        path = Path(self._folder.name) / f"{self._serial}.npy"
        np.save(path, array)
        return path
