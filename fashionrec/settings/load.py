"""Read settings from files and from the command line."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fashionrec.errors import UserError
from fashionrec.settings.model import Settings

# User and password of a URI, and the parameters of one that let in whoever has them.
_CREDENTIALS = re.compile(r"""(?<=://)(?:[^\s/?#"']*@|[^\s/?#"':@]*:[^\s"']*@)""")
_SECRETS = re.compile(r"""(?i)(?<=[?&;])((?:[\w-]*(?:password|passwd|pwd|token|secret|signature|credential|api_?key)|sig)=)[^\s"'&;]+""")

_PACKAGE = Path(__file__).resolve().parents[1]


class SettingsError(UserError):
    """A setting is unknown, missing or out of range; the text lists every one."""


def resource(name: str) -> Path:
    """Return the path of a folder that ships with the project (`conf`, `schemas`): inside an installed wheel or in the checkout."""
    installed = _PACKAGE / name
    return installed if installed.exists() else _PACKAGE.parent / name


def load_settings(conf: Path | str | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Return the settings of `conf` merged over the `base.yaml` beside it, with `a.b=value` overrides on top.

    Raises:
        SettingsError: naming every unknown key and every bad value, and the file.
    """
    path = Path(conf) if conf else resource("conf") / "local.yaml"
    differences = _read(path)
    tree = _merge(_read(path.parent / "base.yaml"), differences)
    for override in overrides:
        tree = _merge(tree, _parse_override(override))
    try:
        tree["llm"]["base"] = _read_model(path.parent / str(tree["llm"]["base"]))
        tree["memory"]["encoder"] = _read_model(path.parent / str(tree["memory"]["encoder"]))
        if (encoder := tree["embeddings"]["title"]["encoder"]) != "lstm":
            tree["embeddings"]["title"]["encoder"] = _read_model(path.parent / str(encoder))
        for name in ("template", "calendar"):
            tree["prompts"][name] = str((path.parent / str(tree["prompts"][name])).resolve())
        if key_file := tree["ingest"]["user_key_file"]:
            tree["ingest"]["user_key_file"] = str((path.parent / str(key_file)).resolve())
    except (KeyError, TypeError):
        raise SettingsError(
            f"{path}: llm, memory, embeddings.title, prompts and ingest must be sections, with llm.base, memory.encoder, prompts.template "
            "and prompts.calendar naming files, and embeddings.title.encoder one or lstm"
        ) from None
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {_say(e['msg'])}" for e in error.errors())
        raise SettingsError(f"{path}: {problems}. Every key and its meaning stands in {path.parent / 'base.yaml'}.") from None


def without_passwords(text: str) -> str:
    """Return a text with `***` for the user and password of every URI in it, and for parameters of one such as `token`."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def shown_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings as they may be printed and kept: without passwords (see `without_passwords`)."""

    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shown(one) for name, one in value.items()}
        if isinstance(value, list):
            return [shown(one) for one in value]
        return without_passwords(value) if isinstance(value, str) else value

    return dict(shown(settings.model_dump(mode="json")))


def settings_hash(settings: Settings) -> str:
    """Return 12 hex digits that change with any setting that may change a result; where the lake lies is no such setting."""
    tree = settings.model_dump(mode="json", exclude={"paths": True, "mlflow": True, "lake": {"catalog"}})
    # The same checkout elsewhere has the same hash.
    for name in ("template", "calendar"):
        tree["prompts"][name] = Path(tree["prompts"][name]).name
    tree["ingest"]["user_key_file"] = Path(settings.ingest.user_key_file).name
    for model in (tree["llm"]["base"], tree["memory"]["encoder"], tree["embeddings"]["title"]["encoder"]):
        if "path" in model:
            model["path"] = Path(model["path"]).name
    text = json.dumps(tree, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such settings file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if tree is not None and not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected sections with keys, found {type(tree).__name__}")
    return tree or {}


def _read_model(path: Path) -> dict[str, Any]:
    """Return the keys of a model's file; a `path` that is a folder beside it becomes absolute, any other is a name on a hub."""
    tree = _read(path)
    if "path" in tree and (folder := path.parent / str(tree["path"])).is_dir():
        tree["path"] = str(folder.resolve())
    return tree


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {text}: write it as section.key=value")
    try:
        tree: Any = yaml.safe_load(value) if value else ""
    except yaml.YAMLError:
        raise SettingsError(f"--set {text}: the value is not valid YAML") from None
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def _say(message: str) -> str:
    return {"Extra inputs are not permitted": "unknown key", "Field required": "missing"}.get(
        message, message.removeprefix("Value error, ")
    )
