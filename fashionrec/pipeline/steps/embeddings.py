"""Train the models of the ID space and the title space."""

from pyspark.sql import DataFrame

from fashionrec.embeddings.examples import catalogue_titles, core_examples, title_pairs
from fashionrec.embeddings.train import Name, train_in_own_process
from fashionrec.pipeline.step import Run, Step


def train_embeddings(run: Run) -> None:
    """Export examples and titles, train each model in a process of its own, register both."""
    sequences, items = run.read("sequences"), run.read("items")
    settings = run.settings
    inputs = run.path("lake", "_staging", run.run_id, "embeddings")
    exports: dict[str, DataFrame] = {
        "examples": core_examples(sequences, max_actions=settings.embeddings.core.max_actions),
        "pairs": title_pairs(sequences, session_gap_minutes=settings.sequences.session_gap_minutes),
        "items": catalogue_titles(items),
    }
    for name, frame in exports.items():
        frame.write.mode("overwrite").parquet(f"{inputs}/{name}")
    _train(run, "id", inputs)
    _train(run, "title", inputs)


def _train(run: Run, name: Name, inputs: str) -> None:
    settings = run.settings.embeddings
    folder = run.models.new_folder(name, run.run_id)
    card = train_in_own_process(name, inputs, folder, settings, run.settings.llm.base)
    section = settings.core if name == "id" else settings.title
    params = {"dim": settings.dim, "seed": settings.seed, **section.model_dump()}
    if "pairs" in card:
        params["pairs"] = card["pairs"]
        if card["pairs"] != "searches":
            run.warnings.append(f"no search led to a purchase: model title learnt from {card['pairs']} instead of queries")
    run.models.register(name, folder, params, card["metrics"], run.versions_read)
    shown = ("pairs", "examples", "loss", "validation_recall_at_10")
    run.figures |= {f"{name}_{key}": round(card["metrics"][key], 4) for key in shown if key in card["metrics"]}


STEPS: tuple[Step, ...] = (
    Step(
        "train_embeddings",
        reads=("sequences", "items"),
        writes=("model/id", "model/title"),
        run=train_embeddings,
        about="Train CORE's item table (ID space) and the title LSTM (title space) and register both.",
    ),
)
