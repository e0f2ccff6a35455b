import sys
import time

from tests.benchmarks.supervisor import supervise

WORKER = """
import json, sys, time
first = tuple(map(int, sys.argv[1].split(".")))
def tell(**message): print(json.dumps(message), flush=True)
for place in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
    if place < first:
        continue
    tell(begin=place, seconds={seconds}, name="case %d.%d" % place)
    print("chatter of a library")
    if place == (0, 1):
        raise SystemExit("CUDA error: an illegal memory access was encountered")
    if place == (1, 0):
        time.sleep(60)
    tell(row=place)
"""


def messages(worker: str, seconds: float) -> list[dict]:
    return list(supervise([sys.executable, "-c", worker], time.monotonic() + seconds))


def test_a_case_that_fails_or_hangs_costs_only_itself() -> None:
    found = messages(WORKER.format(seconds=8.0), 300)
    assert [message.get("row") or message["text"] for message in found] == [
        [0, 0],
        "case 0.1 is lost: exit code 1, CUDA error: an illegal memory access was encountered",
        [0, 2],
        "case 1.0 is lost: it took too long",
        [1, 1],
    ]


def test_a_portion_that_cannot_be_made_is_passed_over() -> None:
    worker = WORKER.replace('"case %d.%d" % place', '"making of portion 0" if place == (0, 1) else "case"')
    found = messages(worker.replace("time.sleep(60)", "pass").format(seconds=60.0), 300)
    assert [message.get("row") or message["text"][:19] for message in found] == [
        [0, 0], "making of portion 0", [1, 0], [1, 1]
    ]  # fmt: skip


def test_a_worker_that_cannot_start_ends_the_run() -> None:
    found = messages("raise SystemExit('no GPU')", 300)
    assert [message["text"] for message in found] == ["the start is lost: exit code 1, no GPU"]


def test_nothing_outlives_the_deadline() -> None:
    started = time.monotonic()
    found = messages("import time; time.sleep(60)", 1.0)
    assert found == [{"text": "out of time at the start"}]
    assert time.monotonic() - started < 30
