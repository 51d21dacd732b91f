"""Reproducers: what is needed to see a rule fail again, in a folder of its own.

`before.txt` and `after.txt` are the site's two sides as text, `constants.npz` the data of their constants by
digest, `why.txt` the rule and the error. `graphopt.parse(text, constants=...)` reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt._version import __version__
from graphopt.ir.graph import Graph
from graphopt.ir.types import string
from graphopt.rewrite.check import specimen
from graphopt.rewrite.site import Patch, Site

if TYPE_CHECKING:
    from graphopt.rewrite.rule import Rule


def write_reproducer(folder: Path, rule: Rule, site: Site, patch: Patch | None, error: str) -> str:
    """Write a reproducer below `folder`; its path, or '' where the folder cannot be written."""
    target = folder / re.sub(r"[^\w.-]+", "_", f"{rule.name}-{site.label}")[:120]
    try:
        target.mkdir(parents=True, exist_ok=True)
        cut = specimen(site, patch or Patch())
        sides = {"before": cut.before} if patch is None else {"before": cut.before, "after": cut.after}
        for name, graph in sides.items():
            (target / f"{name}.txt").write_text(str(graph), encoding="utf-8")
        np.savez(target / "constants.npz", **_arrays(sides.values()))  # type: ignore[arg-type]  # names to arrays
        (target / "why.txt").write_text(
            f"graphopt {__version__}\nrule {rule.name} ({rule.cls.value})\nat {site.label}\n{error}\n",
            encoding="utf-8",
        )
    except (OSError, ValueError):
        return ""
    return str(target)


def _arrays(graphs: Iterable[Graph]) -> dict[str, np.ndarray]:
    constants = (v.constant for g in graphs for v in g.constants)
    return {c.digest(): c.array() for c in constants if c is not None and c.type.dtype != string}
