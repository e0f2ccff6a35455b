"""Draw the speed-ups in results/: `pip install matplotlib`, then `python -m tests.benchmarks.plot OUTPUT.svg [NAME]`.

NAME is of a file with a row per function, results/ops.csv if there is none. One panel per mode; a bar per case and
function, over the function that it is compared with in the same run.
"""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.registry import RESULTS

BASELINE = 1.0
BAR_HEIGHT = 0.28  # inches


def latest(path: Path) -> list[dict[str, str]]:
    """The newest row of every device, case, mode and function."""
    keys = ("device", "case", "mode", "threads", "function")
    with path.open(newline="") as file:
        rows = {tuple(row.get(key) for key in keys): row for row in csv.DictReader(file)}
    return list(rows.values())


def speedup(row: Mapping[str, str]) -> float:
    """How many times as fast as what it is compared with."""
    return float(row["speedup"]) if "speedup" in row else 1 / float(row["ratio"])


def draw(rows: list[dict[str, str]], output: Path) -> None:
    """Write the figure; the suffix says the format."""
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        title = [row[key] for key in ("benchmark", "mode", "device", "dtype") if row.get(key)]
        title += [f"threads: {row['threads']}"] if row.get("threads") else []
        panels.setdefault(", ".join(title), []).append(row)
    tallest = max(map(len, panels.values()))
    figure = Figure(figsize=(9 * len(panels), 1.5 + BAR_HEIGHT * tallest), layout="constrained")
    for axes, (title, chosen) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.barh([f"{row['case']}  {row['function']}" for row in chosen], [speedup(row) for row in chosen])
        axes.axvline(BASELINE, color="black", linewidth=0.8)
        axes.invert_yaxis()
        axes.set(title=title, xlabel="times as fast")
    figure.savefig(output)


if __name__ == "__main__":
    draw(latest(RESULTS / f"{(*sys.argv[2:], 'ops')[0]}.csv"), Path(sys.argv[1]))
