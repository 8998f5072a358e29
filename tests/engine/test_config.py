"""Settings are checked by name; none is unknown, out of range, or ignored."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from training.engine.config import (
    LOSS_OPTIONS,
    AssistConfig,
    LoraConfig,
    SamplingConfig,
    TrainConfig,
    explain,
)
from training.engine.errors import ConfigError
from training.engine.rundir import RunDirectory


def build(**settings: object) -> TrainConfig:
    return TrainConfig.from_dict({"base_model": "m"} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learningrate": 1e-4}, r"^Unknown setting learningrate\. Did you mean learning_rate\?$"),
        ({"\ud800" + "x" * 1000: 1}, r"^Unknown setting \?x{99}\.$"),
        ({"lora": {"rank": 8}}, r"^Unknown setting lora\.rank\.$"),
        ({"sampling": {"temprature": 1}}, r"sampling\.temprature\. Did you mean sampling\.temperature\?"),
        ({"beta": 0}, r"^beta must be greater than 0, not 0\.$"),
        ({"beta": "0.1"}, r"^beta must be a number, not '0.1'\.$"),
        ({"beta": float("nan")}, r"^beta must be a number"),
        ({"epochs": 1.5}, r"^epochs must be a whole number, not 1\.5\.$"),
        ({"epochs": True}, r"^epochs must be a number, not True\.$"),
        ({"epochs": 0}, r"^epochs must be at least 1, not 0\.$"),
        ({"label_smoothing": 0.5}, r"^label_smoothing must be less than 0\.5, not 0\.5\.$"),
        (
            {"sampling": {"samples_per_prompt": 2**40}},
            r"^sampling\.samples_per_prompt must be at most 10000000, not 1099511627776\.$",
        ),
        ({"batch_size": 1_000_001}, r"^batch_size must be at most 1000000, not 1000001\.$"),
        ({"lora": {"r": 2**53}}, r"^lora\.r must be at most 4096, not 9007199254740992\.$"),
        ({"sampling": {"max_new_tokens": 1e9}}, r"^sampling\.max_new_tokens must be at most 10000000, not 1"),
        ({"sampling": {"top_p": 1.1}}, r"^sampling\.top_p must be at most 1, not 1\.1\.$"),
        ({"dtype": "fp16"}, r"^dtype must be one of auto, float32, bfloat16, float16, not 'fp16'\.$"),
        ({"lora": 16}, r"^lora must be an object of settings\.$"),
        ({"lora": {"target_modules": []}}, r"^lora\.target_modules must be a non-empty list of names\.$"),
        ({"lora": {"target_modules": 3}}, r"^lora\.target_modules must be a non-empty string, not 3\.$"),
        ({"gradient_checkpointing": 1}, r"^gradient_checkpointing must be true or false, not 1\.$"),
        ({"chat_template_kwargs": []}, r"^chat_template_kwargs must be an object, not \[\]\.$"),
        ({"start_adapter": ""}, r"^start_adapter must be a non-empty string, not ''\.$"),
        ({"base_model": None}, r"^base_model must be a non-empty string, not None\.$"),
        ({"loss": "rao_kupper", "tie_nu": 1.0}, r"^tie_nu must be greater than 1 with loss 'rao_kupper'\.$"),
        ({"quantization": "nf4", "device": "cpu"}, r"^quantization needs device 'cuda'"),
        ({"quantization": "nf4", "shard": True}, r"^shard and quantization cannot be combined"),
        ({"threads": 1025}, r"^threads must be at most 1024, not 1025\.$"),
        ({"beta": 10**400}, r"^beta must be a number of at most 9007199254740992\.$"),
        ({"seed": 10**30}, r"^seed must be a number of at most 9007199254740992\.$"),
        ({"base_model": "m" * 5000}, r"^base_model must be at most 4096 characters, not 5000\.$"),
        ({"chat_template": "x" * 65_537}, r"^chat_template must be at most 65536 characters, not 65537\.$"),
        ({"chat_template_kwargs": {"a": "x" * 10_000}}, r"^chat_template_kwargs must be at most 10000 char"),
        ({"lora": {"target_modules": "x" * 501}}, r"^lora\.target_modules must be at most 500 char"),
        ({"lora": {"target_modules": ["x"] * 1001}}, r"^lora\.target_modules must be at most 1000 names"),
        ({"lora": {"target_modules": ["x" * 201]}}, r"^lora\.target_modules must be at most 1000 names"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    ("settings", "option", "message"),
    [
        ({"beta": 0}, "beta", "must be greater than 0, not 0."),
        ({"lora": {"r": 0}}, "lora.r", "must be at least 1, not 0."),
        ({"sampling": {"temprature": 1}}, "sampling.temprature", "Unknown setting sampling.temprature."),
        ({"lora": 16}, "lora", "must be an object of settings."),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing", "has no effect with loss 'ipo'"),
        (
            {"chat_template_kwargs": {"messages": []}},
            "chat_template_kwargs",
            "messages is not the template's",
        ),
    ],
)
def test_an_error_carries_its_option(settings: dict, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(**settings)
    assert refused.value.option == option
    assert refused.value.message.startswith(message)
    assert refused.value.message in str(refused.value)


def test_every_whole_number_but_a_seed_has_a_bound() -> None:
    unbounded = [
        f"{kind.__name__}.{one.name}"
        for kind in (TrainConfig, LoraConfig, SamplingConfig, AssistConfig)
        for one in fields(kind)
        if one.type in (int, int | None, "int", "int | None") and one.metadata["high"] is None
    ]
    assert [name for name in unbounded if not name.endswith(".seed")] == []


def test_a_stored_number_above_a_newer_bound_is_the_bound() -> None:
    stored = {"base_model": "m", "batch_size": 2**53, "lora": {"r": 1e9}, "sampling": {"top_k": 2**40}}
    config = TrainConfig.from_stored(stored)
    assert (config.batch_size, config.lora.r, config.sampling.top_k) == (1_000_000, 4096, 1_000_000)
    with pytest.raises(ConfigError, match=r"^lora must be an object of settings\.$"):
        TrainConfig.from_stored({"base_model": "m", "lora": 2**53})


def test_a_missing_base_model_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^base_model is missing\.$"):
        TrainConfig.from_dict({})


def test_configuration_survives_its_file_with_defaults(tmp_path) -> None:
    config = build(beta=0.2, lora={"r": 4, "target_modules": ["q_proj", "v_proj"]}, sampling={"top_k": 5})
    run = RunDirectory(tmp_path / "run")
    run.write_config(config)
    assert run.read_config() == config
    written = json.loads(run.config_file.read_text())
    shape = {"r": 4, "alpha": 32.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    assert written["lora"] == shape | {"experts": "shared", "rslora": False, "dora": False}
    assert written["epochs"] == 1


def test_every_option_is_explained_and_documented() -> None:
    lines = Path("docs/engine.md").read_text(encoding="utf-8").splitlines()
    for name, _, text, choices in explain():
        assert text.endswith(".")
        rows = [line for line in lines if line.startswith(f"| `{name}` | ")]
        assert any(all(choice in row for choice in choices or ()) for row in rows), name


def test_every_loss_has_its_row_and_is_counted() -> None:
    page = Path("docs/engine.md").read_text(encoding="utf-8")
    assert not [loss for loss in LOSS_OPTIONS if f"\n| `{loss}` | " not in page]
    for text in ("README.md", "CHANGELOG.md"):
        assert f"DPO and {len(LOSS_OPTIONS) - 1} related losses" in Path(text).read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["{", "[1]", '"x"', "\xff", '{"a":' * 100_000, '{"seed":' + "1" * 5000])
def test_an_unreadable_config_is_one_sentence(tmp_path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"is not valid JSON|must be an object of settings"):
        RunDirectory(tmp_path).read_config()


def test_a_missing_config_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        RunDirectory(tmp_path).read_config()


def test_a_config_that_is_a_folder_is_one_sentence(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    run.config_file.mkdir()
    with pytest.raises(ConfigError, match=r"config\.json cannot be read: Is a directory\.$"):
        run.read_config()


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    run.config_file.write_text('{"base_model": "m"}', encoding="utf-8-sig")
    assert run.read_config().base_model == "m"


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("base_model", {"base_model": "\ud83d"}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"day": ["\ud83d"]}}),
        ("sampling.stop", {"sampling": {"stop": ["\ud83d"]}}),
        ("lora.target_modules", {"lora": {"target_modules": "\ud83d"}}),
    ],
)
def test_half_a_character_is_refused_by_name(option: str, settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"^{option} holds half a character") as told:
        TrainConfig.from_dict({"base_model": "m"} | settings)
    assert told.value.option == option
