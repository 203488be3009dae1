"""All steps in the order of the flow."""

from fashionrec.errors import UserError
from fashionrec.pipeline.step import Step
from fashionrec.pipeline.steps import (
    characteristics,
    embeddings,
    evaluate,
    fusion,
    ingest,
    llm,
    memory,
    monitor,
    prompts,
    recommend,
    sequences,
)

STEPS: tuple[Step, ...] = (
    *ingest.STEPS,
    *sequences.STEPS,
    *memory.STEPS,
    *prompts.STEPS,
    *llm.TRAINING,
    *embeddings.STEPS,
    *fusion.STEPS,
    *llm.SERVING,
    *recommend.STEPS,
    *evaluate.STEPS,
    *characteristics.STEPS,
    *monitor.STEPS,
)


def step_named(name: str) -> Step:
    """Return a step; raise UserError listing the names there are."""
    for step in STEPS:
        if step.name == name:
            return step
    raise UserError(f"no step {name!r}; there are {', '.join(step.name for step in STEPS)}")


def select_steps(only: str, skip: str) -> list[Step]:
    """Return the steps of comma-separated names (empty: all) without those of `skip`, in the order of the flow.

    Raises:
        UserError: a name is unknown, or no step is left.
    """
    wanted = {step_named(name).name for name in only.split(",") if name} or {step.name for step in STEPS}
    unwanted = {step_named(name).name for name in skip.split(",") if name}
    selected = [step for step in STEPS if step.name in wanted - unwanted]
    if not selected:
        raise UserError(f"no step is left to run: --steps {only or 'all'} without --skip {skip}")
    return selected
