import pickle
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.search import find_clips
from t2v.data.video_io import FrameIndex, IndexedVideo, UndecodableFrame, VideoInfo
from t2v.errors import InputError
from t2v.training.config_sections import ClipsConfig
from t2v.training.objectives.clip_batches import ClipBatches, ClipSet, PixelReader, ReadFrames, curriculum_fps
from t2v.training.sampler import Position
from t2v.training.skip_log import BadFile, BrokenFrames

CONFIG = ClipsConfig(num_frames=4, fps_range=(4.0, 24.0), resolution=32)


def named_clip(name: str, num_frames: int = 48, caption: str | None = None) -> Clip:
    """A clip of 24 frames a second, of no file."""
    info = VideoInfo(num_frames, Fraction(24), num_frames / 24, 64, 32, 0, "h264")
    video = IndexedVideo(info, FrameIndex.steady(Fraction(24), num_frames))
    return Clip(Path(name), f"content of {name}", video, np.arange(num_frames, dtype=np.int32), caption)


def places_reader(clip: Clip, places: np.ndarray, window: Window) -> dict[str, Tensor]:
    """Reads which frames are asked for, and how."""
    name = torch.tensor([ord(str(clip.path))] * len(places))
    place = torch.tensor([window.place] * len(places))
    return {"frames": torch.from_numpy(places), "clip": name, "place": place, "flip": torch.tensor([window.flip] * 4)}


def batches(clips: list[Clip], read: ReadFrames = places_reader, config: ClipsConfig = CONFIG) -> ClipBatches:
    return ClipBatches(ClipSet(clips, [(32, 32)], [0] * len(clips)), config, seed=0, read=read)


def positions(count: int, num_clips: int = 4, progress: float = 1.0) -> list[Position]:
    return [Position(epoch, epoch % num_clips, progress) for epoch in range(count)]


FOUR = [named_clip(name) for name in "abcd"]


def test_batches_draw_different_frames_at_the_given_rate() -> None:
    dataset = batches(FOUR, config=CONFIG.model_copy(update={"fps_range": (3.0, 24.0)}))
    for progress in (0.0, 0.3, 1.0):
        batch = dataset.__getitems__(positions(40, progress=progress))
        steps = batch["frames"].diff(dim=1)
        assert (steps > 0).all()
        assert ((steps - 24 / batch["fps"][:, None]).abs() <= 1).all()  # frames are 1/24 s apart
    assert batch["fps"].min() < 6 < 18 < batch["fps"].max()


def test_batches_depend_on_seed_epoch_and_clip_alone() -> None:
    config = CONFIG.model_copy(update={"random_crop": True, "flip": True})
    dataset = batches(FOUR, config=config)
    alone = dataset.__getitems__([Position(1, 2, 0.5)])
    among = dataset.__getitems__([Position(0, 1, 0.5), Position(1, 2, 0.5)])
    for name in ("frames", "fps", "place", "flip"):
        assert torch.equal(alone[name][0], among[name][1])
    other_seed = ClipBatches(dataset.clips, config, 1, places_reader).__getitems__([Position(1, 2, 0.5)])
    other_epoch = dataset.__getitems__([Position(2, 2, 0.5)])
    assert alone["fps"] != other_seed["fps"] and alone["fps"] != other_epoch["fps"]


def test_crop_and_flip_vary_when_asked_for() -> None:
    fixed = batches(FOUR).__getitems__(positions(40))
    assert (fixed["place"] == 0.5).all() and not fixed["flip"].any()
    config = CONFIG.model_copy(update={"random_crop": True, "flip": True})
    varied = batches(FOUR, config=config).__getitems__(positions(40))
    places = varied["place"][:, 0]
    assert places.min() < 0.1 and places.max() > 0.9 and abs(np.corrcoef(places.T)[0, 1]) < 0.5
    assert 10 < varied["flip"][:, 0].sum() < 30
    assert torch.equal(fixed["frames"], varied["frames"])
    held_back = ClipBatches(ClipSet(FOUR, [(32, 32)], [0] * 4), config, 0, places_reader, is_held_back=True)
    assert (held_back.__getitems__(positions(40))["place"] == 0.5).all()


def test_batches_carry_captions() -> None:
    dataset = batches([named_clip("a", caption="a cat"), named_clip("b")])
    assert dataset.__getitems__([Position(0, 1, 0.0), Position(0, 0, 0.0)])["captions"] == ["", "a cat"]


class Breaking:
    """Reads as `places_reader`, but the later half of clip b is broken and clip c is gone; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, clip: Clip, places: np.ndarray, window: Window) -> dict[str, Tensor]:
        self.calls.append(str(clip.path))
        bad = places[places >= 24]
        if str(clip.path) == "b" and len(bad):
            raise UndecodableFrame(f"b: frame {bad[0]} cannot be decoded", int(bad[0]))
        if str(clip.path) == "c":
            raise InputError("c is gone")
        return places_reader(clip, places, window)


def test_broken_clips_are_replaced_and_reported() -> None:
    dataset = batches(FOUR, Breaking())
    batch = dataset.__getitems__(positions(60))
    sources = batch["clip"][:, 0]
    b, c = (torch.tensor([position.sample == place for position in positions(60)]) for place in (1, 2))
    assert not (sources == ord("c")).any() and (sources[~b & ~c] != ord("b")).sum() == 30
    assert batch["indices"].tolist() == [position.sample for position in positions(60)]
    assert set(sources[c].tolist()) >= {ord("a"), ord("d")}  # not always the same one
    assert (sources[b] == ord("b")).any()  # the half that can be read is still used
    reasons = [bad.reason for bad in batch["skipped"]]
    assert reasons.count("c is gone") == 1 and any("b: frame" in reason for reason in reasons)
    bad = next(bad for bad in batch["skipped"] if bad.path == "c")
    assert bad == BadFile("c", "c is gone", "content of c", None)


def test_what_is_known_to_be_broken_is_not_tried_again() -> None:
    read = Breaking()
    dataset = batches(FOUR, read)
    for _ in range(2):
        dataset.__getitems__(positions(60))
        first, read.calls = read.calls, []
    assert first.count("c") == 0
    failed = [bad for bad in dataset.__getitems__(positions(60))["skipped"]]
    assert not failed
    again = batches(FOUR, Breaking())
    again.broken.add(BadFile("c", "c is gone"))
    assert all(bad.path != "c" for bad in again.__getitems__(positions(60))["skipped"])


def test_replacement_depends_on_seed_epoch_and_clip_not_on_what_was_read_before() -> None:
    straight = batches(FOUR, Breaking()).__getitems__(positions(60))
    late = batches(FOUR, Breaking()).__getitems__(positions(60)[40:])
    for name in ("frames", "clip", "fps"):
        assert torch.equal(straight[name][40:], late[name])


def test_replacement_has_the_same_size() -> None:
    clips = ClipSet([named_clip(name) for name in "abcdef"], [(32, 32), (24, 40)], [0, 1, 0, 1, 0, 1])
    dataset = ClipBatches(clips, CONFIG, 0, Breaking())
    assert dataset.groups == [0, 1, 0, 1, 0, 1]
    batch = dataset.__getitems__([Position(epoch, 2, 1.0) for epoch in range(20)])
    assert set(batch["clip"][:, 0].tolist()) == {ord("a"), ord("e")}


def test_batch_says_when_nothing_can_be_read() -> None:
    clips = [named_clip("c")] * 3
    for _ in range(2):
        batch = batches(clips, Breaking()).__getitems__(positions(2, 3))
        assert "no clip can be read" in batch["unreadable"] and "frames" not in batch
        assert batch["skipped"][0].path == "c"


def test_a_clip_that_hangs_is_replaced_and_two_of_them_end_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging: set[str] = set()

    def read(clip: Clip, *arguments: object) -> np.ndarray:
        if str(clip.path) in hanging:
            time.sleep(3)
        return np.full((4, 32, 32, 3), ord(str(clip.path)), np.uint8)

    monkeypatch.setattr(Clip, "read", read)
    for names in ("a", "abcd"):
        hanging = set(names)
        batch = batches(FOUR, PixelReader(Decoding(), timeout=0.2)).__getitems__(positions(2))
        skipped = [bad.path for bad in batch["skipped"]]
        if names == "a":
            assert skipped == ["a"] and batch["skipped"][0].frame is None
            assert batch["pixels"][0, 0, 0, 0, 0] != ord("a") and batch["pixels"][1, 0, 0, 0, 0] == ord("b")
        else:
            assert len(skipped) == 2 and skipped[0] == "a"
            assert "no answer of the decoder in 0.2 s" in batch["unreadable"]


def test_held_back_clips_that_cannot_be_read_are_left_out() -> None:
    dataset = ClipBatches(ClipSet(FOUR, [(32, 32)], [0] * 4), CONFIG, 0, Breaking(), is_held_back=True)
    batch = dataset.__getitems__([Position(0, sample, 1.0) for sample in (0, 2, 3)])
    assert batch["indices"].tolist() == [0, 3] and batch["clip"][:, 0].tolist() == [ord("a"), ord("d")]
    assert [bad.path for bad in batch["skipped"]] == ["c"] and len(batch["fps"]) == len(batch["captions"]) == 2
    assert not len(dataset.__getitems__([Position(1, 2, 1.0)])["indices"])


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_batches_are_the_same_in_worker_processes(clips: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"random_crop": True, "flip": True})
    (tmp_path / "broken.mp4").write_bytes((clips / "0.mp4").read_bytes()[:-2000])
    found = find_clips(clips, Decoding()).clips
    results = []
    for workers in (0, 2):
        dataset = batches(found, PixelReader(Decoding(), 60.0), config)
        sampler = [positions(12, 6)[i : i + 3] for i in range(0, 12, 3)]
        loader: DataLoader[dict[str, Tensor]] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=sampler,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=lambda batch: batch,
        )
        results.append([batch["pixels"] for batch in loader])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert results[0][0].shape == (3, 4, 32, 32, 3) and results[0][0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("progress", "bounds", "lowest", "highest"),
    [
        (0.0, (3.0, 24.0), 24.0, 24.0),
        (0.25, (3.0, 60.0), 16.0, 30.0),
        (0.5, (3.0, 24.0), 3.0, 24.0),  # the clip is too short for 2 fps
        (1.0, (1.0, 60.0), 2.0, 30.0),
    ],
)
def test_curriculum_fps_falls_from_high_rates(
    progress: float, bounds: tuple[float, float], lowest: float, highest: float
) -> None:
    config = ClipsConfig(fps_range=(2.0, 30.0), curriculum_fraction=0.5)
    assert curriculum_fps(0.0, progress, config, bounds) == pytest.approx(lowest)
    assert curriculum_fps(1.0, progress, config, bounds) == pytest.approx(highest)


def test_broken_frames_are_remembered_by_file_and_frame() -> None:
    broken = BrokenFrames([BadFile("a", "", "", 5), BadFile("b", "", "")])
    assert broken.hit("a", np.array([3, 5])) and not broken.hit("a", np.array([3, 6]))
    assert broken.hit("b", np.array([0])) and not broken.hit("c", np.array([5]))


def test_batches_can_be_sent_to_a_process_that_is_not_forked(clips: Path) -> None:
    dataset = batches(find_clips(clips, Decoding()).clips, PixelReader(Decoding(), 60.0))
    twin = pickle.loads(pickle.dumps(dataset))
    ours, theirs = (each.__getitems__([Position(3, 1, 1.0)]) for each in (dataset, twin))
    assert torch.equal(ours["pixels"], theirs["pixels"])
