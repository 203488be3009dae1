"""The training loop of both models: progress, early stopping, checkpoints, and the errors that end it.

Early stopping: after each epoch the model is validated; when the figure (the mean, where a model has two) has not risen for `patience`
epochs, training ends with the weights of the best one. Without validation examples all epochs are done and the last one counts.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fashionrec.embeddings import checkpoint
from fashionrec.errors import UserError

Figures = dict[str, float]
_SAY_EVERY_SECONDS = 20


@dataclass
class Training:
    """What is trained, by what, and what must survive a kill.

    `name` is the model's (id or title), `section` its settings' name in messages (embeddings.core). `dice` gives every random choice but
    dropout's, which is torch's own. `memory` holds further tensors that later epochs need, such as mined negatives.
    """

    name: str
    section: str
    model: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    dice: torch.Generator
    memory: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> checkpoint.State:
        return {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "memory": self.memory,
            "dice": self.dice.get_state(),
            "dropout": torch.get_rng_state(),
        }

    def restore(self, state: checkpoint.State) -> None:
        self.model.load_state_dict(state["model"])
        for optimiser, of_optimiser in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(of_optimiser)
        self.memory.clear()
        self.memory.update(state["memory"])
        self.dice.set_state(state["dice"])
        torch.set_rng_state(state["dropout"])


class Progress:
    """Shows how far an epoch is, a line every 20 seconds, and knows its mean loss and speed."""

    def __init__(self, training: Training, epoch: int, examples: int) -> None:
        self._training, self._epoch, self._examples = training, epoch, examples
        self._loss, self._done = 0.0, 0
        self._began = self._said = time.monotonic()

    def add(self, loss: float, examples: int) -> None:
        """Count a step with the sum of its losses.

        Raises:
            UserError: the loss is not a number.
        """
        if not math.isfinite(loss):
            training = self._training
            raise UserError(
                f"model {training.name}: the loss is not a number in epoch {self._epoch + 1}; lower {training.section}.learning_rate"
            )
        self._loss += loss
        self._done += examples
        now = time.monotonic()
        if now - self._said > _SAY_EVERY_SECONDS:
            self._said = now
            say(
                f"  model {self._training.name}: epoch {self._epoch + 1}, {self._done:,}/{self._examples:,} examples, "
                f"loss {self.loss:.4f}, {self.rate:,.0f} examples/s"
            )

    @property
    def loss(self) -> float:
        return self._loss / max(self._done, 1)

    @property
    def rate(self) -> float:
        """Examples per second so far."""
        return self._done / max(time.monotonic() - self._began, 1e-9)


def run_epochs(
    training: Training,
    *,
    epochs: int,
    patience: int,
    examples: int,
    train_epoch: Callable[[int, Progress], None],
    validate: Callable[[], Figures] | None,
    held_out: int,
    saved: Path,
) -> list[Figures]:
    """Train in place, leave the best epoch's weights in the model and return one row per epoch.

    A row holds epoch (from 1; 0 is the untrained model, with validation figures only), loss, examples_per_second and validation figures.

    Args:
        training: the model and its optimisers.
        epochs: most epochs.
        patience: epochs without a better validation after which training ends.
        examples: of an epoch, for the progress shown.
        train_epoch: trains one epoch (counted from 0), telling its Progress of each step.
        validate: gives the validation figures, higher is better, and draws nothing by lot; none where there is nothing to validate on.
        held_out: how many examples that is.
        saved: the checkpoint's file, which is read where it exists and removed by the caller when the model is safe.

    Raises:
        UserError: the loss is not a number, or the best epoch's validation is below the untrained model's by more than chance
            explains: two standard errors of a share among `held_out` examples.
    """
    history, best = _resume(training, saved)
    if validate and not history:
        training.model.eval()
        history.append({"epoch": 0, **validate()})
    for epoch in range(sum("loss" in row for row in history), epochs):
        if best and epoch - best["row"]["epoch"] >= patience:
            break
        progress = Progress(training, epoch, examples)
        training.model.train()
        train_epoch(epoch, progress)
        row = {"epoch": epoch + 1, "loss": progress.loss, "examples_per_second": progress.rate}
        if validate:
            training.model.eval()
            row |= validate()
            if not best or _score(row) > _score(best["row"]):
                weights = {name: tensor.detach().clone() for name, tensor in training.model.state_dict().items()}
                best = {"row": row, "weights": weights}
        history.append(row)
        checkpoint.save(saved, {**training.state(), "history": history, "best": best})
        say(f"model {training.name}: epoch {epoch + 1}/{epochs}, {_shown(row)}")
    if best:
        before, after = _score(history[0]), _score(best["row"])
        if after < before - held_out**-0.5:
            raise UserError(
                f"model {training.name}: validation fell from {before:.4f} before training to at best {after:.4f} after it; "
                f"lower {training.section}.learning_rate"
            )
        training.model.load_state_dict(best["weights"])
        say(f"model {training.name}: epoch {int(best['row']['epoch'])} of {int(history[-1]['epoch'])} was the best")
    return history


def kept_figures(history: Sequence[Figures]) -> Figures:
    """Return the row of the epoch whose weights are kept, its number as `kept_epoch`."""
    trained = [row for row in history if "loss" in row]
    kept = max(trained, key=_score) if len(trained) < len(history) else trained[-1]
    return {"kept_epoch" if key == "epoch" else key: value for key, value in kept.items()}


def say(line: str) -> None:
    """Show a line now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _resume(training: Training, saved: Path) -> tuple[list[Figures], dict[str, Any]]:
    for other in saved.parent.glob(f"{saved.stem.partition('-')[0]}-*{saved.suffix}"):
        if other != saved:
            other.unlink(missing_ok=True)  # of other data or settings: nothing can go on from it
    if not saved.exists():
        return [], {}
    state = checkpoint.load(saved)
    training.restore(state)
    history: list[Figures] = state["history"]
    say(f"model {training.name}: goes on after epoch {int(history[-1]['epoch'])} of an earlier attempt")
    return history, state["best"]


def _score(row: Mapping[str, float]) -> float:
    figures = [value for key, value in row.items() if key.startswith("validation_")]
    return sum(figures) / len(figures) if figures else 0.0


def _shown(row: Mapping[str, float]) -> str:
    named = [
        f"{key.removeprefix('validation_').replace('_', ' ')} {value:.4f}" for key, value in row.items() if key.startswith("validation_")
    ]
    return ", ".join([f"loss {row['loss']:.4f}", f"{row['examples_per_second']:,.0f} examples/s", *named])
