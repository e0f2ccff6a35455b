"""Each file in a process of its own, with a time limit and a memory cap: a decoder that crashes costs that file."""

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from data_tools.stage import Group, Stage
from t2v.data.manifest import ClipRow
from t2v.errors import InputError

_PRELOADED = ["__main__", "data_tools.executors.isolated"]  # imported once, before processes fork
_CPU_SLACK = 30  # seconds of processor time beyond the wall limit, for a process whose parent is gone


@dataclass(frozen=True)
class Limits:
    """What one file may take."""

    seconds: float = 3600.0  # wall time
    memory: int = 4 << 30  # bytes


@dataclass(frozen=True)
class _Job:
    """A group at work."""

    group: Group
    process: BaseProcess
    results: Connection
    deadline: float


def run_isolated(
    stage: Stage, groups: Iterable[Group], workers: int, limits: Limits
) -> Iterator[tuple[Group, list[ClipRow]]]:
    """The stage's rows for each group, as they finish; a group that fails gives its own rows with an error.

    At most `workers` processes run at a time, each of them for one group; the next group is taken when one ends.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, type(stage).__module__, *getattr(stage, "preloaded", ())])
    waiting, jobs = iter(groups), dict[Connection, _Job]()
    try:
        while True:
            while len(jobs) < workers and (group := next(waiting, None)) is not None:
                job = _start(context, stage, group, limits)
                jobs[job.results] = job
            if not jobs:
                return
            for job in _finished(jobs):
                del jobs[job.results]
                yield job.group, _collect(job, limits)
    finally:
        for job in jobs.values():
            _stop(job)


def failed(rows: list[ClipRow], reason: str) -> list[ClipRow]:
    """The rows with `error` set."""
    return [replace(row, error=" ".join(reason.split())) for row in rows]


def _start(context: ForkServerContext, stage: Stage, group: Group, limits: Limits) -> _Job:
    results, child = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(stage, group.rows, limits, child), daemon=True)
    process.start()
    child.close()
    return _Job(group, process, results, time.monotonic() + limits.seconds)


def _finished(jobs: dict[Connection, _Job]) -> list[_Job]:
    """The jobs that have a result, have died or are out of time; waits for the first."""
    patience = max(0.0, min(job.deadline for job in jobs.values()) - time.monotonic())
    ready = wait(list(jobs), timeout=patience)
    now = time.monotonic()
    return [job for connection, job in jobs.items() if connection in ready or now >= job.deadline]


def _collect(job: _Job, limits: Limits) -> list[ClipRow]:
    if not job.results.poll():
        _stop(job)
        return failed(job.group.rows, f"no result within the time limit of {limits.seconds:g} s")
    try:
        rows = job.results.recv()
    except EOFError:
        job.process.join()
        return failed(job.group.rows, _death(job.process.exitcode, limits))
    finally:
        job.results.close()
    job.process.join()
    return rows


def _death(exit_code: int | None, limits: Limits) -> str:
    if exit_code is None or exit_code >= 0:
        return f"the process that read it ended early (exit code {exit_code})"
    if exit_code == -signal.SIGXCPU:
        return f"no result within the time limit of {limits.seconds:g} s"
    name = signal.Signals(-exit_code).name
    hint = "; the machine may be out of memory" if exit_code == -signal.SIGKILL else ""
    return f"the decoder crashed on it ({name}{hint})"


def _stop(job: _Job) -> None:
    job.process.kill()
    job.process.join()
    job.results.close()


def _work(stage: Stage, rows: list[ClipRow], limits: Limits, results: Connection) -> None:
    """Runs in the process of the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent, which stops its processes
    _die_with_parent()
    _limit(resource.RLIMIT_DATA, limits.memory)
    _limit(resource.RLIMIT_CPU, round(limits.seconds) + _CPU_SLACK)
    try:
        done = stage(rows)
    except InputError as error:
        done = failed(rows, str(error))
    except MemoryError:
        done = failed(rows, f"needs more than the memory cap of {limits.memory / (1 << 30):g} GiB")
    except Exception as error:  # whatever a decoder throws belongs to this file alone
        done = failed(rows, f"{type(error).__name__}: {error}")
    results.send(done)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
