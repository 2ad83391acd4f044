"""Chunks side by side: at the same time, in their order, with all threads in use."""

import threading

import pytest
import torch

from algorithms.nn.threads import map_chunks, threads_for

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_chunks_run_at_the_same_time_and_come_back_in_their_order():
    all_at_work = threading.Barrier(4, timeout=600)

    def work(chunk: int) -> int:
        all_at_work.wait()
        return 10 * chunk

    assert map_chunks(work, range(8), CPU) == [10 * chunk for chunk in range(8)]


@pytest.mark.parametrize(("chunks", "each"), [(1, 4), (2, 2), (3, 1)])
def test_the_threads_are_shared_out_among_the_chunks(chunks, each):
    found = map_chunks(lambda _: torch.get_num_threads(), range(chunks), CPU)
    assert found == [each] * chunks


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("recording", [True, False])
def test_gradients_are_recorded_where_the_caller_records_them(recording, chunks):
    with torch.set_grad_enabled(recording):
        found = map_chunks(lambda _: torch.is_grad_enabled(), range(chunks), CPU)
    assert found == [recording] * chunks


def test_a_gpu_is_driven_by_one_thread():
    assert threads_for(CPU) == 4
    assert threads_for(torch.device("cuda")) == 1
    caller = threading.current_thread()
    found = map_chunks(lambda _: threading.current_thread(), range(3), torch.device("cuda"))
    assert found == [caller] * 3
