"""How training shows its progress and stops where it cannot go on."""

import math
import sys

from fashionrec.errors import UserError


def say(model: str, epoch: int, epochs: int, loss: float) -> None:
    """Show one line for an epoch (counted from 0)."""
    sys.stdout.write(f"model {model}: epoch {epoch + 1}/{epochs}, loss {loss:.4f}\n")
    sys.stdout.flush()


def finite(loss: float, model: str, epoch: int, learning_rate: str) -> float:
    """Return the loss; raise UserError naming the setting of the learning rate where it is not a number."""
    if not math.isfinite(loss):
        raise UserError(f"model {model}: the loss is not a number in epoch {epoch + 1}; lower {learning_rate}")
    return loss
