"""A command that ends by itself."""

import threading
import time

import pytest

from bench.core.errors import UserError
from bench.core.signals import RESUMABLE, Interrupted, handle_signals
from bench.core.until import parse, until


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("170m", 10_200), ("1.5h", 5400), ("0.5", 0.5)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "5 m", "5d", "m", "1e3", "inf", "9" * 400])
def test_what_is_no_time_gets_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="such as 90s, 170m or 2h"):
        parse(text)


def test_when_the_time_has_come_it_is_as_if_sigterm_had() -> None:
    with pytest.raises(Interrupted) as found, handle_signals(), until(0.01):
        time.sleep(600)
    assert found.value.status == RESUMABLE


def test_what_ends_before_is_not_interrupted() -> None:
    before = set(threading.enumerate())
    with until(3600):
        (timer,) = set(threading.enumerate()) - before
    timer.join()
    with until(None):
        assert set(threading.enumerate()) <= before
