"""The evaluation: the purchases to predict, ranked among all items of their category by the function that serves."""

from fashionrec.errors import UserError
from fashionrec.evaluate.protocol import copying, coverage, methods_for, metric_rows, metric_sums, test_paths
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.fusion import fusion_of
from fashionrec.pipeline.steps.lists import ASKED, INDEXED, build_spaces, requests_of
from fashionrec.retrieval.lists import ranked_targets


def evaluate(run: StepRun) -> None:
    """Rank the last purchase of every test path among all items of its category, by the release that serves and by simple methods.

    Its spaces are those that never saw a validation or test purchase; what serves has learnt all purchases since.
    """
    release = run.release()
    fusion = fusion_of(release)
    paths = test_paths(run.read("sequences"))
    if paths.isEmpty():
        raise UserError(f"evaluate: no test paths on {run.run_date}: nobody bought after other actions within sequences.history_days")
    answers, prompts = (run.read(table).where("split = 'test'") for table in ("generations", "prompts"))
    retrieval = build_spaces(run, release.parts["id"], release.parts["title"], fusion.attributes)
    requests, methods = requests_of(run, retrieval, paths, answers), methods_for(fusion.serves)
    ranked = ranked_targets(requests, retrieval, fusion, methods, partitions=run.settings.spark.shuffle_partitions).cache()
    rows = metric_rows(metric_sums(ranked, k=run.settings.evaluate.k).collect())
    columns = [field for field in table_spec("evaluations").struct if field.name != "run_date"]
    names = [field.name for field in columns]
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in columns)
    run.write("evaluations", run.spark.createDataFrame([tuple(row[name] for name in names) for row in rows], schema))
    run.figures |= coverage(ranked) | copying(answers, prompts)
    run.notes.append(f"{release.label} serves lists of {fusion.serves}")
    ranked.unpersist()


STEPS: tuple[Step, ...] = (
    Step(
        "evaluate",
        reads=("prompts", "generations", *ASKED, *INDEXED, "release"),
        writes=("evaluations",),
        run=evaluate,
        about="Rank the purchases to predict among all items of their category and write the metrics.",
    ),
)
