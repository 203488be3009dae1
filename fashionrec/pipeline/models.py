"""The model registry: MLflow, with files that lie beside it and a hash over them."""

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionrec.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


# A figure's value after each step.
Curve = Sequence[tuple[int, float]]

_BATCH = 1000  # points that a tracking server takes at once


class ModelError(UserError):
    """A model is missing or its files are not those that were registered."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered training: `trained_for` is the run date whose tables it learnt from."""

    name: str
    version: str
    folder: Path
    sha256: str
    trained_for: date

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class ModelRegistry:
    """Versions of the models `llm`, `id` and `title`; the alias champion is what a daily run uses."""

    root: str
    tracking_uri: str

    @cached_property
    def _client(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        for talkative in ("alembic", "mlflow"):  # every table of a new database is a line
            logging.getLogger(talkative).setLevel(logging.WARNING)
        root = Path(self.root)
        root.mkdir(parents=True, exist_ok=True)
        if self.tracking_uri:
            return MlflowClient(self.tracking_uri)
        # The first to use the database makes its tables; another at the same time would fail halfway through making them again.
        with (root / ".mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(f"sqlite:///{root}/mlflow.db")
            client.search_experiments(max_results=1)
        return client

    def new_folder(self, name: str, run_id: str) -> Path:
        """Return an empty folder that a training run may fill before it is registered."""
        folder = Path(self.root) / name / run_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def register(
        self,
        name: str,
        folder: Path,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        inputs: Mapping[str, Any],
        *,
        trained_for: date,
        curves: Mapping[str, Curve] | None = None,
    ) -> ModelVersion:
        """Register a trained folder, with parameters, metrics, curves, inputs and file hash, as the next version; it is the challenger."""
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        client = self._client
        experiment = client.get_experiment_by_name("fashionrec")
        experiment_id = experiment.experiment_id if experiment else client.create_experiment("fashionrec", f"file://{self.root}/artifacts")
        if experiment and experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment_id)
        run = client.create_run(experiment_id, run_name=name)
        now = int(time.time() * 1000)
        points = [Metric(key, value, now, step) for key, curve in (curves or {}).items() for step, value in curve]
        for start in range(0, len(points), _BATCH):
            client.log_batch(run.info.run_id, metrics=points[start : start + _BATCH])
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)) for key, value in params.items()],
        )
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        sha256 = folder_hash(folder)
        # Below the root, which may be another one when the version is read: it may have moved, or be mounted elsewhere.
        place = str(folder.relative_to(self.root))
        tags = {
            "sha256": sha256,
            "trained_for": str(trained_for),
            "folder": place,
            **{f"input.{key}": str(value) for key, value in inputs.items()},
        }
        version = client.create_model_version(name, f"file://{folder}", run.info.run_id, tags=tags)
        client.set_registered_model_alias(name, "challenger", version.version)
        client.set_terminated(run.info.run_id)
        return ModelVersion(name, str(version.version), folder, sha256, trained_for)

    def refuse(self, version: ModelVersion, why: str) -> None:
        """Keep with a version why it did not become champion."""
        self._client.set_model_version_tag(version.name, version.version, "why_not_champion", why)

    def promote(self, version: ModelVersion, why: str) -> None:
        """Make a version the champion, and keep with it why."""
        self._client.set_model_version_tag(version.name, version.version, "why_champion", why)
        self._client.set_registered_model_alias(version.name, "champion", version.version)

    def has_champion(self, name: str) -> bool:
        """Return whether any version is champion."""
        return self._aliased(name, "champion") is not None

    def champion(self, name: str) -> ModelVersion:
        """Return the version that a daily run uses, its files checked against the hash of its registration.

        Raises:
            ModelError: no version is registered, or files are missing or changed.
        """
        return self._checked(name, "champion")

    def challenger(self, name: str) -> ModelVersion:
        """Return the newest version, which may be the champion; as `champion` does."""
        return self._checked(name, "challenger")

    def _checked(self, name: str, alias: str) -> ModelVersion:
        version = self._aliased(name, alias)
        if version is None:
            raise ModelError(f"model {name}: none is registered under {self.root}; run the training step first")
        if not version.tags.keys() >= {"sha256", "trained_for", "folder"}:
            raise ModelError(f"model {name}@{version.version}: an older fashionrec registered it; train again")
        folder = Path(self.root) / version.tags["folder"]
        if not folder.is_dir() or folder_hash(folder) != version.tags["sha256"]:
            raise ModelError(f"model {name}@{version.version}: files under {folder} are missing or changed since training; train again")
        return ModelVersion(name, str(version.version), folder, version.tags["sha256"], date.fromisoformat(version.tags["trained_for"]))

    def _aliased(self, name: str, alias: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # Of a model, or of an alias, that is not there. A server that does not answer must not look like that.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def folder_hash(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
