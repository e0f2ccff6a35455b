"""Stages of `t2v-data` on real videos: `curate_split` against PySceneDetect alone, `curate_run` against its stages,
`curate_motion` by optical flow against the codec's motion vectors.

A case is named after its file and its length; length over median_s is the realtime factor. One process, one thread.
"""

import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from data_tools.curate import Examine
from data_tools.cut import Cut, CutOptions
from data_tools.features import FLOW_SIZE
from data_tools.probe import Probe, bare_rows
from data_tools.score import Score
from data_tools.split import Split, SplitOptions
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoReader, probe
from tests.benchmarks.registry import Case, benchmark

DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
VIDEOS = ("autumn_3scenes.mp4", "bikes_city.mp4", "toy_frog.mp4")
_CUT = CutOptions(size="256", fps=8.0)


def _cases(functions: Callable[[Path], dict[str, Callable[[], object]]], baseline: str) -> list[Case]:
    cases = []
    for name in VIDEOS:
        path = DATA / "videos" / name
        made = functions(path)
        cases.append(Case(f"{name} {probe(path).duration:.1f} s", made, dict.fromkeys(made, baseline)))
    return cases


@benchmark
def curate_split() -> list[Case]:
    """Finding the shots, against PySceneDetect's own pass with the same detector."""
    from scenedetect import AdaptiveDetector, detect

    def functions(path: Path) -> dict[str, Callable[[], object]]:
        rows = _probed(path)
        return {
            "PySceneDetect": lambda: detect(str(path), AdaptiveDetector()),
            "t2v-data split": lambda: Split(path.parent, SplitOptions())(rows),
        }

    return _cases(functions, "PySceneDetect")


@benchmark
def curate_run() -> list[Case]:
    """Every stage, their sum, and `run`, which decodes once for split and score. Clips: short side 256, 8 fps."""

    def functions(path: Path) -> dict[str, Callable[[], object]]:
        bare, root = bare_rows(path, path.parent), path.parent
        probed = _probed(path)
        shots = Split(root)(probed)
        return {
            "probe": lambda: Probe(root)(bare),
            "split": lambda: Split(root)(probed),
            "score": lambda: Score(root)(_usable(shots)),
            "cut": lambda: _cut(_usable(shots), path),
            "stages": lambda: _cut(Score(root)(_usable(Split(root)(Probe(root)(bare)))), path),
            "run": lambda: _cut(_usable(Examine(root)(bare)), path),
        }

    return _cases(functions, "stages")


@benchmark
def curate_motion() -> list[Case]:
    """What motion costs beyond decoding: optical flow between the small frames that other scores need as well, or the
    codec's motion vectors, which H.264 and MPEG have and VP8, VP9, AV1, HEVC and GIF do not."""
    import cv2

    def functions(path: Path) -> dict[str, Callable[[], object]]:
        frames: list[np.ndarray] = []
        with VideoReader(path, threads=1, size=FLOW_SIZE) as reader:
            frames += [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in reader]
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        return {
            "decode": lambda: _lengths_of_vectors(path, "0"),
            "decode, motion vectors": lambda: _lengths_of_vectors(path, "+export_mvs"),
            "optical flow": lambda: [flow.calc(a, b, None) for a, b in pairwise(frames)],
        }

    return _cases(functions, "decode")


def _lengths_of_vectors(path: Path, flags: str) -> list[float]:
    """Mean length of the motion vectors of each frame that has some."""
    lengths = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags2": flags}
        for frame in container.decode(stream):
            if (vectors := frame.side_data.get("MOTION_VECTORS")) is not None:
                table = vectors.to_ndarray()
                sizes = table["w"].astype(np.float32) * table["h"]
                length = np.hypot(table["motion_x"], table["motion_y"]) / table["motion_scale"]
                lengths.append(float((length * sizes).sum()) / (frame.width * frame.height))
    return lengths


def _probed(path: Path) -> list[ClipRow]:
    return Probe(path.parent)(bare_rows(path, path.parent))


def _usable(rows: list[ClipRow]) -> list[ClipRow]:
    return [row for row in rows if row.is_usable]


def _cut(rows: list[ClipRow], path: Path) -> list[ClipRow]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).symlink_to(path)
        return Cut(Path(folder), _CUT)(rows)
