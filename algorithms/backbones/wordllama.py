"""WordLlama: the mean of static vectors of tokens, out of the package of that name.

The vectors are made from the token embeddings of large language models; there is no context. The
package itself would look for files on the network, so that its two files are read directly.
"""

import hashlib

from torch import Tensor, nn

from algorithms.backbones.encoder import description, read_weights
from algorithms.backbones.sentence import SentenceEncoder, checked, folder_of, mean

WEIGHTS = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
"""SHA-256 of the vectors in version 0.4.0."""
TOKENIZER = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
"""SHA-256 of the tokenizer."""


class WordLlama(SentenceEncoder):
    """The mean of the 256-dimensional vectors of the first ``length`` tokens."""

    adds_special_tokens = False

    def __init__(self, input_shape: tuple[int, ...], *, length: int = 128) -> None:
        super().__init__()
        folder = folder_of("wordllama", "wordllama", "text")
        weights = checked(folder / "weights/l2_supercat_256.safetensors", WEIGHTS)
        tokenizer = checked(folder / "tokenizers/l2_supercat_tokenizer_config.json", TOKENIZER)
        self.read_tokenizer(tokenizer, length)
        (table,) = read_weights(str(weights)).values()
        self.vectors = nn.Embedding.from_pretrained(table.float())
        self.num_features = table.shape[1]
        name = "wordllama l2_supercat_256"
        self.digest = hashlib.sha256(f"{WEIGHTS} {TOKENIZER} {length}".encode()).hexdigest()
        trained_on = "token embeddings of Llama 2 and other language models"
        self.pretrained = description(name, WEIGHTS, trained_on, "MIT")

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the mean vectors [B, F] of tokens."""
        return mean(self.vectors(tokens), mask)
