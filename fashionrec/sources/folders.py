"""What lies in raw folders: their days, and every file of a day at any depth. Paths are as Hadoop writes them, with nothing escaped."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as f

from fashionrec.sources.columns import RawError

# No letter of a name is a pattern, and what lies below a day's folder is of that day. Hadoop's own checksums of local files, which nobody
# else writes, cannot open a name with a colon.
READ_AS_NAMED = {
    "__globPaths__": "false",
    "recursiveFileLookup": "true",
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
# `2026-03-01`, or with any key as Hive and Spark write it: `dt=2026-03-01`.
_DAY = r"(?:[^/=]*=)?(\d{4}-\d{2}-\d{2})"
_HIDDEN = ("_", ".")


class DayFolders(NamedTuple):
    """The folders of each day below `root`, and the entries there that name no day. `depth` is the number of names in root's path."""

    root: str
    depth: int
    days: Mapping[date, Sequence[str]]
    others: Sequence[str]


def day_folders(spark: SparkSession, folder: str) -> DayFolders:
    """Return what lies in a folder of days.

    Raises:
        RawError: the folder does not exist or cannot be listed.
    """
    system, path = _open(spark, folder)
    try:
        if not system.exists(path):
            raise RawError(f"{shown(folder)}: no such folder; put the raw files there or change paths.* in the settings")
        # The root of a bucket ends in one already.
        root = str(system.makeQualified(path).toString()).rstrip("/")
        statuses = list(system.listStatus(path))
    except Py4JJavaError as error:
        raise RawError(f"{shown(folder)}: {' '.join(str(error.java_exception).split())}") from None
    names = {str(status.getPath().getName()): bool(status.isDirectory()) for status in statuses}
    if lost := list(_left_out(root, [f"{root}/{name}" for name in names], deep=False)):
        raise RawError("; ".join(lost))
    visible = {name: _as_date(name) if is_folder else None for name, is_folder in sorted(names.items()) if not name.startswith(_HIDDEN)}
    days: dict[date, list[str]] = {}
    for name, day in visible.items():
        if day:
            days.setdefault(day, []).append(f"{root}/{name}")
    return DayFolders(root, int(path.depth()), days, [name for name, day in visible.items() if not day])


def holds(spark: SparkSession, folder: str, name: str) -> bool:
    """Return whether a folder holds an entry of that name."""
    system, path = _open(spark, f"{folder}/{name}")
    return bool(system.exists(path))


def files_below(spark: SparkSession, folders: Sequence[str]) -> dict[str, int]:
    """Return all files below some folders with their bytes, by Spark's own listing, which leaves out hidden ones (`_`, `.`).

    Raises:
        RawError: an entry of a local folder can be seen but not read, and Java would leave it out without a word; all are named.
    """
    if not folders:
        return {}
    loops = [problem for folder in folders for problem in _loops(folder)]
    if loops:
        raise RawError("; ".join(loops))
    listed = spark.read.options(**READ_AS_NAMED).format("binaryFile").load(list(folders))
    sizes = {as_path(row[0]): int(row[1]) for row in listed.select("_metadata.file_path", "_metadata.file_size").collect()}
    # Spark gives no rows of files without a byte.
    files = {path: sizes.get(path, 0) for path in sorted(map(as_path, listed.inputFiles()))}
    if lost := [problem for folder in folders for problem in _left_out(folder, files.keys())]:
        raise RawError("; ".join(lost))
    return files


def fewest_paths(group: Collection[str], among: Collection[str], root: str) -> list[str]:
    """Return the folders of days, or below, that hold files of the group and no others of `among`, and the rest of the group's files.

    A plan with one path per folder stays small however many files lie in it.
    """
    others = set(among) - set(group)
    mixed = {folder for path in others for folder in _folders_of(path, root)}
    return sorted({next((folder for folder in _folders_of(path, root) if folder not in mixed), path) for path in group})


def arrival_date(depth: int) -> Column:
    """Return the day in the name of the folder, `depth` names below the file system's root, that the row's `_file` lies in."""
    return f.regexp_extract("_file", rf"^[^/:]+:(?://[^/]*)?(?:/[^/]+){{{depth}}}/{_DAY}/", 1).cast("date")


def as_path(uri: str) -> str:
    """Return the path that Spark wrote as a URI."""
    return re.sub("^file:/+", "file:/", unquote(uri))


def shown(path: str) -> str:
    """Return a path as people write it."""
    return re.sub("^file:/+", "/", path)


def names_below(path: str, root: str) -> list[str]:
    """Return the names on the way from a day's folder to a file."""
    return path.removeprefix(f"{root}/").split("/")[1:]


def _folders_of(path: str, root: str) -> Iterator[str]:
    """Yield the folders that a file lies in, from that of its day downwards."""
    names = path.removeprefix(f"{root}/").split("/")
    for depth in range(1, len(names)):
        yield "/".join([root, *names[:depth]])


def _loops(folder: str) -> Iterator[str]:
    """Yield the links below a local folder that lead back to a folder above them: Java would follow them round and round."""

    def look(place: str, above: tuple[str, ...]) -> Iterator[str]:
        for entry in _entries(place):
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real in above:
                    yield f"{_spelt(entry.path)}: a link back to {real}, a folder above it; remove it"
                else:
                    yield from look(entry.path, (*above, real))

    if folder.startswith("file:/"):
        yield from look(shown(folder), (os.path.realpath(shown(folder)),))


def _left_out(folder: str, seen: Collection[str], *, deep: bool = True) -> Iterator[str]:
    """Yield the entries of a local folder that are not among those that Java saw, each with the reason."""

    def look(place: str) -> Iterator[str]:
        for entry in _entries(place):
            if deep and entry.is_dir():
                yield from look(entry.path)
            elif f"file:{entry.path}" not in seen:
                lost = not os.path.exists(entry.path)
                why = "a link to nothing" if lost else "Java cannot spell its name in this locale: rename it, or set LC_ALL=C.UTF-8"
                yield f"{_spelt(entry.path)}: {why}"

    if folder.startswith("file:/"):
        yield from look(shown(folder))


def _entries(place: str) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(_HIDDEN)), key=lambda entry: entry.name)


def _spelt(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _open(spark: SparkSession, folder: str) -> tuple[Any, Any]:
    """Return Hadoop's file system of a path, and the path: it knows every URI that Spark can read."""
    context: Any = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(folder)
    return path.getFileSystem(context._jsc.hadoopConfiguration()), path


def _as_date(name: str) -> date | None:
    found = re.fullmatch(_DAY, name)
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None
