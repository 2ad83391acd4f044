"""A short form of `tools.campaigns.fuzz`."""

import pytest

from tools.campaigns import fuzz


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "the page")) for n in fuzz.TARGETS],
)
def test_damaged_files_are_read_or_refused(name, caplog):
    caplog.set_level("CRITICAL")
    outcomes = fuzz.fuzz(name, inputs=15, number=0)
    assert outcomes["refused"] > 0 and outcomes.total() >= 15
