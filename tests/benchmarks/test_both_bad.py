"""The benchmark of both-bad verdicts: who judges what, and what becomes of completions that are bad."""

from collections.abc import Sequence

from benchmarks import both_bad
from benchmarks.controlled.world import Written
from training.engine.starter.reviews import reward

PRAISE, BLAME = " I adored it. The acting is superb.", " I hated it. The acting is wooden."


def samples(prompt: str, *texts: str) -> list[Written]:
    return [
        Written(at, prompt, f"{text} ({prompt} {at})", (1,), (2, at), "stop") for at, text in enumerate(texts)
    ]


def judge(*prompts: Sequence[Written]) -> both_bad.Verdicts:
    return both_bad.judge(prompts, seed=0)


def test_bad_pairs_alone_have_a_second_comparison() -> None:
    good = [samples(f"good {at}", PRAISE, PRAISE, PRAISE, BLAME) for at in range(8)]
    bad = [samples(f"bad {at}", BLAME, BLAME, BLAME, BLAME) for at in range(8)]
    verdicts = judge(*good, *bad)
    assert [pair[0].prompt for pair in verdicts.bad] == [
        prompt for prompt in dict.fromkeys(pair[0].prompt for pair in verdicts.bad) for _ in range(2)
    ]
    assert {pair[0].prompt for pair in verdicts.bad} == {some[0].prompt for some in bad}
    for one, other in zip(verdicts.bad[::2], verdicts.bad[1::2], strict=True):
        assert len({*one, *other}) == 4
    prompts = [one.first.prompt for one in verdicts.decided]
    assert len(prompts) == len(set(prompts))
    assert set(prompts) <= {some[0].prompt for some in good}


def test_bad_completions_are_rejected_beside_a_winner() -> None:
    verdicts = judge(*(samples(str(at), PRAISE, BLAME, BLAME, BLAME) for at in range(40)))
    rows = both_bad.as_rejected(both_bad.beside_winners)(verdicts)
    # Some of them are wrong.
    winners = {one.first.prompt: one.first if one.label > 0.5 else one.second for one in verdicts.decided}
    bad = [one for pair in verdicts.bad for one in pair]
    assert [row["rejected"] for row in rows] == [one.text for one in bad if one.prompt in winners]
    assert all(row["chosen"] == winners[row["prompt"]].text for row in rows)
    assert all(reward(row["rejected"]) < both_bad.BAD for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) > 0
    votes = both_bad.beside_any_winners(verdicts)
    assert [one for _, one in votes[::3]] == bad
    assert {winner for winner, _ in votes} <= set(winners.values())


def test_prompt_without_a_winner_makes_no_pair() -> None:
    verdicts = judge(samples("a", BLAME, BLAME, BLAME, BLAME))
    assert both_bad.beside_winners(verdicts) == []
    ratings = both_bad.as_ratings(0.5)(verdicts)
    assert len({row["completion"] for row in ratings}) == 4
    assert {(row["label"], row["weight"]) for row in ratings} == {(False, 0.5)}


def test_lead_counts_only_seeds_that_both_reach_a_kl() -> None:
    def figures(value: float, *, reached: bool) -> dict:
        return {"at": {"1": (value, reached)}}

    mine = [figures(0.6, reached=True), figures(0.5, reached=True), figures(0.9, reached=False)]
    base = [figures(0.5, reached=True), figures(0.4, reached=True), figures(0.1, reached=True)]
    assert both_bad._lead(mine, base, "1") == "+0.10 (+0.10 to +0.10)"
    assert both_bad._cell(mine, "1") == "0.55, 2 of 3 seeds"
