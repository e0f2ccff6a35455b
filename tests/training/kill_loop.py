"""A run that is killed again and again: `python -m tests.training.kill_loop STRAIGHT KILLED NUM_KILLS SEED`.

STRAIGHT and KILLED are configurations of the same training. The first runs through; its duration sets the scale of the
random times after which the second is killed by SIGKILL, start-up included. The last start may finish. Prints JSON.
"""

import json
import os
import random
import signal
import sys
import time

import torch

import t2v.training.objectives.autoencoder  # noqa: F401 - once here, not after each fork
from t2v.training.config_files import load_config
from t2v.training.trainer import Trainer


def start_run(config_file: str) -> tuple[int, int]:
    """Fork a process that trains: its id, and a pipe on which it tells its first step and its two durations."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        before = time.perf_counter()
        trainer = Trainer(load_config("autoencoder", [config_file]), resume="auto")
        started = time.perf_counter()
        os.write(writer, f"{trainer.global_step} {started - before}\n".encode())
        code = 0 if trainer.run() == "finished" else 3
        os.write(writer, f"{time.perf_counter() - started}\n".encode())
    finally:
        os._exit(code)


def told(reader: int) -> list[float]:
    """The numbers that a process told before its end."""
    with os.fdopen(reader) as file:
        return [float(word) for word in file.read().split()]


def finish(config_file: str) -> list[float]:
    """Start a run and wait for its end."""
    child, reader = start_run(config_file)
    numbers = told(reader)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"the run failed: {os.waitstatus_to_exitcode(status)}")
    return numbers


def main() -> None:
    """Kill, and kill, and let it end."""
    torch.set_num_threads(1)
    straight, killed, num_kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    _, start_up, duration = finish(straight)
    longest = 2 * start_up + duration / num_kills  # half the training is done after all kills, on average
    chance = random.Random(seed)
    kills, starts = 0, list[float]()
    while kills < num_kills:
        child, reader = start_run(killed)
        time.sleep(chance.uniform(0, longest))
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            break  # the machine became faster
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        starts += told(reader)[:1]
    starts += finish(killed)[:1]
    print(json.dumps({"kills": kills, "starts": starts, "start_up": start_up, "duration": duration}))


if __name__ == "__main__":
    main()
