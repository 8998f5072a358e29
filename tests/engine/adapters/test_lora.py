"""The fused LoRA layer computes what PEFT's own does, and leaves to PEFT what it does not cover."""

import dataclasses
from pathlib import Path

import peft
import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from tests.engine.conftest import read_metrics
from tests.engine.oracle import fresh
from training.engine.adapters import lora
from training.engine.adapters.loading import load_policy, load_scored, save_adapter
from training.engine.errors import ConfigError
from training.engine.train import train


class Layers(nn.Module):
    """Two linear layers, the first of which has no gradient to give to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 20, bias=True)
        self.second = nn.Linear(20, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


class ClampedMLP(LlamaMLP):
    """Another computation with the same layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)).clamp(max=0.1) * self.up_proj(x))


def make_adapted(dtype: torch.dtype = torch.float32, **settings: object) -> peft.PeftModel:
    torch.manual_seed(0)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["first", "second"]} | settings
    model = peft.get_peft_model(Layers().to(dtype).requires_grad_(False), peft.LoraConfig(**settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    return model


def run(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return outputs, and the gradients of their weighted sum by every trainable parameter."""
    model.zero_grad()
    y = model(x)
    (y.float() * torch.arange(y.numel()).view(y.shape).cos()).sum().backward()
    return y, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}


def is_fused(model: nn.Module, x: torch.Tensor) -> bool:
    last = model(x).grad_fn
    names = {type(one).__name__ for one in (last, last.next_functions[0][0])}
    return bool(names & {"LoraProductBackward", "DoraProductBackward"})


@pytest.mark.parametrize("rows", [2, 40], ids=["short row", "long row"])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids="".join)
def test_outputs_and_gradients_equal_those_of_peft(settings: dict, rows: int) -> None:
    model, x = make_adapted(**settings), torch.randn(rows, 5, 12)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "magnitude" in name:
                weight.mul_(1 + 0.1 * torch.rand_like(weight))
    expected, gradients = run(model, x)
    lora.fuse(model)
    assert is_fused(model, x)
    found, fused_gradients = run(model, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-7 * rows)
    assert fused_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-5, atol=2.5e-5 * rows)


def test_rank_stabilized_scale_is_alpha_by_the_root_of_r() -> None:
    model = make_adapted(use_rslora=True)  # r 4, alpha 6
    assert model.base_model.model.first.scaling["default"] == 3.0


def test_dora_scales_the_normed_weight_by_its_magnitudes() -> None:
    """W is the identity, B A adds (3, 4) - (1, 0) to its first row: norms 5 and 1, magnitudes 10 and 2."""
    layer = nn.Linear(2, 2, bias=False)
    settings = peft.LoraConfig(r=1, lora_alpha=2, target_modules=["0"], use_dora=True)
    nn.init.eye_(layer.weight)
    model = peft.get_peft_model(nn.Sequential(layer), settings)
    inside = model.base_model.model[0]
    inside.lora_A["default"].weight.data = torch.tensor([[1.0, 2.0]])  # times 2 times (1, 0)
    inside.lora_B["default"].weight.data = torch.tensor([[1.0], [0.0]])
    inside.lora_magnitude_vector["default"].weight.data = torch.tensor([10.0, 2.0])
    lora.fuse(model)
    found = model(torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.0 * (3 + 4), 2.0]]))


@pytest.mark.parametrize("kind", [LlamaMLP, ClampedMLP])
@pytest.mark.parametrize("long", [False, True], ids=["short row", "long row"])
def test_gated_block_equals_pefts_and_keeps_two_products(kind: type[LlamaMLP], long: bool) -> None:
    torch.manual_seed(0)
    shape = LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2)
    settings = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["gate_proj", "up_proj", "down_proj"])
    model = peft.get_peft_model(kind(shape).requires_grad_(False), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    x = torch.randn(64 if long else 3, 12, requires_grad=True)
    expected, gradients = run(model, x)
    slope, x.grad = x.grad, None
    lora.fuse(model)
    found, fused_gradients = run(model, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, slope, rtol=1e-4, atol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-4, atol=1e-4)
    recomputes = "GatedProductBackward" in str(model(x).grad_fn.next_functions)
    assert recomputes == (kind is LlamaMLP)


def test_bfloat16_gradients_are_float32_and_close_to_pefts() -> None:
    model, x = make_adapted(torch.bfloat16), torch.randn(3, 5, 12).bfloat16()
    _, gradients = run(model, x)
    lora.fuse(model)
    _, fused_gradients = run(model, x)
    for name, gradient in gradients.items():
        assert fused_gradients[name].dtype == torch.float32
        distance = (fused_gradients[name] - gradient).norm() / gradient.norm()
        assert distance < 2e-2  # bfloat16 keeps 8 bits: 0.4 % a product


def test_an_input_that_wants_a_gradient_gets_that_of_peft() -> None:
    model = make_adapted()
    x = torch.randn(4, 12, requires_grad=True)
    run(model, x)
    expected, x.grad = x.grad, None
    lora.fuse(model)
    run(model, x)
    torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-5)


def test_a_disabled_adapter_gives_the_base_model_and_comes_back() -> None:
    model, x = make_adapted(), torch.randn(3, 12)
    torch.manual_seed(0)
    base = Layers()(x)
    lora.fuse(model)
    adapted = model(x)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), base, rtol=0, atol=0)
    torch.testing.assert_close(model(x), adapted, rtol=0, atol=0)


def test_switching_adapters_switches_what_is_computed() -> None:
    model, x = make_adapted(), torch.randn(3, 12)
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["first", "second"]))
    first = model(x)
    model.set_adapter("other")  # B is zero: changes nothing
    other = model(x)
    lora.fuse(model)
    torch.testing.assert_close(model(x), other, rtol=1e-6, atol=1e-6)
    model.set_adapter("default")
    torch.testing.assert_close(model(x), first, rtol=1e-5, atol=1e-6)


def test_dropout_drops_what_the_adapter_sees_and_nothing_else() -> None:
    model, x = make_adapted(lora_dropout=0.5), torch.randn(3, 12, requires_grad=True)
    layer, dy = model.base_model.model.first, torch.randn(3, 20)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    lora.fuse(model)
    model.train()
    torch.manual_seed(1)
    found = layer(x)
    torch.manual_seed(1)
    expected = layer.base_layer(x) + nn.functional.dropout(x, 0.5) @ a.t() @ b.t() * layer.scaling["default"]
    torch.testing.assert_close(found, expected)
    slopes = (torch.autograd.grad(y, (x, a, b), dy) for y in (found, expected))
    for ours, autograds in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, autograds)
    torch.manual_seed(2)
    assert not torch.equal(layer(x), found)
    model.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [3, 64], ids=["short row", "long row"])
def test_a_fresh_adapter_gives_the_numbers_of_none_to_the_bit(dtype: torch.dtype, rows: int) -> None:
    model, x = make_adapted(dtype), torch.randn(rows, 12).to(dtype)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.zeros_(weight)
    lora.fuse(model)
    with model.disable_adapter():
        base = model(x)
    assert torch.equal(model(x), base)


def test_dora_with_dropout_is_left_to_peft() -> None:
    model, x = make_adapted(use_dora=True, lora_dropout=0.5), torch.randn(3, 12)
    torch.manual_seed(1)
    expected = model(x)
    lora.fuse(model)
    torch.manual_seed(1)
    assert not is_fused(model, x)
    torch.manual_seed(1)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_a_fresh_adapter_of_each_kind_is_saved_for_peft(kind: str, make_run) -> None:
    """Trained from zero margins, and trained on; plain PEFT computes the same, to its scale and magnitudes."""
    run_directory = make_run(lora={"r": 4, "alpha": 8, kind: True}, batch_size=8, weight_decay=0.1)
    train(run_directory)
    assert read_metrics(run_directory)[0]["rewards/margins"] == 0
    config = run_directory.read_config()
    ours = load_scored(config, run_directory.adapter, beside_start=False).model
    theirs = fresh(Path(config.base_model), run_directory.adapter)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)
    layer = next(one for one in ours.modules() if isinstance(one, peft.tuners.lora.Linear))
    assert layer.scaling["default"] == (8 / 2 if kind == "rslora" else 8 / 4)
    assert bool(layer.lora_magnitude_vector) == (kind == "dora")
    again = dataclasses.replace(config, start_adapter=str(run_directory.adapter))
    assert load_policy(again).model.peft_config["default"].use_dora == (kind == "dora")
    other = dataclasses.replace(again.lora, rslora=True, dora=True)
    with pytest.raises(ConfigError, match="is set, but start_adapter was trained without"):
        load_policy(dataclasses.replace(again, lora=other))


def test_merging_a_fused_adapter_gives_its_outputs() -> None:
    model, x = make_adapted(), torch.randn(3, 12)
    lora.fuse(model)
    adapted = model(x)
    torch.testing.assert_close(model.merge_and_unload()(x), adapted, rtol=1e-5, atol=1e-5)


def test_policies_and_scored_models_are_loaded_fused(make_run) -> None:
    run_directory = make_run()
    loaded = load_policy(run_directory.read_config())
    save_adapter(loaded.model, run_directory.adapter)
    scored = load_scored(run_directory.read_config(), run_directory.adapter, beside_start=True)
    for model in (loaded.model, scored.model):
        layers = [layer for layer in model.modules() if isinstance(layer, peft.tuners.lora.Linear)]
        assert layers
        assert all("forward" in vars(layer) for layer in layers)
