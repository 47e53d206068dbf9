"""Times calls that compete with one another: in turn, each with cold caches, after warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]
Progress = Callable[[int, int, str], None]

WARM_UPS = 3  # the first compiles, the second allocates; Triton's kernels are ready after them
LEAST_REPEATS = 3
# larger than the last-level caches of the devices in use (50 MB on an H200, 32 MB on the EPYC of docs/performance.md):
# in a decoding step every layer's cache comes from memory, so a call must not find it cached from the call before
FLUSHED_BYTES = {"cuda": 2**28, "cpu": 2**27}


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call; of a contender with several, of their mean in one round.

    Attributes:
        ms: the median.
        fastest_ms, slowest_ms: the extremes.
        repeats: how many rounds were timed.
        launch: "graph" where a CUDA graph was replayed, so that no launch from Python is counted; else "eager".
    """

    ms: float
    fastest_ms: float
    slowest_ms: float
    repeats: int
    launch: str


@dataclass(frozen=True)
class Contender:
    """A call to time, or the same call on the data of several layers.

    Attributes:
        calls: one a layer; they wait for nothing.
        capturable: whether to replay them as CUDA graphs on a CUDA device; they must not synchronize.
    """

    calls: Sequence[Call]
    capturable: bool = True


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turn(
    contenders: dict[str, Contender],
    device: torch.device,
    repeats: int,
    seconds: float = float("inf"),
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Timing]:
    """Time calls in turn: in each round every contender goes through its layers, one after another.

    Caches are flushed before each call, as a layer's weights flush them in a model.

    Args:
        contenders: by name.
        repeats: rounds.
        seconds: after this time no new round starts; three rounds are always made.
        progress: called with rounds done, rounds in all and what is timed.
    """
    ready = {name: _prepare(contender, device) for name, contender in contenders.items()}
    flushed = torch.empty(FLUSHED_BYTES.get(device.type, FLUSHED_BYTES["cpu"]), dtype=torch.uint8, device=device)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    start = time.perf_counter()
    for done in range(repeats):
        if done >= LEAST_REPEATS and time.perf_counter() - start > seconds:
            break
        for name, (calls, _) in ready.items():
            progress(done, repeats, name)
            times[name].append(statistics.fmean(_time(call, flushed, device) for call in calls))
    return {
        name: Timing(statistics.median(seen), min(seen), max(seen), len(seen), ready[name][1])
        for name, seen in times.items()
    }


def _prepare(contender: Contender, device: torch.device) -> tuple[Sequence[Call], str]:
    for call in contender.calls:
        for _ in range(WARM_UPS):
            call()
    wait(device)
    if device.type == "cuda" and contender.capturable:
        try:
            return [_captured(call) for call in contender.calls], "graph"
        except RuntimeError:  # something in it synchronizes: timed as it is, and the row says so
            wait(device)
    return contender.calls, "eager"


def _captured(call: Call) -> Call:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _time(call: Call, flushed: torch.Tensor, device: torch.device) -> float:
    flushed.zero_()
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    # the device is still overwriting its caches while the call is enqueued: its launch is not in the time
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)
