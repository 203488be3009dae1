"""Train a model in a process of its own, so that Spark's driver imports no torch and gets its memory back."""

import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any, Literal

from fashionrec.errors import UserError
from fashionrec.settings.model import BaseLanguageModel, Embeddings

Name = Literal["id", "title"]


def train_in_own_process(name: Name, inputs: str, folder: Path, settings: Embeddings, base: BaseLanguageModel) -> dict[str, Any]:
    """Train the model `id` or `title` on the Parquet folders below `inputs`, save it below `folder` and return its card.

    The process's lines are shown as they come. The card holds `metrics` and `history` (see `epochs.run_epochs`) and, for `title`, `pairs`.
    Killed and called again with the same data and settings, it goes on after the last finished epoch.

    Raises:
        UserError: what the process said when it failed.
    """
    job = {"name": name, "inputs": inputs, "folder": str(folder), "settings": settings.model_dump(mode="json"), "base": base.model_dump()}
    command = [sys.executable, "-m", "fashionrec.embeddings.train", json.dumps(job)]
    # All cores, whatever Spark set for one task. Threads that wait must not spin: beside other work that took four times the CPU.
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "OMP_WAIT_POLICY": "PASSIVE"}
    said: deque[str] = deque(maxlen=5)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            said.append(line.strip())
            sys.stdout.write(line)
    if process.returncode:
        last = next((line for line in reversed(said) if line), "it said nothing")
        if last.startswith("error: "):
            raise UserError(last.removeprefix("error: "))
        raise UserError(f"model {name}: the training process ended with status {process.returncode}: {last}")
    card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return card


def main(job: dict[str, Any]) -> None:
    """Do a job in this process; the card is written last."""
    import torch

    settings = Embeddings.model_validate(job["settings"])
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("embeddings.device is cuda, but torch finds no GPU here; use --set embeddings.device=cpu")
    # The same seed gives the same model on the CPU; an operation that could not promise it raises.
    torch.use_deterministic_algorithms(settings.device == "cpu")
    folder = Path(job["folder"])
    if job["name"] == "id":
        from fashionrec.embeddings import core_training

        card = core_training.train(
            job["inputs"], folder, dim=settings.dim, settings=settings.core, seed=settings.seed, device=settings.device
        )
    else:
        from fashionrec.embeddings import title_training

        card = title_training.train(
            job["inputs"],
            folder,
            dim=settings.dim,
            settings=settings.title,
            base=BaseLanguageModel.model_validate(job["base"]),
            seed=settings.seed,
            device=settings.device,
        )
    (folder / "card.json").write_text(json.dumps(card, indent=2), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
