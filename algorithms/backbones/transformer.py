"""Any sentence-transformers model or Hugging Face encoder of texts in a folder, frozen."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from algorithms.backbones.bert import Bert
from algorithms.backbones.encoder import description, digest_of, read_weights
from algorithms.backbones.sentence import SentenceEncoder, mean

Pooling = Literal["mean", "cls"]


class Transformer(SentenceEncoder):
    """The vectors of the first ``length`` tokens of a text, pooled.

    ``path`` is a folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``, and of
    sentence-transformers also ``1_Pooling/config.json``, which says how vectors are pooled: their
    mean, or the first of them; without it, their mean. BERT is run by code of our own, all others by
    the transformers library. ``digest`` is what the digest must begin with, and ``trained_on`` and
    ``license`` are what rows say.

    Raises:
        ValueError: A file is missing or says what cannot be followed, or the library is needed and
            not installed.
    """

    adds_special_tokens = True
    model: ClassVar[str | None] = None
    """The model's name in rows, by default that of the folder."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        path: str,
        length: int = 128,
        trained_on: str | None = None,
        license: str | None = None,
        digest: str | None = None,
    ) -> None:
        super().__init__()
        folder = Path(path)
        config = read_json(folder / "config.json")
        self.read_tokenizer(
            folder / "tokenizer.json", min(length, config.get("max_position_embeddings", length))
        )
        self.pooling = pooling_of(folder)
        self.network = network_in(folder, config)
        with torch.inference_mode():
            self.num_features = self.encode(self.prepare("text")[None]).shape[1]
        name = self.model or f"transformer {folder.resolve().name}"
        found = digest_of(self.network.state_dict())
        tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
        facts = (
            f"{found} {tokenizer} {json.dumps(config, sort_keys=True)} {self.pooling} {self.length}"
        )
        self.digest = hashlib.sha256(facts.encode()).hexdigest()
        self.pretrained = description(name, found, trained_on, license)
        self.check_digest(digest)

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled vectors [B, F] of tokens."""
        vectors = self.network(tokens, mask)
        return mean(vectors, mask) if self.pooling == "mean" else vectors[:, 0]


class Hugging(nn.Module):
    """A network of the transformers library, to the vectors of its last layer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            from transformers import AutoModel
        except ImportError:
            raise ValueError(
                "transformers is not installed, which all but BERT need: pip install transformers"
            ) from None
        self.network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors [B, L, F] of tokens."""
        result: Tensor = self.network(tokens, mask).last_hidden_state
        return result


def network_in(folder: Path, config: dict[str, Any]) -> nn.Module:
    """Return the network in a folder, from tokens and their mask to vectors."""
    is_bert = config.get("model_type") == "bert" and config.get("hidden_act", "gelu") == "gelu"
    if not is_bert or config.get("position_embedding_type", "absolute") != "absolute":
        return Hugging(folder)
    return Bert(config, read_weights(str(folder / "model.safetensors")))


def pooling_of(folder: Path) -> Pooling:
    """Return how a folder says that vectors are pooled; raise ValueError if that is not known."""
    modules = folder / "modules.json"
    kinds = (
        [each["type"].rsplit(".")[-1] for each in read_json(modules)] if modules.exists() else []
    )
    if others := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(f"modules.json names {', '.join(sorted(others))}, which is not supported")
    if not (file := folder / "1_Pooling" / "config.json").exists():
        return "mean"
    said = read_json(file)
    chosen = {
        key for key, value in said.items() if key.startswith("pooling_mode") and value is True
    }
    for name, keys in {
        "mean": {"pooling_mode_mean_tokens"},
        "cls": {"pooling_mode_cls_token"},
    }.items():
        if chosen == keys or said.get("pooling_mode") == name:
            return name  # type: ignore[return-value]
    raise ValueError(f"{file} says neither mean nor cls")


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; raise ValueError if there is none."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        raise ValueError(f"{file.name} is missing in {file.parent.name}, or is no JSON") from None
