"""Commands that serve a policy elsewhere: vLLM, llama.cpp and Ollama, with the names that its files have.

They were compared with the documentation and sources of these projects: `vllm serve --lora-modules`, the values of
`--max-lora-rank`, `convert_lora_to_gguf.py`, `convert_hf_to_gguf.py`, and FROM and ADAPTER of a Modelfile.
"""

import shlex
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy
from training.models import MergedWeights
from training.usage.places import file_stem, read_config

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM's --max-lora-rank takes
OWN_FOLDER = "BASE_MODEL"  # in place of a path of this server
GGUF_TYPES = {"float16": "f16", "float32": "f32"}  # of convert_hf_to_gguf.py


@dataclass(frozen=True)
class Recipe:
    """Commands under a title. `note` says what to beware of."""

    title: str | Promise
    commands: str
    note: str | Promise = ""


def recipes(policy: Policy) -> list[Recipe]:
    """Return the ways to serve a policy with an adapter, or merged in the precision of its base model."""
    adapter = file_stem(policy)
    name, base = adapter.lower(), base_name(policy)
    vllm, llama_cpp, ollama = merged_recipes(policy, merged_stem(policy))
    return [
        Recipe(
            _("vLLM, base model with the adapter"),
            f"unzip {adapter}.zip\n"
            f"vllm serve {shlex.quote(base)} --enable-lora --max-lora-rank {vllm_rank(policy)} \\\n"
            f"    --lora-modules {name}=./{adapter}",
            _("Ask for the model by the adapter’s name. vLLM takes no adapter with DoRA."),
        ),
        vllm,
        Recipe(
            _("llama.cpp, base model with the adapter"),
            f"unzip {adapter}.zip\n"
            f"python convert_lora_to_gguf.py --outfile {adapter}.gguf {_base_option(base)} ./{adapter}\n"
            f"llama-server -m BASE_MODEL.gguf --lora {adapter}.gguf",
            _("BASE_MODEL.gguf is the base model in llama.cpp’s format. Adapters with DoRA must be merged."),
        ),
        llama_cpp,
        ollama,
    ]


def merged_recipes(policy: Policy, stem: str, dtype: str = "") -> tuple[Recipe, Recipe, Recipe]:
    """Return the ways to serve merged weights: by vLLM, by llama.cpp, and by Ollama from the file of llama.cpp.

    `stem` is their file's name without its ending. In a `dtype` that these programs would round, the commands name it.
    """
    name, named = file_stem(policy).lower(), f" --dtype {dtype}" if dtype in GGUF_TYPES else ""
    return (
        Recipe(
            _("vLLM, merged weights"),
            f"tar xf {stem}.tar\nvllm serve ./{stem}{named} --served-model-name {name}",
            _NOTES.get(dtype, _("The page of weights merged in another precision has their own commands.")),
        ),
        Recipe(
            _("llama.cpp, merged weights"),
            f"tar xf {stem}.tar\n"
            f"python convert_hf_to_gguf.py --outfile {stem}.gguf --outtype {GGUF_TYPES.get(dtype, 'auto')} ./{stem}\n"
            f"llama-quantize {stem}.gguf {stem}-Q4_K_M.gguf Q4_K_M\n"
            f"llama-server -m {stem}-Q4_K_M.gguf",
        ),
        Recipe(
            _("Ollama, from the file that llama.cpp made"),
            f"printf 'FROM ./{stem}-Q4_K_M.gguf\\n' > Modelfile\n"
            f"ollama create {name} -f Modelfile\nollama run {name}",
            _("For the adapter alone, write two lines: FROM the base model, ADAPTER its .gguf file."),
        ),
    )


_NOTES: dict[str, str | Promise] = {
    "bfloat16": "",
    "float16": _(
        "vLLM refuses some models in float16, such as Gemma 2 and 3: their activations are too large for it."
    ),
    "float32": _("Without --dtype, vLLM rounds float32 to 16 bits."),
}


def merged_stem(policy: Policy, precision: str = MergedWeights.Precision.BASE) -> str:
    """Return the name of merged weights without its ending, which tells a precision that was chosen."""
    chosen = "" if precision == MergedWeights.Precision.BASE else f"-{precision}"
    return f"{file_stem(policy)}-merged{chosen}"


def base_name(policy: Policy) -> str:
    """Return the base model as another machine may know it: a hub id, or a word in place of a path."""
    if policy.base_model.startswith(("/", "~")):
        return OWN_FOLDER
    return policy.base_model


def vllm_rank(policy: Policy) -> int:
    """Return the smallest value of --max-lora-rank that holds the adapter."""
    data = read_config(policy)
    try:
        rank = max(int(data["r"]), *(int(one) for one in (data.get("rank_pattern") or {}).values()), 1)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        rank = 16
    return next((one for one in VLLM_RANKS if one >= rank), VLLM_RANKS[-1])


def _base_option(base: str) -> str:
    """Return the option that names the base model to convert_lora_to_gguf.py: a repository of the hub, or a folder."""
    return f"--base-model-id {shlex.quote(base)}" if "/" in base else f"--base {shlex.quote(base)}"
