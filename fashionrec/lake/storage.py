"""Files and folders wherever they lie: on this machine, or on any file system that Spark reaches, by its own (Hadoop's) client.

A place is an absolute path or a URI. What lies elsewhere is immutable once it is written: a folder with a name of its own, which holds part
of the hash of its files, or a small file that is replaced as a whole. Whoever reads such a folder gets Spark's copy of it: one per machine.
"""

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from fashionrec.errors import UserError
from fashionrec.lake.session import is_local

# Gives the session, started if need be: what lies on this machine needs none.
Spark = Callable[[], SparkSession]

_HASH_DIGITS = 16
# Object stores show a file as a whole, once it is closed; a rename there is a copy.
_WHOLE_WHEN_CLOSED = ("s3a", "s3", "gs", "oss", "obs", "cosn")


class StorageError(UserError):
    """A place cannot be read or written; the text says which and why."""


def standing_session() -> SparkSession:
    """Return the session of this process; raise StorageError where none was started."""
    session = SparkSession.getActiveSession()
    if session is None:
        raise StorageError("files that lie elsewhere need a Spark session, and none was started")
    return session


def local_path(place: str) -> Path | None:
    """Return the path of a place on this machine (or on a mount that all machines share); None where it lies elsewhere."""
    if place.startswith("file:"):
        return Path("/", place.removeprefix("file:").lstrip("/"))
    return Path(place) if place.startswith("/") else None


def require_local(place: str) -> Path:
    """Return the path of a place on this machine; raise StorageError where it lies elsewhere."""
    path = local_path(place)
    if path is None:
        raise StorageError(f"{place}: this is written as files of this machine; name a folder of it, and copy that there afterwards")
    return path


def scratch(*parts: str) -> Path:
    """Return a path on this machine's own disk ($TMPDIR) that no other user reads, for what goes elsewhere when it is finished."""
    own = Path(tempfile.gettempdir()) / f"fashionrec-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != os.getuid() or own.is_symlink():
        raise StorageError(f"{own}: another user made it; set TMPDIR to a folder of your own")
    return own.joinpath(*parts)


def require_reachable(spark: SparkSession, places: Mapping[str, str]) -> None:
    """Raise StorageError where Spark does not reach one of some places, named by the settings that say where they are."""
    default = str(spark.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS"))
    for setting, place in places.items():
        if place.startswith("/") and not default.startswith("file:"):
            raise StorageError(
                f"{setting}: {place} would be of this machine for Python and of {default} for Spark (fs.defaultFS): write file://{place} "
                f"or {default.rstrip('/')}{place}"
            )
        try:
            exists(lambda: spark, place)
        except StorageError as error:
            raise StorageError(f"{setting}: {error}") from None


def exists(spark: Spark, place: str) -> bool:
    if path := local_path(place):
        return path.exists()
    with _hadoop(spark, place) as (_, path, system):
        return bool(system.exists(path))


def read_text(spark: Spark, place: str) -> str | None:
    """Return the text of a file, None where there is none."""
    if path := local_path(place):
        return path.read_text(encoding="utf-8") if path.exists() else None
    with _hadoop(spark, place) as (_, path, system):
        if not system.exists(path):
            return None
        stream = system.open(path)
        try:
            return bytes(stream.readAllBytes()).decode()
        finally:
            stream.close()


def write_text(spark: Spark, place: str, text: str) -> None:
    """Write a file as a whole, in the place of the one that may be there; its folder is made if need be."""
    if path := local_path(place):
        write_whole(path, text)
    else:
        _write_bytes(spark, place, text.encode())


def write_whole(target: Path, text: str) -> Path:
    """Write a file of this machine in one move and return its path; its folder is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Steps of one day may run side by side: each writes a file of its own before the move.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
    return target


def make_folder(spark: Spark, place: str) -> None:
    """Make a folder where there is none; raise StorageError (or OSError) where nothing can be written."""
    if path := local_path(place):
        path.mkdir(parents=True, exist_ok=True)
        return
    with _hadoop(spark, place) as (_, path, system):
        system.mkdirs(path)


def folders(spark: Spark, place: str) -> list[str]:
    """Return the names of the folders in a place, sorted; none where there is no such place."""
    if local := local_path(place):
        return sorted(one.name for one in local.iterdir() if one.is_dir()) if local.is_dir() else []
    with _hadoop(spark, place) as (_, path, system):
        found = system.listStatus(path) if system.exists(path) else ()
        return sorted(str(one.getPath().getName()) for one in found if one.isDirectory())


def remove(spark: Spark, place: str) -> None:
    """Remove a folder or a file with all that is in it, where there is one."""
    if path := local_path(place):
        shutil.rmtree(path, ignore_errors=True)
        return
    with _hadoop(spark, place) as (_, path, system):
        system.delete(path, True)


def upload(spark: Spark, folder: Path, place: str) -> str:
    """Copy a finished folder of this machine to a place elsewhere and return where it lies: `place` with the hash of its files behind."""
    whole = f"{place}-{folder_hash(folder)[:_HASH_DIGITS]}"
    with _hadoop(spark, whole) as (jvm, path, system):
        system.mkdirs(path.getParent())
        system.copyFromLocalFile(False, False, jvm.org.apache.hadoop.fs.Path(f"file://{folder}"), path)
    return whole


def fetch(spark: Spark, place: str) -> Path:
    """Return the folder of this machine with what `upload` put at a place; a place on this machine is that folder itself.

    It is copied once per session and machine, beside Spark's own files; tasks find it by `here`.

    Raises:
        StorageError: it is not there, or its files are not those that were uploaded.
    """
    if path := local_path(place):
        return path
    session, folder = spark(), Path(SparkFiles.get(place.rpartition("/")[2]))
    with _hadoop(spark, place) as (_, path, system):
        if not system.exists(path):
            raise StorageError(f"{place}: no such folder")
        if not is_local(session):
            session.sparkContext.addFile(place, recursive=True)
        elif not folder.exists():
            copied(spark, place, copy := folder.with_name(f".{folder.name}"))
            copy.rename(folder)
    return _verified(folder)


def here(path: Path) -> Path:
    """Return where a path within a fetched folder lies on the machine of this process, which may be another than the one that fetched it.

    Raises:
        StorageError: the files of the folder are not those that were uploaded.
    """
    if path.exists():
        return path
    for folder in (path, *path.parents):
        if re.search(rf"-[0-9a-f]{{{_HASH_DIGITS}}}$", folder.name):
            return _verified(Path(SparkFiles.get(folder.name))) / path.relative_to(folder)
    return path


def copied(spark: Spark, place: str, into: Path) -> Path:
    """Return a folder of this machine with the files of a place: the place itself where it is one, else a copy, put at `into`."""
    if path := local_path(place):
        return path
    into.parent.mkdir(parents=True, exist_ok=True)
    with _hadoop(spark, place) as (jvm, path, system):
        system.copyToLocalFile(False, path, jvm.org.apache.hadoop.fs.Path(f"file://{into}"), True)
    return into


@contextmanager
def working_copy(spark: Spark, place: str) -> Iterator[Path]:
    """Give a folder of this machine with the files of a place, made if need be; elsewhere it is a copy, whose changes are put there."""
    if path := local_path(place):
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        copy = Path(folder, "copy")
        if exists(spark, place):
            copied(spark, place, copy)
        copy.mkdir(exist_ok=True)
        before = {path: _stamp(path) for path in _files(copy)}
        yield copy
        for path in _files(copy):
            if before.get(path) != _stamp(path):
                _write_bytes(spark, f"{place}/{path.relative_to(copy)}", path.read_bytes())


def folder_hash(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# Once per process: a worker opens the same folder for one batch after the other.
@cache
def _verified(folder: Path) -> Path:
    if not folder.is_dir() or folder_hash(folder)[:_HASH_DIGITS] != folder.name[-_HASH_DIGITS:]:
        raise StorageError(f"{folder.name}: its files are not those that were uploaded; make it again")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".crc"))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _write_bytes(spark: Spark, place: str, content: bytes) -> None:
    with _hadoop(spark, place) as (jvm, path, system):
        at_once = path.toUri().getScheme() in _WHOLE_WHEN_CLOSED
        written = path if at_once else jvm.org.apache.hadoop.fs.Path(path.getParent(), f".{path.getName()}.{secrets.token_hex(4)}")
        stream = system.create(written, True)
        try:
            stream.write(bytearray(content))
        finally:
            stream.close()
        if not at_once:
            gateway = spark().sparkContext._gateway
            assert gateway is not None
            options = jvm.org.apache.hadoop.fs.Options.Rename
            overwrite = gateway.new_array(options, 1)
            overwrite[0] = options.OVERWRITE
            jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), system.getConf()).rename(written, path, overwrite)


class _Place(NamedTuple):
    jvm: Any
    path: Any
    system: Any


@contextmanager
def _hadoop(spark: Spark, place: str) -> Iterator[_Place]:
    """Give the JVM, and a place's path and file system there; Java's exceptions become StorageError, one line."""
    session: Any = spark()
    jvm = session.sparkContext._jvm
    try:
        path = jvm.org.apache.hadoop.fs.Path(place)
        yield _Place(jvm, path, path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf()))
    except Py4JJavaError as error:
        raise StorageError(f"{place}: {_why(error.java_exception)}") from None
    except Py4JError as error:
        raise StorageError(f"{place}: {' '.join(str(error).split())[:300]}") from None


def _why(exception: Any) -> str:
    """Return the first line of a Java exception, with its kind where it says too little."""
    words = str(exception.getMessage() or "").strip().partition("\n")[0]
    kind = exception.getClass().getSimpleName()
    return f"{kind}: {words}" if words else kind
