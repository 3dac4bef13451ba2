"""Names that users give: none leads out of its folder, none garbles a record, a page, a figure or a message."""

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image
from pydantic import ValidationError

from simulacra.cli import choose
from simulacra.data.config import FashionMnistSource, ImageFolderSource
from simulacra.data.images import load_images
from simulacra.errors import SimulacraError
from simulacra.experiments import parse_experiments

Run = Callable[..., subprocess.CompletedProcess[str]]
EVIL = [
    "../mnist",
    "%2e%2e",
    "/etc/passwd",
    "mnist/../mnist",
    "a\nb",
    "a\0b",
    "\u202eabc",
    "x" * 300,
    "\udcff",
    ".",
    "",
]
ODD_CLASSES = [
    "$x^2$ $_{",
    "%2e%2e",
    "${globals:data_root}",
    "-rf",
    "<script>alert(1)<b>",
    "[bold]{dataset}",
    "a" * 255,
    "猫",
]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def zipped(place: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return place


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(0))
    return root


def complaint(folder: Path) -> str:
    with pytest.raises(SimulacraError) as caught:
        load_images(ImageFolderSource(path=folder, size=8))
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- datasets, pipelines and namespaces


@pytest.mark.parametrize("name", EVIL)
def test_a_dataset_is_named_by_plain_letters(name: str) -> None:
    with pytest.raises(SimulacraError, match=r"cannot name a dataset; use lower-case letters") as caught:
        parse_experiments({name: {"kind": "image"}})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [*EVIL, "mnist.", "mnist..vae", "mnist.vae.fit"])
@pytest.mark.parametrize("option", ["pipelines", "namespaces"])
def test_a_pipeline_or_namespace_is_one_of_those_there_are(option: str, name: str) -> None:
    options = {"pipeline": "", "pipelines": [], "namespaces": []}
    with pytest.raises(SimulacraError, match=r"unknown (pipeline|namespace)") as caught:
        choose(options | {option: [name]})
    assert str(caught.value).isprintable()


# --- paths of sources


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\nb", "unprintable characters"),
        ("a\0b", "unprintable characters"),
        ("\x1b[31mred", "unprintable characters"),
        ("\u202egnp", "unprintable characters"),
        ("x" * 256, "is too long, 255 bytes a name"),
        ("ü" * 128, "is too long, 255 bytes a name"),
        ("/".join(["y" * 200] * 21), "4095 in all"),
        ("\udcff", "unprintable characters"),
        ("~nobody-of-that-name/x", "home of a user who does not exist"),
    ],
)
@pytest.mark.parametrize("source", [ImageFolderSource, FashionMnistSource])
def test_a_path_that_no_file_can_have_is_refused_before_the_run(source: type, path: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        source(path=path, **({"size": 8} if source is ImageFolderSource else {}))


def test_a_path_may_lead_anywhere_by_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user who names it; a percent sign stands for itself."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder_of(tmp_path / "%2e%2e", *(f"{number}.png" for number in range(3)))
    assert len(load_images(ImageFolderSource(path=Path("../%2e%2e"), size=8))[0]) == 3
    with pytest.raises(SimulacraError, match="%2e%2e does not exist"):
        load_images(ImageFolderSource(path=Path("%2e%2e"), size=8))


# --- classes and files


@pytest.mark.parametrize("name", ["d\nog", "d\x1b[31mog", "\u202egod", "d\u2066og", "d\x7fog", "do\udce9"])
def test_a_class_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    message = complaint(folder_of(tmp_path, f"{name}/1.png"))
    assert f"the folder name {name!a} in {tmp_path} has unprintable characters: rename it" in message


@pytest.mark.parametrize("name", ["a\nb.png", "\x1b[31m.png", "\u202egnp.png", "caf\udce9.png"])
def test_a_file_may_have_any_name_and_is_told_by_it(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "1.png", "2.png", name)
    images, record = load_images(ImageFolderSource(path=tmp_path, size=8))
    assert len(images) == 3 and len(record["sha256"]["files"]) == 64
    (tmp_path / name).write_bytes(b"")
    assert f"{ascii(name)[1:-1]} (zero bytes" in complaint(tmp_path)
    (tmp_path / "cat").mkdir()
    assert "both loose images" in complaint(tmp_path)


def test_a_link_is_told_by_a_printable_name(tmp_path: Path) -> None:
    folder_of(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "out\n.png").symlink_to("/etc/passwd")
    assert r"out\n.png leads out of" in complaint(tmp_path)


def test_folders_within_each_other_end_somewhere(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * 40)).mkdir(parents=True)
    assert "has more than 32 folders within each other" in complaint(tmp_path)


# --- by the command


def test_odd_names_go_through_the_whole_graph(fresh_project: Path, kedro: Run) -> None:
    """From a zip's members to records, models, figures, the page and MLflow."""
    members = {
        f"top/{name}/{number}.png": picture(100 * place + number)
        for place, name in enumerate(ODD_CLASSES)
        for number in range(16)
    }
    place = zipped(fresh_project / "pictures.zip", members)
    outside = files(fresh_project)
    options = [
        "--namespaces",
        "image_folder",
        "--params",
        f"image_folder.source.path={place},image_folder.source.size=8",
    ]
    done = kedro(fresh_project, "run", "--env", "test", *options)
    assert "Warning" not in done.stderr + done.stdout
    # So short a training may leave the VAE's codes empty, and says so.
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert all("the posterior has collapsed" in line for line in warnings)
    made = files(fresh_project).keys() - outside.keys()
    assert all(name.startswith(("data/test/", "mlruns/", ".viz/")) or "__pycache__" in name for name in made)

    page = (fresh_project / "data/test/08_reporting/image_folder/report.html").read_text()
    assert page.count("<script") == 1 and "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;b&gt;" in page
    latent_map = fresh_project / "data/test/08_reporting/image_folder/vae/latent_map.html"
    assert "<script>alert(1)" not in latent_map.read_text()
    assert "猫" in page and "%2e%2e" in page and "${globals:data_root}" in page and "a" * 255 in page
    client = MlflowClient(f"sqlite:///{fresh_project}/data/test/mlflow.db")
    (experiment,) = (found for found in client.search_experiments() if found.name == "simulacra")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"image_folder", "image_folder.gmm", "image_folder.vae"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert all(len(run.inputs.dataset_inputs) == 3 for run in runs.values())

    before = files(fresh_project / "data/test")
    zipped(place, members | {"top/../../../canary.png": picture(0)})
    done = kedro(fresh_project, "run", "--env", "test", *options, code=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert f"{place}: the member 'top/../../../canary.png' leads out of the archive: make the archive anew" in errors[0]
    assert not list(fresh_project.parent.rglob("canary*"))
    after = files(fresh_project / "data/test")
    assert {name: after[name] for name in before if name[:1] == "0"} == {n: before[n] for n in before if n[:1] == "0"}
