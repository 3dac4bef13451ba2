import hashlib
import io
import logging
import socket
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import pytest
import torch
from torch import nn

from simulacra.errors import SimulacraError
from simulacra.metrics import weights
from simulacra.metrics.weights import Published, download, existing, filled, read, refuse_damaged


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


TENSORS = network().state_dict()


def saved(path: Path, tensors: object = TENSORS) -> Published:
    """Write a file of weights and return what is known of it."""
    torch.save(tensors, path)
    return Published("the weights", hashlib.sha256(path.read_bytes()).hexdigest()[:8], "evaluation.some.weights")


def test_whole_files_are_read_with_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    published = saved(path)
    refuse_damaged(path, published)
    tensors, sha256 = read(path, published)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_flipped_bit_is_refused_before_anything_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    path = tmp_path / "a.pth"
    published = saved(path)
    refuse_damaged(path, published)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if place == 0.5 else int(place)] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was loaded"))
    for look in (read, refuse_damaged):
        with pytest.raises(SimulacraError) as caught:
            look(path, published)
        said = str(caught.value)
        assert str(path) in said and published.sha256 in said and "damaged" in said and published.key in said


def test_what_only_pickle_could_read_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    published = saved(path, {"weights": Path("a")})
    with pytest.raises(UnpicklingError):
        read(path, published)


@pytest.mark.parametrize(("name", "fault"), [("nothing.pth", "is not there"), ("", "is a folder")])
def test_what_is_no_file_is_refused_by_its_key(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(SimulacraError, match=f"{fault}.*correct evaluation.some.weights"):
        existing(tmp_path / name, Published("the weights", "ab", "evaluation.some.weights"))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = tmp_path / "a.pth"
    published = saved(path)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SimulacraError, match=r"a\.pth cannot be read: Permission denied"):
        read(path, published)


def test_networks_are_filled_by_name_or_in_order() -> None:
    expected = TENSORS["0.weight"]
    assert torch.equal(filled(network, TENSORS, Path("a"))[0].weight, expected)
    renamed = {f"other.{name}": tensor for name, tensor in TENSORS.items()}
    assert torch.equal(filled(network, renamed, Path("a"), in_order=True)[0].weight, expected)
    uncounted = {name: tensor for name, tensor in TENSORS.items() if not name.endswith("tracked")}
    assert filled(network, uncounted, Path("a"))[1].num_batches_tracked == 0


def test_filling_draws_no_numbers() -> None:
    before = torch.random.get_rng_state()
    filled(network, TENSORS, Path("a"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({**TENSORS, "0.weight": torch.zeros(4, 3, 5, 5)}, "1 tensors .* the first of them 0.weight"),
        ({**TENSORS, "2.weight": torch.zeros(1)}, "1 tensors .* 2.weight"),
        ({name: tensor for name, tensor in TENSORS.items() if name != "1.bias"}, "1 tensors .* 1.bias"),
        ({}, "6 tensors"),
    ],
)
def test_weights_of_another_network_are_refused(tensors: dict[str, torch.Tensor], message: str) -> None:
    for in_order in (False, True):
        with pytest.raises(SimulacraError, match=f"b.pth holds the weights of another network: {message}"):
            filled(network, tensors, Path("b.pth"), in_order=in_order)


@pytest.fixture
def offered(tmp_path: Path) -> Published:
    """Weights at an address, which is that of a file here."""
    published = saved(tmp_path / "offered.pth")
    return published._replace(url=(tmp_path / "offered.pth").as_uri(), size="2 KiB")


def test_what_is_fetched_and_how_large_it_is_is_said_before(
    tmp_path: Path, offered: Published, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "new/folder/a.pth"
    with caplog.at_level(logging.INFO):
        download(place, offered)
    assert f"fetching 2 KiB from {offered.url} to {place}" in caplog.text
    assert place.read_bytes() == (tmp_path / "offered.pth").read_bytes()
    assert list(place.parent.iterdir()) == [place]


def test_a_download_of_another_file_leaves_nothing(tmp_path: Path, offered: Published) -> None:
    place = tmp_path / "new/a.pth"
    with pytest.raises(SimulacraError, match=r"could not be downloaded.*sha256 begins with"):
        download(place, offered._replace(sha256="00000000"))
    assert list(place.parent.iterdir()) == []


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, offered: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "STALL", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.pth"
        with pytest.raises(SimulacraError, match=r"could not be downloaded.*timed out"):
            download(tmp_path / "a.pth", offered._replace(url=url))
    assert [path.name for path in tmp_path.iterdir()] == ["offered.pth"]


def test_without_a_network_the_message_says_where_to_put_the_file(
    tmp_path: Path, offered: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> io.BytesIO:
        raise URLError("Name or service not known")

    monkeypatch.setattr("simulacra.metrics.weights.urlopen", refuse)
    place = tmp_path / "a.pth"
    with pytest.raises(SimulacraError) as caught:
        download(place, offered)
    said = str(caught.value)
    assert "2 KiB" in said and "Name or service not known" in said and said.endswith(f"by hand, as {place}")
    assert not place.exists()


def test_a_look_before_the_run_reads_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    published = saved(path)
    refuse_damaged(path, published)
    monkeypatch.setattr(weights, "_bytes", lambda _: pytest.fail("was read again"))
    refuse_damaged(path, published)
