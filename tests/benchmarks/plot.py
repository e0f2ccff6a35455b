"""Draw the speed-ups in results/ops.csv: `pip install matplotlib`, then `python -m tests.benchmarks.plot OUTPUT.svg`.

One panel per mode; a bar per case and function, over the case's first function in the same run.
"""

import csv
import sys
from pathlib import Path

from tests.benchmarks.registry import RESULTS

BASELINE = 1.0
BAR_HEIGHT = 0.28  # inches


def latest(path: Path) -> list[dict[str, str]]:
    """The newest row of every device, case, mode and function."""
    with path.open(newline="") as file:
        rows = {tuple(row[key] for key in ("device", "case", "mode", "function")): row for row in csv.DictReader(file)}
    return list(rows.values())


def draw(rows: list[dict[str, str]], output: Path) -> None:
    """Write the figure; the suffix says the format."""
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(row["mode"] for row in rows))
    tallest = max(sum(row["mode"] == mode for row in rows) for mode in modes)
    figure = Figure(figsize=(9 * len(modes), 1.5 + BAR_HEIGHT * tallest), layout="constrained")
    for axes, mode in zip(figure.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        chosen = [row for row in rows if row["mode"] == mode]
        axes.barh([f"{row['case']}  {row['function']}" for row in chosen], [float(row["speedup"]) for row in chosen])
        axes.axvline(BASELINE, color="black", linewidth=0.8)
        axes.invert_yaxis()
        axes.set(title=f"{mode}, {chosen[0]['device']}, {chosen[0]['dtype']}", xlabel="times as fast as the first")
    figure.savefig(output)


if __name__ == "__main__":
    draw(latest(RESULTS / "ops.csv"), Path(sys.argv[1]))
