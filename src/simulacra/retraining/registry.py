"""MLflow's Model Registry: every model that was ever in the running for champion, and which one is."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from simulacra import files
from simulacra.errors import SimulacraError
from simulacra.models import FAMILIES, load_model
from simulacra.tracking.config import TrackingConfig
from simulacra.tracking.store import LONGEST_TAG, Store, brief, import_mlflow, is_refusal

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from simulacra.models.base import GenerativeModel

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
"""Aliases: the model that is served, the one that waits to be, and the one that was."""

TOOK_OVER_FROM, WAITS_BEHIND = "took_over_from", "waits_behind"
"""Tags of a version: the number of the champion that it replaced, and of the one that it passed the gate against; ""
where there was none."""

ROLES = (CHALLENGER, PREVIOUS)
"""Aliases that the champion itself does not have."""

IDENTITY = ("model_sha256", "passport_id")
"""Tags of a version by which it is known again."""

MODEL = "artifacts/model"
"""Folder of the family's own files among a version's artifacts."""

RECORD = "artifacts/record.json"
"""What was known of the model when it was registered."""

PLACE = "model"
"""Folder of a version among the artifacts of the run that registered it."""

SERVING = Path(__file__).with_name("serving.py")

REQUIREMENTS = (
    "mlflow",
    "numpy",
    "pillow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "tokenizers",
    "torch",
    "torchvision",
    "tqdm",
)
"""What a version pins of what its family's code imports. Simulacra itself is not among them: it is installed from its
own repository, and a package index may give that name to somebody else's."""

EXAMPLES: dict[str, dict[str, Any]] = {"image": {"n": 1, "seed": 0}, "text": {"n": 1, "seed": 0, "tokens": 8}}
"""A request that a model of each kind of data can answer."""

ELSEWHERE = "see record.json"
"""Stands in a tag for what is too long for one."""

LONGEST_TURN = 600
"""Seconds that a process waits for another one that registers a model."""

CHATTER = ("mlflow.models.signature", "mlflow.pyfunc", "mlflow.models.model", "mlflow.models.utils")
"""Loggers of MLflow that tell every step of storing a model."""

T = TypeVar("T")


class Version(NamedTuple):
    """One registered model.

    Args:
        number: MLflow's, from 1.
        family: key of FAMILIES.
        model_sha256: of its weights.
        train_sha256: of the images or texts that it was fitted to.
        passport_id: of the conditions under which its metrics were measured.
        created: date and time, UTC.
        aliases: that point to it.
        run_id: MLflow run that registered it.
        source: where its artifacts are.
        tags: all that is known of where it comes from.
    """

    number: int
    family: str
    model_sha256: str
    train_sha256: str
    passport_id: str
    created: str
    aliases: tuple[str, ...]
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Value and standard deviation of each metric when it was registered; empty where there were too many."""
        found = self.tags.get("metrics", ELSEWHERE)
        metrics: dict[str, dict[str, Any]] = {} if found == ELSEWHERE else json.loads(found)
        return metrics


class Registry:
    """The versions of one dataset's registered model, `simulacra.<dataset>`.

    Whatever happens on the way, and wherever a process is killed, `champion` points to a version that was found whole
    and loaded: a version appears only when all its files are stored. Processes that share a sqlite file register one
    after the other; of several machines behind one server only one should.

    That alias alone decides, and moves in one step. A version notes which champion it replaces before it does, while
    that says nothing to anybody, so that the note of whichever version is champion always names the one before it. The
    aliases `previous` and `challenger` follow from such notes; where MLflow's differ, since a process was killed before
    it had moved them, the next one that looks puts them right.

    `challenger` is the version that passed the gate last and waits to be promoted. It keeps waiting while later ones
    are refused, since what it was found to be better than is still served; it gives way to a later one that passes;
    and it waits no longer once the champion is another, by promotion or rollback, against which nobody has judged it.

    Args:
        settings: content of mlflow.yml.
        project: folder that relative sqlite paths and local artifacts lie in.
        dataset: whose models these are.

    Raises:
        SimulacraError: where the store cannot be opened.
    """

    def __init__(self, settings: TrackingConfig, project: Path, dataset: str) -> None:
        self.name = f"simulacra.{dataset}"
        self._settings, self._dataset = settings, dataset
        self._address = settings.address(project)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._database = settings.database(project)
        import_mlflow(settings.timeout)
        with self._plainly("cannot be opened"):
            self._store = Store(settings, project)

    def register(self, folder: Path, *, record: Mapping[str, Any]) -> Version:
        """Return the version of a model, made unless the same weights are registered under the same passport.

        Args:
            folder: the model as `ModelDataset` keeps it.
            record: the metrics record of an evaluation, with `passport`, `passport_id` and `metrics`. What else it
                holds of `split` (fingerprint of the split), `seed` (of the training), `run_id` (MLflow run that
                trained it), `tick` (name of the MLflow run that this one is part of) and `git_commit` is noted too. The
                run that registers the model is below the one whose id `parent_run` is.

        Raises:
            SimulacraError: where the folder is not whole, the record is another model's, the registry does not answer
                or the disk is full. No alias has moved then, and the next call goes on from there.
        """
        return self.register_model(files.read(folder, load_model), record=record)

    def register_model(self, model: "GenerativeModel[Any]", *, record: Mapping[str, Any]) -> Version:
        """Return the version of a model, as `register` does of one that lies in a folder."""
        tags = self._tags(model, record)
        state = "no alias has moved, and the same command goes on from here"
        with self._plainly(f"cannot take {model.name}", state), self._turn():
            whole = next((each for each in self._same(tags, self.history()) if not self._damage(each)), None)
            if whole is not None:
                return whole
            run_id = self._run(model.name, tags, record.get("parent_run"))
            with TemporaryDirectory() as scratch:
                place = _stage(model, record, Path(scratch), run_id)
                tags["files"] = json.dumps(_hashes(place))
                return self._finish(run_id, place, tags)

    def champion(self) -> Version | None:
        """Return the version that is served; None where there is none yet."""
        return self._at(CHAMPION)

    def previous(self) -> Version | None:
        """Return the version that `rollback` would put back; None where there is none."""
        return self._at(PREVIOUS)

    def challenger(self) -> Version | None:
        """Return the version that passed the gate against this champion, and waits; None where none does."""
        return self._at(CHALLENGER)

    def challenge(self, number: int) -> Version:
        """Let a version wait to be promoted, instead of any other that did, and return it.

        Raises:
            SimulacraError: for a version that there is not.
        """

        def wait(client: "MlflowClient") -> None:
            champion = _aliases(client, self.name).get(CHAMPION)
            if champion != number:
                client.set_model_version_tag(self.name, str(number), WAITS_BEHIND, _told(champion))
                client.set_registered_model_alias(self.name, CHALLENGER, str(number))

        self.version(number)
        with self._plainly(f"cannot let version {number} wait", "the champion is as it was"):
            self._ask(wait)
        return self.version(number)

    def promote(self, number: int) -> Version:
        """Make a version champion, and the champion the previous one; return the new champion.

        Raises:
            SimulacraError: for a version that there is not, whose files are not whole, or that does not load.
        """
        self.check(self.version(number))

        def crown(client: "MlflowClient") -> None:
            champion = _aliases(client, self.name).get(CHAMPION)
            if champion != number:
                client.set_model_version_tag(self.name, str(number), TOOK_OVER_FROM, _told(champion))
                client.set_registered_model_alias(self.name, CHAMPION, str(number))

        with self._plainly(f"cannot promote version {number}", "`kedro champion show` tells which one is champion"):
            self._ask(crown)
        return self.version(number)

    def rollback(self) -> tuple[Version, Version]:
        """Make the previous version champion again; return the champion that stepped down, and the one that is back.

        The one that stepped down is the previous one then, so that a second rollback undoes the first.

        Raises:
            SimulacraError: where there is no other version to go back to, or it is not whole.
        """
        champion, previous = self.need_champion(), self.previous()
        if previous is None:
            raise SimulacraError(
                f"{self.name} has no version to go back to: the champion is version {champion.number}, and none was "
                "before it; `kedro champion show` lists all versions, and `kedro champion promote VERSION` takes any"
            )
        back = self.promote(previous.number)
        return champion, back

    def need_champion(self) -> Version:
        """Return the champion.

        Raises:
            SimulacraError: where there is none yet.
        """
        found = self.champion()
        if found is None:
            raise SimulacraError(self._no_champion())
        return found

    def history(self) -> list[Version]:
        """Return all versions, newest first."""
        with self._plainly("cannot be read"):
            return self._ask(self._versions)

    def version(self, number: int) -> Version:
        """Return one version.

        Raises:
            SimulacraError: where there is none of that number.
        """
        found = self.history()
        for each in found:
            if each.number == number:
                return each
        there = ", ".join(str(each.number) for each in found) or "none yet"
        raise SimulacraError(f"{self.name} has no version {number}; there are: {there}")

    def check(self, version: Version) -> None:
        """Read every byte of a version's files, and load it as a server would.

        Raises:
            SimulacraError: where a file is missing or not as it was stored, or where the model does not load.
        """
        with self._plainly(f"cannot read version {version.number}", "the champion is as it was"):
            with self._artifacts(version) as place:
                if damage := _difference(version, place):
                    raise SimulacraError(f"{self._called(version)} is not whole: {damage}; register its model again")
                self._load(version, place)

    def record(self, version: Version) -> dict[str, Any]:
        """Return what was registered with a version.

        Raises:
            SimulacraError: where its files are not whole.
        """
        with self._whole(version) as place:
            found: dict[str, Any] = json.loads((place / RECORD).read_text())
            return found

    def model(self, version: Version) -> Any:
        """Return a version's model.

        Raises:
            SimulacraError: where its files are not whole.
        """
        with self._whole(version) as place:
            return load_model(place / MODEL)

    @contextmanager
    def _whole(self, version: Version) -> Iterator[Path]:
        """Give the folder of a version's files, every byte of which is as it was stored."""
        with self._plainly(f"cannot give version {version.number}"), self._artifacts(version) as place:
            if damage := _difference(version, place):
                raise SimulacraError(f"{self._called(version)} is not whole: {damage}; register its model again")
            yield place

    def fetch(self, version: Version, folder: Path) -> Path:
        """Put a version's model into a folder, whole and sealed as `ModelDataset` reads it, and return the folder.

        Raises:
            SimulacraError: where a file is missing or not as it was stored, the folder holds something else, or the
                disk is full; what was in the folder before is there still.
        """
        if folder.exists() and not (folder / "model.json").is_file() and (folder.is_file() or any(folder.iterdir())):
            raise SimulacraError(f"{folder} holds no model but something else; name a folder that is empty or new")
        with self._plainly(f"cannot give version {version.number}"):
            files.write(folder, lambda scratch: self._download(version, scratch))
        return folder

    def _download(self, version: Version, scratch: Path) -> None:
        from mlflow.artifacts import download_artifacts

        uri = f"{version.source}/{MODEL}"
        came = download_artifacts(artifact_uri=uri, dst_path=str(scratch.parent), tracking_uri=self._address)
        if Path(came) != scratch:
            Path(came).rename(scratch)
        if damage := _difference(version, scratch, MODEL):
            raise SimulacraError(f"{self._called(version)} is not whole: {damage}; register its model again")

    def _load(self, version: Version, place: Path) -> None:
        from mlflow import pyfunc

        try:
            with _quietly():
                loaded = pyfunc.load_model(str(place)).unwrap_python_model().model
        except Exception as error:
            raise SimulacraError(f"{self._called(version)} does not load: {brief(error)}") from error
        if loaded.fingerprint() != version.model_sha256:
            raise SimulacraError(f"{self._called(version)} is not the model that its tags tell of; promote another one")

    def _tags(self, model: "GenerativeModel[Any]", record: Mapping[str, Any]) -> dict[str, str]:
        """Return where a model comes from.

        Raises:
            SimulacraError: where the record lacks a key, or is about other weights.
        """
        from simulacra.provenance import git_commit

        sha256 = model.fingerprint()
        if lacking := [key for key in ("passport", "passport_id", "metrics") if key not in record]:
            raise SimulacraError(f"the metrics record of {model.name} lacks {', '.join(lacking)}; evaluate it anew")
        if record.get("model_sha256", sha256) != sha256:
            raise SimulacraError(
                f"the metrics record of {model.name} is about another model; run `kedro run --pipeline evaluate` again"
            )
        metrics = {key: {"value": each["value"], "std": each["std"]} for key, each in record["metrics"].items()}
        told = {
            "dataset": self._dataset,
            "family": model.name,
            "model_sha256": sha256,
            "train_sha256": model.train_sha256,
            "split": record.get("split", ""),
            "passport_id": record["passport_id"],
            "passport": _json(record["passport"]),
            "metrics": _json(metrics),
            "seeds": _json(record["passport"].get("seeds", [])),
            "seed": record.get("seed", ""),
            "training_run": record.get("run_id", ""),
            "tick": record.get("tick", ""),
            "git_commit": record.get("git_commit") or git_commit() or "unknown",
        }
        return {key: str(value) for key, value in told.items() if value != ""}

    def _run(self, family: str, tags: Mapping[str, str], parent: str | None) -> str:
        """Return the id of the run that registers these weights, which may be one that a killed process began."""
        key = f"{self.name} {tags['passport_id']} {tags['model_sha256']}"
        record = {
            "name": f"register {self._dataset}.{family}",
            "tags": {"kedro.pipelines": "register", "mlflow.source.git.commit": tags["git_commit"], **tags},
            "time": int(1000 * time.time()),
        }
        return self._store.create(record, key, self._settings.experiment, parent, again=True)

    def _finish(self, run_id: str, place: Path, tags: dict[str, str]) -> Version:
        """Store the files, then make the version; of one that was made before and damaged, its files are new now."""
        self._ask(lambda client: client.log_artifacts(run_id, str(place), PLACE))
        self._ask(lambda client: client.set_terminated(run_id, "FINISHED"))
        source = f"{self._ask(lambda client: client.get_run(run_id)).info.artifact_uri}/{PLACE}"

        def find_or_create(client: "MlflowClient") -> int:
            _make_model(client, self.name)
            for found in self._same(tags, self._versions(client)):
                if found.source == source:
                    client.set_model_version_tag(self.name, str(found.number), "files", tags["files"])
                    return found.number
            return int(client.create_model_version(self.name, source, run_id, tags, await_creation_for=0).version)

        return self.version(self._ask(find_or_create))

    def _same(self, tags: Mapping[str, str], versions: Sequence[Version]) -> list[Version]:
        """Return the versions of these weights under this passport."""
        return [each for each in versions if all(each.tags.get(key) == tags[key] for key in IDENTITY)]

    def _versions(self, client: "MlflowClient") -> list[Version]:
        """Return all versions, newest first, and put aliases right that a killed process has left behind."""
        # The aliases first: a version that becomes champion after that is not the champion here.
        aliases = _aliases(client, self.name)
        found: list[ModelVersion] = []
        token = None
        while True:
            page = client.search_model_versions(f"name = '{self.name}'", page_token=token)
            found += page
            if not (token := page.token):
                break
        tags = {int(each.version): dict(each.tags) for each in found}
        meant = _meant(aliases, tags)
        if meant != aliases:
            self._mend(client, aliases, meant)
        return sorted((_version(each, meant) for each in found), key=lambda each: each.number, reverse=True)

    def _mend(self, client: "MlflowClient", aliases: Mapping[str, int], meant: Mapping[str, int]) -> None:
        from mlflow.exceptions import MlflowException

        # Who may only read has read the truth all the same.
        with suppress(MlflowException):
            for alias in aliases.keys() - meant.keys():
                client.delete_registered_model_alias(self.name, alias)
            for alias, number in meant.items():
                if aliases.get(alias) != number:
                    client.set_registered_model_alias(self.name, alias, str(number))

    def _at(self, alias: str) -> Version | None:
        """Return the version that an alias points to."""
        return next((each for each in self.history() if alias in each.aliases), None)

    def _ask(self, action: Callable[["MlflowClient"], T]) -> T:
        """Return what MLflow answers; a full disk is not asked twice."""

        def once(client: "MlflowClient") -> T:
            try:
                return action(client)
            except Exception as error:
                if full := _unwritable(error):
                    raise SimulacraError(full) from error
                raise

        return self._store.ask(once)

    def _turn(self) -> AbstractContextManager[Any]:
        """Return what keeps other processes from registering: two could store the same files, each over the other's."""
        from filelock import FileLock

        return nullcontext() if self._database is None else FileLock(f"{self._database}.registry.lock", LONGEST_TURN)

    def _damage(self, version: Version) -> str:
        """Return what is wrong with a version's files; empty where they are whole."""
        try:
            with self._artifacts(version) as place:
                return _difference(version, place)
        except FileNotFoundError as error:
            return brief(error)

    @contextmanager
    def _artifacts(self, version: Version) -> Iterator[Path]:
        """Give the folder of a version's files: where they are, or a copy where that is another machine."""
        from mlflow.artifacts import download_artifacts

        parsed = urlparse(version.source)
        if parsed.scheme == "file":
            yield Path(url2pathname(parsed.path))
            return
        with TemporaryDirectory() as scratch:
            uri = version.source
            yield Path(download_artifacts(artifact_uri=uri, dst_path=scratch, tracking_uri=self._address))

    @contextmanager
    def _plainly(self, what: str, state: str = "") -> Iterator[None]:
        """Turn whatever MLflow and the way there come up with into one line."""
        try:
            yield
        except SimulacraError as error:
            if state and state not in str(error):
                raise SimulacraError(f"{error}; {state}") from error
            raise
        except Exception as error:
            told = _unwritable(error)
            if not told and not _foreign(error):
                raise
            told = (
                told or f"the model registry at {self._settings.public_uri} {what}{self._remedy(error)}: {brief(error)}"
            )
            raise SimulacraError("; ".join(filter(None, [told, state]))) from error

    def _remedy(self, error: Exception) -> str:
        """Return what may be done where the store itself is at fault, and not what it was asked."""
        if is_refusal(error):
            return ""
        if self._database is None:
            return "; see that it runs and can be reached, or name another by MLFLOW_TRACKING_URI or in mlflow.yml"
        return "; see that the file is whole and no other program holds it, or name another store in mlflow.yml"

    def _no_champion(self) -> str:
        return f"{self.name} has no champion yet; `kedro champion show` lists its versions, and `promote` takes one"

    def _called(self, version: Version) -> str:
        return f"version {version.number} of {self.name} ({version.family})"


def _stage(model: "GenerativeModel[Any]", record: Mapping[str, Any], scratch: Path, run_id: str) -> Path:
    """Write all files of a version into a folder, and return it.

    MLflow is told what it requires, which it would try to find out otherwise, and is given the model's kind, by which
    serving.py knows what requests look like.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    kind = next(iter(FAMILIES[model.name].kinds))
    own, told = scratch / "model", scratch / "record.json"
    own.mkdir()
    model.save(own)
    told.write_text(json.dumps(record, indent=2))
    with _quietly():
        pyfunc.save_model(
            path=str(scratch / "staged"),
            python_model=str(SERVING),
            artifacts={"model": str(own), "record": str(told)},
            model_config={"kind": kind},
            input_example=[EXAMPLES[kind]],
            pip_requirements=requirements(model.name),
            mlflow_model=Model(run_id=run_id),
        )
    return scratch / "staged"


def requirements(family: str) -> list[str]:
    """Return what a served model of the family needs beside Simulacra, each with the version that is installed.

    Example:
        >>> [line.split("==")[0] for line in requirements("gpt")][:3]
        ['mlflow', 'numpy', 'pillow']
    """
    names = sorted({*REQUIREMENTS, *FAMILIES[family].needs})
    # What follows a + names a build for one kind of machine, which no index may have.
    return [f"{name}=={installed_version(name).split('+')[0]}" for name in names]


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep MLflow from telling each step; its warnings are heard."""
    levels = {name: logging.getLogger(name).level for name in CHATTER}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _make_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliases(client: "MlflowClient", name: str) -> dict[str, int]:
    """Return the version that each alias points to; none where the model was never registered."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _meant(aliases: Mapping[str, int], tags: Mapping[int, Mapping[str, str]]) -> dict[str, int]:
    """Return what each alias ought to point to by the champion's and the challenger's own notes.

    One that was set by other means than this class, and tells nothing, is left as it is.

    Args:
        aliases: as they are.
        tags: of each version.

    Example:
        >>> _meant({"champion": 3, "previous": 1, "challenger": 3}, {1: {}, 2: {}, 3: {"took_over_from": "2"}})
        {'champion': 3, 'previous': 2}
    """
    meant, champion = dict(aliases), aliases.get(CHAMPION)
    before = tags.get(champion or 0, {}).get(TOOK_OVER_FROM)
    if before is not None:
        meant.pop(PREVIOUS, None)
        if before and int(before) in tags:
            meant[PREVIOUS] = int(before)
    waits_behind = tags.get(aliases.get(CHALLENGER, 0), {}).get(WAITS_BEHIND)
    if waits_behind is not None and waits_behind != _told(champion):
        del meant[CHALLENGER]
    return {alias: number for alias, number in meant.items() if alias not in ROLES or number != champion}


def _told(number: int | None) -> str:
    return "" if number is None else str(number)


def _version(found: "ModelVersion", aliases: Mapping[str, int]) -> Version:
    number, tags = int(found.version), dict(found.tags)
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return Version(
        number,
        tags.get("family", ""),
        tags.get("model_sha256", ""),
        tags.get("train_sha256", ""),
        tags.get("passport_id", ""),
        f"{created:%Y-%m-%d %H:%M:%S}",
        tuple(sorted(alias for alias, target in aliases.items() if target == number)),
        found.run_id or "",
        str(found.source),
        tags,
    )


def _difference(version: Version, place: Path, part: str = "") -> str:
    """Return what is wrong with the first of a version's files, or of those in one folder; empty where none is.

    Args:
        version: says by its tag `files` what there ought to be.
        place: where they are.
        part: the folder among the version's files that `place` is; empty for all of them.
    """
    stored: dict[str, str] = json.loads(version.tags.get("files", "{}"))
    prefix = f"{part}/" if part else ""
    expected = {name.removeprefix(prefix): sha256 for name, sha256 in stored.items() if name.startswith(prefix)}
    if not expected:
        return "it does not say what files it has, so it was not registered by this project"
    actual = _hashes(place)
    for name, sha256 in sorted(expected.items()):
        if name not in actual:
            return f"{place / name} is missing"
        if actual[name] != sha256:
            return f"{place / name} is damaged: its bytes are not those that were stored"
    return ""


def _hashes(place: Path) -> dict[str, str]:
    """Return the sha256 of every file of a folder by relative path; what Python compiled there is none of its files."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            with path.open("rb") as file:
                found[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _json(value: Any) -> str:
    """Return JSON that fits in a tag."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text if len(text) <= LONGEST_TAG else ELSEWHERE


def _unwritable(error: BaseException | None) -> str:
    """Return what keeps a file from being written, where an error is about that; libraries tell it in words only."""
    while error is not None:
        told = re.search(r"(?:\[Errno|\(os error) (\d+)", str(error))
        code = error.errno if isinstance(error, OSError) and error.errno else int(told[1]) if told else None
        if code in files.UNWRITABLE:
            place = getattr(error, "filename", None) or "a file of the registry"
            return f"{place} cannot be written: {os.strerror(code)}; make room, or let it be written to"
        error = error.__cause__ or error.__context__
    return ""


def _foreign(error: Exception) -> bool:
    """Tell whether an error comes from MLflow or from what it asks: a network, a database, a lock."""
    libraries = {"mlflow", "requests", "urllib3", "sqlalchemy", "sqlite3", "filelock"}
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in libraries
