"""Global memory: the tensors of a launch in one address space, each between gaps that nothing may touch.

Every byte of every access is checked: it must belong to an element of an argument (of a view, not just of its storage),
and no other thread of the launch may have written it, or write something else to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .registry import EmulationError

FIRST_ADDRESS, GAP, ALIGNMENT = 1 << 20, 512, 256
WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


class Global:
    """Tensors are copied in; give_back() copies them out."""

    def __init__(self, tensors: Sequence[torch.Tensor], constants: dict[str, bytes]) -> None:
        self.size, self.places = GAP, {}
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        for pointer, storage in storages.items():
            self.places[pointer] = self._reserve(storage.nbytes())
        self.symbols = {name: FIRST_ADDRESS + self._reserve(len(content)) for name, content in constants.items()}
        self.bytes = np.full(self.size, 0xFF, np.uint8)
        self.words = {size: self.bytes.view(kind) for size, kind in WORDS.items()}
        self.allowed, self.writer = np.zeros(self.size, bool), np.full(self.size, -1, np.int32)
        self.storages, self.written = storages, False
        for pointer, storage in storages.items():
            at = self.places[pointer]
            self.bytes[at : at + storage.nbytes()] = _bytes(storage)
        for name, content in constants.items():
            at = self.symbols[name] - FIRST_ADDRESS
            self.bytes[at : at + len(content)] = np.frombuffer(content, np.uint8)
            self.allowed[at : at + len(content)] = True
        for tensor in tensors:
            self._allow(tensor)
        self.before = np.concatenate([[0], np.cumsum(self.allowed)])

    def _reserve(self, size: int) -> int:
        at = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.size = -(-(at + size + GAP) // ALIGNMENT) * ALIGNMENT
        return at

    def _allow(self, tensor: torch.Tensor) -> None:
        storage, item = tensor.untyped_storage(), tensor.element_size()
        elements = torch.zeros(storage.nbytes() // item, dtype=torch.bool)
        if tensor.numel():
            elements.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
        at, every = self.places[storage.data_ptr()], np.repeat(elements.numpy(), item)
        self.allowed[at : at + len(every)] |= every

    def address(self, tensor: torch.Tensor) -> int:
        """Where a kernel finds a tensor's first element."""
        offset = tensor.storage_offset() * tensor.element_size()
        return FIRST_ADDRESS + self.places[tensor.untyped_storage().data_ptr()] + offset

    def give_back(self) -> None:
        for pointer, storage in self.storages.items():
            at = self.places[pointer]
            _bytes(storage)[:] = self.bytes[at : at + storage.nbytes()]

    def check(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Places in `bytes` of accesses of `size` bytes each."""
        places = addresses - FIRST_ADDRESS
        if (addresses % size).any():
            raise EmulationError(f"misaligned global access of {size} bytes at {_first(addresses, addresses % size)}")
        inside = (places >= 0) & (places + size <= self.size)
        held = np.where(inside, places, 0)
        bad = ~inside | (self.before[held + size] - self.before[held] != size)
        if bad.any():
            raise EmulationError(
                f"global access of {size} bytes out of bounds at {_first(addresses, bad)}: {int(bad.sum())} threads"
            )
        return places

    def load(self, addresses: np.ndarray, size: int, count: int, threads: np.ndarray) -> list[np.ndarray]:
        """`count` neighbours of `size` bytes for each of the threads."""
        places = self.check(addresses, size * count)
        if self.written:
            last = self.writer[places[:, None] + np.arange(size * count)]
            if ((last >= 0) & (last != threads[:, None])).any():
                raise EmulationError("global memory is read that another thread of the launch has written")
        return [self.words[size][places // size + i] for i in range(count)]

    def store(self, addresses: np.ndarray, values: list[np.ndarray], size: int, threads: np.ndarray) -> None:
        places = self.check(addresses, size * len(values))
        every = places[:, None] + np.arange(size * len(values))
        last, earlier = self.writer[every], self.bytes[every]
        for i, value in enumerate(values):
            self.words[size][places // size + i] = value
        mine = np.stack([value.astype(WORDS[size]) for value in values], 1).view(np.uint8)
        others = (last >= 0) & (last != threads[:, None]) & (earlier != mine)
        if others.any() or not np.array_equal(self.bytes[every], mine):
            raise EmulationError("two threads of a launch write different numbers to the same global memory")
        self.writer[every], self.written = threads[:, None], True


class Local:
    """Memory of each thread alone."""

    BASE = 256

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.stride = size, -(-size // 16) * 16
        self.bytes = np.full(self.stride * threads, 0xFF, np.uint8)

    def words(self, addresses: np.ndarray, size: int, count: int, threads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A view and places in it."""
        at = addresses - self.BASE
        if (addresses % (size * count)).any() or ((at < 0) | (at + size * count > self.size)).any():
            raise EmulationError(f"local access of {size * count} bytes misaligned or out of bounds")
        return self.bytes.view(WORDS[size]), (threads * self.stride + at) // size


def _bytes(storage: torch.UntypedStorage) -> np.ndarray:
    return torch.tensor([], dtype=torch.uint8).set_(storage).numpy()


def _first(addresses: np.ndarray, bad: np.ndarray) -> str:
    return hex(int(addresses[np.flatnonzero(bad)[0]]))
