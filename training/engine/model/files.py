"""The files of a base model: where they are, whether they can be used, and what to do if they cannot.

A base model is a folder in transformers' format, a GGUF file, or a repository of the hub with either.
"""

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from primitives.model_folder import (
    CONFIG,
    INDEX,
    PART,
    READ,
    SMALL,
    WEIGHTS,
    adapter_problem,
    explain_missing_weights,
    find_common_problem,
    find_format_problem,
    list_ggufs,
    list_names,
    list_shards,
    only_gguf,
    read_object,
    write_listing,
)
from training.engine.errors import ConfigError, ModelError, first_line, memory_short
from training.engine.identity import digest
from training.engine.model import hub

_FOR_SENTENCEPIECE = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}  # packages, modules
_TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class ModelFiles:
    """The files of a base model on this machine."""

    name: str  # as config.json has it
    folder: Path
    repository: str | None = None  # of the hub, if they are in its cache
    gguf: str | None = None  # the file in the folder, if the weights are in that format

    @property
    def source(self) -> str:
        """Name for transformers: a repository by its id, as the library knows some of them by name."""
        return self.repository or str(self.folder)

    @property
    def where(self) -> dict[str, Any]:
        """Arguments for each of transformers' `from_pretrained`: these very files, and none of the code among them."""
        # Left out, the library asks on standard input.
        arguments: dict[str, Any] = {"trust_remote_code": False}
        if self.repository:
            arguments["revision"] = self.folder.name
        return arguments | ({"gguf_file": self.gguf} if self.gguf else {})

    @property
    def format(self) -> dict[str, Any]:
        """Arguments for a model's `from_pretrained` besides. The weights of a GGUF file are unpacked."""
        if self.gguf:
            return {"quantization_config": transformers.GgufConfig(dequantize=True)}
        return {"use_safetensors": True}

    @property
    def safetensors(self) -> list[Path]:
        """The files with the weights, unless they are in a GGUF file."""
        return [] if self.gguf else [self.folder / name for name in list_shards(self.folder)]

    @property
    def digests(self) -> dict[str, str]:
        """Identity of these files, by name: a commit of the hub, or hashes of their content."""
        if self.repository:
            return {"base_model": f"{self.name}@{self.folder.name}"}
        suffixes = SMALL if self.gguf else READ
        return {
            f"base_model/{file.name}": digest(file)
            for file in sorted(self.folder.iterdir())
            if (file.suffix in suffixes or file.name == self.gguf) and file.is_file()
        }

    def read_config(self) -> Any:
        """Return the configuration. Raises ModelError."""
        config = self._read(transformers.AutoConfig, "configuration")
        quantization = getattr(config, "quantization_config", None)
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        # Of bitsandbytes there is one for each number of bits.
        known = {name.removesuffix("_4bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
        if method is not None and method not in known:
            raise self.refusal(
                f"its weights are quantized by {method}, "
                f"which transformers {transformers.__version__} does not know; name the model before quantization"
            )
        return config

    def read_tokenizer(self) -> Any:
        """Return the tokenizer. Raises ModelError."""
        # Mistral's own tokenizers have no chat template. Where tekken.json is alone, transformers converts it.
        tokenizer = self._read(transformers.AutoTokenizer, "tokenizer", mistral_format=False)
        if self.gguf and (problem := _mend_end(tokenizer, self.folder / self.gguf)):
            raise self.refusal(problem)
        return tokenizer

    def refusal(self, reason: str) -> ModelError:
        """Return the error for files that cannot be used; the reason has no full stop."""
        return ModelError(f"base_model {self.name} cannot be loaded: {reason}.")

    def _read(self, loader: Any, what: str, **arguments: Any) -> Any:
        try:
            with hub.offline():
                return loader.from_pretrained(self.source, **self.where, **arguments)
        except Exception as error:  # a model's files can make the libraries raise anything
            if memory_short(error):
                raise
            raise self.refusal(f"its {what} cannot be read: {first_line(error).rstrip('.')}") from error


def find_model(name: str, revision: str | None) -> ModelFiles:
    """Return the files that a base_model names, after looking whether they can be used.

    Raises ModelError with what to do if they cannot, ConfigError for a name with two meanings or a revision that has
    none.
    """
    try:
        files = _find(name, revision)
        if problem := _problem(files):
            raise files.refusal(problem)
    except OSError as error:
        raise ModelError(f"base_model {name} cannot be read: {error.strerror or error}.") from error
    return files


def _find(name: str, revision: str | None) -> ModelFiles:
    path, (repository, file) = Path(name), _split(name)
    if not path.exists():
        if repository:
            return _find_on_hub(name, repository, file, revision)
        raise ModelError(
            f"base_model {name} does not exist: it is neither a file, nor a folder, nor a hub id."
        )
    kind = "folder" if path.is_dir() else "file"
    if repository:
        raise ConfigError(
            "base_model", f"{name} may be a hub id or a {kind} here; write ./{name} for the {kind}."
        )
    if revision:
        raise ConfigError("revision", f"has no effect on base_model {name}, which is a {kind}; unset it.")
    if path.is_dir():
        return ModelFiles(name, path, gguf=only_gguf(list_names(path)))
    if path.suffix != ".gguf":
        raise ModelError(f"base_model {name} is a file, but not a GGUF file; name the folder that it is in.")
    return ModelFiles(name, path.parent, gguf=path.name)


def _find_on_hub(name: str, repository: str, gguf: str | None, revision: str | None) -> ModelFiles:
    """Return the files of a repository: from the cache where it has all that is needed, else from the hub."""
    cached = hub.cached_folder(repository, revision)
    if cached:
        files = ModelFiles(name, cached, repository, gguf)
        if problem := _kind_problem(files, list_names(cached)):
            raise files.refusal(problem)
        if not _problem(files):  # what is missing in the cache, the hub may have
            return files
    names = hub.list_names(repository, revision)
    small = [one for one in names if one.endswith(SMALL) and "/" not in one]
    templates = [one for one in names if one.startswith("additional_chat_templates/")]
    files = ModelFiles(name, hub.download(repository, revision, small + templates), repository, gguf)
    if problem := _kind_problem(files, names) or _weights_problem(files, names):
        raise files.refusal(problem)
    hub.download(repository, files.folder.name, [gguf] if gguf else list_shards(files.folder))
    return files


def find_adapter(name: str) -> Path:
    """Return the folder of an adapter: the one that is named, or that of a repository of the hub. Raises ModelError."""
    if Path(name).exists() or not hub.is_hub_id(name):
        return Path(name)
    wanted = ("adapter_config.json", "adapter_model.safetensors")
    cached = hub.cached_folder(name, None)
    if cached and all((cached / one).is_file() for one in wanted):
        return cached
    return hub.download(name, None, [one for one in hub.list_names(name, None) if one in wanted])


def adapter_digests(name: str, role: str) -> dict[str, str]:
    """Return what tells an adapter's files from others, as `ModelFiles.digests` does. Raises ModelError.

    `role` is the option that names it.
    """
    folder = find_adapter(name)
    if folder != Path(name):
        return {role: f"{name}@{folder.name}"}
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {f"{role}/{file.name}": digest(file) for file in files if file.suffix in READ and file.is_file()}


def _split(name: str) -> tuple[str | None, str | None]:
    """Return the repository that a name may stand for, and the GGUF file in it."""
    if hub.is_hub_id(name):
        return name, None
    repository, _, file = name.rpartition("/")
    return (repository, file) if file.endswith(".gguf") and hub.is_hub_id(repository) else (None, None)


def _problem(files: ModelFiles) -> str:
    """Return why files cannot be used and what to do about it, or ""."""
    names = list_names(files.folder)
    problem = find_common_problem(files.folder, names, files.gguf) or _weights_problem(files, names)
    if problem or files.gguf:
        return problem or _gguf_problem(files.folder / str(files.gguf))
    return find_format_problem(files.folder, names) or _packages_problem(names) or _code_problem(files.folder)


def _kind_problem(files: ModelFiles, names: Collection[str]) -> str:
    """Return why files of these names cannot be used, whatever weights are among them, or ""."""
    own_code = CONFIG in names and not files.gguf
    return adapter_problem(names) or (_code_problem(files.folder) if own_code else "")


def _weights_problem(files: ModelFiles, names: Collection[str]) -> str:
    """Return why there are no weights to be read among files of these names, or ""."""
    problem = ""
    if files.gguf and files.gguf not in names:
        problem = f"there is no such file among {write_listing(list_ggufs(names)) or 'those of the model'}"
    elif files.gguf and PART.search(files.gguf):
        problem = f"{files.gguf} is one of several parts; join them with llama-gguf-split --merge"
    elif not files.gguf and not {WEIGHTS, INDEX} & set(names):
        problem = explain_missing_weights(files.name, names)
    return problem


def _packages_problem(names: Collection[str]) -> str:
    """Return which packages a tokenizer of SentencePiece needs that are not installed, or ""."""
    needed = [package for package, module in _FOR_SENTENCEPIECE.items() if not _is_installed(module)]
    if needed and "tokenizer.model" in names and not {"tokenizer.json", "tekken.json"} & set(names):
        packages = " ".join(needed)
        return f"tokenizer.model alone cannot be read here; pip install {packages}, or copy tokenizer.json into it"
    return ""


def _code_problem(folder: Path) -> str:
    """Return why a model that only code of its own can compute is refused, or ""."""
    config = read_object(folder / CONFIG) or {}
    kind, version = config.get("model_type"), transformers.__version__
    is_named = isinstance(kind, str) and kind != ""
    if "auto_map" not in config or (is_named and kind in transformers.CONFIG_MAPPING):
        return ""
    told = (
        f"brings code for its type {kind}, which is never run here, and transformers {version} does not know that type"
        if is_named
        else f"brings code of its own, which is never run here, and its {CONFIG} names no model_type"
    )
    return f"it {told}; name a model of a type that transformers {version} knows"


def _gguf_problem(path: Path) -> str:
    """Return why a GGUF file cannot be read as a model, or ""."""
    from transformers.integrations.gguf.reader import GgufHeader

    damaged = f"{path.name} is damaged or cut short; copy it again"
    try:
        if problem := _metadata_problem(path.name, _read_metadata(path)):
            return problem
        header = GgufHeader.from_file(str(path))
    except ValueError as error:
        # Types of weights that this reader does not know, transformers may unpack in another way.
        return "" if "ggml type" in str(error) else f"{damaged} ({first_line(error).rstrip('.')})"
    except Exception:  # noqa: BLE001 - whatever comes of reading beyond the end
        return damaged
    if not header.tensors:
        return f"{path.name} holds a vocabulary and no weights; name the file of the model"
    end = max(tensor.offset + tensor.nbytes for tensor in header.tensors)
    return damaged if header.data_start + end > path.stat().st_size else ""


def _metadata_problem(name: str, metadata: Mapping[str, Any]) -> str:
    """Return why the metadata of a GGUF file are not those of a model of text, or ""."""
    kind, architecture = metadata.get("general.type", "model"), metadata["general.architecture"]
    if kind == "adapter":
        return f"{name} is an adapter; name the base model that it belongs to"
    if kind == "mmproj" or architecture == "clip":
        return f"{name} only encodes images or sound; name the file of the model that it belongs to"
    if kind != "model":
        return f"{name} is not a model: its general.type is {kind}"
    if metadata.get("split.count", 1) > 1:
        return f"{name} is one of {metadata['split.count']} parts; join them with llama-gguf-split --merge"
    if _TOKENS not in metadata:
        return f"{name} holds no tokenizer; name a file that has one, or a folder in transformers' format"
    return ""


def _read_metadata(path: Path, *lists: str) -> dict[str, Any]:
    """Return the metadata of a GGUF file. Those named in `lists` are read whole, other lists are their length."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata: dict[str, Any] = read_gguf_metadata(str(path), lists)[0]
    return metadata


def _mend_end(tokenizer: Any, path: Path) -> str:
    """Let texts end with the token that a GGUF file names, as transformers 5.17 ends them with one of its own.

    Return why they cannot, or "".
    """
    metadata = _read_metadata(path, _TOKENS)
    end, tokens = metadata.get("tokenizer.ggml.eos_token_id"), metadata[_TOKENS]
    if end is None or end == tokenizer.eos_token_id:
        return ""
    if end >= len(tokens):
        return f"its texts end with token {end}, and it has {len(tokens)} tokens; name another file"
    found = tokenizer.convert_ids_to_tokens(end)
    if found != tokens[end]:
        return (
            f"its texts end with {tokens[end]}, which transformers {transformers.__version__} reads as {found}; "
            "install transformers 5.23 or later, or name a folder in its format"
        )
    tokenizer.add_special_tokens({"eos_token": found})
    return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is its parent
        return False
