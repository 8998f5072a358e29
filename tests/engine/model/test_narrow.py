"""Weights kept as they are stored give the numbers of weights that are widened at the start, at half the memory."""

import copy
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from tests.engine.conftest import SHAPE, make_pairs, make_tokenizer, tiny_llama
from tests.engine.model.test_logps import ARCHITECTURES
from tests.variants import slow_but
from training.engine.adapters.loading import load_policy, load_sampled, save_adapter, trainable_parameters
from training.engine.config import TrainConfig
from training.engine.model import narrow
from training.engine.model.base import load_base
from training.engine.score import make_scorer

WIDE = torch.float32


@pytest.fixture(autouse=True)
def every_matrix_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_LARGE", 1000)
    monkeypatch.setattr(narrow, "_AT_ONCE", 4000)  # the head, of 320 x 32, in three parts


def save(
    folder: Path, config: transformers.PreTrainedConfig, dtype: torch.dtype, **how: object
) -> TrainConfig:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.1)
    model.to(dtype).save_pretrained(folder, **how)
    make_tokenizer().save_pretrained(folder)
    # PEFT warns of the experts that it finds no adapter for.
    lora = {"r": 4} | ({"target_modules": ["q_proj", "v_proj"]} if config.model_type == "mixtral" else {})
    return TrainConfig.from_dict({"base_model": str(folder), "dtype": "float32", "lora": lora})


def kept_narrow(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.dtype != WIDE}


def figures(config: TrainConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor], set[str]]:
    """Log-probabilities of some pairs, the adapter's gradients of their sum, and the weights that stay narrow."""
    loaded = load_policy(config)
    for name, weight in trainable_parameters(loaded.model).items():
        torch.manual_seed(len(name))
        nn.init.normal_(weight, std=0.1)
    pairs = make_pairs(4)
    scorer = make_scorer(loaded, config, pairs, lambda event: None)
    (row,) = scorer.rows(pairs, [range(4)])
    logps = torch.stack(scorer.pair_logps(row))
    (logps * torch.arange(8).view(2, 4).cos()).sum().backward()
    slopes = {name: weight.grad for name, weight in trainable_parameters(loaded.model).items()}
    return logps.detach(), slopes, kept_narrow(loaded.base)


@pytest.mark.parametrize("name", slow_but(ARCHITECTURES, "llama-tied", "gpt2", "mixtral"))
def test_every_architecture_computes_as_if_it_had_been_widened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = save(tmp_path, ARCHITECTURES[name], torch.bfloat16)
    logps, slopes, kept = figures(config)
    monkeypatch.setattr(narrow, "stored_dtype", lambda *_: None)
    expected, expected_slopes, none = figures(config)
    assert not none
    # GPT-2's layers and Gemma's embeddings are classes of their own, whose weights are widened at the start.
    assert kept or name.startswith(("gpt2", "gemma"))
    torch.testing.assert_close(logps, expected, rtol=1e-6, atol=1e-6)
    for weight, slope in expected_slopes.items():
        torch.testing.assert_close(slopes[weight], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shard", ["5GB", "40KB"], ids=["one file", "several files"])
def test_only_large_matrices_stay_in_half_precision(dtype: torch.dtype, shard: str, tmp_path: Path) -> None:
    config = save(tmp_path, tiny_llama(tie_word_embeddings=True), dtype, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "40KB")
    model = load_base(config).model
    kept = kept_narrow(model)
    # Key and value have 512 weights, norms 32.
    assert {name.split(".")[-2] for name in kept} == {
        *("embed_tokens", "q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert {dict(model.named_parameters())[name].dtype for name in kept} == {dtype}


def test_no_widened_copy_is_kept_for_the_backward_pass(tmp_path: Path) -> None:
    model = load_base(save(tmp_path, tiny_llama(), torch.bfloat16)).model
    x = torch.randn(5, 48, requires_grad=True)
    y = model.model.layers[0].mlp.down_proj(x)
    (kept,) = y.grad_fn.saved_tensors  # of a product that is alive
    assert kept.dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
def test_matrix_widened_in_parts_computes_as_the_whole(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, 300, bias=bias).requires_grad_(False)
    layer.weight.data = layer.weight.data.bfloat16()
    x, dy = torch.randn(2, 5, 32, requires_grad=True), torch.randn(2, 5, 300)
    y = narrow.NarrowProduct.apply(x, layer.weight, layer.bias)
    expected = nn.functional.linear(x, layer.weight.float(), layer.bias)
    torch.testing.assert_close(y, expected)
    slopes = [torch.autograd.grad(one, x, dy)[0] for one in (y, expected)]
    torch.testing.assert_close(*slopes)


def test_weights_of_several_precisions_are_widened_at_the_start(tmp_path: Path) -> None:
    config = save(tmp_path, tiny_llama(), torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    exact = torch.randn(32)
    model.model.norm.weight = nn.Parameter(exact)  # bfloat16 could not hold it
    model.save_pretrained(tmp_path)
    loaded = load_base(config).model
    assert not kept_narrow(loaded)
    torch.testing.assert_close(loaded.model.norm.weight.data, exact, rtol=0, atol=0)


def test_constants_that_half_precision_rounds_are_float32(tmp_path: Path) -> None:
    shape = SHAPE | {"hidden_size": 24, "head_dim": 8, "pad_token_id": 1}  # the root of 24 is no bfloat16
    config = save(tmp_path, transformers.Gemma3TextConfig(**shape), torch.bfloat16)
    scale = load_base(config).model.model.embed_tokens.embed_scale
    assert float(scale) == pytest.approx(24**0.5, rel=1e-6)


def test_a_model_that_an_adapter_is_merged_into_is_widened(tmp_path: Path) -> None:
    config = save(tmp_path, tiny_llama(), torch.bfloat16)
    assert not kept_narrow(load_sampled(config, None).model)


def test_start_adapter_is_float32_over_a_narrow_base(tmp_path: Path) -> None:
    config = save(tmp_path / "model", tiny_llama(), torch.bfloat16)
    first = load_policy(config).model
    for weight in trainable_parameters(first).values():
        nn.init.normal_(weight)
    save_adapter(first, tmp_path / "adapter")
    again = TrainConfig.from_dict(config.to_dict() | {"start_adapter": str(tmp_path / "adapter")})
    loaded = trainable_parameters(load_policy(again).model)
    for name, weight in trainable_parameters(first).items():
        assert torch.equal(loaded[name], weight)


def test_computing_in_the_stored_precision_changes_no_weight(tmp_path: Path) -> None:
    config = save(tmp_path, tiny_llama(), torch.bfloat16)
    half = TrainConfig.from_dict(config.to_dict() | {"dtype": "bfloat16"})
    model = load_base(half).model
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert "forward" not in vars(model.lm_head)
