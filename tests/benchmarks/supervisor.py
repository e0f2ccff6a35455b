"""Runs a worker process that may fail or hang, and starts another after the case at which it did."""

import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

START_SECONDS = 240.0  # imports, the device, the roofline


def supervise(command: list[str], deadline: float) -> Iterator[dict[str, Any]]:
    """The messages of workers, lines of JSON, and one with a `text` for each case that was lost.

    A worker is `command` and the place of the case to start with, "PORTION.CASE". It says when it begins one:
    {"begin": [PORTION, CASE], "seconds": at most so many, "name": ...}. None outlives the `deadline` (time.monotonic).
    """
    start = [0, 0]
    while True:
        worker = _Worker([*command, ".".join(map(str, start))])
        case = {"begin": start, "seconds": START_SECONDS, "name": "the start"}
        began = time.monotonic()
        for message in worker.messages(lambda: min(deadline, began + case["seconds"])):  # noqa: B023
            if "begin" in message:
                case, began = message, time.monotonic()
            else:
                yield message
        reason = worker.end()
        if reason is None:
            return
        if time.monotonic() >= deadline:
            yield {"text": f"out of time at {case['name']}"}
            return
        yield {"text": f"{case['name']} is lost: {reason}"}
        if case["name"] == "the start":
            return
        start = _after(case, start)


def _after(case: dict[str, Any], start: list[int]) -> list[int]:
    """The next case; or the next portion, where one could not be made."""
    portion, index = case["begin"]
    return [portion + 1, 0] if case["name"].startswith("making") else [portion, index + 1]


class _Worker:
    """A process whose lines of output are read in a thread."""

    def __init__(self, command: list[str]) -> None:
        self.errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.hung = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def messages(self, until: Any) -> Iterator[dict[str, Any]]:
        """Messages until the output ends or none has come by the time `until()`."""
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until() - time.monotonic()))
            except queue.Empty:
                self.hung = True
                return
            if line is None:
                return
            if line.startswith("{"):
                yield json.loads(line)

    def end(self) -> str | None:
        """Stop the process; why it did not end well, or None."""
        if self.hung:
            self.process.kill()
        code = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().rpartition("\n")[2]
        self.errors.close()
        if self.hung:
            return "it took too long"
        return None if code == 0 else f"exit code {code}, {last[:200]}"
