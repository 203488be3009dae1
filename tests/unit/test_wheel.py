"""What the built wheel holds."""

import shutil
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tests.conftest import ROOT


def files_of(root: Path) -> set[str]:
    return {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}


def test_settings_and_schemas_ship_and_of_the_keys_only_the_demos(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in ("conf/base.yaml", "conf/keys/demo.key", "schemas/items.yaml", "fashionrec/cli.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "conf/keys/prod.key").write_text("a secret key of a shop")
    expected = {"fashionrec/conf/base.yaml", "fashionrec/conf/keys/demo.key", "fashionrec/schemas/items.yaml", "fashionrec/cli.py"}
    assert files_of(tmp_path) == expected


def test_every_settings_file_of_the_project_ships():
    shipped = files_of(ROOT)
    assert {f"fashionrec/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")} <= shipped
    assert {f"fashionrec/{path.relative_to(ROOT)}" for path in (ROOT / "schemas").glob("*.yaml")} <= shipped
