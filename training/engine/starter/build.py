"""The starter model, made: a Llama of about one million parameters that writes film reviews.

`python -m training.engine starter OUT_DIR` composes the reviews, trains a byte-level BPE tokenizer and the model on
them, and writes weights, tokenizer and model card. Everything is drawn from one seed, so the same machine writes
the same bytes each time. The card tells how well the model predicts reviews that it never saw.
"""

import math
import random
import statistics
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.engine.config import SamplingConfig
from training.engine.records import SamplingPrompt
from training.engine.rundir import write_whole
from training.engine.sample import write_samples
from training.engine.sampling.decoding import Decoder
from training.engine.starter import reviews

VOCABULARY = 1024
MAX_LENGTH = 512
BATCH = 32
STEPS = 800
WARMUP = 40
LEARNING_RATE = 6e-3
HELD_OUT = 1000
SHOWN = 500  # samples that the card's figures are taken of
MAX_NEW_TOKENS = 96  # of a sample; the longest review takes about 75 tokens
IGNORED = -100  # the label of a token that no loss is taken of
THREADS = 2  # sums are split by thread: the same bytes need the same number of threads
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def build(out_dir: Path, seed: int = 0, steps: int = STEPS) -> None:
    """Train tokenizer and model from `seed` and write them to `out_dir` with a model card."""
    out_dir.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        rng = random.Random(seed)
        corpus = ["".join(reviews.review(rng)) for _ in range(HELD_OUT + BATCH * steps)]
        held_out, training = corpus[:HELD_OUT], corpus[HELD_OUT:]
        tokenizer = train_tokenizer(training[:20_000])
        model = train_model(tokenizer, training, seed)
        model.half().float()  # what is measured is what is saved
        loss = held_out_loss(model, tokenizer, held_out)
        samples = complete(model, tokenizer, reviews.openings(SHOWN, seed), seed)
    finally:
        torch.set_num_threads(before)
    tokenizer.save_pretrained(out_dir)
    model.half().save_pretrained(out_dir)
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=MAX_NEW_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(out_dir)
    card = model_card(model.num_parameters(), len(training), seed, loss, samples)
    write_whole(out_dir / "README.md", card.encode())


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose encoding begins with BOS.

    Pieces are split before each space, so a prompt never merges with the completion's first word.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[BOS, EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=MAX_LENGTH
    )


def train_model(tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> LlamaForCausalLM:
    """Train one pass over `texts`, BATCH of them to a step, with AdamW, warm-up and cosine decay."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    batches = _batches(tokenizer, texts, random.Random(seed))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(batches)))
    model.train()
    for step, (ids, labels) in enumerate(batches, start=1):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == len(batches):
            print(f"step {step} of {len(batches)}: loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """Return the mean negative log-likelihood in nats per token, end-of-sequence included, in float32."""
    total, tokens = 0.0, 0
    for ids, labels in _batches(tokenizer, texts, random.Random(0)):
        count = int((labels[:, 1:] != IGNORED).sum())
        total += float(model(input_ids=ids, labels=labels).loss) * count
        tokens += count
    return total / tokens


def _batches(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], rng: random.Random
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of texts of like length, in random order: right-padded ids and labels, (B, T) int64.

    Causal attention makes a mask for the padding needless. Sorting within 16 batches spares most of it.
    """
    rows = [torch.tensor([*ids, tokenizer.eos_token_id]) for ids in tokenizer(texts).input_ids]
    batches = []
    for start in range(0, len(rows), 16 * BATCH):
        some = sorted(rows[start : start + 16 * BATCH], key=len)
        batches += [some[i : i + BATCH] for i in range(0, len(some), BATCH)]
    rng.shuffle(batches)
    pad: int = tokenizer.pad_token_id
    return [
        (pad_sequence(batch, True, pad), pad_sequence(batch, True, IGNORED))  # batch first
        for batch in batches
    ]


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: linear warm-up, then half a cosine down to a hundredth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, openings: list[str], seed: int
) -> list[tuple[str, str]]:
    """Return one completion per opening at temperature 1: (opening, completion)."""
    settings = SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, samples_per_prompt=1, seed=seed)
    decoder = Decoder(model, frozenset({tokenizer.eos_token_id}), torch.device("cpu"), settings)
    prompts = [
        (SamplingPrompt(str(number), opening), tuple(tokenizer(opening).input_ids))
        for number, opening in enumerate(openings)
    ]
    samples = write_samples(decoder, tokenizer, prompts, settings)
    return [(opening, one.text) for opening, one in zip(openings, samples, strict=True)]


def model_card(
    parameters: int, reviews_seen: int, seed: int, loss: float, samples: list[tuple[str, str]]
) -> str:
    """Return the README.md of the weights."""
    rewards = [reviews.reward(completion) for _, completion in samples]
    reward = f"{statistics.mean(rewards):+.2f} (standard deviation {statistics.pstdev(rewards):.2f})"
    words = statistics.mean(len(completion.split()) for _, completion in samples)
    shown = "\n\n".join(f"> **{prompt}**{completion}" for prompt, completion in samples[:8])
    return f"""# The starter model

A Llama-architecture language model of {parameters:,} parameters that writes short film reviews. It makes the whole
loop of sampling, judging and training real on a laptop, without a download. It knows nothing but its reviews: use it
to try Whetstone, not to learn about films.

## How it was made

`python -m training.engine starter training/starter --seed {seed}` rebuilds it, byte for byte on the same
machine, in under three minutes on two CPU cores.

- **Text**: {reviews_seen:,} reviews composed by `training/engine/starter/reviews.py` from a small grammar: an opening,
  two to four sentences on acting, plot, music, pictures, direction, pace, dialogue or ending, and a closing. Each
  review has a mood, the chance that an opinion in it praises; a fifth of the sentences hold no opinion.
- **Tokens**: byte-level BPE of {VOCABULARY:,} tokens trained on those reviews; `{BOS}` begins every text, `{EOS}`
  ends it.
- **Model**: 4 layers, hidden size 128, 4 heads, tied embeddings, {MAX_LENGTH} positions; one pass over the reviews in
  batches of {BATCH} with AdamW, learning rate {LEARNING_RATE}, warm-up and cosine decay; stored in half precision.

## What it does

| | |
| --- | --- |
| loss on {HELD_OUT:,} reviews that it never saw | {loss:.3f} nats per token |
| mean reward of {len(samples)} samples, temperature 1 | {reward} |
| mean length of a completion | {words:.0f} words |

The reward is (praise - blame) / (praise + blame) over the word lists of `training/engine/starter/reviews.py`, and 0
where a text has neither. Only simulations, tests and benchmarks use it: people judge by reading.

`recommended.json` holds settings of training and sampling that suit a model of this size.

## Samples

{shown}
"""
