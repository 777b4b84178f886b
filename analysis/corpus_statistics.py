"""A file of corpus statistics, read and checked, and which of its entropies and correlations may enter a fit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.types import Array
from scaling.errors import InputError

FORMAT = 1
_NEEDED = ("corpus", "tokenizer", "digest", "tokens", "entropies", "correlations", "composition", "draws")
_ENTROPY, _CORRELATION = ("context", "plugin", "upper", "corrected"), ("lag", "operator", "noise", "se")


@dataclass(frozen=True)
class Protocol:
    """What is fixed before L(D) is measured: which n and lags count, how they are weighted, when the answer is one.

    H_n is the middle of its bounds, the plug-in entropy and the code length of unseen documents; it counts while half
    the distance between them is at most `bias` of it. A lag counts while every norm up to it is at least `noise` times
    what two halves of the documents differ by. A point's relative standard error is its own and `scatter`, of what is
    no power law at all, in quadrature. Windows begin and end at the values given; those of contexts hold at least three
    points (four with a floor), those of lags span at least a factor `span`.
    """

    bias: float = 0.05
    noise: float = 3.0
    scatter: float = 0.05
    first_contexts: tuple[int, ...] = (1, 2)
    last_contexts: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    first_lags: tuple[int, ...] = (1, 2, 4, 8)
    last_lags: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    span: float = 16.0
    spread: float = 0.2
    level: float = 0.9
    seed: int = 0


PROTOCOL = Protocol()
"""The protocol of every prediction this project registers."""


@dataclass(frozen=True, eq=False)
class Points:
    """Admissible values over n or lag: `x`, `value`, `half` their bounds' half distance, `draws` (R, points).

    `reason` says what ended them; `all_x` and `all_value` are everything measured.
    """

    x: Array
    value: Array
    half: Array
    relative_se: Array
    draws: Array
    reason: str
    all_x: Array
    all_value: Array
    all_half: Array
    limit: Array


def read_statistics(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """What `scaling corpus statistics` wrote.

    Raises:
        InputError: the file cannot be read, is no such file or is of a later format.
    """
    if isinstance(source, Mapping):
        found, name = source, "statistics"
    else:
        name = str(source)
        try:
            found = json.loads(Path(source).read_text())
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise InputError(
                f"{name} is no JSON; `scaling corpus statistics CORPUS --out FILE.json` makes it"
            ) from None
    lacking = [key for key in _NEEDED if not isinstance(found, Mapping) or key not in found]
    if lacking:
        raise InputError(f"{name} lacks {lacking[0]!r}; `scaling corpus statistics CORPUS --out FILE.json` makes it")
    if found.get("format") != FORMAT:
        raise InputError(f"{name} is of format {found.get('format')!r}, this version reads {FORMAT}; measure it again")
    for part, keys in (("entropies", _ENTROPY), ("correlations", _CORRELATION)):
        _check(name, found, part, keys)
    return found


def _check(name: str, found: Mapping[str, Any], part: str, keys: tuple[str, ...]) -> None:
    for k, row in enumerate(found[part]):
        for key in keys:
            value = row.get(key) if isinstance(row, Mapping) else None
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise InputError(f"{name}: {part}[{k}].{key} is {value!r}, not a number; measure the corpus again")
    drawn = np.asarray(found["draws"].get(part, []), dtype=np.float64)
    if len(found[part]) and (drawn.ndim != 2 or drawn.shape[1] != len(found[part])):
        raise InputError(f"{name}: draws.{part} do not fit its {len(found[part])} {part}; measure the corpus again")


def entropy_points(found: Mapping[str, Any], protocol: Protocol) -> Points:
    """H_n, n = 1, 2, .., the middle of its bounds, as far as the bounds are close enough.

    The upper bound is the least code length of this and all shorter contexts: H_n cannot rise. Each draw of documents
    also draws where between the bounds the entropies lie, the same share for every n.
    """
    rows = found["entropies"]
    n, lower, corrected = (np.array([r[k] for r in rows], dtype=np.float64) for k in ("context", "plugin", "corrected"))
    upper = np.maximum(np.minimum.accumulate([float(r["upper"]) for r in rows]), lower)
    value, half = (lower + upper) / 2, (upper - lower) / 2
    drawn = np.asarray(found["draws"]["entropies"], dtype=np.float64)
    se = (drawn - corrected).std(axis=0)
    share = np.random.default_rng(protocol.seed).uniform(-1.0, 1.0, len(drawn))
    drawn = drawn - corrected + value + share[:, None] * half
    positive = n >= 1
    n, value, half, se, drawn = n[positive], value[positive], half[positive], se[positive], drawn[:, positive]
    close = np.logical_and.accumulate(half <= protocol.bias * value)
    last = int(close.sum())
    reason = ""
    if last < len(n):
        reason = (
            f"at n = {n[last]:g} the bounds of H_n, {value[last] - half[last]:.3f} and {value[last] + half[last]:.3f} "
            f"nats, are more than {protocol.bias:.0%} to either side of their middle"
        )
    return Points(
        n[:last], value[:last], half[:last], (se / value)[:last], drawn[:, :last], reason, n, value, half, half
    )


def correlation_points(found: Mapping[str, Any], protocol: Protocol) -> Points:
    """||C(lag)||, up to the first lag whose norm is not well above what two halves of the documents differ by."""
    rows = found["correlations"]
    lag, norm, noise, se = (
        np.array([r[k] for r in rows], dtype=np.float64) for k in ("lag", "operator", "noise", "se")
    )
    drawn = np.asarray(found["draws"]["correlations"], dtype=np.float64).reshape(-1, len(rows))
    above = np.logical_and.accumulate(norm >= protocol.noise * noise) if len(rows) else np.zeros(0, bool)
    last = int(above.sum())
    reason = ""
    if last < len(lag):
        reason = (
            f"at lag {lag[last]:g} the norm {norm[last]:.2g} is under {protocol.noise:g} times its noise, "
            f"{noise[last]:.2g}"
        )
    relative = se / np.maximum(norm, 1e-300)
    return Points(
        lag[:last], norm[:last], 0 * norm[:last], relative[:last], drawn[:, :last], reason, lag, norm, 0 * norm, noise
    )
