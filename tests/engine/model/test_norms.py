"""Layers that compute an RMS norm, found by what they compute and replaced by one kernel."""

import inspect

import pytest
import torch
import transformers
from torch import nn

from tests.engine.conftest import SHAPE, make_model
from training.engine.model.norms import fuse_norms

PLAIN = ("LlamaConfig", "Qwen2Config", "Qwen3Config", "MistralConfig", "Olmo2Config", "GraniteConfig")
OTHER = ("GemmaConfig", "Gemma2Config", "OPTConfig")  # the first two add 1 to the weight


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers that `fuse_norms` replaced."""
    return [module for module in model.modules() if "forward" in vars(module)]


def make(kind: str) -> nn.Module:
    """Return a model of two layers whose norms have weights of their own."""
    config = getattr(transformers, kind)
    taken = inspect.signature(config).parameters
    model = make_model(config(**{name: value for name, value in SHAPE.items() if name in taken}))
    for name, weight in model.named_parameters():
        if "norm" in name and weight.dim() == 1:
            nn.init.uniform_(weight, 0.5, 1.5)
    return model


@pytest.mark.parametrize("kind", PLAIN)
def test_fused_norms_give_the_same_logits_and_gradients(kind: str) -> None:
    model, found = make(kind), []
    ids = torch.arange(12)[None]
    for fused in (False, True):
        if fused:
            fuse_norms(model)
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embedded).logits
        (slope,) = torch.autograd.grad(logits.cos().sum(), embedded)
        found.append((logits.detach(), slope))
    assert len(norms_of(model)) >= 5  # two a layer, and the last
    for own, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", OTHER)
def test_norms_by_another_formula_are_left_alone(kind: str) -> None:
    model = make(kind)
    fuse_norms(model)
    assert norms_of(model) == []


def test_an_epsilon_in_another_place_is_noticed() -> None:
    class OutsideRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(8), requires_grad=False), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight * x / (x.pow(2).mean(dim=-1, keepdim=True).sqrt() + self.eps)

    model = nn.Sequential(OutsideRMSNorm())
    fuse_norms(model)
    assert norms_of(model) == []


def test_an_input_of_another_precision_is_widened_as_before() -> None:
    model = make("LlamaConfig").bfloat16()
    norm = model.model.norm
    x = torch.randn(3, len(norm.weight))
    expected = norm(x)
    fuse_norms(model)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=0)
