"""How fast clips come from video files: our data set against a plain PyAV loop and decord, 16 frames at 256x256 each.

All of them show the same moments of the same files, decode with one thread, scale inside the decoder and cut the centre
square. The times are of CLIPS clips; the processor time of worker processes is not counted. Real files are used where
`T2V_TEST_DATA` names a folder of them, beside files made for the purpose.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from torch.utils.data import DataLoader

from t2v.data.clips import Clip, Decoding
from t2v.data.search import find_clips
from t2v.data.transforms import cover_size, cut
from t2v.data.video_io import EncodeOptions, write_video
from t2v.training.config_sections import ClipsConfig
from t2v.training.objectives.clip_batches import ClipBatches, ClipSet, PixelReader
from t2v.training.sampler import Position
from tests.benchmarks.registry import Case, benchmark

try:
    import decord
except ImportError:
    decord = None

CLIPS, BATCH = 24, 4
SIZE = (256, 256)
CONFIG = ClipsConfig(num_frames=16, fps_range=(4.0, 12.0), resolution=SIZE[0])
REAL = (
    "asl_book.mkv asl_sister.mkv bikes_city.mp4 car_turn.mp4 cars_topdown.mp4 toy_frog.mp4 toy_rabbit.webm "
    "plane_failing_audio.mp4"
)


@benchmark
def data_pipeline() -> list[Case]:
    """Files with a key frame every two seconds; and real ones, where there are some."""
    folder = Path(tempfile.mkdtemp())
    for index in range(4):
        write_video(folder / f"{index}.mp4", _moving_noise(index), 24, options=EncodeOptions(crf=23))
    cases = [_case("made_640x360", [folder / f"{index}.mp4" for index in range(4)])]
    real = [Path(os.environ.get("T2V_TEST_DATA", "")) / "videos" / name for name in REAL.split()]
    if all(file.is_file() for file in real):
        cases.append(_case("real_files", real))
    return cases


def _moving_noise(seed: int) -> np.ndarray:
    """Ten seconds of a pattern that slides: (240, 360, 640, 3)."""
    pattern = np.random.default_rng(seed).integers(0, 256, (45, 160, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([pattern[:, 2 * i : 2 * i + 640] for i in range(240)])


@dataclass(frozen=True)
class Moment:
    """A file, and the times (seconds) and places of the frames to read from it."""

    clip: Clip
    times: np.ndarray
    frames: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that just covers SIZE."""
        info = self.clip.video.info
        return cover_size((info.height, info.width), SIZE, info.pixel_aspect)


def _case(name: str, files: list[Path]) -> Case:
    clips = [clip for file in files for clip in find_clips(_alone(file), Decoding()).clips]
    positions = [Position(i // len(clips), i % len(clips), 1.0) for i in range(CLIPS)]
    functions: dict[str, Callable[[], object]] = {
        "t2v, no workers": lambda: _load(clips, positions, 0),
        "t2v, 2 workers": lambda: _load(clips, positions, 2),
        "t2v, decord": lambda: _load(clips, positions, 0, Decoding("decord")),
        "PyAV loop": lambda: [_pyav_loop(moment) for moment in moments],
        "decord": lambda: [_decord(moment) for moment in moments],
    }
    moments = _moments(clips, positions)
    if decord is None:
        functions = {name: function for name, function in functions.items() if "decord" not in name}
    for moment in moments[: len(clips)]:  # all of them show the same
        ours, theirs = _t2v(moment), _pyav_loop(moment)
        assert np.array_equal(ours, theirs), f"{moment.clip.path}: the loop shows other frames"
    return Case(name, functions, dict.fromkeys(functions, "PyAV loop"))


def _alone(file: Path) -> Path:
    """A folder that holds this file only."""
    folder = Path(tempfile.mkdtemp())
    (folder / file.name).symlink_to(file)
    return folder


def _load(clips: list[Clip], positions: list[Position], workers: int, decoding: Decoding | None = None) -> int:
    dataset = _dataset(clips, decoding or Decoding())
    batches = [positions[i : i + BATCH] for i in range(0, CLIPS, BATCH)]
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=_unchanged)  # type: ignore
    return sum(len(batch["pixels"]) for batch in loader)


def _dataset(clips: list[Clip], decoding: Decoding) -> ClipBatches:
    return ClipBatches(ClipSet(clips, [SIZE], [0] * len(clips)), CONFIG, 0, PixelReader(decoding, timeout=60.0))


def _unchanged(batch: object) -> object:
    return batch


def _moments(clips: list[Clip], positions: list[Position]) -> list[Moment]:
    """What the data set draws, taken from it by a reader that only listens."""
    heard: list[Moment] = []

    def listen(clip: Clip, places: np.ndarray, window: object) -> dict[str, object]:
        frames = clip.frames[places]
        heard.append(Moment(clip, clip.video.index.seconds[frames], frames))
        return {}

    dataset = _dataset(clips, Decoding())
    dataset.read = listen  # type: ignore[assignment]
    for position in positions:
        dataset.__getitems__([position])
    return heard


def _t2v(moment: Moment) -> np.ndarray:
    height, width = moment.size
    with Decoding().open(moment.clip.path, (width, height), moment.clip.video) as reader:
        return cut(reader.frames(moment.frames.tolist()), SIZE)


def _pyav_loop(moment: Moment) -> np.ndarray:
    """Seek to the first time, decode on, keep the frames wanted."""
    height, width = moment.size
    wanted = set(moment.frames.tolist())
    index = moment.clip.video.index
    pts = {index.pts(frame) for frame in wanted}
    pictures = []
    with av.open(str(moment.clip.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(min(pts), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in pts:
                untagged = frame.colorspace == 2
                space = ("ITU709" if frame.height >= 720 else "ITU601") if untagged else frame.colorspace
                picture = frame.reformat(width, height, "rgb24", src_colorspace=space, interpolation="BICUBIC")
                pictures.append(picture.to_ndarray())
                if len(pictures) == len(pts):
                    break
    return cut(np.stack(pictures), SIZE)


def _decord(moment: Moment) -> np.ndarray:
    height, width = moment.size
    reader = decord.VideoReader(str(moment.clip.path), width=width, height=height, num_threads=1)
    return cut(reader.get_batch(moment.frames.tolist()).asnumpy(), SIZE)
