"""A limit to how long a file may keep a reader waiting: some decoders never come back from a broken one."""

import faulthandler
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from t2v.errors import InputError

T = TypeVar("T")


class Unresponsive(InputError):
    """A file did not answer in time.

    Args:
        seconds: how long it was waited for.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Helper:
    """A thread that calls functions for another one. The same one each time: new threads fragment the memory."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.thread = threading.Thread(target=_serve, args=(self.calls, self.outcomes), daemon=True)
        self.thread.start()

    def __del__(self) -> None:
        self.calls.put(None)


def _serve(
    calls: "SimpleQueue[Callable[[], Any] | None]", outcomes: "SimpleQueue[tuple[Any, BaseException | None]]"
) -> None:
    while (function := calls.get()) is not None:
        try:
            outcomes.put((function(), None))
        except BaseException as error:  # it is raised in the thread that asked
            outcomes.put((None, error))
        del function


_own = threading.local()


def within(seconds: float, function: Callable[[], T], what: object) -> T:
    """The result of `function`, called in a helper thread that is left behind when it takes too long.

    Raises:
        Unresponsive: it takes more than `seconds`; the message begins with `what`.
    """
    helper: _Helper | None = getattr(_own, "helper", None)
    if helper is None or not helper.thread.is_alive():  # none yet in this thread, or none since the process forked
        helper = _own.helper = _Helper()
    helper.calls.put(function)
    try:
        result, error = helper.outcomes.get(timeout=seconds)
    except Empty:
        del _own.helper
        message = f"{what}: no answer of the decoder in {seconds:g} s (data.read_timeout)"
        raise Unresponsive(message, seconds) from None
    except BaseException:  # an interrupt: whatever the helper still says is no answer to the next call
        del _own.helper
        raise
    try:
        if error is not None:
            raise error
        return result
    finally:
        del error  # else its traceback and this frame keep each other, and the frames read so far, alive


@contextmanager
def ending_when_stuck(seconds: float) -> Iterator[None]:
    """Ends the process, with all threads' stacks on stderr, when the block takes longer: the last resort.

    It works where `within` cannot: while a library holds the interpreter's lock.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
