"""Two ground-truth rewards of a film review: praise, which words add up to, and coherence, which they do not."""

import re
from collections.abc import Callable
from itertools import pairwise

from training.engine.starter import reviews

_SENTENCE = re.compile(r"[^.!?:]+")
_WORD = re.compile(r"[a-z]+")
# Mean and standard deviation of `_raw_coherence` over samples of the starter, and that of `reviews.reward`.
_MEAN, _DEVIATION, _TARGET = 0.1, 0.69, 0.6
_REPEATED = 2.0  # the cost of a word of opinion that was used before


def coherence(text: str) -> float:
    """Return how well the opinions of `text` agree with each other, whichever they are, less what is repeated.

    A sentence praises or blames by the majority of its words of opinion. The mean product of two neighbouring
    opinions is 1 where all agree and -1 where each contradicts the one before. It is even in the sign of all
    opinions: praise and blame are worth the same alone and opposite together. So a sum over words cannot express it.
    The share of words of opinion that were used before is subtracted twice. The result is scaled so that samples of
    the starter have a mean of about 0 and the standard deviation that `reviews.reward` has.
    """
    return (_raw_coherence(text) - _MEAN) / _DEVIATION * _TARGET


def _raw_coherence(text: str) -> float:
    signs = [sign for part in _SENTENCE.findall(text.lower()) if (sign := _sign(part))]
    agreement = (
        sum(one * other for one, other in pairwise(signs)) / (len(signs) - 1) if len(signs) > 1 else 0.0
    )
    words = [word for word in _WORD.findall(text.lower()) if word in reviews.PRAISE or word in reviews.BLAME]
    repeated = 1 - len(set(words)) / len(words) if words else 0.0
    return agreement - _REPEATED * repeated


def _sign(sentence: str) -> int:
    words = _WORD.findall(sentence)
    praise, blame = (sum(word in known for word in words) for known in (reviews.PRAISE, reviews.BLAME))
    return (praise > blame) - (praise < blame)


REWARDS: dict[str, Callable[[str], float]] = {"praise": reviews.reward, "coherence": coherence}
