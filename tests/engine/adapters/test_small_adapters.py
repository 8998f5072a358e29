"""In bfloat16 a small adapter changes outputs and gradients as much as it does in float32.

The oracle is PEFT's own layer in float32, over the same frozen weights. A layer that adds the adapter to a rounded
product passes on about a twentieth of it.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial

import peft
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.pytorch_utils import Conv1D

from tests.engine.conftest import make_model, make_pairs, tiny_llama
from training.engine.adapters import factors, lora
from training.engine.adapters.loading import wrap
from training.engine.config import LoraConfig, TrainConfig
from training.engine.data.packing import pack, pad
from training.engine.model.logps import Scorer

INPUTS, OUTPUTS, TOKENS = 96, 256, 512
SIZE = 2e-4  # of the adapter's output, where outputs are about 1 and bfloat16's steps there 0.004 to 0.008


class Layer(nn.Module):
    def __init__(self, *, bias: float = 0.0, transposed: bool = False) -> None:
        super().__init__()
        self.one = Conv1D(OUTPUTS, INPUTS) if transposed else nn.Linear(INPUTS, OUTPUTS, bias=bias > 0)
        nn.init.normal_(self.one.weight, std=INPUTS**-0.5)
        if self.one.bias is not None:
            nn.init.normal_(self.one.bias, std=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x)


class Block(nn.Module):
    """A gated feed-forward block, whose last layer alone is adapted."""

    forward = LlamaMLP.forward

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(INPUTS, OUTPUTS, bias=False) for _ in range(2))
        self.one, self.act_fn = nn.Linear(OUTPUTS, INPUTS, bias=False), nn.SiLU()
        for layer in (self.gate_proj, self.up_proj, self.one):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    @property
    def down_proj(self) -> nn.Module:
        return self.one


def adapted(model: nn.Module, dtype: torch.dtype, **settings: object) -> peft.PeftModel:
    """Return the model, its weights rounded to bfloat16 and computing in `dtype`, with a small adapter."""
    model = copy.deepcopy(model).bfloat16().to(dtype).requires_grad_(False)
    chosen = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["one"], **settings)
    model = peft.get_peft_model(model, chosen)
    torch.manual_seed(1)
    for name, weight in sorted(model.named_parameters()):
        if name.endswith(("lora_A.default.weight", "lora_B.default.weight")):
            nn.init.normal_(weight, std=SIZE / 3 if "lora_B" in name else weight.shape[1] ** -0.5)
        elif "magnitude" in name:  # DoRA's, which PEFT computes in the precision of the weights
            weight.data = model.base_model.model.one.base_layer.weight.float().norm(dim=1)
    return model.train()


def passes(model: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    y = model(x)
    y.backward(dy)
    return y.detach().float(), x.grad.float()


def effects(model: peft.PeftModel, x: torch.Tensor, dy: torch.Tensor) -> Iterable[torch.Tensor]:
    """Return the adapter's effect on the output and on the input's gradient."""
    with model.disable_adapter():
        without = passes(model, x, dy)
    return [ours - base for ours, base in zip(passes(model, x, dy), without, strict=True)]


def share(found: torch.Tensor, true: torch.Tensor) -> float:
    """Return the part of an effect that arrives: 1 if what else there is has nothing to do with it."""
    return float((found * true).sum() / (true * true).sum())


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, object]]] = {
    "plain": (Layer, {}),
    "small bias": (partial(Layer, bias=0.1), {}),
    "large bias": (partial(Layer, bias=10.0), {}),
    "transposed": (partial(Layer, bias=1.0, transposed=True), {"fan_in_fan_out": True}),
    "gated": (Block, {}),
    "dropout": (Layer, {"lora_dropout": 0.2}),
    "DoRA": (Layer, {"use_dora": True}),
    "DoRA with bias": (partial(Layer, bias=1.0), {"use_dora": True}),
    "adapter with bias": (partial(Layer, bias=1.0), {"lora_bias": True}),
}


@pytest.mark.parametrize("inside", [True, False], ids=["added inside", "joined"])
@pytest.mark.parametrize("case", CASES)
def test_a_small_adapter_arrives_in_bfloat16(
    case: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns are joined on CUDA; that way computes the same here."""
    for module in (lora, factors):
        monkeypatch.setattr(module, "adds_inside", lambda _: inside)
    torch.manual_seed(0)
    make, settings = CASES[case]
    model = make()
    x, dy = (
        torch.randn(TOKENS, INPUTS).bfloat16(),
        torch.randn(TOKENS, INPUTS if case == "gated" else OUTPUTS),
    )
    narrow = adapted(model, torch.bfloat16, **settings)
    lora.fuse(narrow)
    found = effects(narrow, x, dy.bfloat16())
    settings = settings | {"lora_dropout": 0.0}  # of which the effect is the mean
    true = effects(adapted(model, torch.float32, **settings), x.float(), dy.bfloat16().float())
    for ours, theirs in zip(found, true, strict=True):
        assert share(ours, theirs) == pytest.approx(1.0, abs=0.15)


def test_the_log_probabilities_of_a_model_show_a_small_adapter() -> None:
    pairs = make_pairs(200, longest=30)

    def gains(model: peft.PeftModel, packed: bool) -> torch.Tensor:
        scorer = Scorer(model, model.get_base_model(), max_tokens=1 << 15, device=torch.device("cpu"))
        scorer.use("packed" if packed else "padded")
        row = (pack if packed else pad)(pairs, range(len(pairs)))
        with torch.no_grad():
            policy = scorer.token_logps(row)
            with model.disable_adapter():
                return policy - scorer.token_logps(row)

    true = gains(make_small(torch.float32), packed=False)
    narrow = make_small(torch.bfloat16)
    lora.fuse(narrow)
    assert share(gains(narrow, packed=True), true) == pytest.approx(1.0, abs=0.15)  # PEFT's layers: 0.4


def make_small(dtype: torch.dtype) -> peft.PeftModel:
    """Return a tiny model, its weights rounded to bfloat16, with an adapter that moves a token by 0.001 nats."""
    config = tiny_llama(hidden_size=64, intermediate_size=96, attention_bias=True)
    base = make_model(config).bfloat16().to(dtype)
    model = wrap(base, TrainConfig(base_model="tiny", lora=LoraConfig(r=4, alpha=8.0)))
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name:
            nn.init.normal_(weight, std=3e-4 if "lora_B" in name else 0.1)
    return model.eval()


@pytest.mark.parametrize("inside", [True, False], ids=["added inside", "joined"])
def test_a_frozen_adapter_computes_what_it_did(inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lora, factors):
        monkeypatch.setattr(module, "adds_inside", lambda _: inside)
    model, ids = make_small(torch.bfloat16), torch.arange(3, 60)[None]
    lora.fuse(model)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        lora.freeze(model, torch.bfloat16)
        assert torch.equal(model(input_ids=ids).logits, before)
