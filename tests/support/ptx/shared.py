"""Shared memory of every program, poisoned, and who touched each byte of it last: a race shows, not just its outcome.

Two accesses of a byte by different threads, one of them a write, must have a barrier between them: bar.sync, or
bar.warp.sync within a warp. What cp.async brings arrives at the last moment, when its thread waits for it; until then
nobody may touch those bytes. wgmma reads through another proxy: what was written through the usual one needs a
fence.proxy.async, by the writer or, past a barrier, by the readers.

A stamp says when and by whom: | barriers passed by the program | warp | barriers passed by the warp | lane |.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .memory import WORDS
from .registry import EmulationError
from .warp import LANES, whole_warps

BASE = 1024  # compute capability 9.0 keeps what is below
SEVERAL_LANES, SEVERAL_WARPS = 32, 63
WARP_AT, EPOCH_AT, WARP_EPOCH_AT = 30, 36, 6


class Shared:
    """`size` bytes for each program of `warps` warps; addresses start at BASE."""

    def __init__(self, size: int, programs: int, warps: int) -> None:
        self.size, self.stride, self.warps = size, -(-size // 16) * 16, warps
        total = self.stride * programs
        self.bytes = np.full(total, 0xFF, np.uint8)
        self.words = {size: self.bytes.view(kind) for size, kind in WORDS.items()}
        self.writer, self.reader = (np.full(total, -1, np.int64) for _ in range(2))
        self.pending, self.busy = np.zeros(total, bool), np.zeros(total, np.int16)  # busy: products that read a byte
        self.fences, self.written_at = 0, np.full(total, -1, np.int32)  # fences passed by then
        threads = np.arange(programs * warps * LANES)
        self.origin = threads // (warps * LANES) * self.stride
        self.lane, self.warp = threads % LANES, threads // LANES % warps
        self.epoch, self.warp_epoch = np.zeros(len(threads), np.int64), np.zeros(len(threads), np.int64)
        # the last fence of each thread: how many there had been, and the barriers that it had passed
        self.fenced_at, self.fence_epoch = np.zeros(len(threads), np.int64), np.full(len(threads), -1, np.int64)

    def pass_barrier(self, threads: np.ndarray) -> None:
        self.epoch[threads] += 1

    def pass_warp_barrier(self, mask: Any) -> None:
        if mask is True:
            self.warp_epoch += 1
        else:
            self.warp_epoch[np.repeat(whole_warps(mask), LANES)] += 1

    def pass_fence(self, threads: np.ndarray) -> None:
        self.fences += 1
        self.fenced_at[threads], self.fence_epoch[threads] = self.fences, self.epoch[threads]

    def check(self, addresses: np.ndarray, size: int, threads: np.ndarray) -> np.ndarray:
        """Places in `bytes` of accesses of `size` bytes each."""
        at = addresses - BASE
        if (addresses % size).any():
            raise EmulationError(f"misaligned shared access of {size} bytes")
        bad = (at < 0) | (at + size > self.size)
        if bad.any():
            raise EmulationError(f"shared access of {size} bytes out of bounds: {at[bad][0]} of {self.size}")
        return self.origin[threads] + at

    def stamps(self, threads: np.ndarray, together: bool = False) -> np.ndarray:
        """`together`: all lanes of a warp are behind the access."""
        lane = SEVERAL_LANES if together else self.lane[threads]
        own = self.epoch[threads] << EPOCH_AT | self.warp[threads] << WARP_AT
        return own | self.warp_epoch[threads] << WARP_EPOCH_AT | lane

    def reading(self, places: np.ndarray, size: int, threads: np.ndarray, together: bool = False) -> None:
        """Checks and notes a read."""
        every = places[:, None] + np.arange(size)
        mine = self.stamps(threads, together)[:, None]
        self._settled(every)
        _check_order(self.writer[every], mine, "read", "written")
        last = self.reader[every]
        differs = last ^ mine
        now = np.where((differs >> EPOCH_AT == 0) & (last >= 0), _joined(last, mine), mine)
        self.reader[every] = now
        # several threads of this one instruction may have read a byte
        for only_warps in (False, True):
            kept = self.reader[every]
            if np.array_equal(kept, now):
                return
            both = _joined(kept, now)
            some = kept != both
            if only_warps:
                some &= both >> WARP_AT & SEVERAL_WARPS == SEVERAL_WARPS
            self.reader[every[some]] = both[some]

    def writing(self, places: np.ndarray, size: int, threads: np.ndarray, data: Any = None, together: bool = False):
        """Checks and notes a write; to write again what is there (`data`, bytes) is no race with another writer."""
        every = places[:, None] + np.arange(size)
        mine = self.stamps(threads, together)[:, None]
        self._settled(every)
        writer = self.writer[every] if data is None else np.where(self.bytes[every] == data, -1, self.writer[every])
        _check_order(writer, mine, "written", "written")
        _check_order(self.reader[every], mine, "written", "read")
        if self.busy[every].any():
            raise EmulationError("race: shared memory is written before wgmma.wait_group has waited for its reader")
        self.writer[every], self.written_at[every] = mine, self.fences

    def load(self, addresses: np.ndarray, size: int, count: int, threads: np.ndarray) -> list[np.ndarray]:
        places = self.check(addresses, size * count, threads)
        self.reading(places, size * count, threads)
        return [self.words[size][places // size + i] for i in range(count)]

    def store(self, addresses: np.ndarray, values: list[np.ndarray], size: int, threads: np.ndarray) -> None:
        places = self.check(addresses, size * len(values), threads)
        data = np.stack([value.astype(WORDS[size]) for value in values], 1).view(np.uint8)
        self.writing(places, size * len(values), threads, data)
        every = places[:, None] + np.arange(size * len(values))
        self.bytes[every] = data
        if not np.array_equal(self.bytes[every], data):
            raise EmulationError("race: two threads write different numbers to the same shared memory at once")

    def fetching(self, places: np.ndarray, first: int) -> None:
        """Checks a read of bytes by all warps of the warpgroup whose first thread is given."""
        self._settled(places)
        writer, there = self.writer[places], self.writer[places] >= 0
        if (there & (writer >> EPOCH_AT == self.epoch[first])).any():
            raise EmulationError("race: wgmma reads shared memory that a warp has written, without a barrier between")
        behind = writer >> EPOCH_AT < self.fence_epoch[first : first + 4 * LANES].min()
        program = first // (self.warps * LANES) * self.warps
        fenced = self.fenced_at.reshape(-1, LANES)[program + np.where(there, writer >> WARP_AT & SEVERAL_WARPS, 0)]
        lane = writer & 2 * SEVERAL_LANES - 1
        of_lane = np.take_along_axis(fenced, np.minimum(lane, LANES - 1)[:, None], 1)[:, 0]
        last = np.where(lane == SEVERAL_LANES, fenced.min(1), of_lane)
        if (there & ~behind & (last <= self.written_at[places])).any():
            raise EmulationError("race: wgmma reads shared memory that was written, without fence.proxy.async between")

    def fetched(self, places: np.ndarray, first: int) -> None:
        """Notes that only now a warpgroup's read is over."""
        self.reader[places] = self.stamps(np.array([first])) | SEVERAL_WARPS << WARP_AT | SEVERAL_LANES

    def _settled(self, every: np.ndarray) -> None:
        if self.pending[every].any():
            raise EmulationError("race: shared memory is touched before cp.async.wait_group has waited for it")


def _joined(last: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """The stamp of two reads since the same barrier."""
    differs = last ^ mine
    lanes = np.where((differs != 0) & (differs >> WARP_EPOCH_AT == 0), mine & ~63 | SEVERAL_LANES, mine)
    return np.where(differs >> WARP_AT != 0, mine | SEVERAL_WARPS << WARP_AT, lanes)


def _check_order(last: np.ndarray, mine: np.ndarray, now: str, before: str) -> None:
    differs = last ^ mine
    other_warp = differs >> WARP_AT != 0
    race = (differs >> EPOCH_AT == 0) & (other_warp | ((differs != 0) & (differs >> WARP_EPOCH_AT == 0)))
    if race.any():
        whose = "another warp" if (race & other_warp).any() else "another lane"
        raise EmulationError(f"race: shared memory is {now} that {whose} has {before}, without a barrier between")
