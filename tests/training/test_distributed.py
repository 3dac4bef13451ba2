import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, logging, multiprocessing, os, re, signal, sys, threading, time
from pathlib import Path

def listening(pids):
    found = set()
    for pid in pids:
        inodes = set()
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes |= set(re.findall(r"socket:\\[(\\d+)\\]", os.readlink(handle)))
            except OSError:
                pass
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                cells = line.split()
                if cells[3] == "0A" and cells[9] in inodes:
                    found.add(cells[1].split(":")[0])
    return found

def watch(folder, kill, addresses):
    while not list(folder.glob("step-*")):
        time.sleep(0.02)
    workers = [child.pid for child in multiprocessing.active_children()]
    addresses |= listening([os.getpid(), *workers])
    if kill:
        os.kill(max(workers), signal.SIGKILL)

def main(folder):
    from simulacra.data.fabricate import fabricate_images
    from simulacra.errors import SimulacraError
    from simulacra.models import family_class
    from simulacra.training import interruption
    from simulacra.training.config import TrainingConfig

    logging.basicConfig(level=logging.INFO)
    wanted = json.loads(sys.argv[2])
    data = fabricate_images(n=300, size=12, channels=1, n_classes=3, seed=0)
    vae = family_class("vae")
    for name, options in wanted.items():
        kill, rows, warm = options.pop("kill", False), options.pop("rows", 240), options.pop("warm", False)
        budget = {"steps": 200, "batch_size": 32, "log_every": 1, "warmup_steps": 10, "precision": "fp32"}
        training = TrainingConfig.model_validate(budget | options)
        former, model = warm and model, vae(vae.Config(width=8, latent_dim=4))
        if former:
            model.begin_from(former)
        addresses = set()
        if options.get("processes", 1) * options.get("hosts", 1) > 1:
            threading.Thread(target=watch, args=(folder / name, kill, addresses), daemon=True).start()
        try:
            with interruption.handled():
                history = model.fit(data.take(range(rows)), validation=data.take(range(240, 300)), training=training,
                                    seed=0, checkpoints=folder / name)
        except SimulacraError as error:
            print(json.dumps({"name": name, "error": str(error)}), flush=True)
            continue
        except interruption.Interrupted as error:
            sys.exit(error.exit_code)
        losses = [point["value"] for point in history.points if point["name"] == "loss" and point["split"] == "train"]
        found = {"name": name, "losses": losses, "weights": model.fingerprint(), "addresses": sorted(addresses)}
        found |= {"begun_from": history.facts.get("begun_from")}
        print(json.dumps(found), flush=True)

if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


def start(folder: Path, wanted: dict) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), json.dumps(wanted)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """One process; two that go on where it ended; two; two of which one is killed after the first checkpoint."""
    steps = {"checkpoint_steps": 20}
    wanted = {
        "one": {},
        "warm": {"processes": 2, "warm": True, "steps": 3, "learning_rate": 1e-8} | steps,
        "two": {"processes": 2} | steps,
        "killed": {"processes": 2, "kill": True} | steps,
    }
    process = start(tmp_path_factory.mktemp("distributed"), wanted)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-4000:]
    found = {row["name"]: row for row in map(json.loads, out.splitlines())}
    return found | {"log": {"text": err}}


def test_two_processes_learn_what_one_learns(trained: dict[str, dict]) -> None:
    one, two = (np.array(trained[name]["losses"]) for name in ("one", "two"))
    assert len(one) == 200
    # Sums in another order: exact at first, then the rounding grows as in any training.
    assert np.abs(two[:20] / one[:20] - 1).max() < 1e-5
    assert np.linalg.norm(two - one) / np.linalg.norm(one) < 1e-3


def test_several_processes_begin_from_the_weights_that_one_was_given(trained: dict[str, dict]) -> None:
    one, warm = trained["one"], trained["warm"]
    assert warm["begun_from"] == one["weights"] and one["begun_from"] is None
    first, last = np.mean(one["losses"][:3]), np.mean(one["losses"][-10:])
    assert abs(np.mean(warm["losses"]) - last) < (first - last) / 4, "and goes on from what that one had come to"


def test_a_killed_process_costs_time_only(trained: dict[str, dict]) -> None:
    assert "goes on from step" in trained["log"]["text"]
    assert trained["killed"]["weights"] == trained["two"]["weights"]
    assert trained["killed"]["losses"] == trained["two"]["losses"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_of_one_host_listen_on_the_loopback_interface_only(trained: dict[str, dict]) -> None:
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert trained["two"]["addresses"] and set(trained["two"]["addresses"]) <= loopback


@pytest.mark.slow
def test_a_signal_stops_all_processes_with_a_checkpoint(tmp_path: Path) -> None:
    wanted = {"long": {"processes": 2, "steps": 100_000, "checkpoint_steps": 50}}
    process = start(tmp_path, wanted)
    while not list((tmp_path / "long").glob("step-*")):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err[-4000:]
    assert any(int(place.name[5:]) % 50 for place in (tmp_path / "long").glob("step-*")), (
        "none between the regular ones"
    )


@pytest.mark.slow
def test_what_the_processes_refuse_is_told_once(tmp_path: Path) -> None:
    process = start(tmp_path, {"odd": {"processes": 2, "rows": 31}})
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-4000:]
    message = json.loads(out)["error"]
    assert message.startswith("training.batch_size is 31 here, which 2 processes cannot share evenly")


@pytest.mark.slow
def test_two_processes_with_compiled_losses_learn_what_they_learn_without(
    tmp_path: Path, trained: dict[str, dict]
) -> None:
    process = start(tmp_path, {"compiled": {"processes": 2, "compile": True, "checkpoint_steps": 20, "kill": True}})
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-4000:]
    assert "builds the loss by torch.compile" in err and "goes on from step" in err
    compiled, plain = (np.array(losses) for losses in (json.loads(out)["losses"], trained["two"]["losses"]))
    assert np.abs(compiled[:20] / plain[:20] - 1).max() < 1e-4
    assert np.linalg.norm(compiled - plain) / np.linalg.norm(plain) < 1e-2


@pytest.mark.slow
def test_two_hosts_learn_what_two_processes_of_one_learn(tmp_path: Path, trained: dict[str, dict]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    wanted = {"both": {"hosts": 2, "rendezvous": f"127.0.0.1:{port}", "checkpoint_steps": 20}}
    hosts = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        hosts.append(start(tmp_path / name, wanted))
    for host in hosts:
        out, err = host.communicate(timeout=240)
        assert host.returncode == 0, err[-4000:]
        assert json.loads(out)["weights"] == trained["two"]["weights"]
