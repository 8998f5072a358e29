"""The verbs `train` and `score`, from files to files."""

import contextlib
import json
import math
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
import transformers

import training.engine.train
from tests.engine.conftest import SHAPE, make_model, make_tokenizer, pair_lines, read_metrics, tiny_llama
from training.engine.__main__ import main
from training.engine.adapters.loading import POLICY, as_reference, load_policy, load_scored
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError, DivergedError, ModelError
from training.engine.identity import digest
from training.engine.optimize import health
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.score import score
from training.engine.train import train


def scores(run: RunDirectory) -> dict[str, dict]:
    return {row["id"]: row for _, row in read_jsonl(run.scores)}


def done(run: RunDirectory) -> dict:
    return json.loads(run.done.read_text())["train"]


def independent_logps(model, tokenizer, line: dict) -> tuple[float, float]:
    """Two sequences, one at a time, with nothing of the engine."""
    prompt = tokenizer(line["prompt"])["input_ids"]
    found = []
    for text in (line["chosen"], line["rejected"]):
        ids = [*prompt, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        found.append(sum(float(logps[at - 1, ids[at]]) for at in range(len(prompt), len(ids))))
    return found[0], found[1]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # PEFT's, outside the engine
def test_training_learns_and_plain_peft_loads_the_adapter(make_run, tiny_model: Path) -> None:
    run = make_run(epochs=3)
    write_jsonl(run.heldout, pair_lines(6, seed=5))
    train(run)
    score(run)

    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    plain = peft.PeftModel.from_pretrained(base, run.adapter).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    for line in pair_lines(10):
        found = scores(run)[str(line["id"])]
        policy = independent_logps(plain, tokenizer, line)
        with plain.disable_adapter():
            reference = independent_logps(plain, tokenizer, line)
        assert (found["policy_chosen_logp"], found["policy_rejected_logp"]) == pytest.approx(policy, abs=1e-4)
        theirs = (found["reference_chosen_logp"], found["reference_rejected_logp"])
        assert theirs == pytest.approx(reference, abs=1e-4)
        margin = 0.1 * (policy[0] - reference[0] - policy[1] + reference[1])
        assert found["margin"] == pytest.approx(margin, abs=1e-4)

    held = done(run)["heldout"]
    assert held["before"]["accuracy"] == 0.5
    assert held["before"]["loss"] == pytest.approx(math.log(2))
    assert held["after"]["accuracy"] > 0.5
    assert held["after"]["margin"] > held["before"]["margin"] == 0
    assert held["pairs"] == 6


def test_round_2_starts_from_and_is_measured_against_round_1(make_run) -> None:
    first = make_run("first", epochs=2)
    train(first)
    second = make_run("second", start_adapter=str(first.adapter), pairs=pair_lines(8, seed=3))
    train(second)
    opening = read_metrics(second)[0]
    assert opening["loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert opening["rewards/margins"] == 0
    assert opening["rewards/accuracies"] == 0.5

    score(first)
    score(second, first.pairs)
    for identity, ours in scores(second).items():
        theirs = scores(first)[identity]
        assert ours["reference_chosen_logp"] == pytest.approx(theirs["policy_chosen_logp"], abs=1e-5)
        assert ours["policy_chosen_logp"] != pytest.approx(theirs["policy_chosen_logp"], abs=1e-3)


def test_untrained_run_scores_its_start_adapter(make_run) -> None:
    first = make_run("first", epochs=2)
    train(first)
    score(first)
    fresh = make_run("fresh", start_adapter=str(first.adapter))
    score(fresh)
    for identity, ours in scores(fresh).items():
        assert ours == pytest.approx(scores(first)[identity], abs=1e-5)


def test_metrics_hold_every_documented_key_for_every_step(make_run) -> None:
    run = make_run(epochs=2, eval_steps=2)
    write_jsonl(run.heldout, pair_lines(3, seed=5))
    train(run)
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    wanted = {"loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    wanted |= {"logps/chosen", "logps/rejected", "grad_norm", "learning_rate", "step", "epoch", "tokens"}
    wanted |= {"pairs_per_second", "weights/p10", "weights/p50", "weights/p90", "kl", "displacement"}
    wanted |= {"lengths/chosen", "lengths/rejected", "skipped"}
    assert all(row.keys() == wanted for row in rows)
    assert all(
        row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"])
        for row in rows
    )
    assert [row["step"] for _, row in read_jsonl(run.evals)] == [2, 4, 6]
    progress = json.loads(run.progress_file.read_text())
    assert (progress["phase"], progress["step"], progress["total_steps"]) == ("done", 6, 6)


def test_done_names_inputs_outputs_and_what_was_left_out(make_run) -> None:
    lines = [*pair_lines(5), {"id": "same", "prompt": "a", "chosen": "b", "rejected": "b"}]
    run = make_run(pairs=lines)
    train(run)
    summary = done(run)
    assert summary["pairs"] == 5
    assert summary["left_out"]["dropped"] == {"identical_completions": 1}
    assert summary["left_out"]["examples"] == {"identical_completions": ["same"]}
    assert summary["inputs"]["pairs.jsonl"] == digest(run.pairs)
    weights = run.adapter / "adapter_model.safetensors"
    assert summary["outputs"]["adapter/adapter_model.safetensors"] == digest(weights)
    assert torch.__version__.startswith(summary["versions"]["torch"])


def test_training_leaves_the_base_weights_as_they_were(make_run, tiny_model: Path) -> None:
    before = {file.name: file.read_bytes() for file in tiny_model.iterdir()}
    run = make_run(epochs=2)
    loaded = load_policy(run.read_config())
    weights = {name: weight.clone() for name, weight in loaded.model.named_parameters() if "lora" not in name}
    assert not any(loaded.model.get_parameter(name).requires_grad for name in weights)
    train(run)
    assert {file.name: file.read_bytes() for file in tiny_model.iterdir()} == before


def test_policy_is_active_after_an_error_under_the_reference(make_run) -> None:
    run = make_run()
    train(run)
    second = make_run("second", start_adapter=str(run.adapter))
    train(second)
    for config, beside in ((run.read_config(), False), (second.read_config(), True)):
        model = load_scored(config, second.adapter, beside_start=beside).model
        ids = torch.tensor([[5, 6, 7]])
        with torch.no_grad():
            before = model(input_ids=ids).logits
            with contextlib.suppress(ZeroDivisionError), as_reference(model):
                assert not torch.equal(model(input_ids=ids).logits, before)
                _ = 1 / 0
            torch.testing.assert_close(model(input_ids=ids).logits, before, atol=0, rtol=0)
        assert model.active_adapter == POLICY


def test_train_again_after_the_end_does_nothing(make_run, capsys: pytest.CaptureFixture) -> None:
    run = make_run()
    train(run)
    before = {path: path.stat().st_mtime_ns for path in run.adapter.iterdir()}
    train(run)
    assert "nothing to train" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.adapter.iterdir()} == before


def test_unpackable_model_is_trained_unpacked_and_says_so(make_run, tmp_path: Path) -> None:
    shape = SHAPE | {
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "head_dim": 8,
        "layer_types": ["full_attention"] * 2,
    }
    shape |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    make_model(transformers.GptOssConfig(**shape)).save_pretrained(tmp_path / "sinks")
    make_tokenizer().save_pretrained(tmp_path / "sinks")
    lora = {"r": 4, "alpha": 8, "target_modules": ["q_proj"]}
    run = make_run(base_model=str(tmp_path / "sinks"), lora=lora)
    train(run)
    assert done(run)["packed"] is False
    assert "not packed" in done(run)["events"][0]
    assert read_metrics(run)[0]["loss"] == pytest.approx(math.log(2))
    refused = make_run("refused", base_model=str(tmp_path / "sinks"), lora=lora, packing="on")
    with pytest.raises(DataError, match="packing is 'on'"):
        train(refused)


def test_packed_and_plain_training_agree(make_run) -> None:
    packed, plain = make_run("packed", epochs=2), make_run("plain", epochs=2, packing="off")
    for run in (packed, plain):
        train(run)
    for ours, theirs in zip(read_metrics(packed), read_metrics(plain), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_lora_settings_unlike_the_start_adapters_are_refused(make_run) -> None:
    run = make_run()
    train(run)
    for lora, message in (
        ({"r": 8, "alpha": 8}, "lora.r is 8, but start_adapter was trained with 4"),
        ({"r": 4, "alpha": 3}, "lora.alpha is 3.0, but start_adapter was trained with 8"),
        ({"r": 4, "alpha": 8, "target_modules": ["q_proj"]}, "lora.target_modules differ"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(make_run("other", start_adapter=str(run.adapter), lora=lora))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"base_model": "/nowhere/model"}, ModelError, "base_model /nowhere/model does not exist"),
        ({"start_adapter": "/nowhere/adapter"}, ModelError, "Adapter /nowhere/adapter cannot be loaded"),
        ({"max_length": 4096}, ConfigError, "max_length is 4096, but the model places at most 128"),
        (
            {"lora": {"target_modules": ["nothing"]}},
            ConfigError,
            "lora.target_modules: nothing fits no layer",
        ),
        ({"lora": {"target_modules": ["lm_head"]}}, ConfigError, "must not include the vocabulary head"),
        ({"loss": "ipo"}, ConfigError, "Pair m states a margin"),
    ],
)
def test_bad_input_leaves_the_directory_usable(make_run, settings: dict, error: type, message: str) -> None:
    lines = [*pair_lines(3), pair_lines(4)[3] | {"id": "m", "margin": 1.0}]
    run = make_run(pairs=lines, **settings)
    with pytest.raises(error, match=message):
        train(run)
    assert not run.adapter.exists()
    run.write_config(TrainConfig.from_dict(make_run("good").read_config().to_dict()))
    train(run)
    assert run.adapter.is_dir()


def test_held_out_margin_that_the_loss_ignores_is_refused(make_run) -> None:
    run = make_run(loss="ipo")
    write_jsonl(run.heldout, [*pair_lines(2), pair_lines(3)[2] | {"id": "m", "margin": 1.0}])
    with pytest.raises(ConfigError, match="Pair m states a margin"):
        train(run)
    assert not run.metrics.exists()
    assert not (run.root / "reference.safetensors").exists()


def test_evaluations_need_a_held_out_file_which_may_be_empty(make_run) -> None:
    run = make_run(eval_steps=2)
    with pytest.raises(ConfigError, match=r"eval_steps has no effect .*heldout\.jsonl is missing"):
        train(run)
    run.heldout.touch()
    train(run)
    assert run.evals.read_bytes() == b""


@pytest.mark.parametrize("verb", [train, score])
def test_a_revision_of_a_folder_is_refused(make_run, verb) -> None:
    with pytest.raises(ConfigError, match=r"revision has no effect on base_model .*, which is a folder"):
        verb(make_run(revision="main"))


def test_no_pair_left_to_train_on_says_why(make_run) -> None:
    run = make_run(pairs=[{"id": 1, "prompt": "a", "chosen": "b", "rejected": "b"}])
    with pytest.raises(DataError, match="No pair is left to train on: 1 identical_completions"):
        train(run)


def test_too_many_steps_that_are_not_finite_end_the_run(make_run, tmp_path: Path) -> None:
    run = make_run(learning_rate=1e30, max_skipped_steps=2, epochs=4, max_grad_norm=0)
    with pytest.raises(DivergedError, match="3 steps gave a loss or gradient that is not finite"):
        train(run)
    assert read_metrics(run)[-1]["skipped"] == 3
    assert not run.adapter.exists()


def test_a_training_that_took_no_step_is_told_and_not_saved(make_run, capsys) -> None:
    run = make_run(beta=1e308, max_skipped_steps=100)
    assert main(["train", str(run.root)]) == DivergedError.exit_code
    assert "Each of the 3 steps gave a loss or gradient that is not finite" in capsys.readouterr().err
    assert not run.adapter.exists()
    assert not run.done.exists()


@pytest.mark.parametrize("held_out", [0, 3])
def test_a_policy_that_its_last_step_broke_is_told_and_not_saved(make_run, held_out: int) -> None:
    run = make_run(learning_rate=1e30, max_grad_norm=0, batch_size=10, eval_steps=1)
    write_jsonl(run.heldout, pair_lines(held_out, seed=5))
    with pytest.raises(
        DivergedError, match=r"trained policy's log-probability of pair \d is not a finite number"
    ):
        train(run)
    assert read_metrics(run)[-1]["skipped"] == 0  # the one step itself was sound
    assert not run.adapter.exists()
    assert not run.done.exists()
    for file in (run.metrics, run.evals, run.progress_file):
        for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(text, parse_constant=pytest.fail)  # called with NaN and Infinity
    if held_out:
        assert json.loads(run.evals.read_text())["margin"] is None


def test_an_adapter_that_gives_no_finite_number_is_not_scored(make_run) -> None:
    run = make_run()
    train(run)
    weights = run.adapter / "adapter_model.safetensors"
    broken = {name: tensor * math.nan for name, tensor in safetensors.torch.load_file(weights).items()}
    safetensors.torch.save_file(broken, weights)
    with pytest.raises(DivergedError, match="The policy's log-probability of pair 0 is not a finite number"):
        score(run)
    assert not run.scores.exists()


def test_a_model_that_is_broken_from_the_start_is_told_by_pair(make_run, tmp_path: Path) -> None:
    model = make_model(tiny_llama())
    model.lm_head.weight.data.fill_(math.nan)
    model.save_pretrained(tmp_path / "nan")
    make_tokenizer().save_pretrained(tmp_path / "nan")
    with pytest.raises(DivergedError, match="log-probability of pair 0 is not a finite number"):
        train(make_run(base_model=str(tmp_path / "nan")))


def test_health_is_told_in_words_with_a_remedy() -> None:
    config = TrainConfig.from_dict({"base_model": "m", "displacement_bound": 5})
    healthy = {"skipped": 0, "displacement": -1.0, "kl": 2.0, "lengths/chosen": 10, "lengths/rejected": 10}
    assert health.diagnose([healthy] * 9, config) == []
    cases = {
        "displacement": {"displacement": -6.0},
        "non_finite": {"skipped": 2},
        "length": {"lengths/chosen": 20},
        "kl": {"kl": 80.0},
    }
    for kind, change in cases.items():
        (finding,) = health.diagnose([healthy | change] * 9, config)
        assert finding["kind"] == kind
        assert finding["message"].endswith(".")
        assert finding["remedy"].endswith(".")


def test_findings_about_a_run_are_in_done_and_said(make_run, capsys) -> None:
    lines = [line | {"chosen": " good and long" * 5, "rejected": " bad"} for line in pair_lines(4)]
    run = make_run(pairs=lines)
    train(run)
    (finding,) = done(run)["health"]
    assert finding["kind"] == "length"
    assert f"{finding['message']} {finding['remedy']}" in capsys.readouterr().err


def test_margins_and_weights_of_the_file_are_in_the_first_loss(make_run) -> None:
    """Before the first step h = 0: a pair of margin m and weight w costs w * log(1 + exp(m)), whatever its label."""
    said = [(0.0, 1.0), (1.0, 2.0), (0.5, 0.5), (2.0, 0.0)]
    lines = [
        line | {"margin": margin, "weight": weight, "label": 0.9}
        for line, (margin, weight) in zip(pair_lines(4), said, strict=True)
    ]
    run = make_run(pairs=lines)
    train(run)
    expected = sum(weight * math.log1p(math.exp(margin)) for margin, weight in said) / 4
    assert read_metrics(run)[0]["loss"] == pytest.approx(expected, abs=1e-9)


def test_one_odd_batch_raises_no_alarm() -> None:
    config = TrainConfig.from_dict({"base_model": "m", "displacement_bound": 5})
    healthy = {"skipped": 0, "displacement": -1.0, "kl": 2.0, "lengths/chosen": 10, "lengths/rejected": 10}
    assert health.diagnose([*[healthy] * 8, healthy | {"displacement": -30.0}], config) == []


def test_the_inputs_in_done_json_are_those_that_were_read(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    read, real = run.hashes([run.pairs]), training.engine.train.save_adapter

    def replace_and_save(model: object, target: Path) -> None:
        write_jsonl(run.pairs, pair_lines(3, seed=9))
        real(model, target)

    monkeypatch.setattr("training.engine.train.save_adapter", replace_and_save)
    train(run)
    assert done(run)["inputs"]["pairs.jsonl"] == read["pairs.jsonl"]
