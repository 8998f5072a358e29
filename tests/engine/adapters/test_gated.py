"""The gated blocks that are known by name compute what they are taken for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers.models
from torch import nn
from transformers import BitNetConfig, LlamaConfig
from transformers.models.bitnet.modeling_bitnet import BitNetMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from training.engine.adapters.gated import _BLOCKS, is_gated

# The two ways in which the library writes it, `x` being the input.
BODIES = (
    "down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))\nreturn down_proj",
    "return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))",
)


def forwards() -> Iterator[tuple[str, str]]:
    """Yield the name of each class of the library that is listed, and what its forward does."""
    for path in sorted(Path(transformers.models.__file__).parent.glob("*/modeling_*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(f"class {name}(" in text for name in _BLOCKS):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and node.name in _BLOCKS:
                (forward,) = (one for one in node.body if getattr(one, "name", "") == "forward")
                (_, x), body = forward.args.args, "\n".join(map(ast.unparse, forward.body))
                yield node.name, body.replace(f"({x.arg})", "(x)")


def test_every_listed_block_is_written_as_llamas() -> None:
    found = dict.fromkeys(_BLOCKS, "missing") | {
        name: "the same" if body in BODIES else body for name, body in forwards()
    }
    assert set(found.values()) == {"the same"}, found


def test_blocks_are_known_by_their_class() -> None:
    shape = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    assert is_gated(LlamaMLP(LlamaConfig(**shape)))
    assert not is_gated(BitNetMLP(BitNetConfig(**shape)))  # a norm stands before its last layer


@pytest.mark.parametrize("name", ["LlamaMLP", "OtherMLP"])
def test_classes_of_other_libraries_are_not_taken(name: str) -> None:
    assert not is_gated(type(name, (nn.Module,), {})())
