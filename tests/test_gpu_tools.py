"""The campaign of tools/gpu, as far as it can be tried without a GPU."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from tools.gpu import cells, checks, home, layers, pack, smoke, there


@pytest.fixture
def cpu(monkeypatch):
    """The CPU stands in for the GPU, also where there is one."""
    for module in (smoke, layers):
        monkeypatch.setattr(module, "CUDA", False)
        monkeypatch.setattr(module, "DEVICE", torch.device("cpu"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_gradient_of_the_gpu_is_held_to_that_of_the_cpu(cpu, monkeypatch):
    assert smoke.gradient("protomaml", "fp32")[0]
    found = smoke.outer_gradient
    monkeypatch.setattr(smoke, "outer_gradient", lambda *given: 1.05 * found(*given))
    assert not smoke.gradient("protomaml", "fp32")[0], "the exact one is cached"


@pytest.mark.parametrize(
    "name", ["episodes", "solver: 5, 1", "memory", "optimizer: protonet, nesterov"]
)
def test_checks_pass_where_the_cpu_is_the_device(cpu, name):
    passed, detail = smoke.checks()[name]()
    assert passed, detail


def test_every_kind_of_check_is_listed(cpu):
    kinds = {name.partition(":")[0] for name in smoke.checks()}
    assert kinds == {
        *("memory", "episodes", "gradient", "waits", "graph", "optimizer", "solver"),
        *("evaluation", "repeated"),
    }


def test_checks_that_fail_or_raise_or_have_no_time_are_told(tmp_path, capsys):
    def raises() -> tuple[bool, str]:
        raise ValueError("no such kernel")

    file = tmp_path / "found.json"
    one = {"good": lambda: (True, "fine"), "bad": raises, "wrong": lambda: (False, "2 is not 3")}
    assert not checks.run(one, 60, file)
    assert [each["passed"] for each in json.loads(file.read_text())] == [True, False, False]
    said = capsys.readouterr().out
    assert (
        "no such kernel" in said and "Traceback" in said and "1 passed, 2 failed, 0 not run" in said
    )
    assert checks.run({"good": one["good"]}, 60, file)
    assert checks.run({"late": raises}, -1, file), "it was not run"
    assert json.loads(file.read_text())[0]["passed"] is None


def test_layers_are_the_same_by_all_operators_that_are_timed(cpu):
    x, w = layers.rand(2, 3, 6, 6, 4), layers.rand(2, 36, 5)
    grouped = torch.nn.functional.conv2d(
        x.permute(1, 0, 4, 2, 3).flatten(1, 2),
        w.view(2, 3, 3, 4, 5).permute(0, 4, 3, 1, 2).flatten(0, 1),
        stride=2, padding=1, groups=2,
    )  # fmt: skip
    unfolded = layers.unfolded(x, w, 2).view(2, 3, 3, 3, 5).permute(1, 0, 4, 2, 3).flatten(1, 2)
    torch.testing.assert_close(unfolded, grouped)
    images, weight = layers.rand(6, 4, 5, 5), layers.rand(4)
    ours = layers.batch_norm_each(images, weight, weight, 2, 1e-5)[0]
    flat = layers.at_once(images, weight, weight, 2, 1e-5)
    torch.testing.assert_close(flat.view(6, 5, 5, 4).permute(0, 3, 1, 2), ours)


def test_packed_packages_have_the_versions_that_are_tested():
    assert pack.pins(["hydra-core"])[0].startswith("hydra-core==")
    assert len(pack.pins([*pack.PACKAGES, *pack.PEERS])) == len(pack.PACKAGES) + len(pack.PEERS)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of a campaign: what is packed, the machine's, and what comes back."""
    folders = {name: tmp_path / name for name in ("packed", "base", "out", "home")}
    for folder in folders.values():
        folder.mkdir()
    for module in (there, home):
        monkeypatch.setattr(module, "PACKED", folders["packed"])
    for module in (there, cells):
        monkeypatch.setattr(module, "BASE", folders["base"])
    monkeypatch.setattr(cells, "OUT", folders["out"])
    monkeypatch.setattr(home, "ROOT", folders["home"])
    monkeypatch.setattr(home, "report", lambda arguments: 0)
    return folders


def test_results_come_home_and_go_there_again(places, monkeypatch):
    monkeypatch.setattr(cells, "PART", 100)  # several parts
    runs = places["base"] / "results/runs"
    for name, files in {
        "a": {
            "record.json": '{"status": "done"}',
            "model.safetensors": "x" * 999,
            "episodes.csv": "1",
        },
        "b": {"checkpoint.pt": "half"},
        "c": {"record.json": '{"status": "failed"}'},
    }.items():
        (runs / name).mkdir(parents=True)
        for file, content in files.items():
            (runs / name / file).write_text(content)
    cells.pack(places["base"] / "results")
    assert len(list(places["out"].glob("results.tar.gz.*"))) > 1
    monkeypatch.setattr(sys, "argv", ["home", str(places["out"]), "some-gpu"])
    assert home.main() == 0
    brought = places["home"] / "results/reference/some-gpu/runs"
    assert {str(p.relative_to(brought)) for p in brought.rglob("*.*")} == {
        "a/record.json", "a/episodes.csv",
    }  # fmt: skip

    (places["packed"] / "site").mkdir()
    with tarfile.open(places["packed"] / "site.tar.gz", "w:gz") as archive:
        archive.add(places["packed"] / "site", "site")
    subprocess.run(["rm", "-r", places["base"] / "results"], check=True)
    there.unpack()
    assert (runs / "b/checkpoint.pt").read_text() == "half"
    assert (runs / "a/model.safetensors").exists(), "an unfinished report may want it"


def test_a_step_there_finds_code_packages_and_commit(places, monkeypatch):
    (places["packed"] / "commit").write_text("0123456789ab")
    monkeypatch.setenv("OUT", "/somewhere")
    found = there.variables()
    assert found["BENCH_COMMIT"] == "0123456789ab" and found["OUT"] == "/somewhere"
    first, second, third = map(Path, found["PYTHONPATH"].split(":"))
    assert (first / "bench/engine/train.py").exists() and (second / "hydra_plugins").exists()
    assert third == places["base"] / "site"
