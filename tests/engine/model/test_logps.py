"""Log-probabilities are right for every architecture, in every form, and cost no kept logits."""

import dataclasses

import peft
import pytest
import torch
import transformers
from torch.nn import functional

from tests.engine.conftest import SHAPE, VOCABULARY, make_model, make_pairs, tiny_llama
from training.engine.model import logps
from training.engine.model.logps import Head, Scorer, TokenLogps

_COMMON = {key: value for key, value in SHAPE.items() if key != "num_hidden_layers"} | {
    "num_hidden_layers": 3,
    "pad_token_id": 1,
}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_IDS = {"bos_token_id": 0, "eos_token_id": 1}

# Sliding windows (of fewer tokens than a sequence), tied and untied heads, learned positions, score and
# logit caps, scaled logits.
ARCHITECTURES = {
    "llama": tiny_llama(),
    "llama-tied": tiny_llama(tie_word_embeddings=True),
    "qwen2": transformers.Qwen2Config(
        **_COMMON, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen3": transformers.Qwen3Config(**_COMMON, head_dim=16, tie_word_embeddings=True),
    "gpt2": transformers.GPT2Config(**_GPT2, **_IDS),
    "gemma": transformers.GemmaConfig(**_COMMON, head_dim=16),
    "gemma2": transformers.Gemma2Config(
        **_COMMON,
        head_dim=16,
        sliding_window=5,
        query_pre_attn_scalar=16,
        final_logit_softcapping=2.0,
        attn_logit_softcapping=4.0,
        attn_implementation="eager",  # as `load_base` has it
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **_COMMON, head_dim=16, sliding_window=5, query_pre_attn_scalar=16
    ),
    "mistral": transformers.MistralConfig(**_COMMON, sliding_window=5),
    "cohere": transformers.CohereConfig(**_COMMON, logit_scale=0.5),
    "granite": transformers.GraniteConfig(**_COMMON, logits_scaling=4.0),
    "mixtral": transformers.MixtralConfig(**_COMMON, num_local_experts=4),
}


def scorer_for(model, *, packed: bool, max_tokens: int = 4096) -> Scorer:
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    # One scorer a model: it remembers the attention that packing replaces.
    scorer = base.__dict__.setdefault("scorer", Scorer(model, base, max_tokens=0, device=torch.device("cpu")))
    scorer.max_tokens = max_tokens
    scorer.use("packed" if packed else "padded")
    return scorer


def all_logps(scorer: Scorer, pairs) -> torch.Tensor:
    """(pairs, 2), with gradients."""
    found: list = [None] * len(pairs)
    for row in scorer.rows(pairs, scorer.groups(pairs, range(len(pairs)))):
        chosen, rejected = scorer.pair_logps(row)
        for at, pair in enumerate(row.pairs):
            found[pair] = torch.stack([chosen[at], rejected[at]])
    return torch.stack(found)


@torch.no_grad()
def naive_token_logps(model, prompt, completion) -> list[float]:
    """One sequence alone through the model's own forward, one token at a time."""
    logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
    found = []
    for place, token in enumerate(completion, start=len(prompt)):
        scores = logits[place - 1].double()
        found.append(float(scores[token] - torch.log(torch.exp(scores).sum())))
    return found


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probabilities_equal_a_naive_loop(name: str, packed: bool) -> None:
    model, pairs = make_model(ARCHITECTURES[name]), make_pairs(5)
    naive = [naive_token_logps(model, p.prompt, c) for p in pairs for c in (p.chosen, p.rejected)]
    scorer = scorer_for(model, packed=packed)
    (row,) = scorer.rows(pairs, [range(len(pairs))])
    with torch.no_grad():
        per_token, (chosen, rejected) = scorer.token_logps(row), scorer.pair_logps(row)
    flat = torch.tensor([value for sequence in naive for value in sequence])
    torch.testing.assert_close(per_token, flat, atol=1e-5, rtol=0)
    sums = torch.tensor([sum(sequence) for sequence in naive], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([chosen, rejected], 1).flatten(), sums, atol=1e-5, rtol=0)


def with_lora(model):
    """Return a policy that differs from its base, so that adapter gradients are not trivially equal."""
    torch.manual_seed(1)
    conv = any(isinstance(module, transformers.pytorch_utils.Conv1D) for module in model.modules())
    # PEFT warns of the experts that it finds no adapter for.
    layers = ["q_proj", "v_proj"] if model.config.model_type == "mixtral" else "all-linear"
    policy = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=layers, fan_in_fan_out=conv, task_type="CAUSAL_LM")
    )
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return policy


def adapter_gradients(policy, scorer: Scorer, pairs) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    logps = all_logps(scorer, pairs)
    (logps[:, 0] - 0.5 * logps[:, 1] ** 2 / 100).sum().backward()
    return {name: w.grad.clone() for name, w in policy.named_parameters() if w.requires_grad}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gemma2", "mistral"])
def test_packed_rows_give_the_adapter_gradients_of_two_sequences(name: str) -> None:
    pairs, policy = make_pairs(4), with_lora(make_model(ARCHITECTURES[name]))
    packed = adapter_gradients(policy, scorer_for(policy, packed=True), pairs)
    plain = adapter_gradients(policy, scorer_for(policy, packed=False), pairs)
    assert packed.keys() == plain.keys()
    for key in plain:
        torch.testing.assert_close(packed[key], plain[key], atol=1e-5, rtol=1e-4, msg=key)


def test_batching_and_packing_change_nothing_in_float32() -> None:
    model, pairs = make_model(ARCHITECTURES["llama"]), make_pairs(9)
    with torch.no_grad():
        alone = torch.cat([all_logps(scorer_for(model, packed=True), [pair]) for pair in pairs])
        for packed in (True, False):
            for budget in (16, 60, 4096):
                scorer = scorer_for(model, packed=packed, max_tokens=budget)
                torch.testing.assert_close(all_logps(scorer, pairs), alone, atol=1e-4, rtol=0)
                backwards = all_logps(scorer, pairs[::-1]).flip(0)
                torch.testing.assert_close(backwards, alone, atol=1e-4, rtol=0)


def test_bfloat16_scores_are_alike_in_any_row_within_a_bound() -> None:
    # Measured over 200 pairs: packed against padded at most 0.0082 nats a token, 0.0008 on average; packed rows of
    # other sizes not at all.
    model, pairs = make_model(ARCHITECTURES["llama"]).bfloat16(), make_pairs(20)
    with torch.no_grad():
        packed = all_logps(scorer_for(model, packed=True), pairs)
        smaller = all_logps(scorer_for(model, packed=True, max_tokens=60), pairs)
        plain = all_logps(scorer_for(model, packed=False, max_tokens=64), pairs)
    lengths = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
    assert smaller.equal(packed)
    assert ((packed - plain).abs() / lengths).max() < 0.02
    assert ((packed - plain).abs() / lengths).mean() < 0.002


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_chosen_completion_does_not_change_the_rejected_score(name: str) -> None:
    model, pairs = make_model(ARCHITECTURES[name]), make_pairs(3)
    other = [
        dataclasses.replace(pair, chosen=tuple(3 + (token + 7) % 300 for token in pair.chosen))
        for pair in pairs
    ]
    scorer = scorer_for(model, packed=True)
    with torch.no_grad():
        before, after = all_logps(scorer, pairs), all_logps(scorer, other)
    torch.testing.assert_close(after[:, 1], before[:, 1], atol=0, rtol=0)
    assert (after[:, 0] != before[:, 0]).all()


def test_what_a_neighbour_in_the_row_says_changes_nothing() -> None:
    model, pairs = make_model(ARCHITECTURES["llama"]), make_pairs(3)
    first = pairs[0]
    neighbour = dataclasses.replace(first, prompt=tuple(3 + (token + 5) % 300 for token in first.prompt))
    with torch.no_grad():
        before = all_logps(scorer_for(model, packed=True), pairs)
        after = all_logps(scorer_for(model, packed=True), [neighbour, *pairs[1:]])
    torch.testing.assert_close(after[1:], before[1:], atol=0, rtol=0)


def test_last_prompt_token_predicts_both_completions() -> None:
    model, (pair,) = make_model(ARCHITECTURES["llama"]), make_pairs(1)
    scorer = scorer_for(model, packed=True)
    (row,) = scorer.rows([pair], [[0]])
    last = len(pair.prompt) - 1
    assert row.index[0] == row.index[len(pair.chosen)] == last
    assert row.targets[0] == pair.chosen[0]
    assert row.targets[len(pair.chosen)] == pair.rejected[0]


@pytest.mark.parametrize("block", [7, 50], ids=["blocks", "one block"])
@pytest.mark.parametrize("softcap", [None, 3.0], ids=["plain", "softcap"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_projection_in_blocks_has_the_gradient_of_log_softmax(
    softcap: float | None, bias: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(logps._BLOCK, "cpu", block)
    weight, hidden = torch.randn(50, 8).double(), torch.randn(11, 8).double().requires_grad_()
    offset = torch.randn(50).double() if bias else None
    targets = torch.randint(50, (11,))
    upstream = torch.randn(11).double()

    logits = functional.linear(hidden, weight, offset) * 0.7
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    expected = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (slope,) = torch.autograd.grad((expected * upstream).sum(), hidden)

    head = Head(weight, offset, scale=0.7, softcap=softcap)
    found = TokenLogps.apply(hidden, targets, head)
    (ours,) = torch.autograd.grad((found * upstream).sum(), hidden)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, slope, atol=1e-5, rtol=1e-5)


def test_the_projection_keeps_no_logits_for_the_backward_pass() -> None:
    hidden = torch.randn(30, 8, requires_grad=True)
    found = TokenLogps.apply(hidden, torch.randint(5000, (30,)), Head(torch.randn(5000, 8), None))
    kept = sum(tensor.numel() for tensor in found.grad_fn.saved_tensors)
    assert kept <= 30 * 8  # 30 * 5000 logits would be kept by autograd


# --- Rows in multiples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
def test_rows_of_half_precision_have_few_lengths_on_a_cpu(packed: bool) -> None:
    pairs = make_pairs(40, longest=120)
    lengths = {}
    for dtype in (torch.bfloat16, torch.float32):
        scorer = scorer_for(make_model(ARCHITECTURES["llama"]).to(dtype), packed=packed, max_tokens=1_000)
        rows = list(scorer.rows(pairs, scorer.groups(pairs, range(len(pairs)))))
        lengths[dtype] = [row.input_ids.shape[1] for row in rows]
        assert packed or max(row.tokens for row in rows) <= 1_000
    long = [length for length in lengths[torch.bfloat16] if packed or length >= 128]
    assert {length % 32 for length in long} == {0}
    assert any(length % 32 for length in lengths[torch.float32])
    if packed:
        added = [more - own for more, own in zip(*lengths.values(), strict=True)]
        assert max(added) < 32


def test_short_sequences_are_not_filled() -> None:
    """Most of a padded row would be padding."""
    model, pairs = make_model(ARCHITECTURES["llama"]).bfloat16(), make_pairs(40, longest=6)
    scorer = scorer_for(model, packed=False, max_tokens=500)
    rows = scorer.rows(pairs, scorer.groups(pairs, range(len(pairs))))
    assert max(row.input_ids.shape[1] for row in rows) == 11


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_fills_rows_changes_no_log_probability(
    name: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = with_lora(make_model(ARCHITECTURES[name]))
    pairs = make_pairs(4)
    found = []
    for multiple in (1, 32):
        monkeypatch.setattr(logps, "row_multiple", lambda *_, multiple=multiple: multiple)
        scorer = scorer_for(policy, packed=packed)
        found.append((all_logps(scorer, pairs).detach(), adapter_gradients(policy, scorer, pairs)))
    (plain, slopes), (filled, others) = found
    torch.testing.assert_close(filled, plain, rtol=1e-6, atol=2e-5)
    for key, slope in slopes.items():
        torch.testing.assert_close(others[key], slope, rtol=1e-4, atol=2e-5, msg=key)


def test_rows_are_not_filled_beyond_the_last_position() -> None:
    """A model with learnt positions has none for what fills a row."""
    model = make_model(transformers.GPT2Config(**_GPT2 | {"n_positions": 50}, **_IDS)).bfloat16()
    (pair,) = make_pairs(1)
    pair = dataclasses.replace(pair, prompt=(pair.prompt * 50)[:40], chosen=(pair.chosen * 50)[:11])
    assert all_logps(scorer_for(model, packed=False), [pair]).isfinite().all()
