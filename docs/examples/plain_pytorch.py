"""A plain PyTorch loop behind a sweep: `trainer: plain_pytorch:train`, run from this folder."""

import torch
from torch.nn import Embedding, Linear, Sequential, Tanh
from torch.nn.functional import cross_entropy

from scaling.trainer import Task, Trained


def train(task: Task) -> Trained | None:
    """A bigram model in forty lines."""
    trial, width = task.trial, task.trial.architecture.d_model
    torch.manual_seed(task.seed)
    model = Sequential(Embedding(task.vocab_size, width), Linear(width, width), Tanh(), Linear(width, task.vocab_size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.optimizer.lr)
    saved, step = task.folder / "state.pt", 0
    if saved.exists():
        of_model, of_optimizer, step = torch.load(saved, weights_only=True)
        model.load_state_dict(of_model)
        optimizer.load_state_dict(of_optimizer)
    for windows in task.batches(step):
        batch = torch.from_numpy(windows)
        loss = cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0 or step == trial.steps:
            task.report(step, loss.item(), lr=trial.optimizer.lr)
        if task.stop():
            torch.save((model.state_dict(), optimizer.state_dict(), step), saved)
            return None
    held = torch.from_numpy(task.heldout())
    with torch.no_grad():
        losses = [cross_entropy(model(h[:, :-1]).flatten(0, 1), h[:, 1:].flatten()) for h in held.split(64)]
    size = sum(p.numel() for p in model.parameters())
    inner = width * width
    counts = {"total": size, "non_embedding": inner, "non_embedding_head": inner + width * task.vocab_size}
    return Trained(torch.stack(losses).mean().item(), params=counts, flops=6.0 * inner * trial.tokens)
