"""Completions by vLLM, behind the method that our own loop has.

Taken where vLLM is installed and a CUDA GPU is present. The fields are the same: per-completion seeds, sampled
ids with the end-of-sequence id, log-probabilities under the policy before temperature and cuts. The numbers
behind a seed are vLLM's own, so the same seed writes another text here than in our own loop.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peft.utils import CONFIG_NAME

from training.engine.adapters.settings import read_settings
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.errors import ConfigError
from training.engine.model.base import choose_device
from training.engine.model.files import find_model
from training.engine.sampling.decoding import Generation, Report
from training.engine.sampling.grouping import Request

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM reserves memory for


def wanted(config: TrainConfig, adapter: Path | None) -> bool:
    """Return whether vLLM is to write. Raises ConfigError if it is asked for and cannot.

    vLLM rounds each layer's product before it adds the adapter's, which loses most of a small adapter. So only a
    bare base model is left to it, unless it is asked for.
    """
    backend = config.sampling.backend
    if backend == "native":
        return False
    able = (
        find_spec("vllm") is not None
        and choose_device(config).type == "cuda"
        and config.quantization == "none"
        and not find_model(config.base_model, config.revision).gguf
    )
    if backend == "vllm" and not able:
        raise ConfigError(
            "sampling.backend",
            "'vllm' needs vLLM, a CUDA device and base weights in full precision, not in a GGUF file.",
        )
    if backend == "vllm" and adapter and _shape(adapter).get("use_dora"):
        raise ConfigError("sampling.backend", "'vllm' does not compute DoRA adapters; choose native.")
    return able and (backend == "vllm" or adapter is None)


class VllmWriter:
    """Writes completions with vLLM, the adapter applied on top of the base weights."""

    def __init__(self, config: TrainConfig, adapter: Path | None, eos_ids: frozenset[int]) -> None:
        import vllm

        self.settings, self.eos_ids = config.sampling, eos_ids
        lora: dict[str, Any] = {}
        self._request = None
        if adapter:
            from vllm.lora.request import LoRARequest

            lora = {"enable_lora": True, "max_lora_rank": reserved_rank(adapter)}
            self._request = LoRARequest("policy", 1, str(adapter))
        self._llm = vllm.LLM(
            model=str(find_model(config.base_model, config.revision).folder),
            dtype=config.dtype,
            max_num_seqs=config.sampling.batch_size,
            logprobs_mode="raw_logprobs",
            enable_prefix_caching=True,  # a prompt is computed once for all its completions
            trust_remote_code=False,
            **lora,
        )

    def write(
        self, requests: Sequence[Request], report: Report = lambda done, share: None
    ) -> list[Generation]:
        """Complete every request, in the order given. `report` is told of the end only."""
        import vllm

        completed = self._llm.generate(
            [{"prompt_token_ids": list(request.prompt)} for request in requests],
            [vllm.SamplingParams(**parameters(self.settings, self.eos_ids, one.seed)) for one in requests],
            lora_request=self._request,
            use_tqdm=False,
        )
        report(len(requests), 1.0)
        return [as_written(one.outputs[0]) for one in completed]


def parameters(settings: SamplingConfig, eos_ids: frozenset[int], seed: int) -> dict[str, Any]:
    """Return arguments of vLLM's SamplingParams for one completion."""
    return {
        "n": 1,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,  # 0 keeps all, as here
        "min_p": settings.min_p,
        "repetition_penalty": settings.repetition_penalty,
        "max_tokens": settings.max_new_tokens,
        "stop_token_ids": sorted(eos_ids),
        "seed": seed,
        "logprobs": 0,  # of the sampled token alone
        # What follows a stop string is cut off here, text and ids together.
        **({"stop": list(settings.stop)} if settings.stop else {}),
        "detokenize": bool(settings.stop),
    }


def as_written(completion: Any) -> Generation:
    """Return a completion of vLLM as ours."""
    reason = "stop" if completion.finish_reason == "stop" else "length"
    return Generation(tuple(completion.token_ids), float(completion.cumulative_logprob), reason)


def _shape(adapter: Path) -> dict[str, Any]:
    return read_settings(adapter, adapter / CONFIG_NAME)


def reserved_rank(adapter: Path) -> int:
    """Return the smallest rank vLLM can reserve that holds the adapter's. Raises ConfigError above the largest."""
    shape = _shape(adapter)
    rank = max(int(shape["r"]), *(int(rank) for rank in (shape.get("rank_pattern") or {}).values()), 0)
    for reserved in _RANKS:
        if rank <= reserved:
            return reserved
    sentence = f"The adapter's rank {rank} is more than the {_RANKS[-1]} that vLLM takes."
    raise ConfigError("sampling.backend", sentence, separator=None)
