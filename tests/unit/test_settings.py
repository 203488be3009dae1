"""Settings are typed, complete and explained; an unknown key never passes."""

from pathlib import Path

import pytest
import yaml

from fashionrec.settings import SettingsError, load_settings, resource, settings_hash, shown_settings, without_passwords

CONF = resource("conf")


def test_a_later_file_and_then_an_override_win():
    assert load_settings(CONF / "local.yaml").spark.driver_memory == "2g"
    assert load_settings(CONF / "test.yaml").spark.driver_memory == "1g"
    assert load_settings(CONF / "test.yaml", ["spark.driver_memory=3g"]).spark.driver_memory == "3g"


@pytest.mark.parametrize("name", ["local", "prod", "test", "demo", "hm"])
def test_every_settings_file_of_the_project_is_valid(name):
    load_settings(CONF / f"{name}.yaml")


def test_all_unknown_keys_and_bad_values_are_named_at_once():
    with pytest.raises(SettingsError) as error:
        load_settings(CONF / "local.yaml", ["memory.half_live_days=3", "retrieval.mixup_m=1", "retrieval.fusion=guessed", "nothing.here=1"])
    for problem in (
        "memory.half_live_days: unknown key",
        "retrieval.mixup_m: unknown key",
        "retrieval.fusion",
        "nothing: unknown key",
        "base.yaml",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["prompts.answer_tokens=2000"], "answer_tokens must be below"),
        (["generation.max_new_tokens=100"], "max_new_tokens must not exceed"),
        (["retrieval.candidates=3"], "candidates must be at least"),
        (["sequences.overnight_rate=1.1"], "sequences.overnight_rate"),
        (["sequences.overnight_rate=-0.1"], "sequences.overnight_rate"),
        (["recommend.bought_again=Clothing"], "recommend.bought_again"),
        (["llm=3"], "must be sections"),
        (["llm.base=models/none.yaml"], "no such settings file"),
        (["a.b"], "section.key=value"),
        (["a.b=[1"], "not valid YAML"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(overrides, problem):
    with pytest.raises(SettingsError, match=problem):
        load_settings(CONF / "local.yaml", overrides)


def test_a_missing_or_broken_file_is_one_clear_line(tmp_path):
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings(tmp_path / "none.yaml")
    for name, text in (("base.yaml", "a: ["), ("list.yaml", "- a")):
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match="not valid YAML"):
        load_settings(tmp_path / "base.yaml")


def test_the_hash_changes_with_what_may_change_a_result_and_not_with_where_the_lake_lies():
    base = settings_hash(load_settings())
    assert settings_hash(load_settings(overrides=["paths.root=/elsewhere"])) == base
    assert settings_hash(load_settings(overrides=["llm.seed=1"])) != base


def test_every_key_of_the_base_is_explained_by_a_comment_above_it():
    lines = Path(CONF / "base.yaml").read_text().splitlines()
    sections = set(yaml.safe_load("\n".join(lines)))
    unexplained = []
    explained = False
    for line in lines:
        word = line.strip()
        if word.startswith("#"):
            explained = True
        elif not word or word.rstrip(":") in sections:
            explained = False
        elif not explained:
            unexplained.append(word)
    # A comment may stand over a group of keys, as over the three of LoRA.
    assert not unexplained


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:password@host:5000/x", "http://***@host:5000/x"),
        ("at https://password@host, and s3a://key:se/cr@t@bucket/x", "at https://***@host, and s3a://***@bucket/x"),
        ("abfss://h.net/x?sv=1&sig=password%3D&se=2", "abfss://h.net/x?sv=1&sig=***&se=2"),
        ("jdbc:postgresql://host/shop?user=me&password=password", "jdbc:postgresql://host/shop?user=me&password=***"),
        ("http://host:5000/a?b=c", "http://host:5000/a?b=c"),
        ("s3a://bucket/x@y", "s3a://bucket/x@y"),
        ("bob@example.com", "bob@example.com"),
    ],
)
def test_a_text_shows_no_password_of_a_uri(text, shown):
    assert without_passwords(text) == shown


def test_resolved_settings_show_no_password_wherever_it_stands():
    overrides = [
        "mlflow.tracking_uri=http://user:password@host",
        "recommend.bought_again=[x://u:password@h]",
    ]
    settings = load_settings(CONF / "local.yaml", overrides)
    shown = shown_settings(settings)
    assert "password" not in str(shown)
    assert shown["mlflow"]["tracking_uri"] == "http://***@host"
    assert shown.keys() == settings.model_dump().keys()


@pytest.mark.parametrize(
    ("root", "lake"),
    [
        ("file:///data/shop", "file:/data/shop/lake"),
        ("file://localhost/data//shop/", "file:/data/shop/lake"),
        ("hdfs://names/shop", "hdfs://names/shop/lake"),
        ("hdfs:///shop", "hdfs:/shop/lake"),
        ("s3a://bucket", "s3a://bucket/lake"),
        ("abfss://container@account.dfs.core.windows.net/shop", "abfss://container@account.dfs.core.windows.net/shop/lake"),
        ("/data/shop", "/data/shop/lake"),
    ],
)
def test_a_root_is_a_path_or_a_uri(root, lake):
    assert load_settings(overrides=[f"paths.root={root}"]).paths.locate("lake") == lake


@pytest.mark.parametrize(
    ("root", "why"),
    [
        ("file://shop/data", "names the host shop"),
        ("hdfs:shop", "neither a path nor a URI"),
        ("s3a://key:secret@bucket/shop", "a password in a URI"),
        ('""', "empty"),
    ],
)
def test_a_place_of_no_plain_meaning_is_refused(root, why):
    with pytest.raises(SettingsError, match=why) as raised:
        load_settings(overrides=[f"paths.root={root}"])
    assert "secret" not in str(raised.value)


def test_tables_have_a_name_where_there_is_a_catalogue():
    assert load_settings(overrides=["paths.root=/shop"]).table("items") == "/shop/lake/items"
    named = load_settings(overrides=["lake.catalog=main.fashionrec"])
    assert named.table("items") == "`main`.`fashionrec`.`items`"
    assert settings_hash(named) == settings_hash(load_settings()), "where the tables lie changes no result"
    with pytest.raises(SettingsError, match=r"no CATALOGUE\.SCHEMA"):
        load_settings(overrides=["lake.catalog=a b; drop"])
