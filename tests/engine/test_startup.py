"""The command line starts without PyTorch's compiler, computes the same, and hands over the compiler when asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import make_model, make_tokenizer, tiny_llama
from training.engine.errors import ModelError
from training.engine.train import train

TRAIN_THEN_COMPILE = """
import sys
from training.engine.__main__ import main

assert main(["train", sys.argv[1]]) == 0
heavy = {"scipy", "torch._inductor", "torch.distributed.tensor", "torch._dynamo.utils"} & set(sys.modules)
assert not heavy, heavy

import torch._dynamo.utils
import transformers.masking_utils

assert "torch._inductor" in sys.modules
assert float(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(()))) == 2
with transformers.masking_utils.TransformGetItemToIndex():
    pass
"""


def test_started_from_the_command_line_it_trains_the_same_adapter_without_the_compiler(
    make_run, tmp_path: Path
) -> None:
    make_model(tiny_llama(tie_word_embeddings=True)).save_pretrained(tmp_path / "tied")
    make_tokenizer().save_pretrained(tmp_path / "tied")
    here, there = (make_run(name, base_model=str(tmp_path / "tied")) for name in ("here", "there"))
    train(here)
    subprocess.run([sys.executable, "-c", TRAIN_THEN_COMPILE, str(there.root)], check=True, timeout=120)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (there.adapter / name).read_bytes() == (here.adapter / name).read_bytes()


def test_a_model_whose_file_lacks_weights_is_refused(make_run, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make_model(tiny_llama()).save_pretrained(tmp_path / "holed")
    make_tokenizer().save_pretrained(tmp_path / "holed")
    weights = load_file(tmp_path / "holed" / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "holed" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"holed lacks weights, such as model\.norm\.weight"):
        train(make_run(base_model=str(tmp_path / "holed")))
