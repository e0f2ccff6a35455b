import time

STARTED = time.perf_counter()  # the earliest moment a command can measure its own time from
