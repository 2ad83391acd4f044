"""The learner and the data set obey the laws of fewshot-bench."""

import pytest

from bench.check.command import main


@pytest.mark.parametrize("choice", ["algo=acme_cosine", "dataset=acme_tiles"])
def test_it_obeys_the_laws(choice: str) -> None:
    assert main([choice]) == 0
