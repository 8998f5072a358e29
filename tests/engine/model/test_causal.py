"""A model in which a token sees those after it is refused: its log-probabilities would mean nothing."""

from pathlib import Path

import pytest
import transformers

from tests.engine.conftest import SHAPE, make_model, make_tokenizer
from training.engine.errors import ModelError
from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train

KINDS = {kind: getattr(transformers, f"{kind}Config") for kind in ("Bert", "Roberta", "Electra")}


@pytest.mark.filterwarnings("ignore")  # transformers warns of a decoder that is none
@pytest.mark.parametrize("kind", KINDS)
def test_models_that_are_not_causal_are_refused_by_every_verb(kind: str, make_run, tmp_path: Path) -> None:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    shape = {name: SHAPE[name] for name in (*names, "max_position_embeddings", "eos_token_id")}
    make_model(KINDS[kind](**shape)).save_pretrained(tmp_path / "model")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "model")
    run = make_run(base_model=str(tmp_path / "model"), sampling={"max_new_tokens": 4})
    write_jsonl(run.prompts, [{"id": 1, "prompt": "the film was good"}])
    for verb in (train, score, sample):
        with pytest.raises(ModelError, match="is not a causal language model"):
            verb(run)
