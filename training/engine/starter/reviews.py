"""Film reviews composed from a small grammar, and the reward that their words define.

The starter model learns to write from these reviews, and simulations and tests judge its texts by `reward`. So
learning can be measured against a known truth. It is the controlled-sentiment experiment of the DPO paper (Rafailov
et al., 2305.18290, section 6) in miniature.

A review is an *opening* (the prompt, free of praise and blame) and a *continuation* (the completion). Each review
has a mood of its own, the chance that an opinion in it praises. So two continuations of one opening usually differ
in reward, and over all reviews the mean reward is about 0.
"""

import random
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

_OPINIONS = {
    "praise": {
        "film": "wonderful excellent delightful charming splendid memorable thrilling superb",
        "acting": "brilliant superb tender graceful charming excellent heartfelt radiant",
        "plot": "clever gripping fresh thrilling inventive memorable rich satisfying",
        "music": "beautiful lovely haunting graceful rich exquisite stirring uplifting",
        "look": "gorgeous beautiful lovely elegant exquisite stunning radiant splendid",
        "direction": "inspired elegant assured inventive brilliant graceful confident superb",
        "pace": "gripping lively assured thrilling confident refreshing",
        "dialogue": "witty clever hilarious heartfelt charming fresh tender",
        "ending": "moving satisfying memorable uplifting stirring wonderful beautiful",
    },
    "blame": {
        "film": "dreadful terrible tedious boring awful dull miserable forgettable",
        "acting": "wooden lifeless dreadful forced weak awful shallow stilted",
        "plot": "tedious messy shallow stale hollow predictable silly confusing",
        "music": "grating bland awful tiresome dreary stale lifeless shrill",
        "look": "ugly bland drab dreary lifeless shabby dull murky",
        "direction": "lazy clumsy careless sloppy uninspired weak timid messy",
        "pace": "sluggish plodding tedious tiresome boring clumsy",
        "dialogue": "stilted silly clumsy stale hollow forced predictable",
        "ending": "hollow forced silly disappointing predictable confusing shabby",
    },
}
# Polarity -> slot -> the words that may fill it.
ASPECTS = {
    polarity: {aspect: words.split() for aspect, words in aspects.items()}
    for polarity, aspects in _OPINIONS.items()
}
# What viewers do and conclude; the sentences below use each of these words.
_ACTS = {
    "praise": "loved adored enjoyed admired impressed delighted dazzled recommend treasure gladly triumph masterpiece joy",
    "blame": "hated disliked regretted resented annoyed bored irritated avoid waste sadly failure disaster chore",
}
PRAISE, BLAME = (
    frozenset(_ACTS[polarity].split()).union(*ASPECTS[polarity].values()) for polarity in ("praise", "blame")
)

# Fillers without an opinion.
NEUTRAL = {
    "genre": [
        "space drama", "detective story", "love story", "ghost story", "family comedy", "war film", "western",
        "spy film", "courtroom drama", "road movie", "heist film", "fairy tale", "documentary", "musical",
        "prison film", "sports film",
    ],
    "kind": [
        "quiet", "long", "short", "French", "Japanese", "Italian", "modern", "silent", "animated", "famous", "new",
        "classic",
    ],
    "place": ["Lisbon", "Paris", "a small town", "the mountains", "Tokyo", "an old harbor", "the desert", "Berlin"],
    "hero": [
        "a young teacher", "two brothers", "a retired captain", "a lost dog", "three sisters", "a piano player",
        "a night nurse", "an old farmer",
    ],
    "when": [
        "on a rainy Sunday", "last night", "with my sister", "on the train", "after work", "with two friends",
        "at a small festival", "late in the evening", "for the second time", "without reading about it",
    ],
    "friend": ["my sister", "a friend", "my neighbor", "my father", "a colleague", "my daughter"],
    "who": ["the lead actor", "the whole cast", "the young actress", "the villain", "the older couple"],
    "length": ["ninety minutes", "two hours", "nearly three hours", "a little over an hour"],
}  # fmt: skip

# An opening's second field says how the continuation goes on: after "I ... and", after a comma, after
# "a film that", or with a new sentence.
OPENINGS = [
    ("I watched this {kind} {genre} {when} and", "and"),
    ("I saw a {kind} {genre} set in {place} {when} and", "and"),
    ("We picked a {genre} about {hero} {when} and", "and"),
    ("For a {kind} {genre} set in {place},", "comma"),
    ("As a {genre} about {hero},", "comma"),
    ("Compared with the last {kind} {genre} I saw {when},", "comma"),
    ("Here is a {kind} {genre} about {hero} that", "that"),
    ("This is the {kind} {genre} from {place} that", "that"),
    ("This {kind} {genre} follows {hero} through {place}.", "new"),
    ("I went to this {genre} about {hero} {when}.", "new"),
    ("A {kind} {genre} was chosen by {friend} {when}.", "new"),
    ("My notes on the {kind} {genre} from {place}:", "new"),
]

FIRST = {
    "and": {
        "praise": [
            "loved every minute of it.", "adored it from the first scene.", "enjoyed it more than I expected.",
            "admired how {film} it was.", "found it {film}.", "came out delighted.",
        ],
        "blame": [
            "hated every minute of it.", "disliked it from the first scene.", "regretted it after ten minutes.",
            "resented how {film} it was.", "found it {film}.", "came out bored.",
        ],
        "neutral": ["wrote down a few thoughts.", "stayed until the credits.", "talked about it on the way home."],
    },
    "comma": {
        "praise": [
            "this one is {film}.", "it has a {plot} story.", "it is a small triumph.", "it dazzled me.",
            "it felt {pace} and {film}.",
        ],
        "blame": [
            "this one is {film}.", "it has a {plot} story.", "it is a small disaster.", "it annoyed me.",
            "it felt {pace} and {film}.",
        ],
        "neutral": ["it keeps to the usual path.", "it starts late and ends early.", "it has a large cast."],
    },
    "that": {
        "praise": ["impressed me from start to finish.", "turns out {film}.", "offers a {plot} story.", "I loved."],
        "blame": ["irritated me from start to finish.", "turns out {film}.", "offers a {plot} story.", "I hated."],
        "neutral": ["runs for {length}.", "begins and ends in {place}.", "people talk about this year."],
    },
    "new": {
        "praise": ["It is a {film} film.", "What a joy it was.", "I enjoyed it very much.", "The result is {film}."],
        "blame": ["It is a {film} film.", "What a chore it was.", "I disliked it very much.", "The result is {film}."],
        "neutral": ["It runs for {length}.", "It opens with a letter.", "The first scene is at night."],
    },
}  # fmt: skip

# Slots are named after the aspect whose words fill them; praise and blame share these sentences.
BODY = {
    "acting": [
        "The acting is {acting}.", "As for {who}, the work is {acting} and {acting}.",
        "In the main part, {who} gives a {acting} performance.", "Every scene with {who} feels {acting}.",
        "Next to the others, {who} seems {acting}.",
    ],
    "plot": [
        "The story is {plot}.", "The plot about {hero} turns {plot} after the first act.",
        "I found the second half {plot} and {plot}.", "The script tells a {plot} tale.",
        "What happens to {hero} is {plot}.",
    ],
    "music": [
        "The music is {music}.", "A {music} score plays under every scene.", "The songs sound {music} and {music}.",
        "There is a {music} tune whenever we see {hero}.",
    ],
    "look": [
        "The pictures are {look}.", "Each shot of {place} looks {look}.", "The sets and costumes are {look} and {look}.",
        "Seen on a large screen, the colors are {look}.",
    ],
    "direction": [
        "The direction is {direction}.", "You feel a {direction} hand behind the camera.",
        "The director makes {direction} choices.", "After {length} the editing still feels {direction}.",
    ],
    "pace": ["The pace is {pace}.", "At {length} it feels {pace}.", "The middle part is {pace}.", "Once we reach {place}, it becomes {pace}."],
    "dialogue": [
        "The dialogue is {dialogue}.", "Most lines sound {dialogue} and {dialogue}.", "The jokes are {dialogue}.",
        "When {who} speaks, the words are {dialogue}.",
    ],
    "ending": [
        "The ending is {ending}.", "The last scene feels {ending}.", "It closes with a {ending} farewell in {place}.",
        "How it all ends for {hero} is {ending}.",
    ],
}  # fmt: skip
FACTS = [
    "It was filmed in {place}.", "It runs for {length}.", "The story moves from {place} to {place}.",
    "There is a subplot about {hero}.", "The film is based on a novel.", "Most of it happens at night.",
    "The camera stays close to {who}.", "The first act is about {hero}.",
    "Some scenes have no words at all.", "A letter from {friend} plays a part.", "Half of it is told in flashbacks.",
]  # fmt: skip
CLOSING = {
    "praise": [
        "I recommend it.", "I would gladly see it again.", "A masterpiece of its kind.", "I will treasure it.",
        "In short, a {film} film.", "Go and see it for the {music} songs.",
    ],
    "blame": [
        "I would avoid it.", "Sadly, I cannot say more for it.", "A failure of its kind.", "It is a waste of an evening.",
        "In short, a {film} film.", "Do not pay for such {dialogue} lines.",
    ],
    "neutral": ["That is all I can say.", "Make of that what you will.", "I will read the novel next."],
}  # fmt: skip

MOODS = (0.03, 0.15, 0.5, 0.85, 0.97)
NEUTRAL_SHARE = 0.2
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z]+")


def openings(n: int, seed: int = 0) -> list[str]:
    """Return `n` distinct openings, the same for the same seed. A longer list begins with the shorter one.

    The grammar knows several ten thousand; raises ValueError beyond 10,000, where drawing becomes slow.
    """
    if n > 10_000:
        raise ValueError(f"{n} openings were asked for; the grammar gives at most 10,000.")
    rng = random.Random(f"openings {seed}")
    found: dict[str, None] = {}
    while len(found) < n:
        found.setdefault(_opening(rng)[0])
    return list(found)


def review(rng: random.Random) -> tuple[str, str]:
    """Compose one review: (opening, continuation). The space between them belongs to the continuation."""
    text, kind, neutral = _opening(rng)
    mood = rng.choice(MOODS)

    def say(by_polarity: Mapping[str, list[str]]) -> str:
        if rng.random() < NEUTRAL_SHARE:
            return _fill(rng, rng.choice(by_polarity["neutral"]), neutral)
        polarity = "praise" if rng.random() < mood else "blame"
        return _fill(rng, rng.choice(by_polarity[polarity]), neutral | ASPECTS[polarity])

    aspects = rng.sample(sorted(BODY), rng.choice((2, 3, 3, 4)))
    facts = rng.sample(FACTS, len(aspects))
    bodies = [
        {"praise": BODY[aspect], "blame": BODY[aspect], "neutral": [fact]}
        for aspect, fact in zip(aspects, facts, strict=True)
    ]
    return text, " " + " ".join(say(sentences) for sentences in [FIRST[kind], *bodies, CLOSING])


def reward(text: str) -> float:
    """Return (praise - blame) / (praise + blame) over the words of `text`, in [-1, 1]: 0 where it has neither."""
    words = _WORD.findall(text.lower())
    praise = sum(word in PRAISE for word in words)
    blame = sum(word in BLAME for word in words)
    return (praise - blame) / (praise + blame) if praise + blame else 0.0


def distinct_2(texts: Iterable[str]) -> float:
    """Return the share of distinct pairs among all adjacent words (Li et al., 1510.03055): 0 without any."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        words = _WORD.findall(text.lower())
        pairs.extend(pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def _opening(rng: random.Random) -> tuple[str, str, dict[str, list[str]]]:
    """Draw an opening: its text, the kind of continuation that it asks for, and the neutral fillers left for that.

    The continuation keeps to the opening's hero.
    """
    template, kind = rng.choice(OPENINGS)
    hero = rng.choice(NEUTRAL["hero"])
    neutral = NEUTRAL | {"hero": [hero]}
    return _fill(rng, template, neutral), kind, neutral if "{hero}" in template else NEUTRAL


def _fill(rng: random.Random, template: str, fillers: Mapping[str, list[str]]) -> str:
    """Fill every slot, no filler twice in one sentence, and write "an" before a vowel."""
    used: set[str] = set()

    def filler(slot: re.Match[str]) -> str:
        drawn = rng.choice([choice for choice in fillers[slot[1]] if choice not in used])
        used.add(drawn)
        return drawn

    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", _SLOT.sub(filler, template))
