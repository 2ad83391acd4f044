"""BERT's encoder of Devlin et al. 2019 (arXiv 1810.04805), as the Hugging Face libraries store it."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bert(nn.Module):
    """Tokens [B, L] to their vectors [B, L, F], by weights with the names of Hugging Face's files.

    ``config`` is the ``config.json`` beside them.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.eps: float = config["layer_norm_eps"]
        for name, value in weights.items():
            self.register_buffer(name.removeprefix("bert.").replace(".", "_"), value.float())

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors of tokens; those outside the mask are not attended to."""
        where = "embeddings_{}_embeddings_weight".format
        words, places, kinds = (getattr(self, where(n)) for n in ("word", "position", "token_type"))
        x = F.embedding(tokens, words) + places[: tokens.shape[1]] + kinds[0]
        x = self._norm(x, "embeddings_LayerNorm")
        ignored = torch.zeros(mask.shape, device=x.device).masked_fill(~mask, -torch.inf)
        for n in range(self.layers):
            layer = f"encoder_layer_{n}_"
            query, key, value = (
                self._linear(x, f"{layer}attention_self_{part}")
                .unflatten(-1, (self.heads, -1))
                .transpose(1, 2)
                for part in ("query", "key", "value")
            )
            seen = F.scaled_dot_product_attention(query, key, value, ignored[:, None, None])
            seen = self._linear(seen.transpose(1, 2).flatten(2), f"{layer}attention_output_dense")
            x = self._norm(x + seen, f"{layer}attention_output_LayerNorm")
            inner = F.gelu(self._linear(x, f"{layer}intermediate_dense"))
            x = self._norm(
                x + self._linear(inner, f"{layer}output_dense"), f"{layer}output_LayerNorm"
            )
        return x

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(x, x.shape[-1:], weight, bias, self.eps)
