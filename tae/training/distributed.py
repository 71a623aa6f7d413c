"""Where a training computes: the device and its precision; one process, or several that torchrun started and that agree."""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.device import pick_device

Result = TypeVar("Result")
TEXT_BYTES = 500
"""Longest text that a process tells the others."""
ALIVE_EVERY_S = 2
"""Seconds between the signs of life of a process that the others wait for."""


@dataclass(frozen=True)
class World:
    """The processes of one training.

    Attributes:
        rank: This process, from 0. Rank 0 alone prints and writes.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64; the same on all."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, *claims: bool) -> list[bool]:
        """Each claim: whether it is true in at least one process."""
        return [count > 0 for count in self.sum(*map(float, claims))]

    def from_main(self, value: float) -> float:
        """Rank 0's value, on all."""
        return self.sum(value if self.is_main else 0.0)[0]

    def agreed(self, choice: str, choices: Iterable[str]) -> Any:
        """Rank 0's choice, one of these, on all."""
        names = list(choices)
        return names[int(self.from_main(names.index(choice)))]

    def patiently(self, work: Callable[[], Result]) -> Result:
        """What `work` returns; it may take hours in some processes, for which the others wait with signs of life."""
        if self.size == 1:
            return work()
        pool = ThreadPoolExecutor(1)
        try:
            job = pool.submit(work)
            while self.any(not wait([job], timeout=ALIVE_EVERY_S).done)[0]:
                pass
            return job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def shared(self, raw: bytes) -> bytes:
        """Rank 0's bytes, on all."""
        if self.size == 1:
            return raw
        sent = torch.zeros(int(self.from_main(len(raw))), dtype=torch.uint8)
        if self.is_main and raw:
            sent = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        sent = sent.to(self.device)
        dist.broadcast(sent, 0)
        return sent.cpu().numpy().tobytes()

    def must_agree(self, on: str, facts: Mapping[str, str]) -> None:
        """Go on only where all processes have the same facts.

        Args:
            on: What they are, in words.
            facts: By name; the same names in all.

        Raises:
            ValueError: On all, if one of them has another fact than rank 0; the message names both.
        """
        of_main = {name: "nothing" for name in facts} | json.loads(self.shared(json.dumps(facts).encode()))
        self.must_be_fine(
            f"all processes must have the same {on}",
            "; ".join(
                f"{name} {fact}, and {of_main[name]} on rank 0" for name, fact in facts.items() if fact != of_main[name]
            ),
        )

    def must_be_fine(self, what: str, fault: str) -> None:
        """Go on only where no process has found a fault; what: the rule; fault: how it is broken here, or "".

        Raises:
            ValueError: On all; the message names the ranks and what they found.
        """
        told = [f"rank {rank} has {text}" for rank, text in enumerate(self.gather(fault)) if text]
        if told:
            raise ValueError(f"{what}; {'; '.join(told)}")

    def gather(self, text: str) -> list[str]:
        """Every process's text, cut to `TEXT_BYTES`, in the order of ranks."""
        if self.size == 1:
            return [text]
        # As bytes in tensors: PyTorch's own gathering of objects would unpickle them.
        raw = text.encode()[:TEXT_BYTES]
        padded = torch.tensor([*raw, *bytes(TEXT_BYTES - len(raw))], dtype=torch.uint8, device=self.device)
        rows = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(rows, padded)
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in rows]


ALONE = World(0, 1, torch.device("cpu"))
"""One process, for what can be asked without a training."""


class LostProcessError(ConnectionError):
    """Another process of the training is gone, or did not answer in time."""


@contextmanager
def joined(device: str, timeout_minutes: float = 10) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone.

    Args:
        device: "auto" (cuda where there is one), "cpu" or "cuda"; with several GPUs each process takes its own.
        timeout_minutes: How long a process waits for the others.

    Raises:
        LostProcessError: If one of the others is lost, here or in the body.
        ValueError: If cuda is asked for and there is none, or there are more processes on this machine than GPUs.
    """
    picked = pick_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, picked)
        return
    if picked.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"processes on a machine must be at most its GPUs, {torch.cuda.device_count()}, got "
                f"{os.environ.get('LOCAL_WORLD_SIZE', local + 1)}; lower --nproc_per_node"
            )
        picked = torch.device("cuda", local)
        torch.cuda.set_device(picked)
    patience = timedelta(minutes=timeout_minutes)
    try:
        # Each attempt under torchrun --max-restarts has its own names: addresses of dead processes stay in the store.
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))  # type: ignore[attr-defined]
        name = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        attempt = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
        backend = "nccl" if picked.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=patience)
        yield World(rank, size, picked)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search(
            r"\b(gloo|nccl|store|tcpstore|socket|peer)\b", str(error), re.IGNORECASE
        ):
            raise
        raise LostProcessError(
            f"another process of this training is lost, or did not answer within {timeout_minutes:g} minutes; torchrun "
            f"--max-restarts=3 with --resume replaces it and goes on from the last state ({str(error).splitlines()[0][:200]})"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def memory_bytes(device: str) -> int:
    """All the memory of "cuda" or "cpu", in a container what it may use; 0 where that cannot be told."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[1]
    if not hasattr(os, "sysconf"):
        return 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return total


def shard(model: TransformerAutoencoder, world: World, by_machine: bool = False) -> None:
    """Spread weights, gradients and what the optimizer keeps over the processes (FSDP2), block by block, in place.

    by_machine: over those of one machine only, each machine holding all (HSDP): less goes over the network between them.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # a second to import, which a run of one process need not wait

    local = int(os.environ["LOCAL_WORLD_SIZE"]) if by_machine else world.size
    shape = (world.size // local, local) if by_machine else (local,)
    mesh = init_device_mesh(world.device.type, shape, mesh_dim_names=("machines", "shards")[-len(shape) :])
    for blocks in (model.encoder.blocks, model.decoder.blocks):
        for block in blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def replicate(model: nn.Module, world: World) -> nn.Module:
    """Every process holds all; gradients are averaged (DDP)."""
    return DistributedDataParallel(model, device_ids=[world.device] if world.device.type == "cuda" else None)


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of it alone."""
    return hasattr(tensor, "full_tensor")


def unsharded(tensor: Tensor) -> Tensor:
    """The whole of a tensor that each process holds a part of; another one as it is. Every process must ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[operator]


def whole(tensor: Tensor) -> Tensor:
    """A copy of a tensor, sharded or not, on the CPU; every process must ask."""
    return unsharded(tensor).detach().to("cpu", copy=True).contiguous()


def like(full: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, laid out as another: on its device, sharded where that one is."""
    if is_sharded(other) and full.ndim:  # the count of an optimizer's steps is never sharded
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(other, DTensor)
        return distribute_tensor(full.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
    return full.to(other.device) if full.ndim else full


def norm_of(norm: Tensor) -> float:
    """A gradient's norm as a number; sharded ones are summed."""
    value = unsharded(norm).item()
    return value if math.isfinite(value) else math.nan


def rank_asked() -> int:
    """The rank that torchrun gave this process; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def leave(code: int) -> NoReturn:
    """End a process that may be one of several; code: its exit code.

    One of several ends without taking Python down: Gloo's threads may still hold the last tensors that they exchanged,
    and a process that frees them so late aborts (pytorch/pytorch#179291), with all its work done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
