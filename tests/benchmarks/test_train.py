"""The arithmetic of the training benchmark: what it counts, compares and prints. Nothing is trained here."""

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import transformers

from benchmarks import models, report, sides
from benchmarks.plot import loss_plot
from benchmarks.shapes import (
    CPU_CASES,
    CUDA_CASES,
    LORA_RANK,
    QWEN_05B,
    QWEN_7B,
    QWEN_8,
    QWEN_15B,
    STARTER,
    TRL,
    ModelShape,
    forward_flops,
    text_pairs,
    training_flops,
)
from benchmarks.sides import Measured
from benchmarks.train import Outcome, summary

TINY = ModelShape(name="tiny", layers=1, hidden=4, intermediate=6, heads=2, key_heads=1, vocabulary=10)
# Linear layers: query 4x4, key and value 4x2, output 4x4, gate, up and down 4x6: 120 weights; inputs and
# outputs add up to 8 + 6 + 6 + 8 + 10 + 10 + 10 = 58.
WEIGHTS, ENDS = 120, 58 * LORA_RANK


def test_forward_operations_by_hand() -> None:
    # Prompt of 3, completions of 2 and 1: fed 3 + 1 + 0 tokens, seen 1+2+3 keys and then 4, predicted 3 tokens.
    linear = 2 * (WEIGHTS + ENDS) * 4
    attention = 4 * 4 * (6 + 4)
    head = 2 * 4 * 10 * 3
    assert forward_flops(TINY, 3, [2, 1]) == linear + attention + head


def test_training_operations_by_hand() -> None:
    # Reference forward without adapter; forward; backward: each product once more, attention and adapter twice.
    base, adapter = 2 * WEIGHTS * 4, 2 * ENDS * 4
    attention, head = 4 * 4 * (6 + 4), 2 * 4 * 10 * 3
    assert training_flops(TINY, 3, [2, 1]) == 3 * base + 3 * adapter + 4 * attention + 3 * head


def test_a_prompt_that_is_shared_counts_once() -> None:
    together = forward_flops(QWEN_8, 200, [50, 50])
    apart = 2 * forward_flops(QWEN_8, 200, [50])
    assert together == apart - forward_flops(QWEN_8, 200, [])


@pytest.mark.parametrize(
    ("shape", "millions"), [(QWEN_8, 255), (QWEN_05B, 494), (QWEN_15B, 1544), (QWEN_7B, 7615)]
)
def test_shapes_have_the_sizes_of_qwen(shape: ModelShape, millions: int) -> None:
    assert shape.parameters / 1e6 == pytest.approx(millions, rel=0.005)


def test_the_starter_shape_is_that_of_the_starter_model() -> None:
    config = json.loads((sides.ROOT / "training/starter/config.json").read_text())
    assert (STARTER.layers, STARTER.hidden) == (config["num_hidden_layers"], config["hidden_size"])
    assert (STARTER.intermediate, STARTER.heads) == (
        config["intermediate_size"],
        config["num_attention_heads"],
    )
    assert (STARTER.key_heads, STARTER.vocabulary) == (config["num_key_value_heads"], config["vocab_size"])


def test_made_models_have_the_weights_that_are_counted(tmp_path: Path) -> None:
    shape = ModelShape(name="t", layers=2, hidden=32, intermediate=48, heads=4, key_heads=2, vocabulary=300)
    models.make_model(shape, tmp_path / "model", seed=0, device="cpu")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    matrices = sum(weight.numel() for weight in model.parameters() if weight.dim() == 2)
    assert matrices == shape.parameters
    assert model.dtype == torch.bfloat16
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(tokenizer("a bC")["input_ids"]) == 4
    models.make_adapter(tmp_path / "model", tmp_path / "adapter", seed=0)
    assert (tmp_path / "adapter/adapter_config.json").is_file()


@pytest.mark.parametrize("case", [*CPU_CASES, CUDA_CASES[0]], ids=lambda case: case.name)
def test_pairs_are_drawn_once_for_all_and_differ(case) -> None:
    rows = text_pairs(case, 0)
    assert rows == text_pairs(case, 0)
    assert rows != text_pairs(case, 1)
    assert len(rows) == case.pairs == case.steps * case.batch_size
    assert all(row["prompt"] and row["chosen"] != row["rejected"] for row in rows)
    for configuration in (one for family in TRL.values() for one in family.values()):
        assert case.batch_size % min(configuration.micro_batch, case.batch_size) == 0


def test_hh_like_lengths_are_those_of_the_readme() -> None:
    case = next(case for case in CUDA_CASES if case.name == "0.5b-hh")
    rows = text_pairs(case, 0)
    assert sum(len(row["prompt"]) for row in rows) / len(rows) == pytest.approx(200, rel=0.1)
    completions = [len(row[side]) + 1 for row in rows for side in ("chosen", "rejected")]
    assert sum(completions) / len(completions) == pytest.approx(50, rel=0.1)


def measured(seconds: float, peak: int, losses: tuple[float, ...] = (0.7, 0.6)) -> Measured:
    return Measured(
        losses=losses,
        seconds=seconds,
        training_seconds=seconds,
        wall_seconds=seconds + 5,
        peak_bytes=peak,
        dtype="bfloat16",
    )


def outcome() -> Outcome:
    return Outcome(
        case=CPU_CASES[1],
        trl="float32, 1 pair",
        searched=(("float32, 1 pair", 0.5, 8_000_000_000), ("float32, 4 pairs", 0.4, 9_000_000_000)),
        lengths=(200.0, 50.0, 52.0),
        flops=6_000_000_000_000,
        ours=(measured(10, 2_000_000_000), measured(20, 3_000_000_000)),
        theirs=(measured(200, 8_000_000_000, (0.7, 0.61)), measured(300, 9_000_000_000)),
        rates=(1e12, 5e11),
    )


def test_ratios_are_by_turn_and_memory_is_against_ourselves() -> None:
    one = outcome()
    assert one.speed_ratios() == [20, 15]
    assert one.memory_ratio() == 3 / 8  # our worst turn over TRL's best
    assert one.utilization() == pytest.approx(0.6)  # 6 TFLOP in 10 s at 1 TFLOP/s, and in 20 s at half of it
    assert one.loss_gap() == pytest.approx(0.01)


def test_the_table_shows_medians_with_their_spread() -> None:
    row = next(line for line in summary([outcome()]).splitlines() if line.startswith("| qwen2-8-hh"))
    assert "**17.5** (15.0 to 20.0)" in row
    assert "3.00 / 8.00" in row
    assert "60%" in row


def test_a_plot_holds_both_curves_and_refuses_unequal_ones() -> None:
    drawing = ElementTree.fromstring(loss_plot("a < b", [0.7, 0.6, 0.5], [0.7, 0.6, 0.4]))  # noqa: S314 - ours
    curves = [node for node in drawing.iter() if node.tag.endswith("polyline")]
    assert [len(curve.get("points").split()) for curve in curves] == [3, 3]
    with pytest.raises(ValueError, match="cannot be plotted"):
        loss_plot("a", [0.7], [0.7, 0.6])


def test_publishing_replaces_only_its_own_section(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n")
    report.publish("a", "new", readme)
    report.publish("a", "newer", readme)
    assert readme.read_text() == "before\n<!-- a -->\n\nnewer\n\n<!-- end of a -->\nafter\n"
    with pytest.raises(ValueError, match="no place for b"):
        report.publish("b", "new", readme)


def test_a_watched_command_is_measured_and_its_failure_reported() -> None:
    seconds, peak = sides.watch(
        [sys.executable, "-c", "x = bytearray(200 << 20); import time; time.sleep(0.3)"]
    )
    assert seconds > 0.3
    if Path("/proc/self/status").exists():
        assert 200 << 20 < peak < 400 << 20
    with pytest.raises(SystemExit, match="no such thing"):
        sides.watch([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_trl_is_pinned_beside_the_versions_that_we_use() -> None:
    pins = [
        dict(re.findall(r"^([\w-]+)==(\S+)$", (sides.ROOT / name).read_text(), re.MULTILINE))
        for name in ("constraints.txt", "benchmarks/constraints-trl.txt")
    ]
    assert pins[1]["trl"] == "1.16.0"
    for package in ("torch", "transformers", "peft", "tokenizers", "safetensors"):
        assert pins[0][package] == pins[1][package]
