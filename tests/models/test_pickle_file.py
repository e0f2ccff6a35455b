import os
import pickle
import sys
import types

import pytest
import torch

from t2v.errors import InputError
from t2v.models.pickle_file import load_pickle

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.count": torch.tensor([1, 2])}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3, "animatediff_config": {"a": [1]}},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
        {"model": {"state_dict": TENSORS}},
    ],
    ids=["bare", "state_dict", "parallel", "nested"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_load_pickle_finds_the_tensors(tmp_path, content, legacy):
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    loaded = load_pickle(tmp_path / "a.ckpt")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_shared_tensors_are_parted(tmp_path):
    base = torch.arange(4.0)
    torch.save({"one": base, "two": base[1:]}, tmp_path / "a.pt")
    loaded = load_pickle(tmp_path / "a.pt")
    loaded["one"].zero_()
    assert loaded["two"].tolist() == [1, 2, 3]


def test_the_callback_in_training_files_of_stable_diffusion_is_skipped(tmp_path, monkeypatch):
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    for index in range(1, 4):
        monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:index]), module)
    torch.save({"state_dict": TENSORS, "callbacks": {module.ModelCheckpoint: {"best": None}}}, tmp_path / "a.ckpt")
    monkeypatch.undo()
    assert load_pickle(tmp_path / "a.ckpt").keys() == TENSORS.keys()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_run(tmp_path, legacy):
    victim = tmp_path / "victim"
    content = {"state_dict": {**TENSORS, "evil": Malicious(str(victim))}}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"a\.ckpt is refused: besides tensors it wants \S*mkdir, which could"):
        load_pickle(tmp_path / "a.ckpt")
    (tmp_path / "b.bin").write_bytes(pickle.dumps(Malicious(str(victim))))
    with pytest.raises(InputError) as error:
        load_pickle(tmp_path / "b.bin")
    assert "\n" not in str(error.value)
    assert not victim.exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_pickle_is_one_line(tmp_path, keep):
    torch.save(TENSORS, tmp_path / "a.ckpt")
    data = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match="truncated or no pickled checkpoint") as error:
        load_pickle(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [torch.zeros(2), [torch.zeros(2)], {"a": 1}, {}, {"state_dict": 3}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds no tensors by name"):
        load_pickle(tmp_path / "a.pt")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match="no file at"):
        load_pickle(tmp_path / "a.ckpt")
