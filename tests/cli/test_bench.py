import json

import pytest
import torch
from typer.testing import CliRunner

from t2v.cli.bench import app
from t2v.errors import InputError
from t2v.evaluation import op_speed, timing


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # interpreted kernels have no speed to measure
    monkeypatch.setattr(op_speed, "MINI_LEVELS", (op_speed.LevelShape(8, 32, 2),))
    changes = {"block_out_channels": (16, 16, 16), "norm_num_groups": 4, "cross_attention_dim": 8}
    monkeypatch.setattr(op_speed, "MINI_UNET", {**op_speed.MINI_UNET, **changes})
    monkeypatch.setattr(timing, "measure_roofline", lambda *_: timing.Roofline(1e10, 1e10))


@pytest.mark.usefixtures("small")
def test_bench_prints_a_row_for_each_function() -> None:
    done = CliRunner().invoke(app, ["--device", "cpu", "--dtype", "fp32", "--num-frames", "2", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    for name in ("temporal_attention_8x8x32_f2", "group_norm_silu_8x8x32_f2", "video U-Net", "2 frames, fp32"):
        assert name in done.output


@pytest.mark.usefixtures("small")
def test_bench_as_json() -> None:
    options = ["--device", "cpu", "--dtype", "fp32", "--num-frames", "2", "--rounds", "1", "--forward", "--json"]
    rows = json.loads(CliRunner().invoke(app, options).output)
    assert {row["mode"] for row in rows} == {"forward"}
    assert all(row["timing"]["median"] > 0 for row in rows)


def test_unknown_sizes_are_refused() -> None:
    done = CliRunner().invoke(app, ["--sizes", "xl", "--device", "cpu"])
    assert isinstance(done.exception, InputError)
    assert "'xl'" in str(done.exception)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_refused() -> None:
    assert isinstance(CliRunner().invoke(app, ["--device", "cuda"]).exception, InputError)
