import json
from pathlib import Path

import pytest
import torch

from t2v.errors import InputError
from t2v.models.averaging import average
from t2v.models.base import load_config, load_header, load_state_dict, save_model
from t2v.models.lora import LORA_FILE

CONFIG = {"_class_name": "Motion", "num_frames": 16}
METADATA = {"t2v_motion": "{}"}


def write(folder: Path, seed: int, dtype: torch.dtype = torch.float16, **config: object) -> torch.Tensor:
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)
    save_model(folder, CONFIG | config, {"a.weight": weights}, metadata=METADATA)
    return weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_mean_is_that_of_fp64_rounded_once(tmp_path, dtype, count):
    folders = [tmp_path / str(seed) for seed in range(count)]
    weights = [write(folder, seed, dtype) for seed, folder in enumerate(folders)]
    steps = []
    average(folders, lambda done, total: steps.append((done, total))).save(tmp_path / "mean")
    found = load_state_dict(tmp_path / "mean")["a.weight"]
    assert found.dtype == dtype and torch.equal(found, torch.stack(weights).double().mean(0).to(dtype))
    assert load_config(tmp_path / "mean") == CONFIG
    assert load_header(tmp_path / "mean").metadata == {"format": "pt", **METADATA}
    assert steps == [(done, count) for done in range(1, count + 1)]


def test_dtype_is_that_of_the_first(tmp_path):
    half, full = write(tmp_path / "half", 0), write(tmp_path / "full", 1, torch.float32)
    found = average([tmp_path / "half", tmp_path / "full"]).weights["a.weight"]
    assert torch.equal(found, ((half.double() + full.double()) / 2).half())


def test_versions_may_differ(tmp_path):
    tensor = torch.zeros(3, 5)
    for name, config in (("a", {"_diffusers_version": "0.30", "motion": {"fps": None}}), ("b", {"motion": {}})):
        save_model(tmp_path / name, CONFIG | config, {"a.weight": tensor}, metadata={"config": json.dumps(config)})
    assert average([tmp_path / "a", tmp_path / "b"]).config["_diffusers_version"] == "0.30"


def refused(*sources: Path) -> str:
    with pytest.raises(InputError) as caught:
        average(sources)
    return str(caught.value)


def test_networks_that_have_no_mean(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write(a, 0)
    assert "got 1" in refused(a)
    assert "config.json is missing" in refused(a, b) and "RUN/motion" in refused(b, a)
    write(b, 1, num_frames=8)
    assert refused(a, b).startswith(f"{b}/config.json: num_frames is 8, that of {a} 16: average trainings of one")
    write(b, 1, fps=8.0)  # a field that the first has not
    assert f"fps is 8.0, that of {a} None" in refused(a, b)
    write(b, 1, _class_name="Interpolation")
    assert "_class_name is Interpolation, that of" in refused(a, b)
    save_model(b, CONFIG, {"a.weight": torch.zeros(3, 4)}, metadata=METADATA)
    assert f"{b}, shapes of its weights: a.weight is (3, 4), that of {a} (3, 5)" in refused(a, b)
    save_model(b, CONFIG, {"b.weight": torch.zeros(3, 5)}, metadata=METADATA)
    assert f"a.weight is None, that of {a} (3, 5)" in refused(a, b)
    save_model(b, CONFIG, {"a.weight": torch.zeros(3, 5)}, metadata={"t2v_motion": '{"fps": 12}'})
    assert f"{b}, header of its weights: t2v_motion.fps is 12, that of {a} None" in refused(a, b)
    write(b, 1)
    (b / LORA_FILE).touch()
    assert f"adapters of spatial layers ({LORA_FILE})" in refused(a, b) == refused(b, a)
    (b / LORA_FILE).unlink()
    (b / "config.json").write_text(json.dumps(CONFIG)[:-1])
    assert "not valid JSON" in refused(a, b)
