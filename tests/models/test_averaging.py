import json
from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models.averaging import average_weights
from t2v.models.base import load_config, load_state_dict, save_model

CONFIG = {"_class_name": "Motion", "num_frames": 16}


def write(folder: Path, seed: int, dtype: torch.dtype = torch.float16, **config: object) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {"a.weight": torch.randn(3, 5, generator=generator).to(dtype), "places": torch.arange(4)}
    save_model(folder, CONFIG | config, weights)
    return weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_mean_is_that_of_fp64_rounded_once(tmp_path, dtype, count):
    folders = [tmp_path / str(seed) for seed in range(count)]
    weights = [write(folder, seed, dtype)["a.weight"] for seed, folder in enumerate(folders)]
    steps = []
    average_weights(folders, tmp_path / "mean", lambda done, total: steps.append((done, total)))
    found = load_state_dict(tmp_path / "mean")
    expected = torch.stack(weights).double().mean(0)
    assert found["a.weight"].dtype == dtype
    assert torch.equal(found["a.weight"], expected.to(dtype))
    assert torch.equal(found["places"], torch.arange(4))
    assert load_config(tmp_path / "mean") == CONFIG
    assert steps == [(done, count) for done in range(1, count + 1)]


def test_dtype_is_that_of_the_first(tmp_path):
    half = write(tmp_path / "half", 0)["a.weight"]
    full = write(tmp_path / "full", 1, torch.float32)["a.weight"]
    average_weights([tmp_path / "half", tmp_path / "full"], tmp_path / "mean")
    assert torch.equal(load_state_dict(tmp_path / "mean")["a.weight"], ((half.float() + full) / 2).half())


def refused(sources: list[Path], target: Path) -> str:
    with pytest.raises(InputError) as caught:
        average_weights(sources, target)
    assert not target.exists()
    return str(caught.value)


def test_networks_that_have_no_mean(tmp_path):
    a, b, target = tmp_path / "a", tmp_path / "b", tmp_path / "mean"
    write(a, 0)
    assert "got 1" in refused([a], target)
    assert "config.json is missing" in refused([a, b], target) and "RUN/motion" in refused([b, a], target)
    write(b, 1, num_frames=8)
    assert "another num_frames in config.json" in refused([a, b], target)
    write(b, 1, fps=8.0)  # a field that the first has not
    assert "another fps in config.json" in refused([a, b], target)
    save_model(b, CONFIG, {"a.weight": torch.zeros(3, 4), "places": torch.arange(4)})
    assert "a.weight has shape (3, 4), expected (3, 5)" in refused([a, b], target)
    (b / "config.json").write_text(json.dumps(CONFIG)[:-1])
    assert "not valid JSON" in refused([a, b], target)
