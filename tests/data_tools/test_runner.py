import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.runner import RunOptions, run_stage
from t2v.data.manifest import ClipRow, read_manifest, write_manifest
from t2v.errors import InputError
from tests.data_tools.stages import Count, Misbehave

QUIET = RunOptions(quiet=True, workers=2)
ROWS = [ClipRow(path, path) for path in ("c", "a", "b")]


def test_run_stage_writes_sorted_rows(tmp_path):
    rows = run_stage("count", Count(), ROWS, tmp_path / "m.parquet", QUIET)
    assert [row.path for row in rows] == ["a", "b", "c"]
    assert read_manifest(tmp_path / "m.parquet") == rows and rows[0].extra == {"length": 1}


def test_rows_that_cannot_be_used_are_kept_as_they_are(tmp_path):
    bad = [ClipRow("x", "broken", error="why"), ClipRow("y", "dull", extra={"filtered": "score < 1"})]
    rows = run_stage("count", Count(), [*ROWS, *bad], tmp_path / "m.parquet", QUIET)
    assert [row for row in rows if not row.is_usable] == bad and len(rows) == 5


def test_what_the_ledger_has_is_not_done_again(tmp_path):
    first = run_stage("run", Misbehave(), [ClipRow("ok", "ok-1")], tmp_path / "m.parquet", QUIET)
    second = run_stage("run", Misbehave(), [ClipRow("ok", p) for p in ("ok-1", "ok-2")], tmp_path / "m.parquet", QUIET)
    assert second[0] == first[0] and len(second) == 2


def test_other_settings_are_other_work(tmp_path):
    run_stage("run", Misbehave(1), [ClipRow("ok", "ok-1")], tmp_path / "m.parquet", QUIET)
    (row,) = run_stage("run", Misbehave(2), [ClipRow("ok", "ok-1")], tmp_path / "m.parquet", QUIET)
    assert row.extra["seen"] == 2


def test_overwrite_starts_again(tmp_path):
    rows = [ClipRow("ok", "ok-1")]
    (first,) = run_stage("run", Misbehave(), rows, tmp_path / "m.parquet", QUIET)
    (second,) = run_stage("run", Misbehave(), rows, tmp_path / "m.parquet", RunOptions(quiet=True, overwrite=True))
    assert first.extra["process"] != second.extra["process"]


def test_failed_files_are_tried_again_on_demand_only(tmp_path):
    rows, output = [ClipRow("x", "broken")], tmp_path / "m.parquet"
    for _ in range(2):
        (row,) = run_stage("run", Misbehave(), rows, output, QUIET)
        assert row.error == "no video in it"
    assert sum(1 for _ in (tmp_path / "m.ledger/00000.jsonl").open()) == 1
    run_stage("run", Misbehave(), rows, output, RunOptions(quiet=True, retry_failed=True))
    assert sum(1 for _ in (tmp_path / "m.ledger/00000.jsonl").open()) == 2


def test_ranks_share_the_files_and_the_last_writes_the_manifest(tmp_path):
    rows = [ClipRow(f"id{i}", f"file{i}") for i in range(20)]
    whole = tmp_path / "whole.parquet"
    run_stage("count", Count(), rows, whole, QUIET)
    parts = tmp_path / "parts.parquet"
    for rank in (2, 0):
        options = RunOptions(quiet=True, rank=rank, world_size=3)
        assert run_stage("count", Count(), rows, parts, options) is None and not parts.exists()
    assert run_stage("count", Count(), rows, parts, RunOptions(quiet=True, rank=1, world_size=3)) is not None
    assert parts.read_bytes() == whole.read_bytes()
    shares = [sum(1 for _ in path.open()) for path in (tmp_path / "parts.ledger").iterdir()]
    assert sum(shares) == 20 and min(shares) >= 1


def test_another_manifest_is_not_replaced(tmp_path):
    write_manifest([], tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"exists; choose another --output or add --overwrite"):
        run_stage("count", Count(), ROWS, tmp_path / "m.parquet", QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "slurm"}, "unknown executor 'slurm'; choose from local, ray"),
        ({"address": "auto"}, "belongs to --executor ray"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"time_limit": 0}, "time limit must be above 0"),
        ({"rank": 2, "world_size": 2}, "rank must be 0 to world size - 1, got rank 2 of 2"),
        ({"overwrite": True, "world_size": 2}, "what other ranks have done"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RunOptions(**options).check()


SCRIPT = """
import sys
from pathlib import Path
from data_tools.runner import RunOptions, run_stage
from t2v.data.manifest import ClipRow
from tests.data_tools.stages import Slow
if __name__ == "__main__":
    rows = [ClipRow(f"id{i}", f"file-{i}") for i in range(12)]
    run_stage("slow", Slow(), rows, Path(sys.argv[1]), RunOptions(quiet=True, workers=2))
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, script, tmp_path / "whole.parquet"], check=True, env=environment)
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, script, tmp_path / "killed.parquet"], env=environment)
        time.sleep(rng.uniform(0.4, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, script, tmp_path / "killed.parquet"], check=True, env=environment)
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
