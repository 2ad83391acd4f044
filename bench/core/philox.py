"""Random numbers as a pure function of (key, counter), identical on every device.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"),
implemented with int64 tensors that hold 32-bit words. There is no state, no order of seeding and no
synchronisation: any number of any stream can be computed at any time, as numbered episodes require.
"""

import hashlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def key_of(*axes: object) -> tuple[int, int]:
    """Return a 64-bit key, as two 32-bit words, from axes such as a digest, purpose and seed."""
    digest = hashlib.sha256(repr(axes).encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def philox(key: tuple[int, int], counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return four random 32-bit words for each counter: int64 [..., 4] in [0, 2**32).

    The four counter words are int64 tensors in [0, 2**32) that broadcast against each other.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The product wraps in int64, but its 64 bits are right; masking drops the sign.
        low = c0 * _MULTIPLIERS[0]
        high = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (high >> 32 & _MASK) ^ c1 ^ k0,
            high & _MASK,
            (low >> 32 & _MASK) ^ c3 ^ k1,
            low & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), -1)
