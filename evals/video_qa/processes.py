"""The processes of one run: those of `accelerate launch`, or one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .answer_log import RunError, Shard

PATIENCE = timedelta(days=30)  # processes wait for the slowest one at the end


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        shard: its part.
        device: where its model goes; None leaves the choice to load().
        state: accelerate's PartialState, or None for one process alone.
    """

    shard: Shard
    device: str | None = None
    state: Any = None

    @property
    def first(self) -> bool:
        """Whether this process makes the report and shows progress."""
        return self.state is None or self.state.is_main_process

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.state is not None:
            self.state.wait_for_everyone()


def find_processes(shard: str | None, device: str | None) -> Processes:
    """Ask the environment that `accelerate launch` or torchrun sets.

    Args:
        shard: "i/n" of processes that are started one by one.
        device: as the user said.

    Raises:
        RunError: a shard that is not understood, or one beside a launcher's.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if shard is not None:
        if launched:
            raise RunError(f"--shard {shard} and a launcher of several processes exclude each other")
        return Processes(Shard.parse(shard), device)
    if not launched:
        return Processes(Shard(), device)
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    own = "cpu" if state.device.type == "cpu" else str(state.device)
    return Processes(Shard(state.process_index, state.num_processes), device or own, state)
