"""Stages that do as the file's name says; worker processes import them from here."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass, replace

import numpy as np

from t2v.data.manifest import ClipRow
from t2v.errors import InputError


@dataclass(frozen=True)
class Misbehave:
    """`ok` rows come back with a column `seen`; others crash, hang, fill the memory or raise."""

    setting: int = 0

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        match rows[0].path.split("-")[0]:
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "memory":
                np.ones(1 << 28)
            case "broken":
                raise InputError("no video\nin it")
            case "bug":
                raise KeyError("surprise")
        return [replace(row, extra={"seen": self.setting, "process": os.getpid()}) for row in rows]


@dataclass(frozen=True)
class Count:
    """Adds a column with the length of the path; as quick as a stage can be."""

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        return [replace(row, extra={"length": len(row.path)}) for row in rows]


@dataclass(frozen=True)
class Slow:
    """Takes a quarter of a second; every fourth file fails."""

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        time.sleep(0.25)
        if rows[0].path.endswith(("0", "4", "8")):
            raise InputError("a fourth")
        return Count()(rows)


@dataclass(frozen=True)
class KillRayWorkerOnce:
    """The first attempt at `victim` kills the Ray worker around this process."""

    marker: str

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        if rows[0].path == "victim" and not os.path.exists(self.marker):
            open(self.marker, "w").close()
            ray_worker = _parent_of(os.getppid())  # between the two is the server that forks
            os.kill(ray_worker, signal.SIGKILL)
            time.sleep(30)
        return Count()(rows)


def _parent_of(process: int) -> int:
    with open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
