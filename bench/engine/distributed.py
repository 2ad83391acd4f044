"""Process group of the processes that train one cell together, started by torchrun.

There is one process per GPU, or one per part of a CPU. Each holds a full copy of the learner and
processes a share of every meta-batch. All communication between them goes through this module.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar

from bench.core.errors import PeerLostError

if TYPE_CHECKING:  # importing torch takes seconds; a user error should be reported without it
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")


@dataclass(frozen=True)
class ProcessGroup:
    """This process: rank ``rank`` of ``size`` processes, ``local`` among those on its machine.

    All processes must call the collectives in the same order. Each collective raises PeerLostError
    if another process has ended. With one process, collectives return their input.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    failure_store: "Store | None" = None
    """Key-value store that outlives a failed rank."""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process (rank 0), which writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return the contiguous range of ``count`` episodes that this process handles, split evenly."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def all_reduce(self, tensor: "Tensor") -> None:
        """All-reduce (sum) a contiguous tensor in place; all processes get bitwise the same result."""
        if self.size > 1:
            import torch.distributed as dist

            with _others():
                dist.all_reduce(tensor)

    def any_rank(self, wish: bool) -> bool:
        """Return whether ``wish`` is true in any process."""
        if self.size == 1:
            return wish
        import torch

        wishes = torch.tensor(int(wish))
        self.all_reduce(wishes)
        return bool(wishes)

    def all_gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, ordered by rank."""
        said = [value] * self.size
        if self.size > 1:
            import torch.distributed as dist

            with _others():
                dist.all_gather_object(said, value)
        return said

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """Call ``make`` in the main process only and return its result in all processes."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        said = [make() if self.is_main else None]
        with _others():
            dist.broadcast_object_list(said)
        return said[0]  # type: ignore[return-value]

    def report_failure(self, reason: str) -> None:
        """Publish why this process cannot continue, unless a process has done so before."""
        if self.failure_store and not self.failure():
            self.failure_store.set(REASON, f"{reason} (in process {self.rank} of {self.size})")

    def failure(self) -> str | None:
        """Return the reason published by a failed process, or None."""
        try:
            if self.failure_store and self.failure_store.check([REASON]):
                return str(self.failure_store.get(REASON).decode())
        except RuntimeError:  # torchrun itself has exited
            pass
        return None


WAIT = timedelta(hours=6)
"""Timeout of collectives, long enough for one process to prepare data; a peer's exit is detected
sooner."""

REASON = "reason"
SINGLE_PROCESS = ProcessGroup()
_worlds = [SINGLE_PROCESS]


def process_group() -> ProcessGroup:
    """Return the process group of this process."""
    return _worlds[-1]


def is_distributed() -> bool:
    """Return whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def init_distributed() -> Iterator[None]:
    """Join torchrun's process group within the context, if torchrun started several processes.

    Only the main process prints to standard output.
    """
    if not is_distributed():
        yield
        return
    size = int(os.environ["WORLD_SIZE"])
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, _ = next(rendezvous("env://"))
    # A prefix per attempt hides stale keys; with several hosts, each rendezvous has a new store anyway.
    alone = os.environ["GROUP_WORLD_SIZE"] == "1"
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] if alone else ""
    group, failure_store = (
        PrefixStore(f"{use}{attempt}", store) for use in ("group", "failure_store")
    )
    dist.init_process_group(backend, timeout=WAIT, store=group, rank=rank, world_size=size)
    _worlds.append(ProcessGroup(rank, size, int(os.environ["LOCAL_RANK"]), failure_store))
    try:
        if process_group().is_main:
            yield
        else:
            with open(os.devnull, "w") as nowhere:
                sys.stdout = nowhere
                yield
        dist.destroy_process_group()
    finally:
        _worlds.pop()
        sys.stdout = sys.__stdout__


def exit_process(status: int) -> NoReturn:
    """End this process with a status; one of torchrun's ends without Python's finalisation.

    In one of many exits, a thread of torch that still frees a tensor meets the finalisation and
    aborts the process (pytorch pull request 179291), and torchrun then kills the others.
    """
    if is_distributed():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        from bench.engine.memory import out_of_memory

        if out_of_memory(error):
            raise
        cause = str(error).split("\n", 1)[0]
        group = process_group()
        raise PeerLostError(
            f"Process {group.rank} of {group.size} goes no further, as another one has ended or does "
            f"not answer ({cause}); what was saved is kept, and the same command resumes from there."
        ) from error
