"""Models for the benchmark: random weights in a given shape, a tokenizer of single bytes, initial adapters."""

import time
import warnings
from pathlib import Path

import peft
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

from benchmarks.shapes import LORA_RANK, ModelShape

LORA_ALPHA = 32
END = "<|endoftext|>"


def make_model(shape: ModelShape, folder: Path, *, seed: int, device: str) -> None:
    """Write a Qwen2 of this shape with random weights in bfloat16, and its tokenizer."""
    config = transformers.Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=shape.tied,
        eos_token_id=256,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def byte_tokenizer() -> transformers.Qwen2Tokenizer:
    """Qwen2's tokenizer without merges: one token a byte, then the end of sequence; all other ids lie idle."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    return transformers.Qwen2Tokenizer(vocab=vocabulary | {END: len(letters)}, merges=[], eos_token=END)


def make_adapter(model_folder: Path, folder: Path, *, seed: int) -> None:
    """Write the adapter that both trainers begin from: A drawn at random, B zero, so that it changes nothing."""
    config = transformers.AutoConfig.from_pretrained(model_folder)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    lora = peft.LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        # PEFT still asks for transformers' older name of gradient checkpointing.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
        adapted = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    weights = peft.get_peft_model_state_dict(adapted)
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name in sorted(weights):
        shape = weights[name].shape
        bound = shape[1] ** -0.5  # PEFT's own: Kaiming uniform with a = sqrt(5)
        uniform = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        drawn[name] = uniform if "lora_A" in name else torch.zeros(shape)
    folder.mkdir()
    save_file(drawn, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapted.peft_config["default"].save_pretrained(folder)


def matmul_rate(dtype: torch.dtype, device: str, seconds: float = 0.5, size: int = 2048) -> float:
    """Floating-point operations a second of the fastest product of two square matrices within `seconds`."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    out = torch.empty_like(left)
    while time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(4):
            torch.mm(left, right, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - started) / 4)
    return float(2 * size**3 / best)
