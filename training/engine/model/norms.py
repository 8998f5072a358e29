"""RMS norms (Zhang and Sennrich, 1910.07467) as one kernel on a GPU.

Libraries spell them out in half a dozen kernels, which widen their input to float32 and keep it so for the backward
pass. On an H200 the one kernel takes 0.05 ms where they take 0.55 (12,000 tokens of 3,584 numbers), 0.21 ms where they
take 1.77 with the backward pass, and it rounds once instead of twice. On a CPU nothing is gained.
"""

import copy
import inspect
import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_NAMES = ("variance_epsilon", "eps")  # of the number that is added to the mean square
_SIZES = (1e-3, 1.0, 1e3)  # of the rows that a layer is tried on: the smallest show where epsilon is added


def fuse_norms(model: nn.Module) -> None:
    """Let each layer that computes an RMS norm, and nothing more, do so in one kernel."""
    module: Any
    for module in model.modules():
        epsilon = next((getattr(module, name) for name in _NAMES if hasattr(module, name)), None)
        if type(module).__name__.endswith("RMSNorm") and _is_plain(module, epsilon):
            module.epsilon, module.forward = epsilon, types.MethodType(_forward, module)


@torch.no_grad()
def _is_plain(module: Any, epsilon: Any) -> bool:
    """Return whether a layer gives what the kernel gives, up to rounding. Gemma's, for one, adds 1 to its weight."""
    if not isinstance(epsilon, float) or [name for name, _ in module.named_parameters()] != ["weight"]:
        return False
    if len(inspect.signature(module.forward).parameters) != 1:
        return False
    exact = copy.deepcopy(module).float()
    sizes = torch.tensor(_SIZES, device=exact.weight.device)[:, None]
    rows = sizes * torch.linspace(-1, 2, len(exact.weight), device=exact.weight.device)
    return torch.allclose(exact(rows), _norm(rows, exact.weight, epsilon), rtol=1e-5, atol=0)


def _forward(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Return the norm of (..., H), in its precision; by the layer's own forward where its weight has another."""
    if hidden_states.dtype != module.weight.dtype:
        normed: torch.Tensor = type(module).forward(module, hidden_states)
        return normed
    return _norm(hidden_states, module.weight, module.epsilon)


def _norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(x, weight.shape, weight, epsilon)
