"""Recommended settings: one table, for the size of a model and the number of pairs."""

import json
from pathlib import Path
from typing import Any

import pytest

from annotate.models import Project
from tests.primitives.test_gguf import ARCHITECTURE, CONTEXT, written
from training.engine.config import LOSS_OPTIONS, TrainConfig
from training.recipes.recommendation import recommend_for
from training.recipes.sizes import context_length, model_size
from training.recipes.table import recommend
from training.rounds.plan import Plan
from training.rounds.starts import RoundError


def test_every_recommendation_is_one_that_the_engine_takes() -> None:
    for parameters in (10**6, 135 * 10**6, 3 * 10**9, 8 * 10**9, None):
        for pairs in (0, 8, 450, 1_500, 4_000, 100_000):
            for loss in LOSS_OPTIONS:
                found = recommend(parameters, pairs, loss)
                config = TrainConfig.from_dict({"base_model": "-", "loss": loss, **found})
                assert config.lora.alpha == 2 * config.lora.r


def test_the_starters_file_says_what_the_table_says(settings: Any) -> None:
    """They are those for 450 pairs, with which it was measured."""
    file = json.loads((settings.STARTER_MODEL / "recommended.json").read_text())["training"]
    assert file == recommend(model_size(str(settings.STARTER_MODEL)), 450)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 5 * 10**8),
        ("meta-llama/Llama-3.1-8B", 8 * 10**9),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", 135 * 10**6),
        ("owner/model", None),
    ],
)
def test_a_models_size_is_read_from_its_name(name: str, parameters: int | None) -> None:
    assert model_size(name) == parameters


def test_a_models_size_is_counted_from_its_configuration(settings: Any) -> None:
    assert model_size(str(settings.STARTER_MODEL)) == pytest.approx(984_192, rel=0.01)


def test_a_projects_settings_go_before_what_is_recommended(project: Project) -> None:
    project.training_settings = {"beta": 0.7}
    plan = Plan.for_project(project, project.current_policy, {"training": {"epochs": 9}})
    assert (plan.config.beta, plan.config.epochs, plan.config.kl_budget) == (0.7, 9, 2.0)
    assert plan.margin_scale == 0
    found = recommend_for(project, "starter", "simpo")
    assert (found.pairs, found.settings["beta"]) == (0, 2.0)
    # What cannot be kept is not recommended, and refused where it is asked for.
    for chosen in ({"lora": {"dora": True}}, {"kl_samples": 0}):
        assert (
            Plan.for_project(project, project.current_policy, {"training": chosen}).config.kl_budget is None
        )
        with pytest.raises(RoundError, match="kl_"):
            Plan.for_project(project, project.current_policy, {"training": chosen | {"kl_budget": 1.0}})
    with pytest.raises(RoundError, match="loss"):
        Plan.for_project(project, project.current_policy, {"training": {"loss": ["sigmoid"]}})


def test_a_gguf_files_context_counts_without_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(written([ARCHITECTURE, CONTEXT]))
    for path in (tmp_path, tmp_path / "model.gguf"):
        assert context_length(str(path)) == 8192
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert context_length(str(tmp_path)) == 512


@pytest.mark.parametrize(
    "content",
    [
        b'{"hidden_size": 1e999, "num_hidden_layers": 2, "vocab_size": 9, "max_position_embeddings": 1e999}',
        b"[" * 100_000,
        b'{"max_position_embeddings": 512, "padding": "' + b"x" * (1 << 20) + b'"}',
        b'{"hidden_size": 0, "num_hidden_layers": 2, "vocab_size": 9, "num_attention_heads": 0}',
        b"\xff",
    ],
    ids=["endless", "deep", "long", "empty", "binary"],
)
def test_an_odd_configuration_names_no_size_or_context(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_bytes(content)
    assert (model_size(str(folder)), context_length(str(folder))) == (None, None)
