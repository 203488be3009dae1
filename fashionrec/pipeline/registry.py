"""All steps in the order of the flow."""

from fashionrec.errors import UserError
from fashionrec.pipeline.step import Step
from fashionrec.pipeline.steps import embeddings, evaluate, ingest, llm, memory, prompts, recommend, sequences

STEPS: tuple[Step, ...] = (
    *ingest.STEPS,
    *sequences.STEPS,
    *memory.STEPS,
    *prompts.STEPS,
    *llm.STEPS,
    *embeddings.STEPS,
    *recommend.STEPS,
    *evaluate.STEPS,
)


def step_named(name: str) -> Step:
    """Return a step; raise UserError listing the names there are."""
    for step in STEPS:
        if step.name == name:
            return step
    raise UserError(f"no step {name!r}; there are {', '.join(step.name for step in STEPS)}")
