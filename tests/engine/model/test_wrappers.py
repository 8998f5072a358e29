"""Models that also see are trained through their text part, and their adapters fit the class that is in their files."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import safetensors.torch
import torch
import transformers
from safetensors import safe_open

from tests.engine.conftest import SHAPE, make_model, make_pairs
from tests.engine.oracle import check_run, fresh, logp, make_run, save_model
from tests.variants import slow_but
from training.engine.adapters.loading import (
    as_reference,
    has_adapter,
    load_policy,
    load_sampled,
    load_scored,
    save_adapter,
    trainable_parameters,
)
from training.engine.config import TrainConfig
from training.engine.errors import ModelError
from training.engine.model.base import load_base
from training.engine.model.forwards import AttentionChoice
from training.engine.model.wrappers import copy_head_input, head_of, model_class
from training.engine.sampling.reading import WAYS, Reader
from training.engine.score import make_scorer, score_pairs

TEXT = SHAPE | {"head_dim": 8, "pad_token_id": 1}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
SIGHT = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "depth": 1, "patch_size": 4}
SIGHT |= {"spatial_merge_size": 1, "temporal_patch_size": 1, "out_hidden_size": 32}
DEEP_SIGHT = SIGHT | {"num_position_embeddings": 4, "deepstack_visual_indexes": [0]}
SMALL_SIGHT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL_SIGHT |= {"image_size": 8, "patch_size": 4}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
LINEAR |= {"layer_types": ["linear_attention", "full_attention"]}
LINEAR |= {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
EXPERTS |= {"shared_expert_intermediate_size": 16}
FEW_EXPERTS = {
    "intermediate_size_mlp": 48,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "moe_layers": [1],
}
CROSSED = {"num_hidden_layers": 3, "cross_attention_layers": [1]}
TILES = {
    "num_global_layers": 1,
    "attention_heads": 2,
    "vision_output_dim": 32,
    "intermediate_layers_indices": [0],
}
TILES |= {"supported_aspect_ratios": [[1, 1]], "max_num_tiles": 1}
LLAMA_SIGHT = {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}

# By the type of their text and vision configurations, as the library nests them.
WRAPPERS: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "Qwen3.5": lambda: transformers.Qwen3_5Config(text_config=TEXT | LINEAR, vision_config=DEEP_SIGHT),
    "Qwen3.5-MoE": lambda: transformers.Qwen3_5MoeConfig(
        text_config=TEXT | LINEAR | EXPERTS, vision_config=DEEP_SIGHT
    ),
    "Qwen2.5-VL": lambda: transformers.Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": ROPE}, vision_config=SIGHT
    ),
    "Qwen3-VL": lambda: transformers.Qwen3VLConfig(
        text_config=TEXT | {"rope_parameters": ROPE}, vision_config=DEEP_SIGHT
    ),
    "Mistral 3": lambda: transformers.Mistral3Config(
        text_config=TEXT | {"model_type": "mistral"},
        vision_config=SMALL_SIGHT | {"model_type": "pixtral", "head_dim": 8},
        spatial_merge_size=1,
    ),
    "Gemma 3": lambda: transformers.Gemma3Config(
        text_config=TEXT | {"query_pre_attn_scalar": 8, "sliding_window": 8},
        vision_config=SMALL_SIGHT,
        mm_tokens_per_image=4,
    ),
    "Llama 4": lambda: transformers.Llama4Config(
        text_config=TEXT | FEW_EXPERTS, vision_config=SMALL_SIGHT | LLAMA_SIGHT
    ),
    "Mllama": lambda: transformers.MllamaConfig(
        text_config=TEXT | CROSSED, vision_config=SMALL_SIGHT | TILES
    ),
}


def save(folder: Path, name: str) -> Path:
    return save_model(folder, WRAPPERS[name](), transformers.AutoModelForMultimodalLM)


def settings(model: Path, **changes: object) -> TrainConfig:
    return TrainConfig.from_dict({"base_model": str(model), "dtype": "float32", "lora": {"r": 2}} | changes)


def train_a_little(model: peft.PeftModel) -> None:
    """Give the adapter other weights, those that a fresh one begins with zeros among them."""
    torch.manual_seed(1)
    for weight in trainable_parameters(model).values():
        torch.nn.init.normal_(weight, std=0.1)


class Trained:
    """A wrapper with an adapter that has random weights, and some pairs to score."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.pairs = folder, make_pairs(3)
        self.config = settings(save(folder / "model", name))
        self.loaded = load_policy(self.config)
        train_a_little(self.loaded.model)
        self.scorer = make_scorer(self.loaded, self.config, self.pairs, lambda event: None)


@pytest.fixture(scope="module", params=slow_but(WRAPPERS, "Qwen3.5-MoE", "Gemma 3"))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("wrapper"), request.param)


def test_adapters_fit_the_class_in_the_files(trained: Trained) -> None:
    adapter = trained.folder / "adapter"
    save_adapter(trained.loaded.model, adapter)
    policy = fresh(trained.folder / "model", adapter)
    expected = [
        [logp(policy, pair.prompt, one) for one in (pair.chosen, pair.rejected)] for pair in trained.pairs
    ]
    found = score_pairs(trained.scorer, trained.pairs)
    torch.testing.assert_close(found.float(), torch.tensor(expected), atol=1e-4, rtol=1e-5)


def test_no_layer_without_part_in_text_is_adapted(trained: Trained) -> None:
    (row,) = trained.scorer.rows(trained.pairs, [[0]])
    sum(trained.scorer.pair_logps(row)).sum().backward()
    weights = trainable_parameters(trained.loaded.model)
    assert not {name for name, weight in weights.items() if weight.grad is None}


def test_a_wrapper_goes_through_two_rounds(tmp_path: Path) -> None:
    model = save(tmp_path / "model", "Llama 4")
    first = make_run(tmp_path / "first", model)
    check_run(first)
    check_run(make_run(tmp_path / "second", model, start_adapter=str(first.adapter)))


def test_layers_without_a_cache_of_their_own_are_written(tmp_path: Path) -> None:
    """Mllama's cross-attention sees pictures alone: without one it is passed over, and so is its cache."""
    check_run(make_run(tmp_path / "run", save(tmp_path / "model", "Mllama")))


def test_a_long_list_of_layers_is_not_written(tmp_path: Path) -> None:
    """Every layer of Gemma 3's text is adapted, though the names of the vision tower end alike."""
    save_adapter(load_policy(settings(save(tmp_path / "model", "Gemma 3"))).model, tmp_path / "adapter")
    shape = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert shape["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_bfloat16_samples_of_a_wrapper_are_unmerged(tmp_path: Path) -> None:
    config = settings(save(tmp_path / "model", "Gemma 3"), dtype="bfloat16")
    loaded = load_policy(config)
    save_adapter(loaded.model, tmp_path / "adapter")
    assert has_adapter(load_sampled(config, tmp_path / "adapter").model)


@pytest.mark.parametrize("name", slow_but(["Qwen3.5", "Gemma 3", "Llama 4"], "Gemma 3"))
def test_an_adapter_of_the_text_model_alone_is_mapped(name: str, tmp_path: Path) -> None:
    """As earlier versions wrote them: by the names of the text model, which the wrapper does not have."""
    config = settings(save(tmp_path / "model", name))
    loaded, pairs = load_policy(config), make_pairs(2)
    train_a_little(loaded.model)
    save_adapter(loaded.model, tmp_path / "adapter")
    before = score_pairs(make_scorer(loaded, config, pairs, lambda event: None), pairs)

    file = tmp_path / "adapter" / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as weights:
        tensors = {
            key.replace("language_model.model.", "model.").replace("language_model.", ""): weights.get_tensor(
                key
            )
            for key in weights.keys()  # noqa: SIM118 - not a dict
        }
    safetensors.torch.save_file(tensors, file)
    described = tmp_path / "adapter" / "adapter_config.json"
    shape = json.loads(described.read_text())
    names = {target.rsplit(".", 1)[-1] for target in shape["target_modules"]}
    described.write_text(json.dumps(shape | {"target_modules": sorted(names), "exclude_modules": None}))

    config = settings(tmp_path / "model", start_adapter=str(tmp_path / "adapter"))
    again = load_scored(config, tmp_path / "adapter", beside_start=True)
    scorer = make_scorer(again, config, pairs, lambda event: None)
    torch.testing.assert_close(score_pairs(scorer, pairs), before, atol=1e-6, rtol=0)
    with as_reference(again.model):
        torch.testing.assert_close(score_pairs(scorer, pairs), before, atol=1e-6, rtol=0)


def test_encoder_decoder_models_are_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=320, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    save_model(tmp_path, config, transformers.AutoModelForSeq2SeqLM)
    with pytest.raises(ModelError, match="encode one text and write another"):
        load_base(settings(tmp_path))


def test_attention_of_a_part_is_named_as_every_version_takes_it() -> None:
    """Transformers 5.17 takes a dictionary for the whole model alone."""
    config = transformers.LlavaConfig(attn_implementation="sdpa")
    parts = AttentionChoice(SimpleNamespace(config=config)).own
    assert parts == {"": "sdpa", "text_config": "sdpa", "vision_config": "sdpa"}


def test_capped_scores_are_computed_by_the_models_own_attention(tmp_path: Path) -> None:
    """PyTorch's attention has no cap, and transformers 5.17 uses it all the same."""
    capped = transformers.Gemma2Config(**TEXT, attn_logit_softcapping=4.0)
    model = load_base(TrainConfig.from_dict({"base_model": str(save_model(tmp_path, capped))})).model
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", ["text", "seeing"])
def test_the_head_gets_no_slices_of_hidden_states(kind: str, tmp_path: Path) -> None:
    """PyTorch would multiply its matrix once a prompt, and copy it for each in half precision on a CPU."""
    config = WRAPPERS["Gemma 3"]() if kind == "seeing" else transformers.Qwen2Config(**SHAPE)
    base = load_base(
        settings(save_model(tmp_path, config, None if kind == "text" else model_class(config)))
    ).model
    given: list[torch.Tensor] = []
    product = torch.nn.functional.linear
    head = head_of(base)

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if weight is head.weight:
            given.append(x)
        return product(x, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", linear)
        Reader(base, torch.device("cpu")).read(base, [(3, 4, 5), (6, 7)], WAYS[1], 4)
    assert [one.shape[:-1] for one in given] == [(2, 1)]
    assert all(one.is_contiguous() for one in given)


def test_the_head_may_be_given_its_input_by_name() -> None:
    base = make_model(transformers.Qwen2Config(**SHAPE))
    copy_head_input(base)
    hidden = torch.randn(2, 1, 32)
    torch.testing.assert_close(base.lm_head(input=hidden), base.lm_head(hidden), rtol=0, atol=0)
