"""Features of a frozen encoder: computed once for each image, kept, and the same episodes."""

import multiprocessing
import os
from dataclasses import replace

import pytest
import torch
from PIL import Image

from algorithms.backbones.encoder import Encoder
from bench.core.errors import UserError
from bench.datasets.features import CachedFeatures
from bench.runs import run
from bench.runs.reload import load_cell
from bench.runs.transfer import as_seen
from bench.tasks.episodes import episodes_of
from bench.tasks.pool import Dataset, Pool
from bench.verify import main as verify
from tests.algorithms.backbones.test_encoder import MOBILENET

ONNX = ["backbone=onnx", f"backbone.weights={MOBILENET}"]
"""A pretrained network that has no option of its own for a number of filters."""


class Mean(Encoder):
    """The mean colour of an image, and how many images were encoded."""

    num_features = 3
    batch_size = 4
    digest = "mean"

    def __init__(self):
        super().__init__()
        self.encoded = 0

    def prepare(self, image):
        return torch.tensor(Image.Image.getpixel(image.convert("RGB").resize((1, 1)), (0, 0)))

    def encode(self, prepared):
        self.encoded += len(prepared)
        return prepared.float()


class Killed(Mean):
    """One whose process is killed at the third batch."""

    def encode(self, prepared):
        if self.encoded == 8:
            os._exit(9)
        return super().encode(prepared)


@pytest.fixture
def dataset():
    images = torch.randint(256, (18, 3, 4, 4), dtype=torch.uint8)
    pool = Pool(images, torch.arange(0, 19, 6), tuple("abc"))
    return Dataset.of("small", dict.fromkeys(("train", "val", "test"), pool))


def features_of(dataset, encoder, folder):
    return CachedFeatures(dataset, encoder, folder, torch.device("cpu"))


def test_each_image_is_encoded_once_and_features_are_float16(dataset, tmp_path):
    encoder = Mean()
    found = features_of(dataset, encoder, tmp_path).features("test")
    assert encoder.encoded == 18 and found.dtype == torch.float16 and found.shape == (18, 3)
    again = features_of(dataset, encoder, tmp_path).features("test")
    assert encoder.encoded == 18 and torch.equal(again, found)
    by_hand = torch.stack([encoder.prepare(Image.fromarray(each.permute(1, 2, 0).numpy()))
                           for each in dataset.splits["test"].inputs])  # fmt: skip
    assert torch.equal(found, by_hand.half())


def test_other_data_splits_and_encoders_have_features_of_their_own(dataset, tmp_path):
    features_of(dataset, Mean(), tmp_path).features("test")
    other = Mean()
    other.digest = "another"
    for encoder, split in ((other, "test"), (Mean(), "val")):
        features_of(dataset, encoder, tmp_path).features(split)
        assert encoder.encoded == 18


def test_a_killed_process_loses_only_the_last_batches(dataset, tmp_path):
    killed = features_of(dataset, Killed(), tmp_path)
    process = multiprocessing.get_context("fork").Process(target=killed.features, args=("test",))
    process.start()
    process.join()
    assert process.exitcode == 9
    (draft,) = (tmp_path / "features").glob("*.part")
    draft.write_bytes(draft.read_bytes() + bytes(20))  # of a batch that was not written whole
    encoder = Mean()
    found = features_of(dataset, encoder, tmp_path).features("test")
    assert encoder.encoded == 10
    assert torch.equal(found, features_of(dataset, Mean(), tmp_path / "new").features("test"))


def test_original_images_are_encoded_where_there_are_any(dataset, tmp_path):
    def original(split, index):
        return Image.new("RGB", (50, 50), (index, 7, len(split)))

    found = CachedFeatures(
        Dataset("small", dataset.digest, dataset.splits, original=original),
        *(Mean(), tmp_path, torch.device("cpu")),
    ).features("test")
    assert found.tolist() == [[n, 7, 4] for n in range(18)]


def test_features_that_are_not_finite_are_refused(dataset, tmp_path):
    encoder = Mean()
    encoder.encode = lambda prepared: prepared * 1e6
    with pytest.raises(UserError, match="features of the test split are not finite in float16"):
        features_of(dataset, encoder, tmp_path).features("test")
    assert features_of(dataset, Mean(), tmp_path).features("test").isfinite().all()


def test_a_damaged_file_is_told(dataset, tmp_path):
    features_of(dataset, Mean(), tmp_path).features("test")
    (file,) = (tmp_path / "features").glob("*.f16")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match="is damaged: delete it"):
        features_of(dataset, Mean(), tmp_path).features("test")


def test_a_folder_that_cannot_be_written_is_no_error(dataset, tmp_path, caplog):
    (tmp_path / "features").write_text("in the way")
    found = features_of(dataset, Mean(), tmp_path).features("test")
    assert found.shape == (18, 3) and "Cannot keep the features of small" in caplog.text


def test_episodes_are_the_same_and_only_their_features_are_made(make, cache, monkeypatch):
    made = []
    features = CachedFeatures.features
    monkeypatch.setattr(
        CachedFeatures, "features", lambda self, split: made.append(split) or features(self, split)
    )
    pixels, network = make("algo=nearest"), make("algo=centroid", *ONNX)
    records = [run.run(cell) for cell in (pixels, network)]
    digests = [(record["episodes_digest"], record["data_digest"]) for record in records]
    assert digests[0] == digests[1]
    assert set(made) == {"test"}
    assert network.dataset.input_shape == (576,)
    assert "pretrained" not in records[0]
    assert records[1]["pretrained"].startswith("onnx mobilenet_v3_small, trained on")
    source = episodes_of(network.dataset, "test", network.test_setting, torch.device("cpu"), "test")
    assert source.draw(0, 2).support_x.shape == (2, 5, 1, 576)


def test_a_run_holds_the_digest_of_its_weights_and_not_their_folder(make, tmp_path):
    cell = make("algo=ridge", *ONNX)
    run.run(cell)
    stored = cell.store.config(cell.name)["backbone"]
    assert stored["weights"] == "mobilenet_v3_small.onnx" and len(stored["digest"]) == 16
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for suffix in ("", ".data"):
        (moved / f"mobilenet_v3_small.onnx{suffix}").symlink_to(MOBILENET + suffix)
    there = f"backbone.weights={moved}/mobilenet_v3_small.onnx"
    assert make("algo=ridge", "backbone=onnx", there).name == cell.name
    folders = {"data_root": str(moved), "cache_dir": cell.config.cache_dir}
    assert load_cell(cell.store, cell.name, folders).name == cell.name
    assert verify([f"results_dir={cell.store.root}", f"data_root={moved}",
                   f"cache_dir={cell.config.cache_dir}"]) == 0  # fmt: skip
    with pytest.raises(UserError, match="There is no file mobilenet_v3_small.onnx, neither here"):
        load_cell(cell.store, cell.name, folders | {"data_root": str(tmp_path)})
    with pytest.raises(UserError, match="their digest is .*, not 0123"):
        make("algo=ridge", *ONNX, "backbone.digest=0123")


@pytest.mark.parametrize("algo", ["protonet", pytest.param("maml", marks=pytest.mark.slow)])
def test_learners_train_a_map_on_the_features(make, algo):
    record = run.run(make(f"algo={algo}", *ONNX))
    assert record["parameters"] >= 576 * 576 and record["train_examples"] == 480


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo=maml", *ONNX, "train.flip=true"], "the learner sees none of glyphs"),
        (["algo=maml", "dataset=sinusoid", "ways=null", *ONNX], "encodes images, and sinusoid has"),
        (["backbone=timm", "backbone.model=resnet18", "backbone.weights=a.pth"], "no file a.pth"),
        (["backbone=timm", "backbone.model=nothing"], "timm: timm has no model 'nothing'"),
    ],
)
def test_mistakes_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make(*overrides)


def test_other_original_images_of_the_same_small_ones_have_features_of_their_own(dataset, tmp_path):
    for name in ("one", "other"):
        encoder = Mean()
        features_of(replace(dataset, original_digest=name), encoder, tmp_path).features("test")
        assert encoder.encoded == 18


def test_another_data_set_is_encoded_for_a_learner_of_features(dataset, tmp_path, make):
    cell = make("algo=centroid", *ONNX)
    seen = as_seen(cell, dataset)
    assert seen.encoding.dataset is dataset and seen.input_shape == (576,)
    assert as_seen(make("algo=nearest"), dataset).splits["test"].inputs.shape[1:] == (1, 28, 28)


def test_the_precision_of_a_cell_does_not_reach_features(dataset, tmp_path):
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    seen = []
    encoder = Mean()
    encoder.encode = lambda prepared: seen.append(matmul.fp32_precision) or prepared.float()
    try:
        features_of(dataset, encoder, tmp_path).features("test")
        assert set(seen) == {"ieee"} and matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before
