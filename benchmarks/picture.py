"""Draw docs/compile.svg from a run of benchmarks/compile.py: time and peak memory, one bar for each contender.

python benchmarks/compile.py resnet152 --rounds 15 --json run.json
python benchmarks/picture.py run.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "compile.svg"
OURS, OTHERS, REPEATED = "#1f6feb", "#9aa4b2", "#a8c7f5"


def colour(name: str) -> str:
    if not name.startswith("graphopt"):
        return OTHERS
    return REPEATED if "A/A" in name else OURS


def draw(run: dict, path: Path) -> None:
    """One picture of the run's first model."""
    model = run["models"][0]
    rows = [r for r in model["rows"] if r["error"] is None][::-1]
    names = [f"{r['name']} {r['version']}" for r in rows]
    colours = [colour(r["name"]) for r in rows]
    left = {name: out["batch_norms"] for name, out in model["outputs"].items()}
    plt.rcParams.update({"svg.hashsalt": "graphopt", "font.size": 9, "font.family": "sans-serif"})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, constrained_layout=True)
    panels = (
        (axes[0], [r["seconds"] for r in rows], "seconds until the file is complete (median)", "{:.2f}"),
        (axes[1], [r["peak_bytes"] / 1e6 for r in rows], "peak resident memory, MB", "{:.0f}"),
    )
    for axis, values, label, form in panels:
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, labels=[form.format(v) for v in values], padding=3)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    for i, row in enumerate(rows):
        axes[1].text(1.02, i, f"{left[row['name']]} BN left", transform=axes[1].get_yaxis_transform(), va="center")
    figure.suptitle(f"{model['model']}, {model['input']['bytes'] / 1e6:.0f} MB, {model['input']['batch_norms']} BNs")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="what --json wrote")
    parser.add_argument("-o", "--output", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    draw(json.loads(arguments.run.read_text(encoding="utf-8")), arguments.output)


if __name__ == "__main__":
    main()
