"""Text so far: whatever was said of a completion is the beginning of what it becomes."""

import itertools
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models

from tests.engine.conftest import make_tokenizer
from training.engine.sampling.decoding import Generation
from training.engine.sampling.drafts import Draft
from training.engine.sampling.grouping import Request
from training.engine.sampling.stopping import decode

PROMPT = "the film"
TEXT = " was 🎬🎉 naïve, 今日は it cost $46\nthe end\nthe"


def drafts_of(tokenizer: Any, ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    """Return what is said after each token."""
    draft = Draft(tokenizer, Request(tuple(tokenizer.encode(PROMPT)), 0), stop)
    return [draft.grow(ids[: count + 1]) for count in range(len(ids))]


@pytest.mark.parametrize("metaspace", [False, True])
def test_a_draft_only_grows_and_breaks_no_character(metaspace: bool) -> None:
    tokenizer = make_tokenizer(metaspace=metaspace)
    text = TEXT.translate({ord(one): None for one in "🎬🎉ï今日は"}) if metaspace else TEXT
    ids = tokenizer.encode(text.removeprefix(" "), add_special_tokens=False)
    whole = decode(tokenizer, [Request(tuple(tokenizer.encode(PROMPT)), 0)], [Generation(tuple(ids), 0, "")])
    drafts = drafts_of(tokenizer, ids)
    assert drafts[-1] == whole[0]
    assert all(later.startswith(one) for one, later in itertools.pairwise(drafts))
    assert not any("\ufffd" in one for one in drafts)
    assert len(set(drafts)) > 10


def test_a_character_of_several_byte_tokens_appears_whole() -> None:
    bytes_of = ["<unk>", "a", "<0xE4>", "<0xBB>", "<0x8A>", "<0xF0>", "<0x9F>"]
    model = models.BPE(
        {name: at for at, name in enumerate(bytes_of)}, [], unk_token="<unk>", byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    import transformers

    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    draft = Draft(fast, Request((1,), 0))
    assert [draft.grow(range(1, count)) for count in range(2, 8)] == ["a", "a", "a", "a今", "a今", "a今"]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer.encode(" was bad\n\nthe film")
    drafts = drafts_of(tokenizer, ids, ("\n\nthe", "zzz"))
    assert drafts[-1] == " was bad"
    assert not any("\n" in one for one in drafts)
    other = drafts_of(tokenizer, tokenizer.encode(" was bad\n\ngood"), ("\n\nthe",))
    assert other[-1] == " was bad\n\ngood"
