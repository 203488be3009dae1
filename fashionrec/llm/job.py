"""What a training is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from fashionrec.llm.canaries import Canary
from fashionrec.settings.model import Llm


@dataclass(frozen=True)
class TrainingJob:
    """What a rank needs to know; its folders are seen by all ranks.

    Attributes:
        llm: the settings of base model, adapter and optimiser.
        max_tokens: most tokens of prompt and response together.
        train, held_out: folders of Parquet files with the columns prompt and response.
        work: folder of unfinished trainings; what a killed one left there is used again.
        output: folder that gets `adapter/`, `golden.json` and, where it is merged, `merged/`.
        canaries: those whose memorisation is measured; the rows of them that are planted stand in `train`.
    """

    llm: Llm
    max_tokens: int
    train: Path
    held_out: Path
    work: Path
    output: Path
    canaries: tuple[Canary, ...] = ()
