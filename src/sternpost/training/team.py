"""Several processes that train together, as `torchrun` starts them; one, where none does.

    torchrun --nproc-per-node 2 -m sternpost train RECIPE.toml

gloo between processors, NCCL between CUDA devices. Every process reads its own part of each batch;
what they add up is all that they exchange.
"""

import os
import sys
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor


def leads() -> bool:
    """Whether this process is the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def end() -> None:
    """Ends a process that was one of several, with all written: gloo's threads (torch 2.13) abort
    about one in twenty of them while the interpreter takes itself apart."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Team:
    """This process among those that train together."""

    def __init__(self) -> None:
        self.process = int(os.environ.get("RANK", "0"))
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.local = int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.process == 0

    def __enter__(self) -> "Team":
        if self.processes > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(self.local)
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.processes > 1:
            if kind is None:
                self.wait()  # gloo aborts a process whose peer is gone before it has let go
            dist.destroy_process_group()

    def add_up(self, x: Tensor) -> Tensor:
        """The sum of `x` over all processes."""
        if self.processes == 1:
            return x
        total = x.clone()
        dist.all_reduce(total)
        return total

    def wait(self) -> None:
        """Until all processes are here."""
        if self.processes > 1:
            dist.barrier()
