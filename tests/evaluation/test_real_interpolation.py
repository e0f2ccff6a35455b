from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2v.data.video_io import write_video
from t2v.errors import InputError
from t2v.evaluation.real_interpolation import RealRequest, compare_real, read_sources
from t2v.pipelines.interpolation.baselines import Crossfade, Hold

HEADER = "first,second,start,shown,credit\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / f"{name}.png")
    levels = np.arange(30, dtype=np.uint8)[:, None, None, None]
    write_video(tmp_path / "brighter.mkv", np.broadcast_to(100 + levels, (30, 36, 48, 3)), 8)
    lines = "a.png,b.png,,yes,me; CC0\nbrighter.mkv,,1.5,yes,me; CC0\nbrighter.mkv,,0,no,somebody\n"
    (tmp_path / "list.csv").write_text(HEADER + lines)
    return tmp_path / "list.csv"


def test_methods_are_compared_and_only_what_may_be_shown_is(sources: Path) -> None:
    listed = read_sources(sources, sources.parent)
    request = RealRequest({"crossfade": Crossfade(), "hold": Hold()}, num_frames=5, fps=8.0, size=32, columns=3)
    report, rows = compare_real(listed, request)
    assert [line["name"] for line in report["sources"]] == ["a", "brighter", "brighter"]
    assert report["sources"][0]["methods"] == {}  # no truth
    assert report["mean"]["crossfade"]["psnr"] == 60 > report["mean"]["hold"]["psnr"]  # brightness rises evenly
    captions = [caption for caption, _ in rows]
    assert captions[:3] == ["a (me; CC0): crossfade", "a: hold", "brighter (me; CC0): the truth"] and len(rows) == 5
    truth = rows[2][1]
    assert truth.shape == (3, 32, 32, 3) and truth[:, 0, 0, 0].tolist() == [112, 114, 116]  # from 1.5 s on


def test_lists_of_sources_are_checked(sources: Path, tmp_path: Path) -> None:
    for text, message in [
        ("first,second\na.png,b.png\n", "has the columns first,second,start,shown,credit"),
        (HEADER + "a.png,b.png,soon,yes,me\n", "has the columns"),
        (HEADER, "lists no source"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_sources(tmp_path / "bad.csv", tmp_path)
    with pytest.raises(InputError, match=r"none.csv: No such file"):
        read_sources(tmp_path / "none.csv", tmp_path)
