"""The model registry: MLflow, with files that lie beside it and a hash over them."""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionrec.errors import UserError
from fashionrec.lake import storage

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
class Record:
    """What the registry keeps of a version for people, whatever became of its files."""

    version: str
    trained_for: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    inputs: Mapping[str, str]
    state: str
    why: str


@dataclass(frozen=True)
class ModelRegistry:
    """Versions of models by name; the alias champion is what a daily run uses, challenger the newest."""

    root: str
    tracking_uri: str
    spark: storage.Spark = storage.standing_session  # asked where the files lie elsewhere

    @cached_property
    def _client(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        for talkative in ("alembic", "mlflow"):  # every table of a new database is a line
            logging.getLogger(talkative).setLevel(logging.WARNING)
        root = storage.local_path(self.root)
        if root is None and not self.tracking_uri:
            raise ModelError(f"models lie at {self.root}, where no SQLite file can: set mlflow.tracking_uri to a server, or to a database")
        if self.tracking_uri or root is None:
            return MlflowClient(self.tracking_uri)
        root.mkdir(parents=True, exist_ok=True)
        # The first to use the database makes its tables; another at the same time would fail halfway through making them again.
        with (root / ".mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(f"sqlite:///{root}/mlflow.db")
            client.search_experiments(max_results=1)
        return client

    def new_folder(self, name: str, run_id: str) -> Path:
        """Return an empty folder of this machine that a training run may fill before it is registered.

        Raises:
            ModelError: the trained model could not be registered, for want of a tracking server.
        """
        _ = self._client
        folder = (storage.local_path(self.root) or storage.scratch(run_id, "models")) / name / run_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def unfinished(self, name: str) -> Path:
        """Return the folder of this machine where trainings of a model leave what a later one may go on from."""
        return (storage.local_path(self.root) or storage.scratch("models")) / name / "_unfinished"

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

        client, root = self._client, storage.local_path(self.root)
        sha256 = storage.folder_hash(folder)
        place = str(folder) if root else storage.upload(self.spark, folder, f"{self.root}/{name}/{folder.name}")
        experiment = client.get_experiment_by_name("fashionrec")
        artifacts = f"file://{root}/artifacts" if root else f"{self.root}/artifacts"
        experiment_id = experiment.experiment_id if experiment else client.create_experiment("fashionrec", artifacts)
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
        tags = {
            "sha256": sha256,
            "trained_for": str(trained_for),
            # Below the root, which may be another one when the version is read: it may have moved, or be mounted elsewhere.
            "folder": place.removeprefix(f"{root or self.root}/"),
            **{f"input.{key}": str(value) for key, value in inputs.items()},
        }
        version = client.create_model_version(name, f"file://{folder}" if root else place, run.info.run_id, tags=tags)
        client.set_registered_model_alias(name, "challenger", version.version)
        client.set_terminated(run.info.run_id)
        return ModelVersion(name, str(version.version), storage.fetch(self.spark, place), sha256, trained_for)

    def refuse(self, version: ModelVersion, why: str) -> None:
        """Keep with a version why it did not become champion."""
        self._client.set_model_version_tag(version.name, version.version, "why_not_champion", why)

    def promote(self, version: ModelVersion, why: str) -> None:
        """Make a version the champion, and keep with it why, and with the one that it follows until when that was champion."""
        name, client = version.name, self._client
        before = self._aliased(name, "champion")
        if before:
            client.set_model_version_tag(name, before.version, "champion_until", datetime.now(UTC).isoformat(timespec="microseconds"))
        client.delete_model_version_tag(name, version.version, "why_not_champion")
        client.set_model_version_tag(name, version.version, "why_champion", why)
        client.set_registered_model_alias(name, "champion", version.version)

    def has_champion(self, name: str) -> bool:
        """Return whether any version is champion."""
        return self._aliased(name, "champion") is not None

    def challenger(self, name: str) -> ModelVersion:
        """Return the newest version, which may be the champion, its files checked against the hash of its registration.

        Raises:
            ModelError: no version is registered, or files are missing or changed.
        """
        return self._checked(name, self._aliased(name, "challenger"))

    def version(self, name: str, number: str) -> ModelVersion:
        """Return a version by its number; as `challenger` does."""
        return self._checked(f"{name}@{number}", self._found(self._client.get_model_version, name, number))

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the champion or the challenger, its files unchecked and not fetched: they may be what has to be replaced; None if none."""
        version = self._aliased(name, alias)
        return self._as_registered(version) if version else None

    def former_champion(self, name: str) -> ModelVersion | None:
        """Return the last champion before the present one, files unchecked; None where there is none.

        One that was refused since, as a rollback refuses what it leaves, is none: going back twice goes further back.
        """
        present = self._aliased(name, "champion")
        former = [
            version
            for version in self._versions(name)
            if "champion_until" in version.tags
            and "why_not_champion" not in version.tags
            and (present is None or version.version != present.version)
        ]
        return self._as_registered(max(former, key=lambda version: version.tags["champion_until"])) if former else None

    def history(self, name: str) -> list[Record]:
        """Return what is kept of every version, the newest first."""
        numbers = {alias: found.version for alias in ("champion", "challenger") if (found := self._aliased(name, alias))}
        return [self._record(version, numbers) for version in self._versions(name)]

    def folders(self) -> set[str]:
        """Return the folders of all registered versions, of whatever model, below the root."""
        page = self._client.search_model_versions()
        versions = list(page)
        while page.token:
            page = self._client.search_model_versions(page_token=page.token)
            versions += page
        return {version.tags["folder"] for version in versions if "folder" in version.tags}

    def _record(self, version: Any, numbers: Mapping[str, Any]) -> Record:
        """Return what is kept of a version; `numbers` are those of the champion and the challenger."""
        tags, run = version.tags, self._client.get_run(version.run_id)
        why, why_not, until = (tags.get(key, "") for key in ("why_champion", "why_not_champion", "champion_until"))
        if version.version == numbers.get("champion"):
            state = "serves"
        elif why_not:
            state, why = f"rolled back {until[:10]}" if until else "refused", why_not
        elif until:
            state = f"was champion until {until[:10]}"
        else:
            state = "candidate" if version.version == numbers.get("challenger") else "never judged"
        inputs = {key.removeprefix("input."): value for key, value in sorted(tags.items()) if key.startswith("input.")}
        return Record(str(version.version), tags.get("trained_for", ""), run.data.params, run.data.metrics, inputs, state, why)

    def _checked(self, wanted: str, found: Any) -> ModelVersion:
        if found is None:
            raise ModelError(f"model {wanted}: none is registered under {self.root}; run the training step first")
        version, place = self._as_registered(found), f"{self.root}/{found.tags['folder']}"
        try:
            folder = storage.fetch(self.spark, place)
        except storage.StorageError as error:
            raise ModelError(f"model {version.label}: {error}; train again") from None
        if not folder.is_dir() or storage.folder_hash(folder) != version.sha256:
            raise ModelError(f"model {version.label}: files under {folder} are missing or changed since training; train again")
        return replace(version, folder=folder)

    def _as_registered(self, version: Any) -> ModelVersion:
        tags = version.tags
        if not tags.keys() >= {"sha256", "trained_for", "folder"}:
            raise ModelError(f"model {version.name}@{version.version}: an older fashionrec registered it; train again")
        folder = (storage.local_path(self.root) or Path(self.root)) / tags["folder"]
        return ModelVersion(version.name, str(version.version), folder, tags["sha256"], date.fromisoformat(tags["trained_for"]))

    def _versions(self, name: str) -> list[Any]:
        found = self._client.search_model_versions(f"name='{name}'")
        return sorted(found, key=lambda version: int(version.version), reverse=True)

    def _aliased(self, name: str, alias: str) -> Any:
        return self._found(self._client.get_model_version_by_alias, name, alias)

    def _found(self, ask: Callable[[str, str], Any], name: str, key: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return ask(name, key)
        except MlflowException as error:
            # Of a model, a version or an alias that is not there. A server that does not answer must not look like that.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
