"""The whole way on a small folder: as one run, stage by stage, killed, shared by ranks and on Ray."""

import base64
import io
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("scenedetect", reason="needs the extra curate")

from data_tools.cli import app
from data_tools.curate import curate, read_config
from data_tools.runner import RunOptions
from data_tools.stats import SCORE_MEANINGS
from t2v.data.manifest import read_manifest
from t2v.data.sources import find_sources
from t2v.data.video_io import VideoReader
from t2v.errors import InputError
from tests.data_tools.edits import painted_shot
from tests.data_tools.media import DATA, counted, encode, listed, needs_data
from tests.data_tools.test_probe import BROKEN

CONDITION = "score_motion > 0.001 and score_duplicate < 0.95"
MAIN = "from data_tools.cli import main; main()"


def _command(*arguments):
    return [sys.executable, "-c", MAIN, *map(str, arguments)]


def _run(*arguments, timeout=300):
    return subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=timeout)


def _here(*arguments):
    """What a command prints, run in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def _write_config(folder, source, **changes):
    folder.mkdir(exist_ok=True)
    values = {
        "source": str(source),
        "output": "out",
        "min_seconds": 0.5,
        "filter": CONDITION,
        "cut": {"size": "64", "fps": 12.5},
        "shards": {"max_clips": 2},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values | changes))
    return folder / "run.yaml"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two edits, a copy of one, a still, a broken file and a text."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mkv"):
        encode(folder / name, painted_shot(rng, 30) + painted_shot(rng, 25))
    shutil.copy(folder / "a.mp4", folder / "copy.mp4")
    encode(folder / "still.mp4", [counted(5)] * 30)
    (folder / "broken.mp4").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """The folder of one undisturbed run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = _run("run", _write_config(folder, source), "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'out'}\n"
    return folder / "out"


def test_run_makes_clips_that_training_reads(finished):
    rows = read_manifest(finished)
    kept = [row for row in rows if row.is_usable]
    assert len(kept) == 4 and {(row.width, row.height, row.fps) for row in kept} == {(114, 64, 12.5)}
    for folder in (finished, finished / "shards"):
        sources = list(find_sources(folder))
        assert [VideoReader(source.path).num_frames for source in sources] == [row.num_frames for row in kept]


def test_run_keeps_a_row_with_the_reason_for_all_that_was_left_out(finished):
    rows = {(row.path.rpartition("/")[2], row.start): row for row in read_manifest(finished) if not row.is_usable}
    assert "damaged" in rows["broken.mp4", 0.0].error
    assert rows["still.mp4", 0.0].extra["filtered"] == "not score_motion > 0.001"
    duplicates = [row for (name, _), row in rows.items() if name == "copy.mp4"]
    assert len(duplicates) == 2 and {row.extra["filtered"] for row in duplicates} == {"not score_duplicate < 0.95"}
    assert not any(name == "notes.txt" for name, _ in rows)


def test_run_packs_shards(finished):
    names = []
    for shard in sorted((finished / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            names += tar.getnames()
    assert sum(name.endswith(".mp4") for name in names) == sum(name.endswith(".json") for name in names) == 4


def test_the_report_is_complete_in_itself(finished):
    page = (finished / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 4 + 1 + 2
    assert "<td>kept</td><td class='n'>4</td>" in page and "<td>broken.mp4</td>" in page
    assert "<h3>not score_duplicate &lt; 0.95: 2</h3>" in page
    assert page.count("<svg") == 9 and not re.search(r"(src|href)=['\"](?!data:)", page)
    assert page.count("0.00 to 1.20 s, 15 frames") == 2  # where the clips came from, not where they are now


def test_every_score_is_explained(finished):
    scores = {name.removeprefix("score_") for row in read_manifest(finished) for name in row.extra if "score_" in name}
    assert scores | {"aesthetic", "clip"} == SCORE_MEANINGS.keys()


def test_the_previews_of_the_report_move(finished):
    page = (finished / "report.html").read_text()
    for preview in re.findall(r"base64,([^']+)'", page)[:4]:
        with Image.open(io.BytesIO(base64.b64decode(preview))) as picture:
            assert picture.n_frames == 8 and picture.size == (114, 64)
            first = np.asarray(picture.convert("RGB"), np.int16)
            picture.seek(7)
            assert np.abs(first - np.asarray(picture.convert("RGB"))).mean() > 1


def test_the_stages_one_by_one_give_the_same_clips(source, finished, tmp_path):
    for arguments in (
        ("probe", source, "-o", tmp_path / "probed.parquet"),
        ("split", tmp_path / "probed.parquet", "-o", tmp_path / "shots.parquet", "--min-seconds", 0.5),
        ("score", tmp_path / "shots.parquet", "-o", tmp_path / "scores.parquet"),
        ("filter", tmp_path / "scores.parquet", CONDITION, "-o", tmp_path / "kept.parquet"),
        ("cut", tmp_path / "kept.parquet", "-o", tmp_path / "clips/manifest.parquet", "--size", 64, "--fps", 12.5),
    ):
        _here(*arguments)
    rows = read_manifest(tmp_path / "clips")
    expected = read_manifest(finished)
    assert [row.clip_id for row in rows if row.is_usable] == [row.clip_id for row in expected if row.is_usable]
    for row, other in zip(rows, expected, strict=True):
        assert (row.error, row.extra.get("filtered")) == (other.error, other.extra.get("filtered"))
        for name in other.extra:
            if name.startswith("score_"):
                assert row.extra[name] == other.extra[name]
    assert "4 clips in 2 shards" in _here("shards", tmp_path / "clips", "-o", tmp_path / "s", "--max-clips", 2)
    assert _here("report", tmp_path / "clips", "-o", tmp_path / "r.html") == f"{tmp_path / 'r.html'}\n"
    assert "kept             4" in _here("stats", tmp_path / "clips")


def test_cuts_that_are_listed_take_the_place_of_those_that_are_found(source, tmp_path):
    (tmp_path / "cuts.csv").write_text(f"path,seconds\n{source / 'a.mp4'},0.6\n{source / 'a.mp4'},1.6\n")
    config = _write_config(tmp_path, source, cuts="cuts.csv", shards=None)
    curate(read_config(config), RunOptions(quiet=True))
    rows = read_manifest(tmp_path / "out/examined.parquet")
    assert [row.num_frames for row in rows if row.path.endswith("/a.mp4")] == [15, 25, 15]
    assert [row.num_frames for row in rows if row.path.endswith("/b.mkv")] == [30, 25]


def _outcome(output):
    """Everything that a run leaves, but its ledgers and the page."""
    files = sorted(path for path in output.rglob("*") if path.is_file() and path.suffix in (".parquet", ".mp4", ".tar"))
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def _killed_until_done(config, times, rng, longest):
    for _ in range(times):
        process = subprocess.Popen(_command("run", config, "--quiet"))
        time.sleep(rng.uniform(0.3, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _run("run", config).returncode == 0


def test_a_killed_run_ends_with_the_same_bytes(source, finished, tmp_path):
    config = _write_config(tmp_path / "killed", source)
    _killed_until_done(config, 2, random.Random(1), 4)
    assert _outcome(tmp_path / "killed/out") == _outcome(finished)


@pytest.mark.slow
def test_a_run_killed_20_times_ends_with_the_same_bytes(source, finished, tmp_path):
    config = _write_config(tmp_path / "killed", source)
    started = time.monotonic()
    whole = _write_config(tmp_path / "timed", source)
    _run("run", whole)
    duration = time.monotonic() - started
    rng = random.Random(2)
    for number in range(20):
        if number % 4 == 0:
            shutil.rmtree(tmp_path / "killed/out", ignore_errors=True)
        process = subprocess.Popen(_command("run", config, "--quiet"))
        time.sleep(rng.uniform(0.3, duration))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if number % 4 == 3:
            assert _run("run", config).returncode == 0
            assert _outcome(tmp_path / "killed/out") == _outcome(finished)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ranks", "ray"])
def test_every_executor_gives_the_same_bytes(how, source, finished, tmp_path):
    config = _write_config(tmp_path / how, source)
    if how == "ray":
        pytest.importorskip("ray")
        assert _run("run", config, "--executor", "ray").returncode == 0
    else:
        for rank in (0, 1, 2, 0, 1, 2):  # examine, then cut: a job that comes to early ends, and is started again
            assert _run("run", config, "--rank", rank, "--world-size", 3).returncode == 0
    assert _outcome(tmp_path / how / "out") == _outcome(finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "run.yaml: colour: Extra inputs are not permitted"),
        ({"min_seconds": "long"}, "run.yaml: min_seconds: Input should be a valid number"),
        ({"cut": {"gop": 40}}, "gop must be 1 to 16"),
        ({"max_seconds": 0.1}, "clips last between"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_config(_write_config(tmp_path, tmp_path, **changes))


def test_a_wrong_file_ends_with_one_line_and_code_2(tmp_path):
    done = _run("run", tmp_path / "none.yaml")
    assert (
        done.returncode == 2 and done.stderr == f"error: cannot read {tmp_path}/none.yaml: No such file or directory\n"
    )
    (tmp_path / "bad.yaml").write_text("a: [")
    assert "is no YAML" in _run("run", tmp_path / "bad.yaml").stderr


@pytest.mark.slow
@needs_data
def test_all_real_and_broken_videos_come_through(tmp_path):
    source = tmp_path / "raw"
    files = [entry["file"] for folder in ("videos/", "broken/") for entry in listed(folder)]
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).symlink_to(DATA / file)
    config = _write_config(tmp_path, source, filter="score_static < 1", report={"kept": 5, "per_reason": 2})
    done = _run("run", config, "--time-limit", 120, timeout=1800)
    assert done.returncode == 0, done.stderr
    rows = read_manifest(tmp_path / "out")
    seen = {str(row.extra.get("source_path") or row.path).partition("/raw/")[2] for row in rows}
    assert seen == set(files)
    failed = {row.path.rpartition("/")[2] for row in rows if row.error}
    assert failed == BROKEN.keys()
    print(Counter("failed" if row.error else "filtered" if row.extra.get("filtered") else "kept" for row in rows))
