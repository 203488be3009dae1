"""A trainer that can be killed: whole checkpoints, progress lines, and an end to trainings that go wrong."""

import math
import shutil
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback

from fashionrec.llm.base import LanguageModelError, first_line
from fashionrec.llm.checkpoints import mark_whole, newest_whole

_PROGRESS_LINES = 20
_DIVERGED_STEPS, _DIVERGED_TIMES = 10, 1.5


class SavingTrainer(Trainer):  # type: ignore[misc]
    """Hugging Face's trainer, whose checkpoints are marked once all ranks have written theirs."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(checkpoint, ignore_errors=True)
            kept = newest_whole(checkpoint.parent)
            raise LanguageModelError(
                f"checkpoint of step {self.state.global_step} could not be written below {checkpoint.parent}: {first_line(error)}; "
                f"{f'{kept.name} is whole: ' if kept else ''}make room and run again"
            ) from error
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            mark_whole(checkpoint)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Prints a line at about every 20th of the steps, and stops at a loss that is no number or has risen away.

    Risen away: the mean of ten steps is above 1.5 times the loss with which they began, that of the base.
    """

    def __init__(self, loss_of_base: float) -> None:
        self._limit = _DIVERGED_TIMES * loss_of_base
        self._losses: deque[float] = deque(maxlen=_DIVERGED_STEPS)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember when and with how many tokens seen this process began."""
        self._start, self._tokens = time.monotonic(), state.num_input_tokens_seen

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        """Look at a step's loss."""
        if not logs or "loss" not in logs:
            return
        self._check(finite(logs["loss"]), state.global_step)
        every = max(1, state.max_steps // _PROGRESS_LINES)
        if state.is_world_process_zero and (state.global_step % every == 0 or state.global_step in (1, state.max_steps)):
            speed = (state.num_input_tokens_seen - self._tokens) / max(1e-9, time.monotonic() - self._start)
            print(  # noqa: T201
                f"  training step {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}, {speed:,.0f} tokens/s", flush=True
            )

    def _check(self, loss: float, step: int) -> None:
        self._losses.append(loss)
        mean = sum(self._losses) / len(self._losses)
        if len(self._losses) == _DIVERGED_STEPS and mean > self._limit:
            raise LanguageModelError(
                f"training stopped at step {step}: the loss of the last {_DIVERGED_STEPS} steps is {mean:.3f} on average, "
                f"above {_DIVERGED_TIMES:g} times that before training; lower llm.learning_rate"
            )


def finite(loss: float) -> float:
    """Return the loss; raise LanguageModelError where it is no number."""
    if not math.isfinite(loss):
        raise LanguageModelError(f"training stopped: the loss is {loss}; lower llm.learning_rate, or look at the training prompts")
    return float(loss)
