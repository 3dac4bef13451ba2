import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config as ModelConfig
from transformers import Dinov2Model, ViTConfig, ViTModel

from simulacra.errors import SimulacraError
from simulacra.metrics.config import Dinov2Config
from simulacra.metrics.features import weights_sha256
from simulacra.metrics.pretrained import check, fetch, load

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny DINOv2 of random weights, as `save_pretrained` writes it."""
    place = tmp_path_factory.mktemp("dinov2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Dinov2Model(ModelConfig(**SIZE)).save_pretrained(place)
    return place


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), np.uint8)


def test_features_are_the_class_token_s(folder: Path) -> None:
    config = Dinov2Config(source=str(folder))
    check(config)
    extractor = load(config)
    model = Dinov2Model.from_pretrained(folder).eval()
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        # At 224 × 224 nothing is resized, so that the input can be written down.
        expected = model(pixel_values=(torch.tensor(images()) / 255 - mean) / std).pooler_output.numpy()
    np.testing.assert_allclose(extractor.features(images()), expected, atol=1e-5)
    assert extractor.describe()["name"] == "dinov2" and extractor.sha256 == weights_sha256(model)


def test_it_gives_no_probabilities(folder: Path) -> None:
    with pytest.raises(SimulacraError, match="trained without classes gives no probabilities"):
        load(Dinov2Config(source=str(folder))).probabilities(images())


def test_a_flipped_bit_is_another_model_and_is_refused_where_the_hash_is_known(folder: Path, tmp_path: Path) -> None:
    sha256 = load(Dinov2Config(source=str(folder))).sha256
    assert load(Dinov2Config(source=str(folder), sha256=sha256[:12])).sha256 == sha256
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert load(Dinov2Config(source=str(tmp_path))).sha256 != sha256
    with pytest.raises(SimulacraError, match=f"evaluation.dinov2.sha256 asks for {sha256[:8]}"):
        load(Dinov2Config(source=str(tmp_path), sha256=sha256))


def test_weights_that_only_pickle_reads_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(SimulacraError, match="has no safetensors"):
        check(Dinov2Config(source=str(tmp_path)))


def test_another_model_is_refused(tmp_path: Path) -> None:
    ViTModel(ViTConfig(**SIZE, intermediate_size=16)).save_pretrained(tmp_path)
    with pytest.raises(SimulacraError, match="is of the kind vit, no DINOv2"):
        load(Dinov2Config(source=str(tmp_path)))


def test_a_folder_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(SimulacraError, match="cannot be had") as caught:
        load(Dinov2Config(source=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/dinov2", "/nowhere/dinov2 is not there; correct evaluation.dinov2.source"),
        (__file__, "is a file, and not the folder of a model"),
        ("nobody/has-this-model", "set evaluation.dinov2.download=true"),
        ("no name/at all", "is no name of a model"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_run(source: str, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        check(Dinov2Config(source=source))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SimulacraError, match=r'extra text brings: run `pip install .*"\.\[text\]"`'):
        check(Dinov2Config(source=str(folder)))


def test_without_a_network_a_name_of_the_hub_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    config = Dinov2Config(source="nobody/has-this-model", download=True)
    check(config)
    for look in (fetch, load):
        with pytest.raises(SimulacraError, match=r"check name and network.*no route to host"):
            look(config)


def test_a_model_of_the_hub_is_fetched_once_and_its_size_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub is stood in for; what is asked of it, and when, is not."""
    asked: list[dict[str, object]] = []
    here: set[str] = set()

    def download(name: str, **options: object) -> None:
        asked.append({"name": name} | options)
        here.update(("config.json", "model.safetensors"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, file: file if file in here else None)
    monkeypatch.setattr("simulacra.metrics.dinov2._size", lambda _: "87 MiB")
    config = Dinov2Config(source="someone/dinov2", download=True)
    with caplog.at_level("INFO"):
        fetch(config)
        fetch(config)
    assert [each["name"] for each in asked] == ["someone/dinov2"] and "fetching 87 MiB" in caplog.text
    assert not any("bin" in pattern or "pt" in pattern for pattern in asked[0]["allow_patterns"])
    check(Dinov2Config(source="someone/dinov2"))
