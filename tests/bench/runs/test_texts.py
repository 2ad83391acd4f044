"""Cells on a user's own texts, from end to end."""

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.runs import run

OPTIONS = ["dataset=textfolder", "ways=2", "test.episodes=5"]


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Options for seven classes of eight texts."""
    root = tmp_path / "my intents"
    root.mkdir()
    for name in ("ask", "beg", "call", "two\nlines", "eat 🚋", "fix", "go"):
        lines = (f"{name} {name[0] * number}".replace("\n", " ") for number in range(1, 9))
        (root / f"{name}.txt").write_text("\n".join(lines))
    return [*OPTIONS, f"dataset.path={root}"]


@pytest.mark.parametrize("algo", ["maml", "metaoptnet"])
def test_a_learner_is_trained_on_texts(make, texts, tmp_path, algo):
    cell = make(f"algo={algo}", *texts)
    record = run.run(cell)
    assert record["status"] == "done" and record["dataset"] == "my-intents"
    assert cell.name.startswith(f"{algo}-my-intents-2w1s-")
    for path in (cell.store.runs / cell.name).iterdir():
        if path.suffix in (".json", ".csv", ".yaml"):
            assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone=mlp", "mlp reads no texts, and my-intents has nothing else"),
        ("train.flip=true", "Images alone are augmented, and the learner sees none of my-intents"),
        (
            "queries=8",
            "queries=8 is 9 examples a class, .* Or leave out small classes with dataset.min_texts=",
        ),
    ],
)
def test_what_texts_do_not_allow_is_told_before_any_work(make, texts, override, message):
    with pytest.raises(UserError, match=message) as caught:
        make("algo=protonet", *texts, override)
    assert "\n" not in str(caught.value)


def test_classes_of_few_texts_are_left_out(make, texts, tmp_path):
    (tmp_path / "my intents" / "go.txt").write_text("go\ngone\n")
    cell = make("algo=protonet", *texts, "dataset.min_texts=6")
    assert all("go" not in pool.names for pool in cell.dataset.splits.values())
