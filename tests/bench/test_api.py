"""The suite as a library."""

import bench
from tests.bench.small import SMALL


def test_a_learner_is_trained_and_evaluated_in_one_call_and_not_again(tmp_path, cache):
    options = [*SMALL, "algo=protonet", f"results_dir={tmp_path}", f"cache_dir={cache}"]
    record = bench.run(*options)
    assert (record["algo"], record["status"], record["episodes"]) == ("protonet", "done", 12)
    assert bench.run(*options) == record
    assert len(list((tmp_path / "runs").iterdir())) == 1
