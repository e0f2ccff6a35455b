import os
import time
from collections import Counter

import pytest

from data_tools.executors.isolated import Limits, run_isolated
from data_tools.executors.local import LocalExecutor
from data_tools.stage import Group
from t2v.data.manifest import ClipRow
from tests.data_tools.stages import Count, KillRayWorkerOnce, Misbehave

LIMITS = Limits(seconds=60, memory=1 << 30)


def _groups(*paths):
    return [Group([ClipRow(path, path)]) for path in paths]


def _run(paths, workers=2, limits=LIMITS):
    results = run_isolated(Misbehave(7), _groups(*paths), workers, limits)
    return {group.rows[0].path: rows for group, rows in results}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("segfault", "the decoder crashed on it (SIGSEGV)"),
        ("kill", "the decoder crashed on it (SIGKILL; the machine may be out of memory)"),
        ("exit", "ended early (exit code 3)"),
        ("memory", "needs more than the memory cap of 1 GiB"),
        ("broken", "no video in it"),
        ("bug", "KeyError: 'surprise'"),
    ],
)
def test_a_bad_file_costs_itself_only(path, reason):
    results = _run(["ok-1", path, "ok-2", "ok-3"])
    assert len(results) == 4
    (bad,) = results.pop(path)
    assert bad.path == path and reason in bad.error
    assert all(rows[0].error is None and rows[0].extra["seen"] == 7 for rows in results.values())


def test_a_hanging_file_is_stopped_at_the_time_limit():
    start = time.monotonic()
    results = _run(["hang", "ok-1", "ok-2"], limits=Limits(seconds=3))
    assert time.monotonic() - start < 15
    assert results["hang"][0].error == "no result within the time limit of 3 s"
    assert results["ok-1"][0].error is None and results["ok-2"][0].error is None


def test_every_file_has_a_process_of_its_own():
    processes = {rows[0].extra["process"] for rows in _run([f"ok-{i}" for i in range(5)]).values()}
    assert len(processes) == 5 and os.getpid() not in processes


def test_groups_are_taken_one_by_one():
    taken = []

    def groups():
        for group in _groups(*(f"ok-{i}" for i in range(9))):
            taken.append(group)
            yield group

    results = run_isolated(Misbehave(), groups(), 2, LIMITS)
    next(results)
    assert len(taken) <= 3
    results.close()


def test_leaving_early_stops_the_processes():
    results = run_isolated(Misbehave(), _groups("ok-1", "hang"), 2, LIMITS)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5


@pytest.fixture
def ray_executor():
    ray = pytest.importorskip("ray")
    from data_tools.executors.ray_cluster import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield RayExecutor()
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_the_rows_of_the_local_pool(ray_executor):
    paths = [f"ok-{i}" for i in range(6)] + ["segfault", "broken", "kill"]
    local = dict(_by_path(LocalExecutor(2)(Misbehave(), _groups(*paths), LIMITS)))
    assert dict(_by_path(ray_executor(Misbehave(), _groups(*paths), LIMITS))) == local


def _by_path(results):
    for group, (row,) in results:
        row.extra.pop("process", None)
        yield group.rows[0].path, row


@pytest.mark.slow
def test_a_killed_ray_worker_loses_nothing(ray_executor, tmp_path):
    paths = ["a", "b", "victim", "c"]
    stage = KillRayWorkerOnce(str(tmp_path / "marker"))
    results = [(group.rows[0].path, rows[0].extra) for group, rows in ray_executor(stage, _groups(*paths), LIMITS)]
    assert (tmp_path / "marker").exists(), "no worker was killed"
    assert Counter(path for path, _ in results) == Counter(paths)
    assert all(extra == {"length": len(path)} for path, extra in results)


def test_the_quickest_stage_loses_no_row():
    results = list(LocalExecutor(4)(Count(), _groups(*map(str, range(40))), LIMITS))
    assert len(results) == 40 and all(rows[0].error is None for _, rows in results)
