"""The check at the start notices a model that computes otherwise when its rows are packed, and costs little."""

from dataclasses import replace

import pytest
import torch
import transformers

from tests.architectures.shapes import tiny_config
from tests.engine.conftest import SHAPE, make_model, pair_of_lengths, tiny_llama
from training.engine import selfcheck
from training.engine.config import TrainConfig
from training.engine.data.packing import PairRow, pack
from training.engine.data.tokens import EncodedPair
from training.engine.model import attention
from training.engine.model.base import LoadedModel
from training.engine.model.logps import Scorer
from training.engine.score import make_scorer
from training.engine.selfcheck import probe

WINDOW = 16


def windowed(*, told: bool) -> transformers.PreTrainedModel:
    """Attention with a window; unless `told`, that lies in the mask alone, which packed rows do without."""
    model = make_model(
        transformers.Qwen2Config(
            **SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=0, pad_token_id=1
        )
    )
    if not told:
        for layer in model.model.layers:
            layer.self_attn.sliding_window = None
    return model


def is_packed(model: transformers.PreTrainedModel, pairs: list[EncodedPair], **settings: object) -> bool:
    config = TrainConfig.from_dict({"base_model": "m"} | settings)
    events: list[str] = []
    loaded = LoadedModel(model, None, torch.device("cpu"), model.dtype, frozenset(), 128)
    scorer = make_scorer(loaded, config, pairs, events.append)
    scorer.release()
    assert [event.split(",")[0] for event in events] == (
        [] if scorer.form == "packed" else ["Rows are not packed"]
    )
    return scorer.form == "packed"


SHORT = [pair_of_lengths(4, 5, 6), pair_of_lengths(3, 6, 4)]


def test_window_on_long_rows_only_is_noticed() -> None:
    assert is_packed(windowed(told=False), SHORT)
    assert not is_packed(windowed(told=False), [*SHORT, pair_of_lengths(20, 10, 10), *SHORT])
    assert is_packed(windowed(told=True), [*SHORT, pair_of_lengths(20, 10, 10), *SHORT])


HYBRIDS = (
    *("bamba", "falcon_h1", "granitemoehybrid", "jamba"),
    *("lfm2", "nemotron_h", "qwen3_next", "zamba2"),
)
# Lengths of prompt, chosen and rejected completion.
TEXTS = {
    "sigmoid": ((3, 4, 6), (30, 28, 11), (24, 40, 36)),
    "kto": ((3, 4, 0), (30, 0, 40), (20, 20, 0)),
    "ipo": ((3, 1, 6), (60, 1, 1)),
    "hinge": ((3, 1, 6), (60, 1, 8)),
}


def texts(loss: str) -> list[EncodedPair]:
    return [pair_of_lengths(*lengths) for lengths in TEXTS[loss]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", HYBRIDS)
def test_a_state_that_goes_on_into_another_text_is_noticed(kind: str, dtype: torch.dtype) -> None:
    """In bfloat16 it changes less than rounding may: of LFM2 by 0.02 nats a token on average."""
    model = make_model(tiny_config(kind)).to(dtype)
    assert not [loss for loss in TEXTS if is_packed(model, texts(loss), loss=loss)]


@pytest.mark.parametrize("lengths", [(20, 30, 30), (20, 2, 30)])
def test_a_state_that_goes_on_in_a_single_pair_is_noticed(lengths: tuple[int, int, int]) -> None:
    assert not is_packed(make_model(tiny_config("lfm2")).bfloat16(), [pair_of_lengths(*lengths)])


def test_a_single_rating_has_nothing_to_leak_into() -> None:
    assert is_packed(make_model(tiny_llama()), [replace(pair_of_lengths(4, 5, 6), rejected=())], loss="kto")


def test_experts_are_packed_in_bfloat16() -> None:
    model = make_model(tiny_config("mixtral")).bfloat16()
    assert all(is_packed(model, texts(loss), loss=loss) for loss in TEXTS)


def test_a_leak_costs_one_more_forward_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[PairRow] = []
    computed = Scorer.token_logps
    monkeypatch.setattr(Scorer, "token_logps", lambda self, row: rows.append(row) or computed(self, row))
    assert is_packed(
        make_model(tiny_llama(max_position_embeddings=512)), [*SHORT, pair_of_lengths(9, 90, 99)]
    )
    packed = [row for row in rows if row.spans is not None]
    assert [(row.tokens, len(row.targets)) for row in packed] == [(207, selfcheck._PROBED + 10)] * 2


def test_few_tokens_far_off_are_noticed_though_most_agree() -> None:
    # Only the last five tokens of the first chosen completion see a key more than they may: 0.6 nats apart at most
    # and 0.02 on average, which all over the row would be bfloat16's rounding.
    pairs = [pair_of_lengths(5, 16, 13), pair_of_lengths(1, 15, 14)]
    assert not is_packed(windowed(told=False).bfloat16(), pairs)
    assert is_packed(windowed(told=True).bfloat16(), pairs)


def test_the_check_takes_the_shortest_and_the_longest_pair() -> None:
    pairs = [pair_of_lengths(5, 5, size) for size in (8, 40, 1, 30)]
    assert [one.id for one in probe(pairs)] == ["5+5+1", "5+5+40"]
    assert probe(pairs[:1]) == pairs[:1]


def test_a_row_in_which_pairs_see_each_other_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attention._attend

    def leaking(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: attention.Kind
    ) -> torch.Tensor:
        """Attends to the tokens of the call before too."""
        nonlocal before
        keys, values = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        before = key, value
        return whole(query, keys, values, kind)

    pairs = [pair_of_lengths(4, 5, 6), pair_of_lengths(9, 6, 8)]
    monkeypatch.setattr(attention, "_SHORT", 0)
    assert is_packed(make_model(tiny_llama()), pairs)
    before = (torch.zeros(1, 4, 0, 8),) * 2
    monkeypatch.setattr(attention, "_attend", leaking)
    assert not is_packed(make_model(tiny_llama()), pairs)


def test_only_some_tokens_of_a_long_pair_are_projected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selfcheck, "_PROBED", 4)
    row = pack([pair_of_lengths(3, 6, 5), pair_of_lengths(2, 1, 2)], [0, 1])
    thin = selfcheck._thinned(row)
    kept = [0, 3, 7, 10, 11, 12, 13]  # of eleven tokens the first, the last and two between; of three all
    assert thin.targets.tolist() == row.targets[kept].tolist()
    assert thin.index.tolist() == row.index[kept].tolist()
    assert thin.lengths.tolist() == [2, 2, 1, 2]


def test_architecture_without_a_body_is_trained_unpacked() -> None:
    chunks = {"attention_chunk_size": 16, "no_rope_layers": [1, 1], "attn_temperature_tuning": False}
    experts = {"num_local_experts": 2, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 48}
    shape = SHAPE | {"head_dim": 8, "pad_token_id": 1, "use_qk_norm": False} | chunks | experts
    assert not is_packed(make_model(transformers.Llama4TextConfig(**shape)), SHORT)
