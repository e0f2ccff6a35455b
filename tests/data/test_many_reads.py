"""Thousands of reads: memory and file handles stay where they are."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.search import find_clips
from t2v.data.timeout import within
from t2v.data.video_io import EncodeOptions, write_video
from t2v.errors import InputError

NUM_READS = 10_000


def resident_mb() -> float:
    """Memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def mixed(tmp_path: Path, numbered: Callable[..., Path]) -> list[Clip]:
    """Clips of several kinds, one of them broken in its second half."""
    for name in ("a.mp4", "b.webm", "c.gif", "pictures"):
        numbered(tmp_path / name, 24, (96, 128))
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        content = (tmp_path / "a.mp4").read_bytes()
        info = tarfile.TarInfo("0.mp4")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    noise = np.random.default_rng(0).integers(0, 256, (24, 96, 128, 3), dtype=np.uint8)
    damaged = write_video(tmp_path / "e.mp4", noise, 24, options=EncodeOptions(gop=6))
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    return find_clips(tmp_path, Decoding()).clips


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no /proc: memory cannot be measured")
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_memory_and_file_handles_stay_flat(mixed: list[Clip], decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    decoding = Decoding(decoder)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    failures, levels = 0, []
    for count in range(NUM_READS + 1):
        if count % (NUM_READS // 10) == 0:
            levels.append((resident_mb(), open_files()))
        clip = mixed[count % len(mixed)]
        places = np.sort(random.choice(len(clip.frames), 8, replace=False))
        window = Window((48, 48), (random.random(), random.random()), count % 2 == 0)
        try:
            within(60.0, lambda clip=clip, places=places, window=window: clip.read(places, window, decoding), clip.path)
        except InputError:
            failures += 1
    print(f"{decoder}: after every {NUM_READS // 10} reads (MB, open files): {[(round(a, 1), b) for a, b in levels]}")
    assert len(mixed) == 6 and 0 < failures < NUM_READS / 2
    memory, files = zip(*levels, strict=True)
    assert max(memory[2:]) - memory[1] < 10 and max(files[2:]) - files[1] < 10
