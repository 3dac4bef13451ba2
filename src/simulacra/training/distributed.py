"""Several processes as one: started and restarted by torch elastic, gradients averaged by DistributedDataParallel."""

import functools
import logging
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]

from simulacra.errors import SimulacraError
from simulacra.training import interruption
from simulacra.training.batches import Batch
from simulacra.training.config import TrainingConfig
from simulacra.training.trainable import Trainable

logger = logging.getLogger(__name__)

T = TypeVar("T")

Loss = Callable[[int, Batch], dict[str, Tensor]]
"""Given the number of an update and a batch: its named scalars."""

LOOPBACK = "simulacra_loopback"
"""Name of our rendezvous of one host's processes; torch's own listens on every interface of the host."""


class Place(NamedTuple):
    """Which of how many processes this one is; outside a distributed training the only one."""

    rank: int
    world: int

    @property
    def leads(self) -> bool:
        """Whether it is this process that saves and tells."""
        return self.rank == 0


def here() -> Place:
    """Return the place of this process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Place(0, 1)
    return Place(distributed.get_rank(), distributed.get_world_size())


class _Losses(nn.Module):
    """What DistributedDataParallel wants to wrap: a module whose forward pass ends in the losses."""

    def __init__(self, trainable: Trainable, compiled: bool) -> None:
        super().__init__()
        self.trainable = trainable
        losses = [update.loss for update in trainable.updates()]
        self.losses = [torch.compile(loss, dynamic=False) for loss in losses] if compiled else losses

    def forward(self, number: int, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalars of one update."""
        return self.losses[number](batch)


def shared_loss(module: Trainable, *, compiled: bool = False) -> Loss:
    """Return the module's losses, whose gradients are averaged over all processes where there are several.

    Args:
        module: the network.
        compiled: build each loss by torch.compile; the module itself, its state and its validation stay as they are.
    """
    losses = _Losses(module, compiled)
    if here().world == 1:
        return losses
    several = len(module.updates()) > 1
    return nn.parallel.DistributedDataParallel(losses, find_unused_parameters=several)


def mean(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the means over all processes of values that each has for its share of the batch."""
    world = here().world
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if world > 1:
        distributed.all_reduce(stacked)
    return dict(zip(values, (stacked / world).tolist(), strict=True))


def agree(*flags: bool) -> tuple[bool, ...]:
    """Return each flag as it is when any of the processes raises it."""
    if here().world == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.float32, device="cuda" if on_gpus() else "cpu")
    distributed.all_reduce(raised)
    return tuple((raised > 0).tolist())


def on_gpus() -> bool:
    """Tell whether there are several processes and they talk by way of their GPUs."""
    return here().world > 1 and distributed.get_backend() == "nccl"


def attempt() -> int:
    """Return how often the processes have begun again after one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if here().world > 1 else 0


def from_leader(make: Callable[[], T]) -> T:
    """Return what the leading process makes; where it refuses, all of them do.

    Raises:
        SimulacraError: of the leading process.
    """
    if here().world == 1:
        return make()
    box: list[Any] = [None]
    if here().leads:
        try:
            box = [make()]
        except SimulacraError as error:
            box = [error]
    distributed.broadcast_object_list(box)
    if isinstance(box[0], SimulacraError):
        raise box[0]
    result: T = box[0]
    return result


def run(work: Callable[..., T], arguments: tuple[Any, ...], config: TrainingConfig) -> T:
    """Do the work in `config.processes` new processes of each host, and return what the first of this host returns.

    When one of them dies, all begin again from the last checkpoint, at most `config.restarts` times. Processes of one
    host talk over the loopback interface; several hosts meet at `config.rendezvous`.

    Args:
        work: a function of a module, so that other processes can import it; it finds its place by `here`.
        arguments: what it is called with; they must pickle, since they travel to the processes.
        config: how many processes and hosts.

    Raises:
        SimulacraError: what the work raises, or that processes died too often.
        Interrupted: after a signal, once the processes have stopped at the end of a step.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if threading.current_thread() is not threading.main_thread():
        raise SimulacraError("training.processes above 1 needs the main thread; use SequentialRunner")
    gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    if 0 < gpus < config.processes:
        raise SimulacraError(f"training.processes is {config.processes}, one a GPU, and there are {gpus}; lower it")
    if config.device == "mps" or (config.device == "auto" and torch.backends.mps.is_available()):
        raise SimulacraError("training.processes above 1 cannot share an Apple GPU; set training.device=cpu")
    threads = max(1, torch.get_num_threads() // config.processes)
    with tempfile.TemporaryDirectory() as scratch, _signals_restored():
        launch = LaunchConfig(
            min_nodes=config.hosts,
            max_nodes=config.hosts,
            nproc_per_node=config.processes,
            run_id=f"simulacra-{uuid.uuid4().hex}" if config.hosts == 1 else "simulacra",
            rdzv_backend=_loopback_backend() if config.hosts == 1 else "c10d",
            rdzv_endpoint=config.rendezvous or "127.0.0.1:1",
            max_restarts=config.restarts,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            start_method="spawn",
        )
        store = scratch if config.hosts == 1 else ""
        try:
            results = elastic_launch(launch, _work)(work, config, threads, store, *arguments)
        except SignalException as error:
            raise interruption.Interrupted(error.sigval) from error
        except ChildFailedError as error:
            raise SimulacraError(
                f"the processes of the training died {config.restarts + 1} times, the last time by "
                f"{error.get_first_failure()[1].message}; see the messages above, or train with training.processes=1"
            ) from error
    result = results[min(results)]
    if isinstance(result, SimulacraError):
        raise result
    returned: T = result
    return returned


def _work(work: Callable[..., T], config: TrainingConfig, threads: int, store: str, *arguments: Any) -> Any:
    """Be one of the processes: join the others, do the work; a refusal is a result, since trying again is no use."""
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    torch.set_num_threads(threads)
    local_rank, rank, world = (int(os.environ[name]) for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))
    on_gpu = config.device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    if store:
        os.environ |= {"GLOO_SOCKET_IFNAME": _loopback_interface(), "NCCL_SOCKET_IFNAME": _loopback_interface()}
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    method = (Path(store) / f"store-{attempt}").as_uri() if store else "env://"
    distributed.init_process_group("nccl" if on_gpu else "gloo", init_method=method, rank=rank, world_size=world)
    try:
        with interruption.handled():
            return work(*arguments)
    except SimulacraError as error:
        return error
    finally:
        distributed.destroy_process_group()


def _loopback_interface() -> str:
    """Return the name of the interface that no other host reaches."""
    import socket

    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


@functools.cache
def _loopback_backend() -> str:
    """Make our rendezvous known to torch elastic, and return its name.

    The agent of a single host has nobody to meet: it needs a store of its own only, and no socket at all.
    """
    from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry
    from torch.distributed.elastic.rendezvous.api import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

    class Alone(RendezvousHandler):
        """A rendezvous of one."""

        def get_backend(self) -> str:
            return LOOPBACK

        def next_rendezvous(self) -> RendezvousInfo:
            return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("127.0.0.1", 1))

        def is_closed(self) -> bool:
            return False

        def set_closed(self) -> None:
            return

        def num_nodes_waiting(self) -> int:
            return 0

        def get_run_id(self) -> str:
            return LOOPBACK

        def shutdown(self) -> bool:
            return True

    def create(parameters: RendezvousParameters) -> RendezvousHandler:
        return Alone()

    rendezvous_handler_registry.register(LOOPBACK, create)
    return LOOPBACK


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Put the handlers back that torch elastic replaces by its own."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    former = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
