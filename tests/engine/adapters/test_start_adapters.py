"""Adapters that others made: each of their options is honoured exactly, or refused in a sentence that names it."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from tests.engine.conftest import make_model, make_pairs, make_task, take_step, tiny_llama
from tests.engine.oracle import assert_close, check_run, encode, fresh, logp, make_run, save_model
from tests.variants import slow_but
from training.engine.adapters import foreign
from training.engine.adapters.foreign import AdapterFiles
from training.engine.adapters.loading import load_policy, load_sampled, load_scored, save_adapter, wrap
from training.engine.adapters.settings import USUAL, find_unhonoured
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, ModelError
from training.engine.model.base import model_files
from training.engine.optimize.state import State
from training.engine.score import make_scorer, score, score_pairs


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a model with an embedding and a head, and one that has one matrix for both."""
    folder = tmp_path_factory.mktemp("models")
    return {
        name: save_model(folder / name, tiny_llama(tie_word_embeddings=name == "tied", attention_bias=True))
        for name in ("untied", "tied")
    }


def save_foreign(model: Path, folder: Path, *, rows: bool = False, grown: int = 0, **settings: Any) -> Path:
    """Return an adapter by plain PEFT, all of its weights random; with `rows`, other embeddings beside it."""
    torch.manual_seed(3)
    base = fresh(model)
    if grown:
        base.resize_token_embeddings(320 + grown)
    usual = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    policy = peft.get_peft_model(base, peft.LoraConfig(**(usual | settings)))
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
        if rows:
            base.get_input_embeddings().weight[3:] += 0.05 * torch.randn(317, 32)
    policy.save_pretrained(folder, save_embedding_layers=bool(rows or grown))
    return folder


def change_settings(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


HONOURED: dict[str, dict[str, Any]] = {
    "rank-stabilized": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "bias of the adapter": {"lora_bias": True},
    "ranks of its own": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
    "regular expression": {"target_modules": r".*layers\.1\..*(q|up)_proj"},
    "some layers": {"layers_to_transform": [1]},
    "all but some": {"exclude_modules": r".*layers\.0\..*"},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "some tokens": {"trainable_token_indices": [5, 20, 40]},
    "whole embeddings": {"rows": True},
    "weights by name": {"target_parameters": ["up_proj.weight"]},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bias": ({"bias": "all"}, "sets bias, which"),
    "bias of adapted layers": ({"bias": "lora_only"}, "sets bias, which"),
    "trained modules": ({"modules_to_save": ["lm_head"]}, "sets modules_to_save, which"),
    "head": ({"target_modules": ["q_proj", "lm_head"]}, "changes the vocabulary head by target_modules"),
    "other base": ({"init_lora_weights": "pissa"}, "begins with init_lora_weights 'pissa', which changes"),
    "larger vocabulary": ({"grown": 5}, r"lm_head\.weight is 325 x 32, the model's 320 x 32\.$"),
}
ON_TIED = ("embeddings", "whole embeddings")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of tied and of saved embeddings


@pytest.mark.parametrize(
    "option", slow_but(HONOURED, "rank-stabilized", "DoRA", "ranks of its own", "whole embeddings")
)
def test_an_option_is_computed_as_peft_does(option: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Scored, sampled from, and trained on from the same numbers; a state that was left is come back to."""
    for kind in ("untied", "tied") if option in ON_TIED else ("untied",):
        folder, pairs = tmp_path / kind, make_pairs(3)
        start = save_foreign(models[kind], folder / "start", **HONOURED[option])
        config = make_run(folder / "run", models[kind], start_adapter=str(start)).read_config()
        policy, base = fresh(models[kind], start), fresh(models[kind])
        true, plain = (
            torch.tensor(
                [[logp(one, pair.prompt, text) for text in (pair.chosen, pair.rejected)] for pair in pairs]
            )
            for one in (policy, base)
        )
        assert not torch.allclose(true, plain, atol=0.01)
        trained, scored = load_policy(config), load_scored(config, start, beside_start=True)
        scorer, other = (make_scorer(one, config, pairs, lambda event: None) for one in (trained, scored))
        for one in (scorer, other):
            torch.testing.assert_close(score_pairs(one, pairs).float(), true, atol=1e-4, rtol=1e-5)
        sampled = load_sampled(config, start).model
        for pair, (chosen, _) in zip(pairs, true.tolist(), strict=True):
            assert_close([logp(sampled, pair.prompt, pair.chosen)], [chosen])

        task = make_task(config, scorer, pairs, reference=score_pairs(scorer, pairs))
        state = State.initial(config, trained.model)
        assert take_step(task, state)["rewards/margins"] == pytest.approx(0, abs=1e-6)
        resumed = load_policy(config)
        again = make_scorer(resumed, config, pairs, lambda event: None)
        State.initial(config, resumed.model).load(state.tensors())
        after = [score_pairs(one, pairs) for one in (scorer, again)]
        torch.testing.assert_close(*after, atol=0, rtol=0)
        save_adapter(resumed.model, folder / "trained")
        policy = fresh(models[kind], folder / "trained")
        true = [[logp(policy, pair.prompt, text) for text in (pair.chosen, pair.rejected)] for pair in pairs]
        torch.testing.assert_close(after[0].float(), torch.tensor(true), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_cannot_be_honoured_is_named(
    option: str, models: dict[str, Path], tmp_path: Path
) -> None:
    settings, message = REFUSED[option]
    start = save_foreign(models["untied"], tmp_path / "start", **settings)
    config = make_run(tmp_path / "run", models["untied"], start_adapter=str(start)).read_config()
    for load in (load_policy, lambda config: load_sampled(config, start)):
        with pytest.raises(ModelError, match=message):
            load(config)


def test_tokens_of_tied_embeddings_are_refused_by_name(models: dict[str, Path], tmp_path: Path) -> None:
    start = save_foreign(models["tied"], tmp_path / "start", trainable_token_indices=[5])
    with pytest.raises(ModelError, match="changes the vocabulary head by trainable_token_indices"):
        load_policy(make_run(tmp_path / "run", models["tied"], start_adapter=str(start)).read_config())


def test_an_option_of_a_later_peft_is_refused_by_name(models: dict[str, Path], tmp_path: Path) -> None:
    start = save_foreign(models["untied"], tmp_path / "start")
    change_settings(start, use_novelty=True)
    with pytest.raises(ModelError, match="sets use_novelty, which"):
        load_policy(make_run(tmp_path / "run", models["untied"], start_adapter=str(start)).read_config())


def test_the_usual_values_of_other_options_are_those_of_peft() -> None:
    """A value that PEFT writes by itself asks for nothing."""
    written = json.loads(json.dumps(peft.LoraConfig(target_modules=["q_proj"]).to_dict(), default=list))
    assert find_unhonoured(written) is None
    assert {name: value for name, value in written.items() if name in USUAL} == USUAL


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_every_weight_of_an_adapter_has_its_place(
    change: str, models: dict[str, Path], tmp_path: Path
) -> None:
    start = save_foreign(models["untied"], tmp_path / "start")
    file = start / "adapter_model.safetensors"
    weights = safetensors.torch.load(file.read_bytes())
    name = min(weights)
    if change == "missing":
        del weights[name]
    else:
        weights[name.replace("layers.0", "layers.7")] = weights[name].clone()
    safetensors.torch.save_file(weights, file)
    message = "some of its weights are missing" if change == "missing" else r"has no place for .*layers\.7\."
    with pytest.raises(ModelError, match=message):
        load_policy(make_run(tmp_path / "run", models["untied"], start_adapter=str(start)).read_config())


def test_whole_embeddings_go_through_two_rounds(models: dict[str, Path], tmp_path: Path) -> None:
    """`done.json` says of the policy what is on the disk; before training, the base is the reference."""
    start = save_foreign(models["tied"], tmp_path / "start", rows=True)
    first = make_run(tmp_path / "first", models["tied"], start_adapter=str(start))
    score(first, first.heldout)
    policy, base = fresh(models["tied"], start), fresh(models["tied"])
    lines = [json.loads(line) for line in first.scores.read_text().splitlines()]
    for pair, line in zip(encode(first), lines, strict=True):
        for one, whose in ((policy, "policy"), (base, "reference")):
            assert_close([line[f"{whose}_chosen_logp"]], [logp(one, pair.prompt, pair.chosen)])
    check_run(first)
    check_run(make_run(tmp_path / "second", models["tied"], start_adapter=str(first.adapter)))


def test_whole_embeddings_stay_float32_over_a_narrow_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.engine.model import narrow

    monkeypatch.setattr(narrow, "_LARGE", 1000)
    model = save_model(tmp_path / "wide", tiny_llama())
    narrow = fresh(model).bfloat16()
    narrow.save_pretrained(tmp_path / "narrow")
    for file in model.glob("*token*"):
        (tmp_path / "narrow" / file.name).write_bytes(file.read_bytes())
    start = save_foreign(tmp_path / "narrow", tmp_path / "start", rows=True)
    config = make_run(tmp_path / "run", tmp_path / "narrow", start_adapter=str(start)).read_config()
    loaded, pairs = load_policy(config), make_pairs(2)
    policy = fresh(tmp_path / "narrow", start)
    found = score_pairs(make_scorer(loaded, config, pairs, lambda event: None), pairs)
    true = [[logp(policy, pair.prompt, text) for text in (pair.chosen, pair.rejected)] for pair in pairs]
    torch.testing.assert_close(found.float(), torch.tensor(true), atol=1e-5, rtol=1e-6)


def test_embeddings_are_adapted_when_they_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    lora = {"r": 2, "alpha": 8, "target_modules": ["q_proj", "embed_tokens"]}
    check_run(make_run(tmp_path, models["tied"], lora=lora))


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        (["q_proj", "v_proj"], True),
        (r".*self_attn\.[qv]_proj", True),
        ("all-linear", True),
        (["q_proj"], False),
        (r".*q_proj", False),
    ],
)
def test_named_layers_are_compared_with_the_start_adapters(
    asked: object, fits: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    for kind, targets in (("list", ["q_proj", "v_proj"]), ("pattern", r".*self_attn\.(q|v)_proj")):
        start = save_foreign(models["untied"], tmp_path / kind, target_modules=targets)
        lora = {"r": 2, "alpha": 8, "target_modules": asked}
        config = make_run(
            tmp_path / "run", models["untied"], start_adapter=str(start), lora=lora
        ).read_config()
        if fits:
            load_policy(config)
            continue
        shown = "q_proj, v_proj" if kind == "list" else r"\.\*self_attn"
        with pytest.raises(ConfigError, match=rf"^lora\.target_modules differ .*, which are {shown}"):
            load_policy(config)


def test_the_head_is_refused_by_name_and_by_pattern() -> None:
    for target in (["lm_head"], r".*"):
        config = TrainConfig.from_dict({"base_model": "m", "lora": {"target_modules": target}})
        with pytest.raises(ConfigError, match="must not include the vocabulary head"):
            wrap(make_model(tiny_llama()), config)


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (DEEP, "is not JSON .*nested too deeply"),
        ("[1]", "is not JSON .*it is not an object"),
        ('"LORA"', "is not JSON .*it is not an object"),
    ],
    ids=["deep", "list", "text"],
)
def test_settings_that_are_no_object_are_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=f"^Adapter .* cannot be loaded: adapter_config.json {sentence}"):
        AdapterFiles(str(tmp_path))


def test_folder_in_place_of_settings_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").mkdir()
    config = TrainConfig.from_dict({"base_model": str(models["tied"]), "start_adapter": str(tmp_path)})
    model_files(config)
    with pytest.raises(ModelError, match=r"has no adapter_config\.json"):
        AdapterFiles(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 2.5),
        ("r", 10**300),
        ("r", True),
        ("lora_alpha", "8"),
        ("lora_alpha", 10**400),
        ("lora_dropout", None),
        ("rank_pattern", [4]),
        ("rank_pattern", None),
        ("rank_pattern", {"(": 4}),
        ("rank_pattern", {"q_proj": 0}),
        ("alpha_pattern", "q_proj"),
        ("target_modules", [1]),
        ("target_modules", "("),
        ("exclude_modules", "("),
        ("layers_to_transform", "1"),
        ("target_parameters", "up_proj.weight"),
        ("trainable_token_indices", 1.5),
        ("use_dora", "no"),
        ("base_model_name_or_path", {"a": 1}),
    ],
)
def test_settings_of_a_wrong_type_are_named(tmp_path: Path, name: str, value: Any) -> None:
    settings = peft.LoraConfig(r=2).to_dict() | {"peft_type": "LORA", name: value}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        ModelError, match=f"cannot be loaded: {name} in adapter_config.json must be .*, not "
    ) as told:
        AdapterFiles(str(tmp_path))
    assert len(str(told.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["bias", "runtime_config", "modules_to_save"])
def test_settings_that_are_null_are_unset(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = save_foreign(models["untied"], tmp_path / "adapter")
    change_settings(folder, **{name: None})
    config = {"base_model": str(models["untied"]), "start_adapter": str(folder), "lora": {"r": 2, "alpha": 8}}
    assert load_policy(TrainConfig.from_dict(config)).model


ENDLESS = r"(\w+\.?)+!"
ENDLESS_PATTERNS: dict[str, dict[str, Any]] = {
    "rank_pattern": {"rank_pattern": {ENDLESS: 4}},
    "alpha_pattern": {"alpha_pattern": {ENDLESS: 4}},
    "target_modules": {"target_modules": ENDLESS},
    "exclude_modules": {"exclude_modules": ENDLESS},
    "layers_pattern": {"layers_pattern": ENDLESS, "layers_to_transform": [0]},
}


@pytest.mark.parametrize("option", ENDLESS_PATTERNS)
@pytest.mark.timeout(60)
def test_a_pattern_that_never_ends_is_ended(
    option: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_PATTERN_SECONDS", 0.2)
    adapter = save_foreign(models["untied"], tmp_path / "adapter")
    change_settings(adapter, **ENDLESS_PATTERNS[option])
    with pytest.raises(ModelError, match=r"matching its patterns takes longer than 0\.2 s"):
        load_policy(TrainConfig(base_model=str(models["untied"]), start_adapter=str(adapter)))


def test_adapters_with_many_patterns_are_taken(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_PATTERN_SECONDS", 0.5)
    adapter = save_foreign(models["untied"], tmp_path / "adapter")
    ranks = {f"layers.{number}.other_proj": 4 for number in range(600)}  # more than `re` remembers
    change_settings(adapter, rank_pattern=ranks)
    config = {
        "base_model": str(models["untied"]),
        "start_adapter": str(adapter),
        "lora": {"r": 2, "alpha": 8},
    }
    assert load_policy(TrainConfig.from_dict(config)).model
