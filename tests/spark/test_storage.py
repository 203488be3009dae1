"""Files on a file system that is not this machine's: a mount table of Hadoop's, whose folders happen to lie here."""

import pytest

from fashionrec.commands import doctor
from fashionrec.errors import UserError
from fashionrec.lake import storage
from fashionrec.lake.storage import StorageError
from fashionrec.pipeline.models import ModelError, ModelRegistry
from fashionrec.settings import load_settings
from tests.builders import RUN_DATE


@pytest.fixture
def place(spark, tmp_path):
    """Return a folder elsewhere; what is put there lies below tmp_path/there."""
    there = tmp_path / "there"
    there.mkdir()
    name = tmp_path.name.replace("_", "")  # of a host
    spark.sparkContext._jsc.hadoopConfiguration().set(f"fs.viewfs.mounttable.{name}.link./shop", f"file://{there}")
    return f"viewfs://{name}/shop"


@pytest.fixture
def session(spark):
    return lambda: spark


def test_a_file_is_replaced_as_a_whole_and_read_again(session, place, tmp_path):
    assert storage.read_text(session, f"{place}/a/newest.json") is None
    for text in ("Zürich", "two"):
        storage.write_text(session, f"{place}/a/newest.json", text)
        assert storage.read_text(session, f"{place}/a/newest.json") == text
    assert [path.name for path in (tmp_path / "there" / "a").iterdir() if not path.name.endswith(".crc")] == ["newest.json"]
    storage.remove(session, f"{place}/a")
    assert not storage.exists(session, f"{place}/a")


def test_a_folder_that_was_uploaded_is_fetched_once_and_found_by_workers(session, spark, place, tmp_path):
    made = tmp_path / "run-1"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "weights").write_text("w")
    uploaded = storage.upload(session, made, f"{place}/models/run-1")
    fetched = storage.fetch(session, uploaded)
    assert (fetched / "deep" / "weights").read_text() == "w"
    assert storage.fetch(session, uploaded) == fetched

    # As on another machine, where the driver's path is none.
    elsewhere = tmp_path / "drivers" / fetched.name / "deep"
    read = spark.range(1).rdd.map(lambda _: (storage.here(elsewhere) / "weights").read_text()).collect()
    assert read == ["w"]


def test_files_that_changed_since_their_upload_are_refused(session, place, tmp_path):
    made = tmp_path / "run-2"
    made.mkdir()
    (made / "weights").write_text("good")
    uploaded = storage.upload(session, made, f"{place}/models/run-2")
    changed = tmp_path / "there" / "models" / uploaded.rpartition("/")[2]
    (changed / ".weights.crc").unlink()
    (changed / "weights").write_text("bad")
    with pytest.raises(StorageError, match="not those that were uploaded"):
        storage.fetch(session, uploaded)
    with pytest.raises(StorageError, match="no such folder"):
        storage.fetch(session, f"{place}/models/none-0123456789abcdef")


def test_a_working_copy_brings_back_what_is_new_or_changed(session, place, tmp_path):
    storage.write_text(session, f"{place}/reports/quality/old.json", "old")
    storage.write_text(session, f"{place}/reports/page.html", "1")
    before = (tmp_path / "there" / "reports" / "quality" / "old.json").stat().st_mtime_ns
    with storage.working_copy(session, f"{place}/reports") as folder:
        assert (folder / "quality" / "old.json").read_text() == "old"
        (folder / "page.html").write_text("22")
        (folder / "quality" / "new.json").write_text("new")
    assert storage.read_text(session, f"{place}/reports/page.html") == "22"
    assert storage.read_text(session, f"{place}/reports/quality/new.json") == "new"
    assert (tmp_path / "there" / "reports" / "quality" / "old.json").stat().st_mtime_ns == before


def test_models_elsewhere_need_a_tracking_server_before_they_are_trained(session, place, tmp_path):
    with pytest.raises(ModelError, match=r"set mlflow\.tracking_uri"):
        ModelRegistry(f"{place}/models", "", session).new_folder("llm", "run")
    models = ModelRegistry(f"{place}/models", f"sqlite:///{tmp_path}/mlflow.db", session)
    folder = models.new_folder("llm", "run")
    (folder / "weights").write_text("w")
    version = models.register("llm", folder, {}, {}, {}, trained_for=RUN_DATE)
    assert models.challenger("llm") == version
    assert (version.folder / "weights").read_text() == "w"
    storage.remove(session, f"{place}/models/llm")
    with pytest.raises(ModelError, match=r"llm@1: .*no such folder; train again"):
        models.challenger("llm")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("viewfs://nowhere/shop", "paths.lake: viewfs://nowhere/shop: .*Mount table"),
        ("s3a://bucket/shop", "paths.lake: s3a://bucket/shop: .*S3AFileSystem"),
        ("nonsense://x/shop", "paths.lake: nonsense://x/shop: .*No FileSystem for scheme"),
    ],
)
def test_a_place_that_spark_does_not_reach_is_refused_in_one_line(spark, where, why):
    with pytest.raises(UserError, match=why) as raised:
        storage.require_reachable(spark, {"paths.lake": where})
    assert "\n" not in str(raised.value)


def test_a_path_without_a_scheme_is_refused_where_spark_would_take_it_elsewhere(spark, place, tmp_path):
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    before = conf.get("fs.defaultFS")
    conf.set("fs.defaultFS", place)
    try:
        with pytest.raises(StorageError, match=rf"write file://{tmp_path} or {place}{tmp_path}"):
            storage.require_reachable(spark, {"paths.root": str(tmp_path)})
        storage.require_reachable(spark, {"paths.root": f"file://{tmp_path}"})
    finally:
        conf.set("fs.defaultFS", before)


def test_doctor_wants_a_log_store_on_s3_and_a_tracking_server_for_models_elsewhere(spark, place):
    def at(root, *more):
        return load_settings(overrides=[f"paths.root={root}", *more])

    with pytest.raises(UserError, match=r"set mlflow\.tracking_uri"):
        doctor._storage(at("s3a://bucket/shop"))
    with pytest.raises(UserError, match=r"set spark\.delta\.logStore\.s3a\.impl"):
        doctor._storage(at("s3a://bucket/shop", "mlflow.tracking_uri=http://m"))
    assert doctor._storage(at(place, "mlflow.tracking_uri=http://m")).startswith("Spark reaches paths.lake, paths.raw_interactions")
    assert "this machine" in doctor._storage(at("/data/shop"))
