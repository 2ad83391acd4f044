"""The processes that train one cell together, as torchrun starts them: one a GPU, or a part of a CPU.

Each has the whole learner and a share of every meta-batch. What they agree on goes through here.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from bench.mistake import Lost

if TYPE_CHECKING:  # torch takes seconds to load, which a mistake need not wait for
    from torch import Tensor
    from torch.distributed import Store

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """This process: number ``rank`` of ``size`` in all, ``local`` of those on its machine.

    Where processes talk, all must do so in the same order. Each such call raises Lost when another
    process has ended. One that is alone hears its own words.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    board: "Store | None" = None
    """What one process pins up here, others can read when it has ended."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of so many episodes are this process's: neighbours, shared out evenly."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def add(self, tensor: "Tensor") -> None:
        """Turn a contiguous tensor into the sum of those of all processes, the same bits in each."""
        if self.size > 1:
            import torch.distributed as dist

            with _others():
                dist.all_reduce(tensor)

    def any(self, wish: bool) -> bool:
        """Whether any process wishes so."""
        if self.size == 1:
            return wish
        import torch

        wishes = torch.tensor(int(wish))
        self.add(wishes)
        return bool(wishes)

    def each(self, value: Value) -> list[Value]:
        """What every process says, by rank."""
        said = [value] * self.size
        if self.size > 1:
            import torch.distributed as dist

            with _others():
                dist.all_gather_object(said, value)
        return said

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes; the others make nothing."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        said = [make() if self.first else None]
        with _others():
            dist.broadcast_object_list(said)
        return said[0]  # type: ignore[return-value]

    def blame(self, reason: str) -> None:
        """Let the others know why this process cannot go on, if none has said so before."""
        if self.board and not self.blamed():
            self.board.set(REASON, f"{reason} (in process {self.rank} of {self.size})")

    def blamed(self) -> str | None:
        """Why a process said that it could not go on, if one did."""
        try:
            if self.board and self.board.check([REASON]):
                return str(self.board.get(REASON).decode())
        except RuntimeError:  # torchrun itself has ended
            pass
        return None


WAIT = timedelta(hours=6)
"""How long a process waits for others, as where one prepares data; of their end it hears sooner."""

REASON = "reason"
ALONE = World()
_worlds = [ALONE]


def here() -> World:
    """The world of this process."""
    return _worlds[-1]


@contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes within, where torchrun started this one and others.

    Only the first prints to standard output.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if "TORCHELASTIC_RUN_ID" not in os.environ or size == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, _ = next(dist.rendezvous("env://"))
    # What an earlier attempt left is no news; of several hosts, the rendezvous has a store for each.
    alone = os.environ["GROUP_WORLD_SIZE"] == "1"
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] if alone else ""
    group, board = (dist.PrefixStore(f"{use}{attempt}", store) for use in ("group", "board"))
    dist.init_process_group(backend, timeout=WAIT, store=group, rank=rank, world_size=size)
    _worlds.append(World(rank, size, int(os.environ["LOCAL_RANK"]), board))
    try:
        if here().first:
            yield
        else:
            with open(os.devnull, "w") as nowhere:
                sys.stdout = nowhere
                yield
        dist.destroy_process_group()
    finally:
        _worlds.pop()
        sys.stdout = sys.__stdout__


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        from bench.memory import out_of_memory

        if out_of_memory(error):
            raise
        cause = str(error).split("\n", 1)[0]
        raise Lost(
            f"Process {here().rank} of {here().size} goes no further, as another one has ended or does "
            f"not answer ({cause}); what was saved is kept, and the same command goes on from there."
        ) from error
