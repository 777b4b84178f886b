"""The kernel of the cross-entropy against torch's in double precision, alone and in every kind of model."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from step_world import KINDS, Arm, trial

from scaling.execution import can_compile, choose_execution
from scaling.job import Execution
from scaling.models.cross_entropy import available, by_kernel, nats_of

pytestmark = pytest.mark.skipif(not available(), reason="no C++ compiler on this machine")

EPS = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-8}


def both(logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Nats and gradient by the kernel, then by torch in double precision."""
    found = []
    for given, on in ((logits, True), (logits.double(), False)):
        leaf = given.clone().requires_grad_()
        with by_kernel(on):
            nats = nats_of(leaf, targets)
        (grad,) = torch.autograd.grad(nats, leaf, weight.to(nats.dtype))
        found.append((nats.detach(), grad))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("vocab", [1, 2, 15, 16, 17, 33, 259, 2048, 4099])
def test_nats_and_gradient_are_those_of_double_precision(vocab: int, dtype: torch.dtype) -> None:
    """Whole vectors and cut ones, targets in both, some of them none."""
    generator = torch.Generator().manual_seed(vocab)
    logits = (8 * torch.randn(2, 9, vocab, generator=generator)).to(dtype)
    targets = torch.randint(-1, vocab, (2, 9), generator=generator)
    targets[0, 0], targets[0, 1], targets[0, 2] = vocab - 1, 0, -1
    weight = torch.randn(2, 9, generator=generator)
    (nats, grad), (exact, its) = both(logits, targets, weight)
    assert nats.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(nats.double(), exact, rtol=1e-6, atol=4e-6)
    torch.testing.assert_close(grad.double(), its, rtol=EPS[dtype], atol=1e-6)
    assert nats[0, 2] == 0
    assert not grad[0, 2].any()


@pytest.mark.parametrize("shift", [-3e4, 0.0, 3e4])
def test_large_logits_neither_overflow_nor_vanish(shift: float) -> None:
    logits = torch.tensor([[[0.0, 50.0, -400.0, 49.0] * 8]]) + shift
    (nats, grad), (exact, its) = both(logits, torch.tensor([[1]]), torch.ones(1, 1))
    torch.testing.assert_close(nats.double(), exact, rtol=0, atol=4e-3 if shift else 1e-5)
    torch.testing.assert_close(grad.double(), its, rtol=0, atol=2e-3 if shift else 1e-6)


@pytest.mark.parametrize("at", [0, 5, 16, 40, 41])
def test_a_row_with_a_nan_has_no_loss_and_the_others_have_theirs(at: int) -> None:
    """A run that diverges is found by its loss, wherever the NaN stands in the row."""
    logits = torch.randn(1, 3, 42)
    logits[0, 1, at] = math.nan
    leaf = logits.clone().requires_grad_()
    with by_kernel(True):
        nats = nats_of(leaf, torch.tensor([[3, 3, 3]]))
    (grad,) = torch.autograd.grad(nats.sum(), leaf)
    assert nats.isnan().tolist() == [[False, True, False]]
    assert grad.isnan().all(-1).tolist() == [[False, True, False]]


def test_infinite_logits_do_not_pass_for_a_loss() -> None:
    with by_kernel(True):
        assert not math.isfinite(float(nats_of(torch.tensor([[[0.0, math.inf]]]), torch.tensor([[0]]))))


def test_a_gradient_is_right_by_finite_differences() -> None:
    logits = torch.randn(1, 2, 21)
    leaf = logits.clone().requires_grad_()
    targets = torch.tensor([[20, 4]])
    with by_kernel(True):
        (grad,) = torch.autograd.grad(nats_of(leaf, targets).sum(), leaf)
        step = torch.zeros_like(logits)
        step[0, 0, 20], step[0, 1, 7] = 1e-2, -1e-2
        change = (nats_of(logits + step, targets) - nats_of(logits - step, targets)).sum() / 2
    assert float((grad * step).sum()) == pytest.approx(float(change), rel=1e-3)


def test_rows_that_are_not_laid_out_one_by_one() -> None:
    logits = torch.randn(5, 3, 40).transpose(0, 1)
    targets = torch.randint(0, 40, (5, 3)).mT
    with by_kernel(True):
        found = nats_of(logits, targets)
    torch.testing.assert_close(
        found, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(3, 5)
    )


def test_the_kernel_is_only_for_its_two_types_and_only_where_asked_for() -> None:
    logits, targets = torch.randn(1, 1, 4, dtype=torch.float64), torch.tensor([[2]])
    with by_kernel(True), pytest.raises(TypeError, match="float64"):
        nats_of(logits, targets)
    assert nats_of(logits, targets).dtype == torch.float64, "nothing is in force any more"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_every_model_is_the_same_by_kernel_and_by_torch(kind: str) -> None:
    of = trial(kind)
    arms = Arm(of), Arm(of, loss="native")
    (loss, grad), (found, its) = (arm.step(5, 6, 7) for arm in arms)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    assert float((its - grad).norm() / grad.norm()) < 1e-4
    plain, ours = (arm.function.losses(arm.theta, arm.batch) for arm in arms)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(can_compile() is not None, reason=str(can_compile()))
@pytest.mark.parametrize("pack", [1, 2])
def test_the_kernel_stands_in_compiled_graphs_and_in_packs(pack: int) -> None:
    of = trial("decoder")
    plain = {"n_layer": 1, "dropout": 0.0}
    of = of.model_copy(update={"architecture": of.architecture.model_copy(update=plain)})
    found = []
    for execution in ({"compiled": True, "loss": "native"}, {}):
        arm = Arm(of, pack=pack, **execution)
        found.append(arm.step(1))
    (loss, grad), (wanted, its) = found
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    assert float((its - grad).norm() / its.norm()) < 1e-4


def test_who_takes_the_kernel() -> None:
    of = trial("decoder")
    assert choose_execution(of, 50).loss == "native"
    assert choose_execution(of.model_copy(update={"precision": "fp64"}), 50).loss is None
    stored = Execution.model_validate_json('{"device": "cpu", "attention": "native"}')
    assert stored.loss is None, "executions from before go on with torch's"
