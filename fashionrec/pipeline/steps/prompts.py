"""Sequences and the memory's answers -> prompts."""

from datetime import timedelta

from pyspark.sql import Column, Observation
from pyspark.sql import functions as f

from fashionrec import prompts
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.prompts.build import build_prompts as render_prompts


def build_prompts(run: StepRun) -> None:
    """Render every example's prompt within the token budget."""
    settings = run.settings.prompts
    budget = settings.max_tokens - settings.answer_tokens
    calendar = prompts.load_calendar(settings.calendar)
    if ended := calendar.ending_before(run.run_date + timedelta(days=settings.holiday_days)):
        run.warnings.append(f"{settings.calendar}: the dates of {', '.join(ended)} end before the days ahead; list the next ones")
    # The night before a purchase nothing may be known: there is nothing to ask then.
    frame = render_prompts(
        run.read("sequences").where(f.size("actions") > 0),
        run.read("query_hits") if settings.memory else None,
        template=prompts.load_template(settings.template),
        calendar=calendar,
        holiday_days=settings.holiday_days,
        tokenizer_path=run.settings.llm.base.path,
        tokenizer_revision=run.settings.llm.base.revision,
        max_tokens=settings.max_tokens,
        answer_tokens=settings.answer_tokens,
        products_per_query=settings.products_per_query,
        attributes=settings.attributes,
    )
    # Observed while the rows are written: counting afterwards would render everything a second time.
    counted = Observation()
    run.write("prompts", frame.observe(counted, *_figures(budget)))
    run.figures.update({name: round(float(value or 0), 4) for name, value in counted.get.items()})


def _figures(budget: int) -> list[Column]:
    dropped, kept = f.sum("dropped_action_count"), f.sum("action_count")
    return [
        f.count(f.when(f.col("token_count") > budget, 1)).alias("over_budget"),
        f.avg("token_count").alias("mean_tokens"),
        f.try_divide(dropped, dropped + kept).alias("dropped_action_rate"),
        f.sum("dropped_attribute_count").alias("dropped_attributes"),
        f.sum("dropped_product_count").alias("dropped_products"),
    ]


STEPS: tuple[Step, ...] = (
    Step(
        "build_prompts",
        reads=("sequences", "query_hits"),
        writes=("prompts",),
        run=build_prompts,
        about="Render each example as the text that the model reads, within its token budget.",
    ),
)
