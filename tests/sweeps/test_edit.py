"""An edited sweep runs only its new points, and what the store recorded of the files it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.store import Store
from sweeps.run import plan_sweep, run_sweep

BASE = """\
architecture: {type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}
objective: causal
corpus: {type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}
optimizer: adamw
precision: fp32
heldout: nested
batch_tokens: 128
"""
SWEEP = """\
include: base.yaml
name: tiny
design:
  type: grid
  axes: {optimizer.lr: [0.003], steps: [300, 310]}
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "edit-cache"))


def test_an_edited_sweep_runs_only_its_new_points(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    sweep, store = tmp_path / "tiny.yaml", tmp_path / "store"
    sweep.write_text(SWEEP)
    assert run_sweep(sweep, store, serial=True, quiet=True).ran == 2
    first = Store.open(store).rows()
    sweep.write_text(SWEEP.replace("[0.003]", "[0.003, 0.01]").replace("300, 310", "310"))
    assert plan_sweep(sweep, store).counts == {"finished": 1, "to_run": 1}
    outcome = run_sweep(sweep, store, serial=True, quiet=True)
    assert (outcome.ran, outcome.counts) == (1, {"finished": 2})
    rows = Store.open(store).rows().set_index("run_id")
    assert len(rows) == 3
    assert rows.loc[first["run_id"], "loss"].tolist() == first["loss"].tolist()
    # A new description, order or name of the axes is no new point.
    sweep.write_text(SWEEP.replace("[300, 310]", "[310, 300]").replace("name: tiny", "name: renamed"))
    assert run_sweep(sweep, store, serial=True, quiet=True).ran == 0
    assert sorted(set(Store.open(store).format["sweeps"].values())) == ["base.yaml", "tiny.yaml"]
