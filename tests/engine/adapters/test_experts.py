"""Mixtures of experts: which of their layers are adapted, and that plain PEFT loads what was trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from tests.engine.conftest import SHAPE, make_model, make_pairs, tiny_llama
from tests.engine.oracle import check_run, fresh, logp, make_run, save_model
from tests.variants import slow_but
from training.engine.adapters.loading import load_policy, save_adapter, trainable_parameters, wrap
from training.engine.adapters.targets import find_targets
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, StaleCheckpointError
from training.engine.optimize.state import State
from training.engine.score import make_scorer, score_pairs

_SHAPE = SHAPE | {"pad_token_id": 1, "head_dim": 8}
_ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DENSE_FIRST = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_SHARED = {"num_experts": 4, "shared_expert_intermediate_size": 16}
_KINDS = {"mlp_layer_types": ["dense", "sparse"], "layer_types": ["full_attention"] * 2}

MIXTURES: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "Mixtral": lambda: transformers.MixtralConfig(**_SHAPE, num_local_experts=4),
    "Qwen2-MoE": lambda: transformers.Qwen2MoeConfig(**_SHAPE, **_ROUTED, **_SHARED),
    "Qwen3-MoE": lambda: transformers.Qwen3MoeConfig(**_SHAPE, **_ROUTED, num_experts=4),
    "OLMoE": lambda: transformers.OlmoeConfig(**_SHAPE, num_experts=4, num_experts_per_tok=2),
    "DeepSeek-V3": lambda: transformers.DeepseekV3Config(
        **(_SHAPE | _ROUTED | _DENSE_FIRST | _LATENT | {"num_key_value_heads": 4})
    ),
    "GLM-4-MoE": lambda: transformers.Glm4MoeConfig(**_SHAPE, **_ROUTED, **_DENSE_FIRST),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **_SHAPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=8
    ),
    "Llama 4": lambda: transformers.Llama4TextConfig(
        **_SHAPE, intermediate_size_mlp=48, num_local_experts=2, num_experts_per_tok=1, moe_layers=[1]
    ),
    "Phi-3.5-MoE": lambda: transformers.PhimoeConfig(**_SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "Laguna": lambda: transformers.LagunaConfig(
        **_SHAPE, **_ROUTED, **_SHARED, **_KINDS, num_attention_heads_per_layer=[4, 4]
    ),
}
SHARING = {"Qwen2-MoE", "DeepSeek-V3", "GLM-4-MoE", "Llama 4"}
DENSE_FIRST = {"DeepSeek-V3", "GLM-4-MoE", "Llama 4"}


def settings(model: object = "m", **lora: object) -> TrainConfig:
    return TrainConfig.from_dict(
        {"base_model": str(model), "dtype": "float32", "lora": {"r": 2, "alpha": 4} | lora}
    )


def adapted(name: str, **lora: object) -> dict[str, int]:
    """Return the rank of each adapted layer, or of each expert of one, by its name from its decoder layer on."""
    model = wrap(make_model(MIXTURES[name]()), settings(**lora))
    return {
        key.split(".lora_A")[0].split(".layers.")[1]: len(weight)
        for key, weight in model.named_parameters()
        if ".lora_A" in key
    }


@pytest.mark.parametrize("name", MIXTURES)
def test_routers_are_not_adapted(name: str) -> None:
    layers = adapted(name)
    assert layers
    assert not [one for one in layers if "router" in one or one.endswith((".gate", "shared_expert_gate"))]
    assert not [one for one in layers if ".experts" in one]
    assert set(layers.values()) == {2}  # the rank that was asked for


@pytest.mark.parametrize("name", SHARING)
def test_shared_experts_are_adapted_unless_none_are_to_be(name: str) -> None:
    assert [one for one in adapted(name) if "shared" in one]
    assert not [one for one in adapted(name, experts="none") if "shared" in one]


@pytest.mark.parametrize("name", DENSE_FIRST)
def test_dense_layers_of_a_mixture_are_adapted(name: str) -> None:
    for experts in ("none", "shared"):
        dense = [one for one in adapted(name, experts=experts) if one.startswith("0.") and "down_proj" in one]
        assert len(dense) == 1


@pytest.mark.parametrize("name", MIXTURES)
def test_all_experts_get_the_rank_that_is_asked_for_each(name: str) -> None:
    layers = adapted(name, experts="all")
    routed = [rank for one, rank in layers.items() if ".experts" in one]
    assert set(routed) == {2 * (2 if name == "Llama 4" else 4)}  # experts lie one behind the other


SHARED = [("Qwen2-MoE", "shared"), ("GLM-4-MoE", "shared")]
ADAPTED = [*((name, "all") for name in MIXTURES if name != "Laguna"), *SHARED]


@pytest.mark.parametrize(
    ("name", "experts"), slow_but(ADAPTED, ("Mixtral", "all"), ("Llama 4", "all"), ("GLM-4-MoE", "shared"))
)
def test_plain_peft_loads_an_adapter_of_a_mixture(name: str, experts: str, tmp_path: Path) -> None:
    model, pairs = save_model(tmp_path / "model", MIXTURES[name]()), make_pairs(2)
    config = settings(model, experts=experts)
    loaded = load_policy(config)
    for weight in trainable_parameters(loaded.model).values():
        torch.nn.init.normal_(weight, std=0.1)
    found = score_pairs(make_scorer(loaded, config, pairs, lambda event: None), pairs)
    save_adapter(loaded.model, tmp_path / "adapter")
    policy = fresh(model, tmp_path / "adapter")
    expected = [[logp(policy, pair.prompt, one) for one in (pair.chosen, pair.rejected)] for pair in pairs]
    torch.testing.assert_close(found.float(), torch.tensor(expected), atol=1e-4, rtol=1e-5)


def test_a_mixture_goes_through_two_rounds(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", MIXTURES["DeepSeek-V3"]())
    first = make_run(tmp_path / "first", model, lora={"r": 2, "alpha": 8, "experts": "all"})
    check_run(first)
    shape = json.loads((first.adapter / "adapter_config.json").read_text())
    # As a round of the application asks for: the rank and the names that the adapter has.
    same = {"r": 2, "alpha": 8, "target_modules": shape["target_modules"]}
    check_run(make_run(tmp_path / "second", model, start_adapter=str(first.adapter), lora=same))


def test_an_adapter_that_cannot_be_loaded_again_is_refused(tmp_path: Path) -> None:
    """PEFT renames Laguna's shared experts when it loads them, and finds no place for them then."""
    model = save_model(tmp_path, MIXTURES["Laguna"]())
    with pytest.raises(
        ConfigError, match=r"could not load .* into LagunaForCausalLM again \(model\.layers\.1\.mlp"
    ):
        load_policy(settings(model))
    load_policy(settings(model, experts="none"))


def test_dropout_of_routed_experts_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^lora\.dropout cannot be applied to routed experts"):
        wrap(make_model(MIXTURES["Mixtral"]()), settings(experts="all", dropout=0.1))


def test_dropout_reaches_every_linear_layer_of_a_mixture(tmp_path: Path) -> None:
    model = save_model(tmp_path, MIXTURES["DeepSeek-V3"]())
    loaded, ids = load_policy(settings(model, dropout=0.5)), torch.arange(3, 40)[None]
    layers = [
        module for name, module in loaded.model.named_modules() if name.endswith("_proj") and "mlp" in name
    ]
    assert len(layers) == 6  # dense and shared
    x = torch.randn(5, 32)
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        inputs = x if layer.in_features == 32 else torch.randn(5, layer.in_features)
        layer.train()
        assert not torch.equal(layer(inputs), layer(inputs))
        layer.eval()
        assert torch.equal(layer(inputs), layer(inputs))
    save_adapter(loaded.model.eval(), tmp_path / "adapter")
    expected = fresh(tmp_path, tmp_path / "adapter")(input_ids=ids).logits
    torch.testing.assert_close(loaded.model(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("target", ["router", r".*router", "feed_forward.router"])
def test_a_router_that_returns_more_than_a_product_is_refused(target: str) -> None:
    lora = {"target_modules": target if "*" in target else [target]}
    with pytest.raises(ConfigError, match=r"feed_forward\.router is a router"):
        wrap(make_model(MIXTURES["Llama 4"]()), settings(**lora))


def test_named_layers_choose_experts_themselves() -> None:
    assert set(adapted("Mixtral", target_modules=["q_proj", "experts.down_proj"])) == {
        *("0.self_attn.q_proj", "1.self_attn.q_proj", "0.mlp.experts", "1.mlp.experts")
    }
    with pytest.raises(ConfigError, match=r"^lora\.experts has no effect with lora\.target_modules"):
        settings(target_modules=["q_proj"], experts="all")


def test_a_name_that_fits_nothing_is_refused() -> None:
    lora = {"target_modules": ["q_proj", "w1"]}
    with pytest.raises(ConfigError, match=r"^lora\.target_modules: w1 fits no layer"):
        wrap(make_model(MIXTURES["Mixtral"]()), settings(**lora))
    lora = {"target_modules": ["mlp"]}
    with pytest.raises(ConfigError, match=r"mlp is not a linear layer"):
        wrap(make_model(tiny_llama()), settings(**lora))


def test_a_quantized_mixture_leaves_out_what_peft_cannot_adapt() -> None:
    """Layers that PEFT must be told of by their weight, which is packed there."""
    model = make_model(MIXTURES["DeepSeek-V3"]())
    model.is_quantized = True
    assert not [name for name in find_targets(model, settings().lora).modules if "mlp" in name]
    with pytest.raises(ConfigError, match=r"down_proj cannot be adapted in a quantized mixture"):
        find_targets(model, settings(target_modules=["down_proj"]).lora)


def test_checkpoints_of_an_adapter_of_other_layers_are_refused(tmp_path: Path) -> None:
    """As a run of an earlier version left them, which adapted routed experts by default."""
    config = settings(save_model(tmp_path, MIXTURES["Mixtral"]()))
    states = []
    for experts in ("all", "shared"):
        loaded = load_policy(settings(tmp_path, experts=experts))
        states.append(State.initial(config, loaded.model))
    with pytest.raises(StaleCheckpointError, match="an adapter of other layers"):
        states[1].load(states[0].tensors())


def test_layers_that_kernels_multiply_by_are_left_out() -> None:
    config = transformers.MambaConfig(vocab_size=320, hidden_size=32, state_size=4, num_hidden_layers=1)
    names = {name.rsplit(".", 1)[-1] for name in find_targets(make_model(config), settings().lora).modules}
    assert names == {"in_proj", "x_proj", "dt_proj"}
    with pytest.raises(ConfigError, match=r"^lora\.target_modules cannot be adapted: .*out_proj"):
        wrap(make_model(config), settings(target_modules=["out_proj"]))


def test_a_dense_model_is_adapted_alike_under_every_choice() -> None:
    names = [
        sorted(name for name, _ in wrap(make_model(tiny_llama()), settings(experts=one)).named_parameters())
        for one in ("none", "shared", "all")
    ]
    assert names[0] == names[1] == names[2]
