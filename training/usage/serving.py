"""Commands that serve a policy elsewhere: vLLM, llama.cpp and Ollama, with the names that its files have.

They were compared with the documentation and sources of these projects: `vllm serve --lora-modules`, the values of
`--max-lora-rank`, `convert_lora_to_gguf.py`, `convert_hf_to_gguf.py`, and FROM and ADAPTER of a Modelfile.
"""

import shlex
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Policy
from training.usage.places import file_stem, read_config

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM's --max-lora-rank takes
OWN_FOLDER = "BASE_MODEL"  # in place of a path of this server


@dataclass(frozen=True)
class Recipe:
    """Commands under a title. `note` says what to beware of."""

    title: str | Promise
    commands: str
    note: str | Promise = ""


def recipes(policy: Policy) -> list[Recipe]:
    """Return the ways to serve a policy with an adapter."""
    stem = file_stem(policy)
    adapter, merged, name = stem, f"{stem}-merged", stem.lower()
    base = base_name(policy)
    quoted = shlex.quote(base)
    return [
        Recipe(
            _("vLLM, base model with the adapter"),
            f"unzip {adapter}.zip\n"
            f"vllm serve {quoted} --enable-lora --max-lora-rank {vllm_rank(policy)} \\\n"
            f"    --lora-modules {name}=./{adapter}",
            _("Ask for the model by the adapter’s name. vLLM takes no adapter with DoRA."),
        ),
        Recipe(
            _("vLLM, merged weights"),
            f"tar xf {merged}.tar\nvllm serve ./{merged} --served-model-name {name}",
        ),
        Recipe(
            _("llama.cpp, base model with the adapter"),
            f"unzip {adapter}.zip\n"
            f"python convert_lora_to_gguf.py --outfile {adapter}.gguf {_base_option(base)} ./{adapter}\n"
            f"llama-server -m BASE_MODEL.gguf --lora {adapter}.gguf",
            _("BASE_MODEL.gguf is the base model in llama.cpp’s format. Adapters with DoRA must be merged."),
        ),
        Recipe(
            _("llama.cpp, merged weights"),
            f"tar xf {merged}.tar\n"
            f"python convert_hf_to_gguf.py --outfile {merged}.gguf --outtype auto ./{merged}\n"
            f"llama-quantize {merged}.gguf {merged}-Q4_K_M.gguf Q4_K_M\n"
            f"llama-server -m {merged}-Q4_K_M.gguf",
        ),
        Recipe(
            _("Ollama, from the file that llama.cpp made"),
            f"printf 'FROM ./{merged}-Q4_K_M.gguf\\n' > Modelfile\n"
            f"ollama create {name} -f Modelfile\nollama run {name}",
            _("For the adapter alone, write two lines: FROM the base model, ADAPTER its .gguf file."),
        ),
    ]


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
