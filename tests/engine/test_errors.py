"""Failures of libraries that are known: each becomes one sentence with what to do."""

import pytest
import torch
import transformers
from safetensors import SafetensorError

from training.engine.__main__ import main
from training.engine.errors import MemoryShortError, memory_short


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_is_short_is_known_in_every_library(error: BaseException) -> None:
    assert "lower max_tokens" in str(memory_short(error))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_other_errors_are_not_taken_for_short_memory(error: BaseException) -> None:
    assert memory_short(error) is None


def test_weights_without_memory_end_in_a_sentence(
    make_run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("Error while deserializing header: Cannot allocate memory (os error 12)")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    assert main(["train", str(make_run().root)]) == MemoryShortError.exit_code
    assert capsys.readouterr().err.startswith("error: Out of memory: ")
