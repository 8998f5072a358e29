"""A merged model computes what base and adapter do, in the precision of the base, and serves as a base itself."""

import contextlib
import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.engine.adapters.test_start_adapters import save_foreign
from tests.engine.conftest import make_model, make_tokenizer, tiny_llama
from training.engine.__main__ import main
from training.engine.adapters.loading import load_sampled
from training.engine.adapters.settings import PRECISIONS
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError, MemoryShortError, ModelError, StorageError
from training.engine.rundir import RunDirectory, whole_directory

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's, of the adapters that are made here
IDS = torch.tensor([[5, 9, 40, 17, 300, 22]])


@pytest.fixture
def make_merge(tmp_path):
    """make_merge(dtype, tied=False, **settings of the adapter): a run directory, and where its model goes."""

    def make(dtype=torch.float32, *, tied: bool = False, **settings):
        base = tmp_path / "base"
        make_model(tiny_llama(tie_word_embeddings=tied)).to(dtype).save_pretrained(base)
        make_tokenizer().save_pretrained(base)
        adapter = save_foreign(base, tmp_path / "foreign", **settings)
        run = RunDirectory(tmp_path / "run")
        config = {"base_model": str(base), "start_adapter": str(adapter), "chat_template": "{{ messages }}"}
        run.write_config(TrainConfig.from_dict(config))
        return run, tmp_path / "merged"

    return make


@pytest.mark.parametrize(
    ("dtype", "tolerance", "settings"),
    [
        (torch.float32, 1e-5, {}),
        (torch.float32, 1e-5, {"use_dora": True, "rank_pattern": {"q_proj": 4}}),
        (torch.bfloat16, 0.06, {"target_modules": ["q_proj", "down_proj"]}),
    ],
)
def test_logits_are_those_of_base_and_adapter(make_merge, dtype, tolerance, settings) -> None:
    run, out = make_merge(dtype, **settings)
    assert main(["merge", str(run.root), str(out)]) == 0
    merged = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert merged.dtype == dtype
    config = run.read_config()
    beside = load_sampled(config, config.start_adapter).model
    plain = load_sampled(config, None).model
    with torch.inference_mode():
        found, wanted, base = (model.float()(IDS).logits for model in (merged, beside, plain))
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)
    assert (found - base).abs().max() > 10 * tolerance
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == "{{ messages }}"
    assert "_name_or_path" not in json.loads((out / "config.json").read_text())
    done = run.read_done()["merge"]
    assert done["dtype"] == str(dtype).removeprefix("torch.")
    assert any(name.endswith("model.safetensors") for name in done["outputs"])


def test_an_adapter_of_tied_embeddings_is_refused(make_merge, capsys) -> None:
    run, out = make_merge(tied=True, target_modules=["embed_tokens", "q_proj"])
    assert main(["merge", str(run.root), str(out)]) == ModelError.exit_code
    assert "the vocabulary head shares their weights" in capsys.readouterr().err
    assert not out.exists()


def test_a_bias_that_has_no_place_in_the_base_is_refused(make_merge, capsys) -> None:
    run, out = make_merge(lora_bias=True)
    assert main(["merge", str(run.root), str(out)]) == ModelError.exit_code
    assert "has a bias for a layer that has none in the base model" in capsys.readouterr().err
    assert not out.exists()


def test_a_merge_without_room_in_memory_says_what_must_fit(
    make_merge, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    run, out = make_merge()
    monkeypatch.setattr("training.engine.adapters.merging._merge_layer", no_room)
    assert main(["merge", str(run.root), str(out)]) == MemoryShortError.exit_code
    assert "the weights of the model must fit" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("place", ["thesis", "thesis/notes.txt", "run", "run/..", "base"])
def test_a_path_that_exists_is_never_replaced(make_merge, tmp_path, capsys, place) -> None:
    run, _ = make_merge()
    notes = tmp_path / "thesis" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("years of work")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    out = tmp_path / place
    assert main(["merge", str(run.root), str(out)]) == ConfigError.exit_code
    assert capsys.readouterr().err == f"error: {out} exists already; name a folder that does not.\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("replaces", [True, False])
def test_only_a_folder_that_may_be_replaced_is(tmp_path, replaces) -> None:
    """It may have been written by another program while a model was merged."""
    out = tmp_path / "out"
    expected = contextlib.nullcontext() if replaces else pytest.raises(StorageError, match="not empty")
    with expected, whole_directory(out, replaces=replaces) as aside:
        (aside / "model").write_text("new")
        out.mkdir()
        (out / "notes.txt").write_text("years of work")
    assert [path.name for path in out.iterdir()] == (["model"] if replaces else ["notes.txt"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_merge_that_cannot_end_leaves_no_model(make_merge) -> None:
    """A new try would otherwise refuse to replace it."""
    run, out = make_merge()
    run.done.mkdir()  # so that done.json cannot be read
    assert main(["merge", str(run.root), str(out)]) == DataError.exit_code
    assert not out.exists()


@pytest.mark.parametrize(
    ("dtype", "size", "is_lost"),
    [("bfloat16", 1e-4, True), ("bfloat16", 1.0, False), ("float32", 1e-4, False)],
)
def test_what_rounding_takes_from_an_adapter_is_told(make_merge, capsys, dtype, size, is_lost) -> None:
    """A change of a weight that is less than half a step of its precision is rounded back."""
    run, out = make_merge(getattr(torch, dtype))
    shrink(run, size)
    assert main(["merge", str(run.root), str(out)]) == 0
    done = run.read_done()["merge"]
    assert (done["kept"] < 0.5) == is_lost
    assert (done["kept"] > 0.99) != is_lost
    told = [f"Rounding to {dtype} leaves {done['kept']:.0%} of what the adapter changes"] * is_lost
    assert [event.partition(".")[0] for event in done["events"]] == told
    assert all(event in capsys.readouterr().err for event in done["events"])


def shrink(run: RunDirectory, size: float) -> None:
    """Make the change that the run's adapter makes so many times as large."""
    weights = load_file(path := Path(run.read_config().start_adapter) / "adapter_model.safetensors")
    save_file({name: weight * (size if "lora_B" in name else 1) for name, weight in weights.items()}, path)


def log_probabilities(model) -> torch.Tensor:
    with torch.inference_mode():
        return model.float()(IDS).logits.log_softmax(-1)


def merged_in_float32(run: RunDirectory) -> torch.Tensor:
    """Return the policy's log-probabilities by plain PEFT."""
    config = run.read_config()
    base = transformers.AutoModelForCausalLM.from_pretrained(config.base_model, dtype=torch.float32)
    return log_probabilities(peft.PeftModel.from_pretrained(base, config.start_adapter).merge_and_unload())


def test_a_wider_precision_keeps_more_of_a_small_change(make_merge, tmp_path, capsys) -> None:
    run, _ = make_merge(torch.bfloat16)
    shrink(run, 1e-3)
    wanted, far, kept, size = merged_in_float32(run), {}, {}, {}
    for precision in PRECISIONS:
        out = tmp_path / f"merged-{precision}"
        assert main(["merge", str(run.root), str(out), "--dtype", precision]) == 0
        told = capsys.readouterr().err
        merged = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto")
        written = "bfloat16" if precision == "base" else precision
        assert json.loads((out / "config.json").read_text())["dtype"] == written
        assert {str(weight.dtype) for weight in load_file(out / "model.safetensors").values()} == {
            f"torch.{written}"
        }
        done = run.read_done()["merge"]
        assert (done["dtype"], merged.dtype) == (written, getattr(torch, written))
        assert ("Merge in float16 or float32" in told) == (precision == "base")
        far[precision] = float((log_probabilities(merged) - wanted).abs().mean())
        kept[precision], size[precision] = done["kept"], (out / "model.safetensors").stat().st_size
    assert far["float32"] == 0
    assert far["float16"] < far["base"] / 2
    assert kept["base"] < 0.9 < kept["float16"] <= kept["float32"] == 1
    assert size["base"] == pytest.approx(size["float16"], rel=0.05)
    assert size["base"] == pytest.approx(size["float32"] / 2, rel=0.05)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("model.layers.0.mlp.up_proj.weight", 1e7, "beyond 65,504"),
        ("model.layers.1.self_attn.q_proj.weight", 1e7, "beyond 65,504"),
        ("model.layers.0.mlp.up_proj.weight", 1e-6, "too small for float16"),
    ],
)
def test_a_weight_that_float16_cannot_hold_is_named(make_merge, capsys, name, size, told) -> None:
    run, out = make_merge(torch.bfloat16)
    weights = load_file(path := Path(run.read_config().base_model) / "model.safetensors")
    save_file({**weights, name: weights[name] * size}, path, {"format": "pt"})
    assert main(["merge", str(run.root), str(out), "--dtype", "float16"]) == ModelError.exit_code
    assert f"Weight {name} has values {told}" in capsys.readouterr().err
    assert not out.exists()
    assert main(["merge", str(run.root), str(out), "--dtype", "float32"]) == 0


def test_an_unknown_precision_is_refused_by_name(make_merge, capsys) -> None:
    run, out = make_merge()
    with pytest.raises(SystemExit):
        main(["merge", str(run.root), str(out), "--dtype", "int8"])
    assert "--dtype: invalid choice: 'int8'" in capsys.readouterr().err
