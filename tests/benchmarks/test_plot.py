"""The plot, of the figures that are committed and of those that a GPU will make."""

import csv
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib", reason="the plot needs matplotlib")
pytest.importorskip("diffusers")

from t2v.evaluation.op_speed import Measurement
from t2v.evaluation.timing import Roofline, Timing
from tests.benchmarks import ops, plot
from tests.benchmarks.registry import RESULTS, save_rows


def drawn(name: Path, folder: Path) -> str:
    """The text of the picture: each string stands in a comment before its outlines."""
    output = folder / "figure.svg"
    plot.draw(plot.latest(name), output)
    return output.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["attention_cpu", "unet_inflation", "mini_ops"])
def test_committed_figures_are_drawn(name: str, tmp_path: Path) -> None:
    path = RESULTS / f"{name}.csv"
    picture = drawn(path, tmp_path)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            assert row["device"] in picture and f"{row['case']}  {row['function']}" in picture


def test_rows_of_the_ops_are_drawn_a_panel_a_mode_and_the_newest_counts(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    for mode, speedup in (("forward", 1.5), ("backward", 2.0), ("forward", 3.0)):
        timing = Timing(1.0, 1.0, 1.0, 0, False)
        found = Measurement("conv_8x8", mode, "triton", timing, speedup, 1e9, 1e12, 0.5)
        save_rows([ops.row(found, torch.device("cpu"), torch.float32, Roofline(1e9, 1e12))], path)
    assert [(row["mode"], plot.speedup(row)) for row in plot.latest(path)] == [("forward", 3.0), ("backward", 2.0)]
    picture = drawn(path, tmp_path)
    assert picture.count("conv_8x8  triton") == 2 and "forward, " in picture and "backward, " in picture
