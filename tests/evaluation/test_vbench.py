import pytest

from t2v.errors import InputError
from t2v.evaluation.vbench import plan_export, write_export
from tests.evaluation.benchmark_folders import write_generated

HOUSE = "A 3D model of a 1800s victorian house."


def test_names_are_prompt_and_index_in_the_order_of_seeds(tmp_path):
    folder = write_generated(tmp_path / "videos", [HOUSE, "a cat"], 3)
    (folder / "without.mp4").write_bytes((folder / "0-1.mp4").read_bytes())
    exports = plan_export(folder, 2)
    assert [(e.name, e.seed) for e in exports] == [
        (f"{HOUSE}-0.mp4", 0), (f"{HOUSE}-1.mp4", 1), ("a cat-0.mp4", 0), ("a cat-1.mp4", 1),
    ]  # fmt: skip
    write_export(exports, tmp_path / "vbench")
    assert sorted(path.name for path in (tmp_path / "vbench").iterdir()) == sorted(e.name for e in exports)
    assert (tmp_path / "vbench" / "a cat-1.mp4").read_bytes() == (folder / "1-2.mp4").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_list_of_prompts_says_what_must_be_there(tmp_path):
    folder = write_generated(tmp_path / "videos", ["a cat", "a dog"], 1)
    assert [e.name for e in plan_export(folder, 1, ["a dog"])] == ["a dog-0.mp4"]
    with pytest.raises(InputError, match="'a cow' has 0 videos, 1 are wanted"):
        plan_export(folder, 1, ["a dog", "a cow"])
    with pytest.raises(InputError, match="'a cat' has 1 videos, 5 are wanted: t2v generate --num-videos 5"):
        plan_export(folder, 5)


def test_what_vbench_cannot_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"VBench reads folders of .mp4 or .gif alone, these are .webm"):
        plan_export(write_generated(tmp_path / "webm", ["a cat"], 1, ".webm"), 1)
    with pytest.raises(InputError, match=r"'cats/dogs' cannot be a file name"):
        plan_export(write_generated(tmp_path / "slash", ["cats/dogs"], 1), 1)
    with pytest.raises(InputError, match="cannot be a file name"):
        plan_export(write_generated(tmp_path / "long", ["é" * 130], 1), 1)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"has no video with the \.json beside it"):
        plan_export(tmp_path / "none", 1)
