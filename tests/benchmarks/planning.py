"""How well `scaling plan` knows a sweep's time: this machine's calibration and the shipped table against rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from scaling.provenance import cores
from scaling.store import Store
from scaling.trial import Trial
from sweeps.calibration import Calibration
from sweeps.measure import calibrate

STUDY = Path(__file__).resolve().parents[2] / "results/hoffmann-toy/store"


def table() -> str:
    """A Markdown table: estimated over recorded training seconds of the committed toy study's runs.

    Only on the machine that made the rows, with the code that made them, is the measured line a test of the plan.
    """
    rows = Store.open(STUDY).rows()
    measured = calibrate(cores(), when="always", compiled=True, say=print)
    lines = ["| times by | sweep | runs | sum | worst run |", "|---|---|---:|---:|---:|"]
    for name, speed in (("this machine", measured), ("shipped table", Calibration())):
        for sweep, group in rows.groupby("sweep"):
            found = []
            for row in group.itertuples():
                how = json.loads(str(row.execution))
                trial = Trial.model_validate_json(str(row.spec))
                found.append(speed.training_seconds(trial, 256, how["compiled"], how["micro_batch_tokens"]))
            off = np.array(found) / group["wall_s"].to_numpy() - 1
            total = sum(found) / group["wall_s"].sum() - 1
            lines.append(f"| {name} | {sweep} | {len(group)} | {total:+.0%} | {off[np.argmax(abs(off))]:+.0%} |")
    coefficients = ", ".join(f"{c:.2g}" for c in measured.eager)
    return "\n".join([*lines, "", f"Eager coefficients here: {coefficients}.", ""])
