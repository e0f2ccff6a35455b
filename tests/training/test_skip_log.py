import json
from pathlib import Path
from typing import Any

import pytest

from t2v.errors import InputError
from t2v.training.skip_log import BadFile, SkipLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def started(path: Path, *bad: BadFile, share: float = 0.5, num_files: int = 10) -> SkipLog:
    log = SkipLog(path, share)
    log.start(bad, [("a.mp4", "1"), ("b.mp4", "1")], num_files)
    return log


def test_each_file_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    log = started(path, BadFile("x.mp4", "no video"), BadFile("y.mp4", "too short", is_broken=False))
    for log_of_a_process in (log, started_elsewhere(path)):
        log_of_a_process.add(BadFile("a.mp4", "frame 5", "1", 5))
        log_of_a_process.add(BadFile("a.mp4", "frame 7", "1", 7))
    assert [line["path"] for line in lines(path)] == ["x.mp4", "y.mp4", "a.mp4"]
    assert lines(path)[2]["reason"] == "frame 5"


def test_a_line_says_the_path_once(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    reasons = {"a.mp4": "a.mp4 cannot be read", "b.mp4": "b.mp4: frame 5", "c": "c/0.png is 8x8", "d": "no video"}
    started(path, *(BadFile(name, reason) for name, reason in reasons.items()))
    assert [line["reason"] for line in lines(path)] == ["cannot be read", "frame 5", "c/0.png is 8x8", "no video"]
    with pytest.raises(InputError, match=r"the first: a\.mp4: cannot be read$"):
        started(path, BadFile("a.mp4", "a.mp4 cannot be read"), share=0.0)


def started_elsewhere(path: Path) -> SkipLog:
    log = SkipLog(path, 0.5)
    log.num_files = 10
    return log


def test_a_new_start_keeps_what_is_still_true(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    log = started(path, BadFile("x.mp4", "no video"))
    log.add(BadFile("a.mp4", "frame 5", "1", 5))
    log.add(BadFile("b.mp4", "frame 6", "0", 6))  # the file has changed since
    started(path, BadFile("z.mp4", "no video"))
    assert [line["path"] for line in lines(path)] == ["a.mp4", "z.mp4"]
    assert log.read()[0] == BadFile("a.mp4", "frame 5", "1", 5)


def test_a_last_line_cut_off_by_a_crash_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    log = started(path, BadFile("x.mp4", "no video"))
    path.write_text(path.read_text() + '{"path": "a.mp4", "rea')
    assert [bad.path for bad in log.read()] == ["x.mp4"]


def test_too_many_broken_files_stop_the_run(tmp_path: Path) -> None:
    path = tmp_path / "skipped.jsonl"
    log = started(
        path, *(BadFile(name, "short", is_broken=False) for name in "pqrst"), BadFile("x", "no video"), share=0.1
    )
    with pytest.raises(InputError, match=r"2 of 10 files cannot be read, more than data\.max_bad_share=0\.1") as caught:
        log.add(BadFile("a.mp4", "frame 5", "1", 5))
    assert "no video" in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        started(path, *(BadFile(name, "bad") for name in "xyz"), share=0.25)
