"""Rows on pretrained features: who is ranked with whom, and what their table says."""

import pytest

from bench.report.networks import network_tables
from bench.report.rows import SCORE, comparisons, is_floor, merge_across, with_labels
from bench.runs.records import check
from tests.bench.report.samples import record

LITE = {
    "backbone": "timm",
    "backbone_options": {"model": "lite0", "frozen": True},
    "pretrained": "timm lite0, trained on ImageNet-1k, weights 0123456789abcdef, licence apache-2.0",
}
SMALL = {
    "backbone": "onnx",
    "backbone_options": {"size": 224, "mean": None},
    "pretrained": "onnx small, trained on data that nobody stated, weights fedcba9876543210, licence x",
}
HEAD = {
    **{"parameters": 0, "train_examples": 0, "algo_options": {}, "val_score": None},
    **{"train_episodes": 0, "selected_episode": 0, "train_seconds": 0.0},
}


def head(algo, network=LITE, **changes):
    return check(record(algo, **(HEAD | network | changes)))


def labels(rows, across=()):
    found = comparisons(with_labels(merge_across(rows, across)), SCORE)
    return [sorted(comparison.labels) for comparison in found]


def test_heads_are_ranked_with_learners_on_the_same_features_whatever_their_budget():
    trained = record("protonet", **LITE)
    other = record("maml", **LITE, train_examples=99)
    found = labels([head("ridge"), head("svm"), trained, other])
    assert found == [["MAML", "Ridge", "SVM"], ["ProtoNet", "Ridge", "SVM"]]


def test_heads_alone_are_ranked_with_each_other():
    assert labels([head("ridge"), head("centroid")]) == [["Centroid", "Ridge"]]


def test_rows_from_scratch_are_kept_apart_unless_asked_for():
    rows = [head("ridge"), head("ridge", SMALL), record("protonet")]
    assert len(labels(rows)) == 3
    assert labels(rows, ["pretrained"]) == [
        ["ProtoNet (network conv4 from scratch)", "Ridge (network onnx small fedcba98)",
         "Ridge (network timm lite0 01234567)"]
    ]  # fmt: skip


def test_a_head_on_pretrained_features_is_no_floor():
    assert not is_floor(head("centroid"))
    assert is_floor(head("nearest", {"backbone": "pixels", "backbone_options": {}}))


def test_titles_name_the_network_briefly():
    found = comparisons(with_labels([head("ridge"), head("ridge", SMALL)]), SCORE)
    assert [each.title for each in found] == [
        "omniglot, pretrained onnx small fedcba98",
        "omniglot, pretrained timm lite0 01234567",
    ]
    trained = head("ridge", LITE | {"backbone_options": {"model": "lite0", "frozen": False}})
    found = comparisons(with_labels([head("ridge"), trained, record("maml")]), SCORE)
    assert [each.title for each in found] == [
        "omniglot, backbone conv4, filters 64, pretrained none, train examples 200000",
        "omniglot, model lite0, frozen False, pretrained timm lite0 01234567, train examples 0",
        "omniglot, model lite0, frozen True, pretrained timm lite0 01234567, train examples 0",
    ]


def test_the_table_of_networks_has_a_column_for_each():
    rows = [
        head("ridge", score=70.0),
        head("ridge", SMALL, score=60.0),
        head("svm", score=50.0),
        record("protonet", score=80.0),
    ]
    (table,) = network_tables(rows)
    networks = ["conv4 from scratch", "onnx small fedcba98", "timm lite0 01234567"]
    assert table.headers == ["Learner", *networks]
    assert [[cell.split(" ±")[0] for cell in line] for line in table.cells] == [
        ["ProtoNet", "80.0", "–", "–"],
        ["Ridge", "–", "60.0", "**70.0"],
        ["SVM", "–", "–", "50.0"],
    ]


@pytest.mark.parametrize(
    "rows", [[head("ridge"), head("svm")], [record("maml"), record("protonet")]]
)
def test_one_network_has_no_table(rows):
    assert network_tables(rows) == []
