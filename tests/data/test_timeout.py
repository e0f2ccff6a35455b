import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from t2v.data.timeout import Unresponsive, ending_when_stuck, within


def test_within_gives_the_result_or_the_error() -> None:
    assert within(5, lambda: 3, "a.mp4") == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0, "a.mp4")
    assert within(5, lambda: 4, "a.mp4") == 4


def test_within_gives_up_and_is_not_confused_by_a_late_answer() -> None:
    def late() -> str:
        time.sleep(0.4)
        return "late"

    with pytest.raises(Unresponsive, match=r"^a\.mp4: no answer of the decoder in 0\.1 s"):
        within(0.1, late, "a.mp4")
    assert within(5, lambda: "fresh", "b.mp4") == "fresh"
    time.sleep(0.5)
    assert within(5, lambda: "fresh again", "b.mp4") == "fresh again"


def test_within_uses_one_thread_for_many_calls_and_lets_it_go() -> None:
    seen = {within(5, threading.get_ident, "a.mp4") for _ in range(20)}
    assert len(seen) == 1 and threading.get_ident() not in seen
    before = threading.active_count()
    for _ in range(5):
        caller = threading.Thread(target=lambda: within(5, lambda: 1, "a.mp4"))
        caller.start()
        caller.join()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_within_works_in_a_forked_process() -> None:
    within(5, lambda: 1, "a.mp4")
    child = os.fork()
    if child == 0:
        os._exit(within(5, lambda: 7, "a.mp4"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_process_that_holds_the_interpreter_is_ended() -> None:
    """`PyDLL` keeps the interpreter's lock while it sleeps, as a hanging library does."""
    program = (
        "import ctypes\n"
        "from t2v.data.timeout import ending_when_stuck\n"
        "with ending_when_stuck(0.3): ctypes.PyDLL(None).sleep(20)\n"
    )
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode != 0 and "Timeout" in ended.stderr and time.monotonic() - started < 15
    with ending_when_stuck(0.2):
        pass
    time.sleep(0.4)  # this process goes on


def test_within_keeps_nothing_alive_after_an_error() -> None:
    class Large:
        """Stands for the frames that were read before the error."""

    alive: list[weakref.ref[Large]] = []

    def fail() -> None:
        frames = Large()
        alive.append(weakref.ref(frames))
        raise ValueError("broken")

    gc.disable()
    try:
        for _ in range(5):
            with contextlib.suppress(ValueError):
                within(5, fail, "a.mp4")
        assert sum(reference() is not None for reference in alive) <= 1  # the last may still be on its way out
    finally:
        gc.enable()
