import json

import numpy as np
import pytest
from PIL import Image

from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.sources import find_sources
from t2v.errors import InputError
from t2v.evaluation.clip_set import ClipSet, Sampling
from tests.evaluation.moving_texture import moving_texture, write_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("sets") / "videos", 0, 5)


def test_frames_prompt_seed_and_facts(folder):
    clips = list(ClipSet.find(folder, Sampling(num_frames=4, frame_stride=3)))
    assert [clip.name for clip in clips] == [f"{i:02}.mkv" for i in range(5)]
    for index, clip in enumerate(clips):
        assert np.array_equal(clip.frames, moving_texture(index)[[0, 3, 6, 9]])
        assert (clip.prompt, clip.seed, clip.codec) == (f"a robot dancing {index}", index, "ffv1")
        assert clip.fps == pytest.approx(8 / 3)


def test_a_random_choice_is_the_seeds_and_starts_lie_within(folder):
    def chosen(seed):
        return list(ClipSet.find(folder, Sampling(3, 2, random_start=True, num_videos=3, seed=seed)))

    once, again, other = chosen(1), chosen(1), chosen(2)
    assert all(a.name == b.name and np.array_equal(a.frames, b.frames) for a, b in zip(once, again, strict=True))
    assert [clip.name for clip in once] != [clip.name for clip in other]
    assert any(not np.array_equal(clip.frames, moving_texture(clip.seed)[[0, 2, 4]]) for clip in once)
    for clip in once:
        whole = moving_texture(clip.seed)
        assert any(np.array_equal(clip.frames, whole[start : start + 5 : 2]) for start in range(8))


def test_the_centre_square_is_measured(folder):
    (clip, *_) = ClipSet.find(folder, Sampling(2, resolution=16))
    assert clip.frames.shape == (2, 16, 16, 3)


def test_prompts_in_the_order_of_the_names(folder, tmp_path):
    records = list(ClipSet.find(folder, Sampling(2), prompts=list("abcde")))
    assert [clip.prompt for clip in records] == [
        f"a robot dancing {i}" for i in range(5)
    ]  # the video's own comes first
    plain = write_videos(tmp_path / "plain", 0, 3, records=False)
    (plain / "01.txt").write_text("beside it\n")
    assert [clip.prompt for clip in ClipSet.find(plain, Sampling(2))] == [None, "beside it", None]
    assert [clip.prompt for clip in ClipSet.find(plain, Sampling(2), prompts=list("abc"))] == list("abc")
    with pytest.raises(InputError, match="2 prompts were given for the 3 videos"):
        ClipSet.find(plain, Sampling(2), prompts=list("ab"))


def test_a_generation_record_that_is_another_json_says_nothing(tmp_path):
    folder = write_videos(tmp_path / "videos", 0, 2)
    (folder / "00.json").write_text("{")
    (folder / "01.json").write_text(json.dumps({"prompt": 3}))
    assert [(clip.prompt, clip.seed) for clip in ClipSet.find(folder, Sampling(2))] == [(None, None)] * 2


def test_bad_videos_are_errors_or_left_out(tmp_path):
    folder = write_videos(tmp_path / "videos", 0, 3)
    (folder / "00.mkv").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"00\.mkv"):
        list(ClipSet.find(folder, Sampling(2)))
    reasons = []
    assert len(list(ClipSet.find(folder, Sampling(2), on_bad=reasons.append))) == 2 and len(reasons) == 1
    with pytest.raises(InputError, match="of 3 videos 2 can be measured, 3 are wanted"):
        list(ClipSet.find(folder, Sampling(2, num_videos=3), on_bad=reasons.append))
    with pytest.raises(InputError, match="has 12 frames, 13 are measured: choose --num-frames"):
        list(ClipSet.find(write_videos(tmp_path / "short", 0, 1), Sampling(13)))
    with pytest.raises(InputError, match="has 3 videos, 4 are to be measured"):
        ClipSet(folder, list(find_sources(folder)), Sampling(2, num_videos=4))
    with pytest.raises(InputError, match="no videos in"):
        ClipSet.find(tmp_path, Sampling(2)) if (tmp_path / "none").mkdir() else ClipSet.find(
            tmp_path / "none", Sampling(2)
        )


def test_stretches_of_a_manifest(folder, tmp_path):
    def measured(start, end, num_frames=2):
        write_manifest([ClipRow("x", str(folder / "00.mkv"), start=start, end=end)], tmp_path / "list.jsonl")
        (clip,) = ClipSet.find(tmp_path / "list.jsonl", Sampling(num_frames))
        return clip.frames

    whole = moving_texture(0)
    assert np.array_equal(measured(0.0, 0.0), whole[:2])
    assert np.array_equal(measured(0.5, 1.0), whole[4:6])
    assert np.array_equal(measured(1.0, 0.0, 4), whole[8:]), "to the end of the file"
    for start, end, num_frames, message in (
        (1.0, 0.0, 5, "has 4 frames in the stretch that the manifest gives, 5 are measured"),
        (9.0, 0.0, 2, "has 0 frames in the stretch that the manifest gives, 2 are measured"),
        (9.0, 10.0, 1, "has 0 frames in the stretch that the manifest gives, 1 are measured"),
    ):
        with pytest.raises(InputError, match=message):
            measured(start, end, num_frames)


def test_pictures_are_videos_of_one_frame(tmp_path):
    for index in range(2):
        Image.fromarray(moving_texture(index)[0]).save(tmp_path / f"{index}.png")
    (tmp_path / "1.txt").write_text("one")
    clips = list(ClipSet.find(tmp_path, Sampling(1), are_pictures=True))
    assert [(clip.name, clip.prompt, clip.codec, clip.fps) for clip in clips] == [
        ("0.png", None, "png", None), ("1.png", "one", "png", None),
    ]  # fmt: skip
    assert np.array_equal(clips[1].frames[0], moving_texture(1)[0])
