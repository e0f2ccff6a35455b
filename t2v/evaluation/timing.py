"""How long functions take: rounds interleaved, cold caches and CUDA graphs on a GPU."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

L2_BYTES = 256 << 20  # more than any GPU's second-level cache
WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over the rounds, and the bytes that it took at its peak beside its inputs (0 on a CPU)."""

    median: float
    p20: float
    p80: float
    peak_bytes: int


@dataclass(frozen=True)
class Roofline:
    """What the device reaches: bytes a second in a copy, operations a second in a matrix product."""

    bytes_per_s: float
    flops_per_s: float

    def floor(self, num_bytes: int, flops: int) -> float:
        """Seconds that so many bytes or operations take at least."""
        return max(num_bytes / self.bytes_per_s, flops / self.flops_per_s)


Function = Callable[[], object]


def time_functions(functions: Mapping[str, Function], rounds: int, device: torch.device) -> dict[str, Timing]:
    """Time each function once per round, in another order each round, after a warm-up.

    On CUDA each is replayed from a CUDA graph, with the second-level cache overwritten before.
    """
    peaks = {name: _peak_bytes(function, device) for name, function in functions.items()}
    time_one = _time_on_cuda if device.type == "cuda" else _time_on_cpu
    ready = {name: _graph(function) if device.type == "cuda" else function for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffle = list(functions), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name].append(time_one(ready[name]))
    return {name: _summary(values, peaks[name]) for name, values in seconds.items()}


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Copy a large tensor and multiply large matrices."""
    size, side = (1 << 29, 8192) if device.type == "cuda" else (1 << 25, 512)
    source = torch.ones(size // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    with torch.no_grad():
        functions = {"copy": lambda: target.copy_(source), "product": lambda: torch.mm(a, b, out=product)}
        timings = time_functions(functions, 10, device)
    return Roofline(2 * size / timings["copy"].median, 2 * side**3 / timings["product"].median)


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _summary(seconds: list[float], peak_bytes: int) -> Timing:
    values = torch.tensor(seconds, dtype=torch.float64)
    return Timing(
        statistics.median(seconds), values.quantile(0.2).item(), values.quantile(0.8).item(), peak_bytes
    )  # fmt: skip


def _peak_bytes(function: Function, device: torch.device) -> int:
    """Warm the function up and find its peak."""
    if device.type != "cuda":
        function()
        return 0
    for _ in range(WARM_UP):
        function()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _graph(function: Function) -> Function:
    """The function as the replay of a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def _time_on_cuda(function: Function) -> float:
    torch.empty(L2_BYTES, dtype=torch.int8, device="cuda").zero_()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _time_on_cpu(function: Function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
