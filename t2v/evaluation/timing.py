"""How long functions take: rounds interleaved, cold caches and CUDA graphs on a GPU."""

import platform
import random
import time
from collections.abc import Callable, Iterable, Mapping
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
    graph: bool  # replayed from a CUDA graph; False: launched each time


@dataclass(frozen=True)
class Roofline:
    """What the device reaches: bytes a second in a copy, operations a second in a matrix product."""

    bytes_per_s: float
    flops_per_s: float

    def floor(self, num_bytes: int, flops: int) -> float:
        """Seconds that so many bytes or operations take at least."""
        return max(num_bytes / self.bytes_per_s, flops / self.flops_per_s)


Function = Callable[[], object]
Seconds = dict[str, list[float]]


def time_functions(functions: Mapping[str, Function], rounds: int, device: torch.device) -> dict[str, Timing]:
    """Time each function once per round, in another order each round, after a warm-up.

    On CUDA each is replayed from a CUDA graph, unless it cannot be captured, with the second-level cache overwritten
    before.
    """
    if device.type != "cuda":
        for function in functions.values():
            function()
        return _summaries(functions, _rounds(functions, rounds, _time_on_cpu))
    stream = torch.cuda.Stream(device)  # a backward pass runs, and is captured, where its forward pass ran
    with torch.cuda.device(device), torch.cuda.stream(stream):
        peaks = {name: _peak_bytes(function, device) for name, function in functions.items()}
        graphs = {name: _graph(function, stream) for name, function in functions.items()}
        ready = {name: graphs[name] or function for name, function in functions.items()}
        return _summaries(functions, _rounds(ready, rounds, _time_on_cuda), peaks, graphs)


def _rounds(functions: Mapping[str, Function], rounds: int, time_one: Callable[[Function], float]) -> Seconds:
    seconds: Seconds = {name: [] for name in functions}
    order, shuffle = list(functions), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name].append(time_one(functions[name]))
    return seconds


def _summaries(
    names: Iterable[str],
    seconds: Seconds,
    peaks: Mapping[str, int] | None = None,
    graphs: Mapping[str, Function | None] | None = None,
) -> dict[str, Timing]:
    found = {}
    for name in names:
        p20, median, p80 = (percentile(seconds[name], percent) for percent in (20, 50, 80))
        graph = graphs is not None and graphs[name] is not None
        found[name] = Timing(median, p20, p80, 0 if peaks is None else peaks[name], graph)
    return found


def percentile(values: list[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, interpolated linearly."""
    return torch.tensor(values, dtype=torch.float64).quantile(percent / 100).item()


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


def _peak_bytes(function: Function, device: torch.device) -> int:
    """Warm the function up and find its peak."""
    for _ in range(WARM_UP):
        function()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _graph(function: Function, stream: torch.cuda.Stream) -> Function | None:
    """The function, which is warm, as the replay of a CUDA graph; None if it cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            function()
    except RuntimeError:  # it waits for the device, say, or reads from the CPU
        torch.cuda.synchronize()
        return None
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
