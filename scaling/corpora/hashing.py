"""Random numbers as a pure function of (key, index): splitmix64, whose stream no library version can change.

Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def derive_key(*parts: object) -> int:
    """A 64-bit key from any values with a stable `repr`."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on a uint64 array of at least one dimension."""
    x = (x ^ (x >> np.uint64(30))) * _A
    x = (x ^ (x >> np.uint64(27))) * _B
    return x ^ (x >> np.uint64(31))


def draws(key: int, index: np.ndarray) -> np.ndarray:
    """Uniform uint64 for each (key, index); `index` is a non-negative integer array of at least one dimension."""
    return mix(index.astype(np.uint64) * _GOLDEN + np.uint64(key) + _GOLDEN)


def uniforms(key: int, index: np.ndarray) -> np.ndarray:
    """Uniform float64 in (0, 1) for each (key, index), 52 bits each."""
    return ((draws(key, index) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
