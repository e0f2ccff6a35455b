import json
from pathlib import Path

import pytest
import yaml

from t2v.errors import InputError
from t2v.evaluation.benchmark_data import class_words, msrvtt, ucf101
from t2v.evaluation.zero_shot import ZeroShotProtocol, choose_generated
from tests.evaluation.benchmark_folders import write_generated, write_msrvtt, write_ucf101

CONFIGS = Path(__file__).parents[2] / "configs" / "evaluation"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    write_ucf101(folder / "ucf")
    write_msrvtt(folder / "msrvtt")
    return folder


def test_the_files_of_the_repository_are_read():
    ucf, vtt = (ZeroShotProtocol.read(CONFIGS / name) for name in ("ucf101.yaml", "msrvtt.yaml"))
    assert ucf.networks == ("i3d_torchscript", "i3d_pretrained_400") and vtt.networks == ("inception", "clip")
    assert ucf.published["FVD"].value == 367.23 and vtt.published["CLIPSIM"].value == 0.3049
    assert ucf.published["IS"].metric is None, "the IS of videos is measured by no metric here"
    assert len(ucf.differs) >= 4 and len(vtt.differs) >= 3
    assert (ucf.sampling().resolution, ucf.reference_sampling().random_start) == (256, True)


def test_ucf101_by_its_lists(root):
    assert len(ucf101(root / "ucf", "all")) == 6
    listed = ucf101(root / "ucf", "trainlist01")
    assert [video.captions[0] for video in listed] == ["ApplyEyeMakeup"] * 3 + ["YoYo"]
    assert class_words("ApplyEyeMakeup") == "apply eye makeup" and class_words("YoYo") == "yo yo"
    for folder, split, message in (
        (root / "ucf", "testlist01", "no testlist01.txt"),
        (root / "msrvtt", "all", "no UCF-101 videos"),
        (root / "none", "all", "--data: no folder"),
    ):
        with pytest.raises(InputError, match=message):
            ucf101(folder, split)


def test_msrvtt_by_its_json(root):
    videos = msrvtt(root / "msrvtt", "test")
    assert [video.path.stem for video in videos] == ["video7010", "video7011"]
    assert videos[0].captions == ("a man talks 7010", "a person is cooking")
    with pytest.raises(InputError, match="no JSON of MSR-VTT that names videos of the split 'validate'"):
        msrvtt(root / "msrvtt", "validate")
    (root / "msrvtt" / "TestVideo" / "video20.mp4").unlink()
    with pytest.raises(InputError, match=r"lacks video20.mp4, which test_videodatainfo.json lists"):
        msrvtt(root / "msrvtt", "train")


def test_several_jsons_of_msrvtt_double_no_captions_and_damaged_ones_are_named(tmp_path):
    root = write_msrvtt(tmp_path)
    whole = json.loads((root / "test_videodatainfo.json").read_text())
    rest = [video for video in whole["videos"] if video["split"] != "test"]
    (root / "videodatainfo.json").write_text(json.dumps(whole))  # the same videos once more
    (root / "others.json").write_text(json.dumps({**whole, "videos": rest}))  # their captions, not the videos
    assert [video.captions for video in msrvtt(root, "test")] == [
        ("a man talks 7010", "a person is cooking"), ("a man talks 7011", "a person is cooking"),
    ]  # fmt: skip
    for damage in ({"videos": [{"split": "test"}]}, {"videos": ["x"]}, {"sentences": [{"caption": "a"}]}):
        (root / "damaged.json").write_text(json.dumps({**whole, **damage}))
        with pytest.raises(InputError, match=r"damaged\.json is no JSON of MSR-VTT .*: expected videos with"):
            msrvtt(root, "test")


def protocol(tmp_path, name, **changes):
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return ZeroShotProtocol.read(tmp_path / "p.yaml")


def test_classes_are_asked_for_as_often_as_they_are_in_the_split(root, tmp_path):
    read = protocol(tmp_path, "ucf101", prompts={"per": "class", "template": "a {}", "sentences": {"YoYo": "a toy"}})
    real = read.videos(root / "ucf")
    assert read.plan(real) == {"a apply eye makeup": 7500, "a toy": 2500}
    assert read.plan(real, 7) == {"a apply eye makeup": 5, "a toy": 2}


def test_classes_of_one_sentence_are_counted_together(root, tmp_path):
    sentences = dict.fromkeys(("ApplyEyeMakeup", "YoYo"), "a person")
    read = protocol(tmp_path, "ucf101", prompts={"per": "class", "sentences": sentences})
    assert read.plan(read.videos(root / "ucf"), 7) == {"a person": 7}


def test_captions_all_or_one_a_video(root, tmp_path):
    read = protocol(tmp_path, "msrvtt")
    real = read.videos(root / "msrvtt")
    assert read.plan(real) == {"a man talks 7010": 1, "a man talks 7011": 1, "a person is cooking": 2}
    assert read.plan(real, 3).total() == 3 and read.plan(real, 3) == read.plan(real, 3)
    assert protocol(tmp_path, "msrvtt", prompts={"per": "video"}).plan(real).total() == 2
    with pytest.raises(InputError, match="5 videos are wanted, the data set has 4 captions"):
        read.plan(real, 5)


def test_generated_videos_are_chosen_by_prompt_lowest_seeds_first(tmp_path):
    folder = write_generated(tmp_path / "videos", ["a", "b"], 3)
    chosen = choose_generated(folder, {"b": 2, "a": 1})
    assert [source.path.name for source in chosen] == ["1-3.mp4", "1-2.mp4", "0-3.mp4"]
    with pytest.raises(InputError, match="has 3 videos of 'b', 4 are wanted"):
        choose_generated(folder, {"b": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "dataset: field required"),
        ("[", "is no YAML"),
        ("3", "the file: .*got 3"),
    ],
)
def test_wrong_files_are_told_in_a_line(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        ZeroShotProtocol.read(tmp_path / "p.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot read"):
        ZeroShotProtocol.read(tmp_path / "none.yaml")


def test_unknown_keys_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"stride: extra inputs are not permitted, got 3"):
        protocol(tmp_path, "ucf101", stride=3)
    with pytest.raises(InputError, match=r"seed: .* greater than or equal to 0, got -1"):
        protocol(tmp_path, "ucf101", seed=-1)
    for template in ("a {x}", "a {} {}", "a video"):
        with pytest.raises(InputError, match=r"prompts\.template: string should match pattern"):
            protocol(tmp_path, "ucf101", prompts={"per": "class", "template": template})
