"""Writing tokens: equal to transformers' greedy generation, true to the distribution, the same in any batch."""

import itertools
import random
from collections.abc import Sequence

import psutil
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.conftest import VOCABULARY, make_model, tiny_llama
from tests.variants import slow_but
from training.engine.config import SamplingConfig
from training.engine.errors import MemoryShortError, ModelError
from training.engine.model.threads import Crew, Job
from training.engine.sampling import decoding, reading, recording
from training.engine.sampling.decoding import Decoder, Generation, close_ranks
from training.engine.sampling.grouping import Request, make_groups, tokens_at_once
from training.engine.sampling.kvcache import sees_all
from training.engine.sampling.reading import WAYS

CPU_IS_FULL = (
    "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."
)
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "llama": tiny_llama(),
    "qwen2": transformers.Qwen2Config(**SHAPE),
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=1
    ),
    "a sliding window": transformers.MistralConfig(**SHAPE, sliding_window=6, head_dim=8),
    "soft-capped scores": transformers.Gemma2Config(
        **SHAPE, head_dim=8, sliding_window=6, query_pre_attn_scalar=8, final_logit_softcapping=10.0
    ),
    "layers without keys and values": transformers.Lfm2Config(
        **SHAPE, layer_types=["conv", "full_attention"], conv_L_cache=3, block_multiple_of=16
    ),
}
# Many ids end a completion, so that rows end at very different times.
ENDS = frozenset(range(1, VOCABULARY, 23))


def some_prompts(count: int) -> list[tuple[int, ...]]:
    rng = random.Random(0)
    return [tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 14))) for _ in range(count)]


def decoder(
    model: transformers.PreTrainedModel, eos_ids: frozenset[int] = ENDS, **settings: object
) -> Decoder:
    return Decoder(model, eos_ids, torch.device("cpu"), SamplingConfig(**settings))


def write(
    model: transformers.PreTrainedModel, prompts: Sequence[tuple[int, ...]], n: int = 1, **settings: object
) -> list[Generation]:
    requests = [Request(ids, 1000 * at + index) for at, ids in enumerate(prompts) for index in range(n)]
    return decoder(model, **settings).write(requests)


@torch.no_grad()
def plain_logprobs(
    model: transformers.PreTrainedModel, prompt: tuple[int, ...], tokens: tuple[int, ...]
) -> list[float]:
    """One sequence, one forward, nothing cached: the log-probability of each token after the prompt."""
    ids = torch.tensor([[*prompt, *tokens]])
    logprobs = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(dim=-1)
    return [logprobs[len(prompt) - 1 + at, token].item() for at, token in enumerate(tokens)]


@pytest.mark.parametrize("name", slow_but(CONFIGS, "qwen2", "soft-capped scores"))
def test_greedy_completions_are_those_of_transformers(name: str) -> None:
    model = make_model(CONFIGS[name])
    prompts = some_prompts(7)
    # Longer than the cache grows at once, and more prompts than a batch holds.
    written = write(model, prompts, temperature=0, max_new_tokens=70, batch_size=5)
    oracle = make_model(CONFIGS[name])
    for prompt, one in zip(prompts, written, strict=True):
        ids = torch.tensor([prompt])
        expected = oracle.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=70,
            eos_token_id=sorted(ENDS),
            pad_token_id=0,
        )[0, len(prompt) :]
        assert list(one.token_ids) == expected.tolist()
        assert (one.finish_reason == "stop") == (one.token_ids[-1] in ENDS)
        assert one.logprob == pytest.approx(sum(plain_logprobs(oracle, prompt, one.token_ids)), abs=1e-3)
    assert len({len(one.token_ids) for one in written}) > 1


@pytest.mark.parametrize("name", slow_but(CONFIGS, "qwen2", "a sliding window"))
def test_a_cache_of_fixed_size_writes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_ROOM", 8)  # enlarged while rows are written, and left by some of them
    monkeypatch.setattr(recording.RecordedRows, "crowd", 0.8)
    prompts = some_prompts(12)
    usual = write(make_model(CONFIGS[name]), prompts, n=2, max_new_tokens=40, batch_size=9)
    recorded = decoder(make_model(CONFIGS[name]), max_new_tokens=40, batch_size=9)
    recorded.use(WAYS[0])
    requests = [Request(ids, 1000 * at + index) for at, ids in enumerate(prompts) for index in range(2)]
    written = recorded.write(requests)
    assert [one.token_ids for one in written] == [one.token_ids for one in usual]
    for ours, theirs in zip(written, usual, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
    assert len({len(one.token_ids) for one in written}) > 1


def test_a_window_that_hides_columns_is_not_recorded() -> None:
    config = CONFIGS["a sliding window"]
    assert sees_all(config, config.sliding_window)
    assert not sees_all(config, config.sliding_window + 1)
    assert sees_all(CONFIGS["qwen2"], 10**6)


@pytest.mark.parametrize("name", slow_but(CONFIGS, "a sliding window"))
def test_threads_that_write_groups_of_their_own_write_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = some_prompts(30)
    alone = write(make_model(CONFIGS[name]), prompts, n=2, max_new_tokens=40, batch_size=9)
    monkeypatch.setattr(decoding, "_ROWS_ALONE", 4)
    monkeypatch.setattr(reading, "_PROMPTS", 2)  # fed in parts, of differing width
    monkeypatch.setattr(decoding, "threads_apart", lambda *_: 3)
    ran = spy_threads(monkeypatch)
    apart = write(make_model(CONFIGS[name]), prompts, n=2, max_new_tokens=40, batch_size=9)
    assert ran == [3]
    assert [one.token_ids for one in apart] == [one.token_ids for one in alone]
    for ours, theirs in zip(apart, alone, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def spy_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """On how many threads groups are written, as it happens."""
    ran: list[int] = []

    class Spy(Crew):
        def run(self, jobs: Sequence[Job]) -> None:
            ran.append(self.threads)
            super().run(jobs)

    monkeypatch.setattr(decoding, "Crew", Spy)
    return ran


@pytest.mark.parametrize(
    ("rows", "expected"), [(128, 2), (300, 2), (127, 1)], ids=["enough", "many", "too few"]
)
def test_threads_write_apart_where_each_has_rows_enough(
    rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "threads_apart", lambda *_: 2)
    ran = spy_threads(monkeypatch)
    write(make_model(tiny_llama()), some_prompts(rows), max_new_tokens=1, batch_size=rows)
    assert ran == [expected]


@given(st.lists(st.booleans(), max_size=40))
def test_rows_that_go_on_close_ranks_and_few_of_them_move(goes_on: list[bool]) -> None:
    alive = torch.tensor(goes_on, dtype=torch.bool).nonzero()[:, 0]
    kept, moved = close_ranks(alive)
    assert sorted(kept.tolist()) == alive.tolist()
    assert [at for at, row in enumerate(kept.tolist()) if row != at] == moved.tolist()
    assert all(row >= len(alive) for row in kept[moved].tolist())


@pytest.mark.parametrize("name", slow_but(CONFIGS, "llama", "layers without keys and values"))
def test_recorded_logprob_is_the_policys_before_any_cut(name: str) -> None:
    model = make_model(CONFIGS[name])
    prompts = some_prompts(6)
    for settings in ({}, {"temperature": 0.6, "top_p": 0.8, "top_k": 40}):
        written = write(model, prompts, n=2, max_new_tokens=30, **settings)
        for at, one in enumerate(written):
            expected = sum(plain_logprobs(make_model(CONFIGS[name]), prompts[at // 2], one.token_ids))
            assert one.logprob == pytest.approx(expected, abs=1e-4)


def test_completion_depends_on_prompt_and_seed_alone() -> None:
    model = make_model(tiny_llama())
    requests = [Request(ids, seed) for seed, ids in enumerate(some_prompts(20) * 2)]
    together = decoder(model, max_new_tokens=40).write(requests)
    assert len({one.token_ids for one in together}) == len(together)
    alone = decoder(model, max_new_tokens=40, batch_size=1).write(requests)
    threes = decoder(model, max_new_tokens=40, batch_size=3).write(requests[::-1])[::-1]
    for one, *others in zip(together, alone, threes, strict=True):
        for other in others:
            assert (other.token_ids, other.finish_reason) == (one.token_ids, one.finish_reason)
            assert other.logprob == pytest.approx(one.logprob, abs=1e-4)


def test_completions_end_with_the_end_id_or_at_the_limit() -> None:
    written = write(make_model(tiny_llama()), some_prompts(40), max_new_tokens=12)
    assert {one.finish_reason for one in written} == {"stop", "length"}
    for one in written:
        inner, last = one.token_ids[:-1], one.token_ids[-1]
        assert not ENDS.intersection(inner)
        assert (last in ENDS) == (one.finish_reason == "stop")
        assert one.finish_reason == "stop" or len(one.token_ids) == 12


def test_progress_counts_up_to_every_completion() -> None:
    heard: list[tuple[int, float]] = []
    requests = [Request(ids, at) for at, ids in enumerate(some_prompts(20))]
    writer = decoder(make_model(tiny_llama()), max_new_tokens=30, batch_size=8)
    writer.write(requests, lambda *told: heard.append(told))
    assert heard == sorted(heard)
    assert heard[-1] == (20, 1.0)
    # The share is one of tokens: it rises while no completion ends.
    shares = {share for ended, share in heard if ended == heard[0][0]}
    assert len(shares) > 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_IS_FULL)])
def test_a_batch_that_memory_refuses_is_halved(error: Exception) -> None:
    model = make_model(tiny_llama())
    requests = [Request(ids, at) for at, ids in enumerate(some_prompts(14))]
    whole = decoder(model, max_new_tokens=20).write(requests)
    halved = decoder(Narrow(model, 3, error), max_new_tokens=20).write(requests)
    assert [one.token_ids for one in halved] == [one.token_ids for one in whole]
    with pytest.raises(MemoryShortError, match="not even one completion, of a prompt of"):
        decoder(Narrow(model, 0, error), max_new_tokens=20).write(requests)


class Narrow(torch.nn.Module):
    """A model for which more than some rows do not fit into memory."""

    def __init__(self, model: transformers.PreTrainedModel, most: int, error: Exception) -> None:
        super().__init__()
        self.model, self.most, self.error, self.config = model, most, error, model.config

    def forward(
        self,
        input_ids: torch.Tensor,
        logits_to_keep: int = 0,
        past_key_values: object = None,
        **inputs: object,
    ) -> object:
        if len(input_ids) > self.most:
            raise self.error
        return self.model(
            input_ids=input_ids, logits_to_keep=logits_to_keep, past_key_values=past_key_values, **inputs
        )

    def set_attn_implementation(self, name: str) -> None:
        self.model.set_attn_implementation(name)


def test_damaged_weights_are_reported_and_not_sampled_from() -> None:
    model = make_model(tiny_llama())
    model.get_output_embeddings().weight[7] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        write(model, some_prompts(2), max_new_tokens=4)


def test_groups_hold_like_lengths_and_keep_a_prompt_together() -> None:
    prompts = some_prompts(30)
    requests = [Request(ids, at) for at, ids in enumerate(prompts * 2)]
    groups = make_groups(requests, 10, 2, new=40)
    assert [len(group) for group in groups] == [10] * 6
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(60))
    lengths = [[len(requests[at].prompt) for at in group] for group in groups]
    assert all(min(before) >= max(after) for before, after in itertools.pairwise(lengths))
    order = [requests[at].prompt for group in groups for at in group]
    assert all(order[at] == order[at + 1] for at in range(0, 60, 2))


def test_a_long_prompt_is_not_written_beside_short_ones() -> None:
    """60 rows as long as the longest would hold 60 times its keys and values."""
    prompts = [(7,) * length for length in (4000, *range(20, 80))]
    requests = [Request(ids, at) for at, ids in enumerate(prompts)]
    first, *others = make_groups(requests, 256, new=128, tokens=8192)
    assert first == [0]
    for group in others:
        widths = [len(prompts[at]) + 128 for at in group]
        assert len(group) * max(widths) <= 8192
        assert max(widths) <= 1.5 * min(widths)
    assert sorted(itertools.chain(first, *others)) == list(range(61))


def test_a_prompt_larger_than_the_budget_is_written_alone() -> None:
    requests = [Request((7,) * 50, at) for at in range(3)]
    assert make_groups(requests, 256, new=10, tokens=59) == [[0], [1], [2]]


def test_what_is_held_at_once_goes_by_the_free_memory() -> None:
    """The keys and values of a token: 2 layers, 2 heads of them, 8 numbers of 4 bytes each, twice."""
    model = make_model(transformers.Qwen2Config(**SHAPE))
    cpu = torch.device("cpu")
    found = tokens_at_once(model, cpu, SamplingConfig())
    assert found is not None
    assert found * 2 * 2 * 2 * 8 * 4 < psutil.virtual_memory().total / 4
    assert found > 10_000
    assert tokens_at_once(model, cpu, SamplingConfig(max_tokens=77)) == 77


# --- Drawing one token -------------------------------------------------------------------------------------------


def test_a_repetition_is_penalized_as_generate_does() -> None:
    """Greedy, so that every step shows which tokens the text holds: prompt and completion, as rows leave the batch."""
    model = make_model(tiny_llama())
    prompts = some_prompts(4)
    settings = {"max_new_tokens": 12, "temperature": 0.0, "repetition_penalty": 1.6}
    found = decoder(model, **settings).write([Request(ids, 0) for ids in prompts])
    for ids, one in zip(prompts, found, strict=True):
        generated = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            repetition_penalty=1.6,
            eos_token_id=sorted(ENDS),
            pad_token_id=0,
        )
        assert list(one.token_ids) == generated[0, len(ids) :].tolist()
