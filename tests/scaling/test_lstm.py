"""The LSTM against the textbook recurrence and torch's own, its accounting, what a position sees, a training run."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from trial_world import ready

from scaling.accounting import PARAM_GROUPS, training_flops
from scaling.architectures.lstm import Lstm
from scaling.corpora.prepare import prepare
from scaling.execution import EAGER, choose_execution, put_in_force
from scaling.guard import FACTOR
from scaling.job import Job, Planned
from scaling.job_runner import JobRunner
from scaling.kernels import build
from scaling.models.lstm import LstmModel, available, lstm_layer
from scaling.objectives.base import Vocabulary
from scaling.step import StepFunction
from scaling.store import Store
from scaling.trial import Trial

VOCAB = 50
needs_kernel = pytest.mark.skipif(not available(), reason="no C++ compiler on this machine")


def textbook(x: Tensor, weight_input: Tensor, weight_recurrent: Tensor, bias: Tensor, state: Tensor) -> Tensor:
    """(T, B, D) from (T, B, I): one product of each kind a step; `state` (B, D) is h and c before the first."""
    h, c, out = state, state, []
    for now in x:
        i, f, g, o = (now @ weight_input.T + h @ weight_recurrent.T + bias).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out)


def layer_inputs(steps: int, batch: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (T, B, D), input and recurrent weights (4·D, D), bias (4·D,)."""
    torch.manual_seed(steps + batch + width)
    scale = 1.0 / math.sqrt(width)
    shapes = [(steps, batch, width), (4 * width, width), (4 * width, width), (4 * width,)]
    x, into, recurrent, bias = (torch.randn(s) * f for s, f in zip(shapes, (1.0, scale, scale, 1.0), strict=True))
    return x, into, recurrent, bias


Four = tuple[Tensor, Tensor, Tensor, Tensor]


def both(inputs: Four) -> tuple[Four, Four]:
    """The inputs, and the same in float64; both ask for gradients."""
    a, b, c, d = (t.requires_grad_() for t in inputs)
    e, f, g, h = (t.detach().double().requires_grad_() for t in inputs)
    return (a, b, c, d), (e, f, g, h)


@needs_kernel
@pytest.mark.parametrize("width", [5, 16, 20, 32, 72])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7])
def test_the_kernel_is_the_textbook_recurrence_with_its_gradients(width: int, batch: int) -> None:
    found, exact = both(layer_inputs(21, batch, width))
    out = lstm_layer(*found, True)
    expected = textbook(*exact, torch.zeros(batch, width, dtype=torch.float64))
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)
    weight = torch.randn_like(out)
    ours = torch.autograd.grad(out, found, weight)
    theirs = torch.autograd.grad(expected, exact, weight.double())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=3e-6 * float(b.abs().max()))


@needs_kernel
@pytest.mark.parametrize("batch", [2, 4])
def test_bf16_differs_by_rounding_alone(batch: int) -> None:
    """An operand rounded to 8 bits is off by at most 2^-9 of itself."""
    found, exact = both(layer_inputs(64, batch, 48))
    x, into, recurrent, bias = found
    out = lstm_layer(x.bfloat16(), into, recurrent, bias, True)
    expected = textbook(*exact, torch.zeros(batch, 48, dtype=torch.float64))
    assert out.dtype == torch.bfloat16
    assert float((out.double() - expected).detach().square().mean().sqrt()) < 2**-9
    ours = torch.autograd.grad(out, found, torch.ones_like(out))
    theirs = torch.autograd.grad(expected, exact, torch.ones_like(expected))
    for a, b in zip(ours, theirs, strict=True):
        assert float((a.double() - b).norm() / b.norm()) < 2**-6


@needs_kernel
def test_a_nan_stays_one() -> None:
    x, into, recurrent, bias = layer_inputs(4, 2, 16)
    x[1, 0, 3] = math.nan
    out = lstm_layer(x, into, recurrent, bias, True)
    assert out[0].isfinite().all()
    assert out[:, 1].isfinite().all()
    assert out[1:, 0].isnan().all()


@needs_kernel
def test_the_kernel_refuses_what_it_cannot_compute() -> None:
    with pytest.raises(TypeError, match=r"bfloat16 or float32, not torch\.float64"):
        lstm_layer(*both(layer_inputs(3, 1, 4))[1], True)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_kernel)])
@pytest.mark.parametrize("tied", [False, True])
def test_the_model_is_torchs_lstm_between_embedding_and_head(native: bool, tied: bool) -> None:
    """Losses and the gradient of every weight, over three layers."""
    dtype, tight = (torch.float32, 1e-5) if native else (torch.float64, 1e-12)
    model = Lstm(n_layer=3, d_model=24, seq_len=19, tied=tied).build(VOCAB, 1).to(dtype)
    assert isinstance(model, LstmModel)
    model.compute_dtype, model.attention = dtype, "native" if native else "manual"
    theirs = torch.nn.LSTM(24, 24, 3, batch_first=True).double()
    with torch.no_grad():
        for n, layer in enumerate(model.layers):
            for name, value in (("weight_ih", layer.input), ("weight_hh", layer.recurrent), ("bias_ih", layer.bias)):
                getattr(theirs, f"{name}_l{n}").copy_(value)
            getattr(theirs, f"bias_hh_l{n}").zero_()
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(VOCAB, (3, 19), generator=generator) for _ in range(2))
    targets[1, 4] = -1
    losses = model(inputs, None, targets)
    embedding = model.token_embedding.detach().double().requires_grad_()
    head = embedding if model.head is None else model.head.detach().double().requires_grad_()
    logits = theirs(embedding[inputs])[0] @ head.T
    expected = torch.nn.functional.cross_entropy(logits.mT, targets, reduction="none", ignore_index=-1)
    torch.testing.assert_close(losses.double(), expected, rtol=0, atol=10 * tight)
    losses.sum().backward()
    expected.sum().backward()
    pairs = [(model.token_embedding, embedding)] + ([] if model.head is None else [(model.head, head)])
    for n, layer in enumerate(model.layers):
        pairs += [(layer.input, getattr(theirs, f"weight_ih_l{n}")), (layer.bias, getattr(theirs, f"bias_ih_l{n}"))]
        pairs.append((layer.recurrent, getattr(theirs, f"weight_hh_l{n}")))
    for a, b in pairs:
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=0, atol=tight * float(b.grad.abs().max()))


def test_positions_gather_equals_slicing() -> None:
    model = Lstm(n_layer=1, d_model=16, seq_len=8).build(VOCAB, 0)
    inputs, positions = torch.arange(16).view(2, 8), torch.tensor([[1, 5, 2], [0, 7, 7]])
    everywhere = model(inputs, None, inputs)
    picked = model(inputs, positions, torch.gather(inputs, 1, positions))
    torch.testing.assert_close(picked, torch.gather(everywhere, 1, positions))


@st.composite
def shapes(draw: st.DrawFn) -> Lstm:
    layers, width, window = (draw(st.integers(1, most)) for most in (3, 20, 9))
    return Lstm(n_layer=layers, d_model=width, seq_len=window, tied=draw(st.booleans()))


@given(shapes())
@settings(max_examples=40, deadline=None)
def test_parameters_by_group_equal_the_accounting(shape: Lstm) -> None:
    group = {
        "token_embedding": "token_embedding",
        "head": "head",
        "bias": "norm",
        "input": "other",
        "recurrent": "other",
    }
    counted = dict.fromkeys(PARAM_GROUPS, 0)
    for name, parameter in shape.build(VOCAB, 0).named_parameters():
        counted[group.get(name.rsplit(".", 1)[-1], name)] += parameter.numel()  # type: ignore[index]
    stated = shape.params(VOCAB)
    assert counted == dict(stated.groups)
    assert stated.non_embedding == 8 * shape.n_layer * shape.d_model**2
    assert stated.non_embedding_head == stated.non_embedding + VOCAB * shape.d_model


@given(shapes(), st.integers(1, 3), st.integers(1, 9))
@settings(max_examples=8, deadline=None)
def test_flops_equal_torchs_count_of_the_textbook_recurrence(shape: Lstm, windows: int, predicted: int) -> None:
    """Forward and backward, with the head at `predicted` positions of each window."""
    model = shape.build(VOCAB, 0)
    predicted = min(predicted, shape.seq_len)
    x = torch.zeros(shape.seq_len, windows, shape.d_model, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        h = x
        for layer in model.layers:
            start = torch.zeros(windows, shape.d_model, requires_grad=True)
            h = textbook(h, layer.input, layer.recurrent, layer.bias, start)
        head = model.token_embedding if model.head is None else model.head
        (h[:predicted].sum() + (h[:predicted].flatten(0, 1) @ head.T).sum()).backward()
    stated = training_flops(shape.forward_flops(VOCAB, windows * shape.seq_len, windows * predicted))
    assert counter.get_total_flops() == sum(stated.values())
    assert stated["other"] == 6 * shape.params(VOCAB).non_embedding * windows * shape.seq_len


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_kernel)])
def test_a_position_sees_its_windows_past_alone(native: bool) -> None:
    model = Lstm(n_layer=2, d_model=20, seq_len=17).build(VOCAB, 1)
    x = torch.randn(17, 3, 20, requires_grad=True)
    h = x
    for layer in model.layers:
        h = layer(h, native)
    for t in range(17):
        (gradient,) = torch.autograd.grad(h[t, 1].sum(), x, retain_graph=True)
        seen = gradient.abs().sum(-1) > 0
        expected = torch.zeros(17, 3, dtype=torch.bool)
        expected[: t + 1, 1] = True
        assert torch.equal(seen, expected)


def test_initial_weights_depend_on_the_seed_alone_and_remember() -> None:
    shape = Lstm(n_layer=2, d_model=32, seq_len=32)
    a, b, c = shape.build(256, 3), shape.build(256, 3), shape.build(256, 4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.token_embedding, c.token_embedding)
    for layer in a.layers:
        i, f, g, o = layer.bias.detach().chunk(4)
        assert (f == 1).all()
        for gate in layer.recurrent.detach().chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(32), rtol=0, atol=1e-5)
        assert not torch.cat([i, g, o]).any()
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(256, (8, 32), generator=generator) for _ in range(2))
    with torch.no_grad():
        assert float(a(inputs, None, targets).mean()) == pytest.approx(math.log(256), abs=0.1)


SOURCE = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024}


def trial(**changes: Any) -> Trial:
    spec = {
        "architecture": {"type": "lstm", "n_layer": 2, "d_model": 24, "seq_len": 32},
        "objective": "causal",
        "corpus": SOURCE,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 128,
        "steps": 60,
        "heldout": "nested",
        **changes,
    }
    return Trial.model_validate_json(json.dumps(spec))


@pytest.fixture
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "lstm-cache"))


def planned(wanted: Trial) -> Planned:
    size = prepare(wanted.corpus, wanted.tokenizer).vocabulary.size
    return ready(wanted, choose_execution(wanted, size, compile_trials=True))


def run(plan: Planned, folder: Path, stops: tuple[int, ...] = ()) -> dict[str, Any]:
    """The row; at each of `stops` the run is checkpointed and started again, as after a kill."""
    store = Store.create(folder)
    for stop in stops:
        runner = JobRunner(Job(planned=(plan,)), store)
        runner.advance(0.0)
        held = runner.run
        assert held is not None
        held.advance(lambda held=held, stop=stop: held.step >= stop)  # type: ignore[misc]
        runner.checkpoint()
    runner = JobRunner(Job(planned=(plan,)), store)
    while not runner.advance(60.0).done:
        pass
    return {str(name): value for name, value in store.rows().iloc[0].items()}


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_learns_and_goes_on_bit_for_bit_after_a_kill(tmp_path: Path, dropout: float) -> None:
    shape = {"type": "lstm", "n_layer": 2, "d_model": 24, "seq_len": 32, "dropout": dropout}
    plan = planned(trial(architecture=shape))
    assert not plan.execution.compiled
    whole = run(plan, tmp_path / "whole")
    resumed = run(plan, tmp_path / "resumed", (17, 40))
    assert whole["status"] == "finished"
    assert whole["loss"] == resumed["loss"]
    assert whole["train_loss"] == resumed["train_loss"]
    # eight equally likely symbols would cost ln 8; the chain has less entropy than that
    assert whole["loss"] < math.log(8)


@needs_kernel
@pytest.mark.parametrize(("precision", "native"), [("bf16", True), ("fp32", True), ("fp64", False)])
def test_an_execution_takes_the_kernel_where_it_serves_and_is_never_compiled(precision: str, native: bool) -> None:
    execution = choose_execution(trial(precision=precision), 257, compile_trials=True)
    assert (execution.attention == "native") is native
    assert not execution.compiled


@pytest.mark.usefixtures("_cache")
def test_without_a_compiler_torchs_lstm_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiler", lambda: None)
    build.lstm_library.cache_clear()
    try:
        plan = planned(trial(steps=30))
        assert plan.execution.attention != "native"
        assert run(plan, tmp_path)["status"] == "finished"
        with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
            lstm_layer(*layer_inputs(3, 1, 4), True)
    finally:
        build.lstm_library.cache_clear()


@needs_kernel
def test_the_hang_limit_leaves_room_for_a_step() -> None:
    """`scaling.guard` calls a step hung that takes FACTOR times its estimate."""
    shape = {"type": "lstm", "n_layer": 2, "d_model": 32, "seq_len": 256}
    wanted = trial(architecture=shape, batch_tokens=1024, steps=300)
    execution = choose_execution(wanted, 257)
    assert execution.attention == "native"
    put_in_force(execution)
    function = StepFunction.of(wanted, 257, execution)
    theta = function.initial([wanted], 257)
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(257, 256, 256, 256)
    batch = function.to_device([wanted.objective.train_batch(rng.integers(0, 256, (4, 257)), vocabulary, rng)])
    function.warm_up(theta, batch)
    started = time.perf_counter()
    function.step(theta, batch, torch.ones(()))
    assert time.perf_counter() - started < FACTOR * EAGER.seconds(wanted, 257) / wanted.steps
