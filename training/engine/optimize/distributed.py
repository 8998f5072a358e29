"""Several processes under torchrun: each computes some rows of a step, and gradients are summed.

Only the adapter's gradients travel, once a step, so N processes give the gradients of one up to the order
of a float32 sum. The base weights are whole in every process, or with `shard` spread over them; then each forward
is one that all processes make together.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from training.engine.data.packing import PairRow
from training.engine.errors import ConfigError

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Processes:
    """This process among its peers; one alone where torchrun did not start it."""

    rank: int = 0
    world: int = 1
    # Weights are spread over the processes: skipping a forward would block the others.
    in_step: bool = False

    @property
    def is_first(self) -> bool:
        """True in the process that writes the files."""
        return self.rank == 0

    def mine(self, rows: Sequence[PairRow]) -> list[tuple[PairRow, bool]]:
        """Return this process's rows, each with whether it counts. The longest are dealt out first, to even the loads.

        With `in_step`, all processes make equally many forwards. A process without a row then computes the
        shortest row of another one, which does not count.
        """
        order = sorted(range(len(rows)), key=lambda at: (-rows[at].tokens, at))
        dealt = [(rows[at], True) for at in sorted(order[self.rank :: self.world])]
        missing = -(-len(rows) // self.world) - len(dealt)
        return dealt + [(rows[order[-1]], False)] * (missing if self.in_step else 0)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        every = list(tensors)
        if self.world == 1 or not every:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in every])
        dist.all_reduce(flat)
        for tensor, part in zip(every, flat.split([tensor.numel() for tensor in every]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            dist.barrier()


def backends(device: torch.device) -> str:
    """Return the backends that sum tensors: gloo on the CPU, which every device needs, and NCCL on CUDA."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def join(device: torch.device, *, in_step: bool = False) -> Processes:
    """Join the peers that torchrun started; `in_step` if they must make every forward together."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    _end_with_parent()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group(backends(device))
    return Processes(rank=dist.get_rank(), world=world, in_step=in_step)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when torchrun is gone: killed, it could not end us, and we would wait for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def leave(processes: Processes) -> None:
    """End the group that `join` made."""
    if processes.world > 1 and dist.is_initialized():
        dist.destroy_process_group()


def shard_base(base: nn.Module, device: torch.device) -> None:
    """Spread the frozen weights of each decoder layer over the processes (FSDP2); they are gathered when used.

    Adapter weights, embeddings and head stay whole everywhere: `Processes.add_up` sums the adapter's gradients.
    `base` comes in on the CPU and goes to `device` layer by layer, so no device ever holds all of it.
    Raises ConfigError if there is one process, or no layer that could be spread.
    """
    if not dist.is_initialized():
        raise ConfigError("shard", "needs several processes: start with torchrun --nproc-per-node N.")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [layer for layer in base.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            "shard", "this architecture has no decoder layers that could be spread.", separator=": "
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers:
        whole = {weight for weight in layer.parameters() if weight.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    for tensor in (*base.parameters(), *base.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device)
