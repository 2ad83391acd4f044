"""Rows whose speed was not measured, as those of a campaign beside other work."""

from bench.report import gather, texts, views
from bench.report.figures.learning_curves import learning_curves
from bench.report.tables import ABSENT, train_time
from tests.bench.report.samples import curve, folder, record


def test_no_time_is_told_of_them_and_their_accuracy_is(tmp_path) -> None:
    timed, untimed = record("maml"), record("protonet", throughput=[])
    assert train_time([timed]) == train_time([timed, untimed]) != ABSENT
    assert train_time([untimed]) == ABSENT
    found = gather(folder(tmp_path, [timed, untimed]))
    written = texts(found)
    for name in ("throughput.md", "time_to_accuracy.md"):
        assert "MAML" in (written[name] or "") and "ProtoNet" not in (written[name] or "")
    assert "ProtoNet" in (written["accuracy.md"] or "")
    curves = {row["cell"]: curve(row) for row in (timed, untimed)}
    for x, labels in (("seconds", {"MAML"}), ("episodes", {"MAML", "ProtoNet"})):
        (panel,) = learning_curves([timed, untimed], curves, x).panels
        assert set(panel.legend) == labels
    made = views(found)[0]["report.html"] or ""
    assert "trains fastest" not in made and "Cheapest of these" not in made
