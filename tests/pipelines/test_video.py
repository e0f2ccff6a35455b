import numpy as np
import pytest

from t2v.errors import InputError
from t2v.pipelines.video import Video


def frames(num_frames=3, height=32, width=48):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("bad", [frames().astype(np.float32), frames()[0], frames()[..., :2]])
def test_video_refuses_other_frames(bad):
    with pytest.raises(InputError, match="a video needs uint8 frames"):
        Video(bad, 8)


def test_save_keeps_png_frames_exactly(tmp_path):
    from imageio.v3 import imread

    video = Video(frames(), 8)
    assert video.save(tmp_path / "pngs") == tmp_path / "pngs"
    written = np.stack([imread(path) for path in sorted((tmp_path / "pngs").iterdir())])
    assert np.array_equal(written, video.frames)


def test_save_writes_the_prompt_into_mp4_metadata(tmp_path):
    import av

    path = Video(frames(), 12, {"prompt": "a cat", "seed": 7, "model": "mini"}).save(tmp_path / "cat.mp4")
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "a cat"
        assert container.metadata["comment"] == "model mini, seed 7"
        assert container.streams.video[0].average_rate == 12


def test_save_replaces_only_when_told(tmp_path):
    path = tmp_path / "cat.webp"
    Video(frames(), 8).save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists"):
        Video(255 - frames(), 8).save(path)
    assert path.read_bytes() == before
    Video(255 - frames(), 8).save(path, overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize(("max_side", "shape"), [(48, (32, 48)), (24, (16, 24)), (20, (11, 16))])
def test_thumbnail_fits(max_side, shape):
    small = Video(frames(), 8).thumbnail(max_side)
    assert small.frames.shape == (3, *shape, 3)


def test_repr_says_size_rate_and_prompt():
    assert repr(Video(frames(), 7.5, {"prompt": "a cat"})) == "Video(3 frames, 48x32, 7.5 fps, prompt='a cat')"
