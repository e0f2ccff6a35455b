import json
from pathlib import Path

import pytest

from t2v.errors import InputError
from t2v.training.checkpoint import Checkpoint, save_checkpoint
from t2v.training.config_files import load_config
from t2v.training.run_folder import RunFolder, data_fingerprint


def test_start_writes_a_config_that_is_read_back(tmp_path: Path) -> None:
    config = load_config("image", overrides=["seed=5"])
    RunFolder(tmp_path / "run").start(config)
    path = tmp_path / "run" / "config.yaml"
    assert load_config("image", [path]) == config
    head = path.read_text().splitlines()[:2]
    assert "t2v train image" in head[0] and "git_commit" in head[1] and "torch" in head[1]


def test_start_refuses_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output_dir"):
        RunFolder(tmp_path / "file" / "run").start(load_config("image"))


def test_find_checkpoint_protects_a_run_and_finds_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.find_checkpoint(None) is None and folder.find_checkpoint("auto") is None
    for step in (1, 2):
        newest = save_checkpoint(folder.checkpoints, step, Checkpoint({}), keep=2)
    assert folder.find_checkpoint("auto") == newest
    with pytest.raises(InputError, match="--resume auto"):
        folder.find_checkpoint(None)
    with pytest.raises(InputError, match="nowhere"):
        folder.find_checkpoint("nowhere")


def test_find_checkpoint_branches_off_in_another_folder_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    older, newer = (save_checkpoint(folder.checkpoints, step, Checkpoint({}), keep=2) for step in (1, 2))
    assert folder.find_checkpoint(str(newer)) == newer
    with pytest.raises(InputError, match="step-00000002; set another output_dir"):
        folder.find_checkpoint(str(older))
    assert RunFolder(tmp_path / "branch").find_checkpoint(str(older)) == older


def test_record_has_an_entry_for_each_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.record({"global_step": 0})
    folder.record({"global_step": 7})
    starts = json.loads((tmp_path / "run.json").read_text())
    assert [start["global_step"] for start in starts] == [0, 7]
    assert all({"t2v", "git_commit", "torch"} <= start.keys() for start in starts)


def test_data_fingerprint_follows_names_sizes_and_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"12")
    found = [data_fingerprint(str(tmp_path))]
    (tmp_path / "a.mp4").write_bytes(b"123")
    found.append(data_fingerprint(str(tmp_path)))
    (tmp_path / "manifest.parquet").write_bytes(b"rows")
    found.append(data_fingerprint(str(tmp_path)))
    assert len({entry["sha256"] for entry in found}) == 3
    (tmp_path / "b.mp4").write_bytes(b"1")  # the manifest says what the data is
    assert data_fingerprint(str(tmp_path)) == found[-1]
    assert data_fingerprint(None)["sha256"] is None


def test_forget_metrics_after_drops_later_and_torn_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.log({"global_step": step})
    with open(folder.metrics, "a") as file:
        file.write('{"global_st')
    folder.forget_metrics_after(2)
    assert [json.loads(line)["global_step"] for line in folder.metrics.read_text().splitlines()] == [1, 2]


def test_fingerprint_follows_names_and_sizes_but_does_not_read_media(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "shards.tar"):
        (tmp_path / name).write_bytes(b"x" * 10)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
        folder, shard = (data_fingerprint(str(path))["sha256"] for path in (tmp_path, tmp_path / "shards.tar"))
    (tmp_path / "shards.tar").write_bytes(b"x" * 11)
    assert data_fingerprint(str(tmp_path))["sha256"] != folder
    assert data_fingerprint(str(tmp_path / "shards.tar"))["sha256"] != shard
    (tmp_path / "manifest.parquet").write_bytes(b"rows")
    by_manifest = data_fingerprint(str(tmp_path))["sha256"]
    (tmp_path / "b.mp4").write_bytes(b"")
    assert data_fingerprint(str(tmp_path))["sha256"] == by_manifest
