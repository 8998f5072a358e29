"""Known failures of a run, each with its own exit code.

Every message is one sentence that a user can act on. The command line prints it without a traceback.
"""

import errno
import textwrap

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_RUST = tuple(f"(os error {number})" for number in _FULL)  # as safetensors says it
_LONGEST_LINE = 500  # characters
# How PyTorch, the kernel, CUDA and its libraries say that memory is short, where the class of the error does not.
_NO_ROOM = ("can't allocate memory", "Cannot allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")


class EngineError(Exception):
    """A failure with a known cause. `exit_code` is what `python -m training.engine` exits with."""

    exit_code = 1


class ConfigError(EngineError):
    """`config.json` is missing, unreadable, or holds an unknown key or a bad value.

    `option` is the dotted name of the setting at fault, None for the file as a whole. `message` says what is wrong
    with it. `str()` puts `separator` between the two; with None the message is a sentence of its own.
    """

    exit_code = 3

    def __init__(self, option: str | None, message: str, *, separator: str | None = " ") -> None:
        super().__init__(option, message)
        self.option, self.message, self.separator = option, message, separator

    def __str__(self) -> str:
        if self.option is None or self.separator is None:
            return self.message
        return f"{self.option}{self.separator}{self.message}"


class DataError(EngineError):
    """A JSON Lines file is missing, corrupt (named by line number), or holds what the run cannot work on."""

    exit_code = 4


class ModelError(EngineError):
    """The base model, its tokenizer or an adapter cannot be loaded, or does not fit the request."""

    exit_code = 5


class LockedError(EngineError):
    """Another process is working in the run directory."""

    exit_code = 6


class StorageError(EngineError):
    """The run directory cannot be written: the disk is full or it is read-only."""

    exit_code = 7


class DivergedError(EngineError):
    """Too many steps were not finite, or a reference or a trained policy gives numbers that are not."""

    exit_code = 8


class MemoryShortError(EngineError):
    """The model and its activations do not fit into memory."""

    exit_code = 9


class StaleCheckpointError(EngineError):
    """The checkpoints were written for other settings or other pairs."""

    exit_code = 10


class InterruptedRunError(EngineError):
    """A signal asked the run to stop; a checkpoint was written and `train` resumes from it."""

    exit_code = 75  # EX_TEMPFAIL: try again later


def first_line(error: BaseException) -> str:
    """Return the first line of the message of `error`, or its kind. A line that ends open takes the next along."""
    said = ""
    for line in str(error).split("\n"):
        said = f"{said} {line.strip()}".strip()
        if said and not said.endswith((":", ",")):
            break
    return shorten(said) or type(error).__name__


def shorten(line: str) -> str:
    """Return a line in the length of a sentence that a user reads."""
    return textwrap.shorten(line, _LONGEST_LINE, placeholder=" …")


def sentence(error: BaseException) -> str:
    """Return what `first_line` does, as a sentence."""
    said = first_line(error)
    return said if said.endswith((".", "!", "?")) else f"{said}."


_REMEDIES = {
    "train": "lower max_tokens, or set gradient_checkpointing, and start again.",
    "score": "lower max_tokens, and start again.",
    "sample": "lower sampling.max_tokens or sampling.batch_size, and start again;"
    " a model that does not fit by itself has to be a smaller one.",
    **dict.fromkeys(
        ("merge", "unpack"), "the weights of the model must fit; start again on a machine with more memory."
    ),
}


def memory_short(error: BaseException, verb: str = "train") -> MemoryShortError | None:
    """Return the error for a failed allocation of a verb, on a CPU or on CUDA; None for any other error."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if named or any(words in str(error) for words in _NO_ROOM):
        return MemoryShortError(f"Out of memory: {_REMEDIES.get(verb, _REMEDIES['train'])}")
    return None


def disk_full(error: BaseException, path: object = None) -> StorageError | None:
    """Return the error for a write without room, to `path` or the error's file; None for any other error."""
    told = error.errno in _FULL if isinstance(error, OSError) else str(error).endswith(_FULL_IN_RUST)
    if not told:
        return None
    what = path or getattr(error, "filename", None) or "a file"
    return StorageError(f"The disk is full: {what} could not be written; free some space and start again.")
