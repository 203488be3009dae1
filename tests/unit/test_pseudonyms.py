"""The key of the users' pseudonyms is found, long enough, and the demo's is known as such."""

import subprocess
import sys

import pytest

from fashionrec.ingest.pseudonyms import KeyMissingError, is_demo_key, key_fingerprint, load_key, pseudonym
from fashionrec.settings import load_settings, resource, settings_hash

CONF = resource("conf")


def test_the_key_is_that_of_the_file_or_else_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("  0123456789abcdef\n")
    monkeypatch.setenv("FASHIONREC_USER_KEY", "fedcba9876543210")
    assert load_key(str(tmp_path / "key")) == b"0123456789abcdef"
    assert load_key("") == b"fedcba9876543210"


@pytest.mark.parametrize("content", [None, "", " \n", "0123456789abcde"])
def test_no_key_or_one_that_is_too_short_is_an_error_that_says_how_to_make_one(tmp_path, monkeypatch, content):
    monkeypatch.delenv("FASHIONREC_USER_KEY", raising=False)
    if content is not None:
        (tmp_path / "key").write_text(content)
        monkeypatch.setenv("FASHIONREC_USER_KEY", content)
    for path in (str(tmp_path / "key"), ""):
        with pytest.raises(KeyMissingError, match="openssl rand -hex 32") as error:
            load_key(path)
        assert "0123456789" not in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/fashionrec.key",
        "~/fashionrec.key",
        "../keys/shop.key",
        "keys/fashionrec.key",
        "/run/secrets/userkey",
        "file:///etc/users/key",
    ],
)
def test_a_path_in_the_place_of_the_key_is_refused_in_one_line(monkeypatch, path):
    monkeypatch.setenv("FASHIONREC_USER_KEY", path)
    with pytest.raises(KeyMissingError, match="the path of a file in the place of a key") as error:
        load_key("")
    assert path not in str(error.value)


@pytest.mark.parametrize("key", ["/Ab3dEfGhIjKlMnOpQrStUvWxYz0123+4567/89abcdef=", "a-b.c_d~e f/g:0123456789", "0123456789abcdef"])
def test_a_key_may_hold_what_a_path_may(monkeypatch, key):
    monkeypatch.setenv("FASHIONREC_USER_KEY", key)
    assert load_key("") == key.encode()


def test_a_keys_fingerprint_tells_it_from_others_and_is_no_pseudonym():
    one, other = b"0123456789abcdef", b"0123456789abcdeg"
    assert key_fingerprint(one) == key_fingerprint(one) != key_fingerprint(other)
    assert len(key_fingerprint(one)) == 16
    assert not pseudonym(one, "").startswith(key_fingerprint(one))


def test_the_demos_key_says_that_it_is_public_and_is_known_as_such():
    key = load_key(load_settings(CONF / "demo.yaml").ingest.user_key_file)
    assert is_demo_key(key)
    assert b"never-use-it-for-real-users" in key
    assert not is_demo_key(b"0123456789abcdef")


def test_where_the_key_lies_changes_no_hash_of_the_settings(tmp_path):
    here = load_settings(CONF / "test.yaml")
    elsewhere = load_settings(CONF / "test.yaml", [f"ingest.user_key_file={tmp_path}/demo.key"])
    assert here.ingest.user_key_file == str(CONF / "keys/demo.key")
    assert settings_hash(here) == settings_hash(elsewhere)


def test_the_command_prints_the_pseudonyms_of_the_lines_it_reads():
    code = "import sys; from fashionrec.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "pseudonym", "--conf", str(CONF / "test.yaml")]
    ran = subprocess.run(command, input="user-1\n用户\r\n", capture_output=True, text=True, check=True)
    key = load_key(str(CONF / "keys/demo.key"))
    assert ran.stdout.split() == [pseudonym(key, "user-1"), pseudonym(key, "用户")]
