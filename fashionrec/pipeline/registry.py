"""All steps: those of every day in the order of the flow, and those of every week."""

from fashionrec.errors import UserError
from fashionrec.pipeline.step import Step
from fashionrec.pipeline.steps import (
    characteristics,
    embeddings,
    evaluate,
    fusion,
    ingest,
    llm,
    maintenance,
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
# Never part of a run that does not name them.
WEEKLY: tuple[Step, ...] = maintenance.STEPS


def step_named(name: str) -> Step:
    """Return a step; raise UserError listing the names there are."""
    for step in (*STEPS, *WEEKLY):
        if step.name == name:
            return step
    raise UserError(f"no step {name!r}; there are {', '.join(step.name for step in (*STEPS, *WEEKLY))}")


def select_steps(only: str, skip: str) -> list[Step]:
    """Return the steps of comma-separated names (empty: all of every day) without those of `skip`, in the order of the flow.

    Raises:
        UserError: a name is unknown, or no step is left.
    """
    wanted = {step_named(name).name for name in only.split(",") if name} or {step.name for step in STEPS}
    unwanted = {step_named(name).name for name in skip.split(",") if name}
    selected = [step for step in (*STEPS, *WEEKLY) if step.name in wanted - unwanted]
    if not selected:
        raise UserError(f"no step is left to run: --steps {only or 'all'} without --skip {skip}")
    return selected
