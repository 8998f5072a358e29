"""Stop strings, wherever in tokens they begin."""

import pytest

from tests.engine.conftest import make_tokenizer
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError
from training.engine.sampling.decoding import Generation
from training.engine.sampling.grouping import Request
from training.engine.sampling.stopping import StopStrings, decode


@pytest.mark.parametrize("metaspace", [False, True])
def test_writing_ends_with_a_stop_string_that_crosses_tokens(metaspace: bool) -> None:
    tokenizer = make_tokenizer(metaspace=metaspace)
    stops = StopStrings(tokenizer, ["d f"])
    ids = tuple(tokenizer("good and film was bad").input_ids)
    words = [tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
    held = stops.ended([ids[:count] for count in range(1, len(ids) + 1)])
    assert [words[at] for at in held] == [text for text in words if "d f" in text]
    request, whole = Request((5, 6), 0), Generation(ids, -3.0, "length")
    assert StopStrings(tokenizer, ["x"]).cut(request, whole, "good and") == (whole, "good and")


@pytest.mark.parametrize("metaspace", [False, True])
@pytest.mark.parametrize("stop", ["nd b", "lm w", "ood", "df", "m"])
def test_all_text_before_a_stop_string_is_kept_with_its_ids(metaspace: bool, stop: str) -> None:
    tokenizer = make_tokenizer(metaspace=metaspace)
    ids = tuple(tokenizer("good and badfilm was bad").input_ids)
    request, whole = Request((5, 6), 0), Generation(ids, -3.0, "length")
    (written,) = decode(tokenizer, [request], [whole])
    found, text = StopStrings(tokenizer, [stop]).cut(request, whole, written)
    assert text == written.partition(stop)[0]
    assert decode(tokenizer, [request], [found]) == [text]
    assert found.finish_reason == "stop"


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (["a"] * 17, "at most 16 names"),
        (["a" * 101], "of at most 100 characters"),
        ([""], "must be a list of texts"),
        ("a", "must be a list of texts"),
    ],
)
def test_stop_strings_are_bounded(stop: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"sampling.stop must be.*{message.removeprefix('must be ')}"):
        TrainConfig.from_dict({"base_model": "m", "sampling": {"stop": stop}})
