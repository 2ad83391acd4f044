"""Rows whose speed was not measured, as those of a campaign beside other work."""

from bench.report import gather, page, texts
from bench.report.plots import curve_panels
from bench.report.tables import ABSENT, train_time
from tests.bench.report.samples import curve, folder, record


def test_no_time_is_told_of_them_and_their_accuracy_is(tmp_path) -> None:
    timed, untimed = record("maml"), record("protonet", throughput=[])
    assert train_time([timed]) == train_time([timed, untimed]) != ABSENT
    assert train_time([untimed]) == ABSENT
    found = gather(folder(tmp_path, [timed, untimed]))
    views = texts(found)
    for name in ("throughput.md", "time_to_accuracy.md"):
        assert "MAML" in (views[name] or "") and "ProtoNet" not in (views[name] or "")
    assert "ProtoNet" in (views["accuracy.md"] or "")
    curves = {row["cell"]: curve(row) for row in (timed, untimed)}
    for x, labels in (("seconds", {"MAML"}), ("episodes", {"MAML", "ProtoNet"})):
        ((_, _, drawn),) = curve_panels([timed, untimed], curves, x)
        assert set(drawn) == labels
    made = page.html(*found[1:3], curves, found.probed, found.shifted, found.claimed, found.crossed)
    assert "trains fastest" not in made and "Cheapest of these" not in made
