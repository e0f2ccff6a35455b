"""How much memory a computation takes on the CPU, to the byte: its tensors, not what the process holds besides."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_allocation(function: Callable[[], object]) -> int:
    """Bytes of the tensors that live at the largest moment of a call, those that were there before not counted."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = function()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    del kept
    return peak
