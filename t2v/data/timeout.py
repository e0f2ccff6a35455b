"""A limit to how long a file may keep a reader waiting: some decoders never come back from a broken one."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from t2v.errors import InputError

T = TypeVar("T")


class Unresponsive(InputError):
    """A file did not answer in time."""


def within(seconds: float, function: Callable[[], T], what: object) -> T:
    """The result of `function`, called in a thread that is left behind when it takes too long.

    Raises:
        Unresponsive: it takes more than `seconds`; the message begins with `what`.
    """
    outcome: dict[str, Any] = {}

    def call() -> None:
        try:
            outcome["result"] = function()
        except BaseException as error:  # it is raised again below, in the thread that asked
            outcome["error"] = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Unresponsive(f"{what}: no answer of the decoder in {seconds:g} s (data.read_timeout)")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
