import numpy as np
import pytest

from t2v.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from t2v.errors import InputError
from t2v.evaluation.labelled_clips import ActorPictures, balanced, labelled_clips
from tests.evaluation.moving_sprite import make_sprite


def test_labelled_clips_read_frames_and_truth_at_a_rate(clips_folder):
    clip = labelled_clips(clips_folder)[1]
    frames, truth = clip.read(4, 4.0)
    assert (clip.verb, clip.height, frames.shape) == ("running", 64, (4, 64, 64, 3))
    assert truth.x.tolist() == [21, 29, 37, 45]


def test_labelled_clips_refuse_clips_that_are_too_short(clips_folder):
    with pytest.raises(InputError, match="lasts 1"):
        labelled_clips(clips_folder)[0].read(16, 8.0)


@pytest.mark.parametrize(("change", "message"), [("verb", "no label 'verb'"), ("caption", "no caption")])
def test_labelled_clips_say_what_is_missing(clips_folder, tmp_path, change, message):
    rows = read_manifest(clips_folder)
    if change == "caption":
        rows[2].caption = None
    else:
        rows[2].extra.pop(change)
    write_manifest(rows, tmp_path / MANIFEST_NAME)
    with pytest.raises(InputError, match=rf"{message} for 2\.mp4"):
        labelled_clips(tmp_path)


def test_balanced_takes_the_verbs_in_turn(clips_folder):
    clips = labelled_clips(clips_folder)
    uneven = [clips[0], clips[2], clips[1], clips[3]]
    assert balanced(uneven, 3) == [clips[0], clips[1], clips[2]]


def test_actor_pictures_name_what_is_missing(clips_folder, pictures_folder, tmp_path):
    pictures = ActorPictures(pictures_folder)
    np.testing.assert_array_equal(pictures("robot"), make_sprite())
    with pytest.raises(InputError, match="no picture of 'cat'"):
        pictures("cat")
    with pytest.raises(InputError, match=r"no actors\.json.*t2v-data world sprites"):
        ActorPictures(tmp_path)
