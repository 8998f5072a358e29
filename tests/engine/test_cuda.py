"""Computations of a GPU alone: the flash kernel over packed rows, sums in bfloat16, decoding. Skipped without one."""

import dataclasses
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.engine.conftest import (
    VOCABULARY,
    make_model,
    make_pairs,
    pair_of_lengths,
    read_metrics,
    tiny_llama,
)
from training.engine.adapters import lora
from training.engine.adapters.loading import (
    load_policy,
    load_sampled,
    load_scored,
    save_adapter,
    trainable_parameters,
)
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.data.packing import Span, pack, pad
from training.engine.machine.memory import free_memory
from training.engine.model.attention import packed_attention
from training.engine.model.base import load_base
from training.engine.model.logps import Scorer
from training.engine.optimize.state import State
from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.sampling import recording
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.grouping import Request
from training.engine.sampling.kvcache import one_query_attention
from training.engine.sampling.reading import WAYS
from training.engine.score import score
from training.engine.selfcheck import choose_way
from training.engine.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICE = torch.device("cuda")


def adapted(dtype: torch.dtype, size: float, **changes: object) -> peft.PeftModel:
    model = (
        make_model(tiny_llama(**({"hidden_size": 64, "intermediate_size": 96} | changes)))
        .bfloat16()
        .to(dtype)
    )
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    torch.manual_seed(1)
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name:
            nn.init.normal_(weight, std=size if "lora_B" in name else 0.1)
    return model.to(DEVICE).eval()


def scorer_of(model: peft.PeftModel, packed: bool) -> Scorer:
    scorer = Scorer(model, model.get_base_model(), max_tokens=1 << 15, device=DEVICE)
    scorer.use("packed" if packed else "padded")
    return scorer


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_flash_kernel_computes_as_two_sequences(key_heads: int) -> None:
    pairs, found = make_pairs(12, longest=30), []
    pairs[3] = dataclasses.replace(pairs[3], rejected=())  # a rating
    for dtype, packed in ((torch.float32, False), (torch.bfloat16, True)):
        model = adapted(dtype, 0.1, num_key_value_heads=key_heads)
        lora.fuse(model)
        logps = scorer_of(model, packed).token_logps((pack if packed else pad)(pairs, range(12)))
        (logps * torch.arange(len(logps), device=DEVICE).cos()).sum().backward()
        slopes = torch.cat([weight.grad.flatten() for weight in trainable_parameters(model).values()])
        found.append((logps.detach(), slopes))
    (expected, slope), (ours, our_slope) = found
    assert float((ours - expected).abs().mean()) < 0.03
    assert float((our_slope - slope).norm() / slope.norm()) < 0.05


def test_a_small_adapter_arrives_in_bfloat16() -> None:
    pairs = make_pairs(400, longest=30)
    gains = []
    for dtype, packed in ((torch.float32, False), (torch.bfloat16, True)):
        model = adapted(dtype, 3e-4)
        if packed:
            lora.fuse(model)
        scorer, row = scorer_of(model, packed), (pack if packed else pad)(pairs, range(400))
        with torch.no_grad():
            policy = scorer.token_logps(row)
            with model.disable_adapter():
                gains.append(policy - scorer.token_logps(row))
    true, found = gains
    assert float((found * true).sum() / (true * true).sum()) == pytest.approx(1.0, abs=0.15)


def test_policy_equals_reference_before_the_first_step(make_run) -> None:
    run = make_run(dtype="bfloat16", batch_size=10, learning_rate=0.0)
    train(run)
    opening = read_metrics(run)[0]
    assert opening["rewards/margins"] == opening["displacement"] == opening["kl"] == 0
    score(run)
    assert run.read_done()["score"]["margin"] == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_sampling_and_scoring_run_and_agree(dtype: str, make_run) -> None:
    run = make_run(dtype=dtype, epochs=3, sampling={"max_new_tokens": 20, "reference": "base"})
    write_jsonl(
        run.prompts, [{"id": number, "prompt": "the film " * (1 + number % 3)} for number in range(40)]
    )
    train(run)
    sample(run)  # which checks a few completions against the trained policy
    assert run.read_done()["train"]["device"] == "cuda"
    assert run.read_done()["sample"]["completions"] == 80


def test_greedy_decoding_takes_the_likeliest_tokens(make_run, tmp_path: Path) -> None:
    config = make_run(dtype="float32").read_config()
    model = load_policy(config).model
    for weight in trainable_parameters(model).values():
        nn.init.normal_(weight, std=0.2)
    save_adapter(model, tmp_path / "adapter")
    loaded, plain = (
        load_sampled(config, tmp_path / "adapter"),
        load_scored(config, tmp_path / "adapter", beside_start=False),
    )
    settings = SamplingConfig(temperature=0.0, max_new_tokens=12)
    torch.manual_seed(0)
    prompts = [tuple(torch.randint(3, VOCABULARY, (3 + number,)).tolist()) for number in range(20)]
    written = Decoder(loaded.model, frozenset({1}), DEVICE, settings).write(
        [Request(ids, 0) for ids in prompts]
    )
    for ids, one in zip(prompts, written, strict=True):
        whole = torch.tensor([[*ids, *one.token_ids]], device=DEVICE)
        with torch.no_grad():
            likeliest = plain.model(input_ids=whole, use_cache=False).logits[0].argmax(dim=-1)
        assert likeliest[len(ids) - 1 : -1].tolist() == list(one.token_ids)


@pytest.mark.parametrize(
    ("heads", "key_heads", "size", "value_size"),
    [
        (4, 4, 4, 4),
        (14, 2, 64, 64),
        (15, 5, 80, 80),
        (7, 1, 96, 96),
        (12, 2, 128, 128),
        (4, 4, 192, 128),
        (8, 4, 256, 256),
        (6, 3, 60, 36),
    ],
)
@pytest.mark.parametrize("how", [{}, {"sliding_window": 9}, {"softcap": 20.0}], ids=["", "window", "cap"])
def test_packed_heads_of_every_size_attend_as_in_float64(
    heads: int, key_heads: int, size: int, value_size: int, how: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    spans = (Span(40, 30, 0), Span(1, 0, 0), Span(3, 0, 25), Span(200, 70, 33), Span(1, 5, 1))
    total = sum(span.prompt + span.chosen + span.rejected for span in spans)
    shapes = ((heads, size), (key_heads, size), (key_heads, value_size))
    inputs = [torch.randn(1, count, total, width, device=DEVICE).bfloat16() for count, width in shapes]
    weights = torch.randn(1, total, heads, value_size, device=DEVICE)
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        given = [one.to(dtype).requires_grad_() for one in inputs]
        attended, _ = packed_attention(nn.Module(), *given, None, spans=spans, scaling=0.11, **how)
        found.append((attended.detach(), *torch.autograd.grad((attended * weights).sum(), given)))
    for exact, ours in zip(*found, strict=True):
        assert ours.shape == exact.shape
        assert float((ours - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("size", [64, 80, 96, 128, 256, 60])
@pytest.mark.parametrize("columns", [208, 217])
def test_one_query_of_shared_heads_attends_as_in_float64(columns: int, size: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(64, 14, 1, size, device=DEVICE)
    key, value = torch.randn(2, 64, 2, columns, size, device=DEVICE)
    seen = torch.rand(64, 1, 1, columns, device=DEVICE) < 0.7
    seen[..., 0] = True
    half = (one.bfloat16() for one in (query, key, value))
    found, _ = one_query_attention(nn.Module(), *half, seen)
    exact = (one.bfloat16().double() for one in (query, key, value))
    expected = functional.scaled_dot_product_attention(*exact, attn_mask=seen, enable_gqa=True)
    assert found.shape == (64, 1, 14, size)
    assert float((found.transpose(1, 2) - expected).abs().max()) < 0.02


def test_norms_of_a_loaded_model_are_fused(make_run) -> None:
    config = make_run(dtype="bfloat16").read_config()
    norms = [one for one in load_base(config).model.modules() if type(one).__name__ == "LlamaRMSNorm"]
    for norm in norms:
        x = torch.randn(9, len(norm.weight), device=DEVICE).bfloat16()
        own = type(norm).forward(norm, x)
        torch.testing.assert_close(norm(x), own, rtol=2**-6, atol=0)
        assert "forward" in vars(norm)
    assert len(norms) == 5


def some_requests(count: int, longest: int) -> list[Request]:
    torch.manual_seed(0)
    lengths = torch.randint(2, longest, (count,)).tolist()
    return [
        Request(tuple(torch.randint(3, VOCABULARY, (length,)).tolist()), seed)
        for seed, length in enumerate(lengths)
    ]


def test_recorded_steps_write_what_single_steps_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_ROOM", 32)  # recorded again with more columns, and with fewer rows
    model = make_model(tiny_llama(max_position_embeddings=512)).to(DEVICE)
    settings = SamplingConfig(max_new_tokens=200, batch_size=64)
    ends = frozenset(range(1, VOCABULARY, 120))
    written = []
    for way in WAYS[:2]:
        decoder = Decoder(model, ends, DEVICE, settings)
        decoder.use(way)
        written.append(decoder.write(some_requests(100, 20)))
        decoder.release()
    recorded, single = written
    same = [both for both in zip(recorded, single, strict=True) if both[0].token_ids == both[1].token_ids]
    assert len(same) >= 98  # a number may lie on the edge of two tokens
    assert all(ours.logprob == pytest.approx(theirs.logprob, abs=0.01) for ours, theirs in same)
    assert len({len(one.token_ids) for one in recorded}) > 20


def test_a_checkpoint_of_the_optimizer_is_taken_over_whole() -> None:
    model = adapted(torch.bfloat16, 0.1)
    weights = trainable_parameters(model)
    config = TrainConfig.from_dict({"base_model": "starter", "learning_rate": 1e-3})
    state = State.initial(config, model)
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    state.optimizer.step()
    kept = state.tensors()
    state.optimizer.step()
    after = {name: weight.detach().clone() for name, weight in weights.items()}
    again = State.initial(config, model)
    again.load(kept)
    again.optimizer.step()
    assert all(torch.equal(weight, after[name]) for name, weight in weights.items())


def test_memory_that_is_kept_for_later_counts_as_free() -> None:
    """Other processes may allocate meanwhile: what the device alone says is taken at the same moment."""

    def kept() -> int:
        return free_memory(DEVICE) - torch.cuda.mem_get_info(DEVICE)[0]

    torch.cuda.empty_cache()
    before = kept()
    held = torch.empty(1 << 33, dtype=torch.uint8, device=DEVICE)
    assert kept() < before + (1 << 32)
    del held
    assert kept() > before + (1 << 32)
    torch.cuda.empty_cache()


def test_more_logits_than_32_bits_can_count_are_exact() -> None:
    """2,400 million of them in a padded row: 16,000 tokens of a vocabulary like Qwen's."""
    if free_memory(DEVICE) < 40 << 30:
        pytest.skip("needs 40 GB of free memory")
    shape: dict[str, object] = {"vocab_size": 151_936, "max_position_embeddings": 512}
    model = make_model(tiny_llama(**shape)).to(DEVICE)
    pairs = [pair_of_lengths(10, 250 + number % 3, 250) for number in range(32)]
    logps = []
    for packed in (True, False):
        scorer = Scorer(model, model, max_tokens=1 << 15, device=DEVICE)
        scorer.use("packed" if packed else "padded")
        with torch.no_grad():
            logps.append(scorer.token_logps((pack if packed else pad)(pairs, range(32))))
        scorer.release()
        torch.cuda.empty_cache()
    assert len(logps[0]) * 151_936 > 2**31
    torch.testing.assert_close(*logps, rtol=0, atol=1e-3)


def test_a_model_that_asks_the_device_is_written_step_by_step(make_run) -> None:
    loaded = load_sampled(make_run(dtype="float32").read_config(), None)

    def ask(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].sum().item()

    hook = loaded.base.model.layers[0].register_forward_pre_hook(ask)
    requests = some_requests(8, 20)
    prompts = [one.prompt for one in requests]
    decoder = Decoder(loaded.model, frozenset({1}), DEVICE, SamplingConfig(max_new_tokens=8))
    assert "step by step, which is slower" in choose_way(decoder, loaded, prompts)
    assert len(decoder.write(requests)) == 8
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    # The failed recording leaves nothing behind that a later one would fail of.
    hook.remove()
    assert not choose_way(decoder, loaded, prompts)
    assert len(decoder.write(requests)) == 8
    torch.cuda.empty_cache()
