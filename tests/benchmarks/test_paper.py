"""The paper in miniature: its losses by hand, its judges, its prompts by kind, and the whole of it with tiny counts."""

import dataclasses
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks.controlled.recipes import RECIPES
from benchmarks.paper import __main__ as command
from benchmarks.paper import estimates, figures, losses, methods, ppo, reward_model
from benchmarks.paper.actor import Actor, Measurement, Written
from benchmarks.paper.judges import FIRST, SECOND, TIE, EndpointJudge, JudgeError, WordJudge
from benchmarks.paper.paths import find_path
from benchmarks.paper.setting import TINY, Counts, draw_reviews, make_starter, review_kind
from benchmarks.paper.world import World
from tests.local_server import serving
from tests.training.using.openai_server import Server, completion
from training.engine.assisting.tilting import find_strength
from training.engine.starter import reviews

ROOT = Path(__file__).parents[2]


def test_preferred_ft_is_likelihood_per_token() -> None:
    assert losses.preferred_ft(torch.tensor([-2.0, -4.0]), torch.tensor([2, 4])) == pytest.approx(1.0)


def test_unlikelihood_pushes_rejected_tokens_down() -> None:
    chosen = [torch.tensor([0.5, 0.25]).log(), torch.tensor([1.0]).log()]
    rejected = [torch.tensor([0.5]).log(), torch.tensor([0.75, 0.5]).log()]
    likely = (math.log(2) + math.log(4)) / 2 / 2
    unlikely = (math.log(2) + (math.log(4) + math.log(2)) / 2) / 2
    assert losses.unlikelihood(chosen, rejected, 0.0) == pytest.approx(likely)
    assert losses.unlikelihood(chosen, rejected, 0.5) == pytest.approx(likely + 0.5 * unlikely)
    certain = torch.zeros(1, requires_grad=True)
    losses.unlikelihood([torch.tensor([-1.0])], [certain], 1.0).backward()
    assert certain.grad is not None
    assert torch.isfinite(certain.grad).all()


def test_advantages_leave_their_own_reward_out() -> None:
    found = losses.leave_one_out(torch.tensor([[1.0, 2.0, 3.0, 6.0]]))
    assert found.tolist() == [[pytest.approx(one, abs=1e-6) for one in (1 - 11 / 3, 2 - 10 / 3, 0.0, 4.0)]]


def test_ppo_takes_no_gain_beyond_its_clip() -> None:
    ratios, advantages = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    new = ratios.log().requires_grad_()
    loss = losses.clipped_surrogate(new, torch.zeros(4), advantages, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    # The gradient of a ratio by its logarithm is the ratio; where the clip binds, there is none.
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([0.0, 1.5 / 4, -0.5 / 4, 0.0])


def test_reward_model_finds_the_odds_of_a_preference() -> None:
    # Three of four prefer one unit more: the likeliest weight is log 3.
    differences = np.array([[1.0], [1.0], [1.0], [-1.0]])
    assert reward_model._logistic(differences, 1e-9)[0] == pytest.approx(math.log(3), abs=1e-4)


def test_each_opening_is_told_its_kind() -> None:
    rng = random.Random(0)
    for number, (template, _) in enumerate(reviews.OPENINGS):
        assert review_kind(reviews._fill(rng, template, reviews.NEUTRAL)) == number
    examples = draw_reviews(300, seed=1)
    assert len({one.prompt for one in examples}) == 300
    assert {one.kind for one in examples} == set(range(len(reviews.OPENINGS)))
    with pytest.raises(ValueError, match="not an opening"):
        review_kind("Once upon a time")


def test_no_policy_learns_from_what_it_is_measured_on(tmp_path: Path) -> None:
    world = World(make_starter(TINY), 0, tmp_path)
    measured = {one.prompt for one in world.measured}
    assert not measured & {one.prompt for one in world.pool}
    assert not any(world.is_unseen(one) for one in world.learnable(seen=True))


def test_comparisons_of_seen_kinds_share_their_samples(tmp_path: Path) -> None:
    world = World(make_starter(TINY), 0, tmp_path)
    every, seen = world.preferences(), world.preferences(seen=True)
    assert not any(_is_unseen(world, chosen) for chosen, _ in seen)
    both = {one.prompt for one, _ in every} & {one.prompt for one, _ in seen}
    assert both
    for prompt in both:
        texts, others = (
            {one.text for pair in some for one in pair if one.prompt == prompt} for some in (every, seen)
        )
        assert texts == others


def _is_unseen(world: World, written: Written) -> bool:
    return world.is_unseen(next(one for one in world.pool if one.prompt == written.prompt))


def test_starter_assists_by_the_recipe_of_rounds() -> None:
    settings, recipe = make_starter(Counts()), RECIPES["assisted"]
    assert settings.assist == recipe.assist
    assert settings.training["learning_rate"] * methods.FASTER == recipe.training["learning_rate"]


def test_assisted_gaps_are_a_tilt_by_the_learnt_reward(tmp_path: Path) -> None:
    world = World(make_starter(TINY), 0, tmp_path)
    actor = Actor(world.setting)
    model = reward_model.fit(actor, world.preferences())
    known: list[dict[str, Any]] = []

    def train_draft(rows: list[dict[str, Any]]) -> Path:
        known.extend(rows)
        return methods.dpo(world, tmp_path / "draft", world.preferences())

    rows = methods.assisted_rows(world, model, train_draft)
    settings = world.setting.assist
    assert len(rows) == TINY.assisted
    assert known == rows[: settings.pairs - settings.drafted_pairs]
    prompts = [one.prompt for one in world.pool[: settings.count_groups(len(known))]]
    assert {row["prompt"] for row in rows} == set(prompts)
    groups = actor.write(prompts, each=settings.candidates, seed=14)
    scores = {
        one.text: score for group in groups for one, score in zip(group, model.score(group), strict=True)
    }
    assert all(row["chosen"] in scores and row["rejected"] in scores for row in known)
    assert not all(row["chosen"] in scores for row in rows[len(known) :])
    strength = find_strength([[scores[one.text] for one in group] for group in groups], settings.kl)
    for row in known:
        assert row["gap"] == pytest.approx(
            strength * (scores[row["chosen"]] - scores[row["rejected"]]), rel=1e-4
        )


def test_assisted_pairs_of_seen_kinds_have_no_others(tmp_path: Path) -> None:
    counts = dataclasses.replace(TINY, labels=3, assisted=144)
    world = World(make_starter(counts), 0, tmp_path)
    prompts = {one.prompt for one in world.learnable(seen=True)}
    settings = world.setting.assist
    assert len(prompts) < settings.count_groups(settings.drafted_pairs)
    model = reward_model.fit(Actor(world.setting), world.preferences(seen=True))
    rows = methods.assisted_rows(
        world, model, lambda rows: methods.dpo(world, tmp_path / "draft", world.preferences()), seen=True
    )
    # With fewer prompts than groups all of them serve, and some more than once.
    assert {row["prompt"] for row in rows} == prompts
    assert len(rows) == counts.assisted
    assert len({(row["chosen"], row["rejected"]) for row in rows}) == len(rows)


@pytest.mark.parametrize(("end", "budgets"), [(0.3, []), (1.1, []), (7.0, [1, 2, 5]), (87.0, [1, 2, 5])])
def test_path_is_measured_near_each_budget_below_its_end(end: float, budgets: list[int]) -> None:
    # The KL of an adapter grows faster than the square of its scale, the further the more.
    found = find_path(lambda scale: Measurement([], [end * scale ** (2 + end / 100)]))
    assert found[-1][0] == 1
    assert [scale for scale, _ in found] == sorted(scale for scale, _ in found)
    for budget in budgets:
        assert min(abs(math.log(one.kl / budget)) for _, one in found) < 0.25
    assert len(found) <= 1 + 2 * len(budgets)


def path_of(*points: tuple[float, list[float]]) -> estimates.RewardPath:
    return np.array([[kl] * len(rewards) for kl, rewards in points]), np.array(
        [rewards for _, rewards in points]
    )


def test_reward_at_a_kl_has_an_interval_over_prompts() -> None:
    path = path_of((0, [0.0] * 4), (4, [1.0, 1.0, 0.0, 0.0]))
    assert estimates.reward_cell([path], 1) == "+0.25 (+0.00 to +0.50)"
    assert estimates.reward_cell([path], 5) == "–"
    assert estimates.reward_cell([path, path], 1) == "+0.25 (+0.25 to +0.25)"


def test_lead_on_the_same_prompts_is_bold_unless_0_is_within() -> None:
    rewards = [1.0, -1.0, 0.5, -0.5]
    path = path_of((0, [0.0] * 4), (1, rewards))
    better = path_of((0, [0.0] * 4), (1, [one + 0.1 for one in rewards]))
    assert estimates.lead_cell([(better, path)], 1) == "**+0.10 (+0.10 to +0.10)**"
    assert estimates.lead_cell([(path, path)], 1) == "+0.00 (+0.00 to +0.00)"
    assert estimates.lead_cell([(better, path)], 2) == "–"


def test_two_verdicts_on_one_comparison_count_once() -> None:
    figures = {"truth": ["first", "tie"], "ada": ["first", "first"], "ben": ["second", "first"]}
    assert estimates.agreement([figures], [("truth", "ada"), ("truth", "ben")]) == (
        "0.50 (0.50 to 0.50)",
        "1",
    )


def test_judge_that_never_decides_agrees_with_no_one() -> None:
    figures = {"judge": ["tie", "tie"], "ada": ["first", "second"]}
    assert estimates.agreement([figures], [("judge", "ada")]) == ("–", "0")


def test_ppo_step_makes_rewarded_completions_likelier(tmp_path: Path) -> None:
    actor = Actor(make_starter(TINY))
    groups = actor.write([one.prompt for one in draw_reviews(4, seed=2)], each=2, seed=3)
    moves = ppo.collect(actor, groups, lambda written: [at % 2 for at in range(len(written))], beta=0.1)
    assert actor.kls([one for group in groups for one in group]) == [pytest.approx(0.0, abs=1e-5)] * 8
    optimizer = torch.optim.AdamW(actor.parameters, lr=1e-3)
    for _ in range(3):
        ppo.step(actor, actor.parameters, optimizer, moves, clip=0.2)
    pairs = [ppo.pair(*move.both, at) for at, move in enumerate(moves)]
    gains = [
        sum((new - old).sum().item() * (1 if at else -1) for at, (new, old) in enumerate(both))
        for both in (
            zip(logps, move.old, strict=True)
            for logps, move in zip(actor.token_logps(pairs), moves, strict=True)
        )
    ]
    assert min(gains) > 0
    written = [one for group in groups for one in group]
    assert min(actor.kls(written)) > 0
    with actor.scaled(0.0):
        assert actor.kls(written) == [pytest.approx(0.0, abs=1e-5)] * 8


def test_word_judge_learns_words_from_labelled_texts() -> None:
    judge = WordJudge(["a fine film", "a fine day", "a dull film", "a dull day"], [True, True, False, False])
    assert judge.compare("", "so fine", "so dull") == FIRST
    assert judge.compare("", "so dull", "so fine") == SECOND
    assert judge.compare("", "unheard of", "another one") == TIE


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


def ask(server: Server, first: str = "good", second: str = "bad") -> str:
    judge = EndpointJudge(f"http://{server.host}/v1", "acme-1", "text is better", key="secret")
    return judge.compare([{"role": "user", "content": "Hello"}], first, second)


def prefers_good(path: str, body: dict) -> tuple[int, dict, dict]:
    question = body["messages"][0]["content"]
    return 200, completion("A" if question.index("good") < question.index("bad") else " B."), {}


def test_endpoint_judges_in_both_orders(server: Server) -> None:
    server.rules.append(prefers_good)
    assert ask(server) == FIRST
    assert ask(server, "bad", "good") == SECOND
    path, body, authorization = server.asked[0]
    assert (path, body["model"], body["temperature"]) == ("/v1/chat/completions", "acme-1", 0)
    assert authorization == "Bearer secret"


@pytest.mark.parametrize("said", ["A", "neither", ""])
def test_endpoint_that_goes_by_place_has_a_tie(server: Server, said: str) -> None:
    server.rules.append(lambda path, body: (200, completion(said), {}))
    assert ask(server) == TIE


def test_busy_endpoint_is_asked_again(server: Server) -> None:
    server.rules += [lambda path, body: (503, b"busy", {}) if len(server.asked) == 1 else None, prefers_good]
    assert ask(server) == FIRST
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((401, b"no", {}), "cannot judge: status 401"),
        ((302, b"", {"Location": "http://127.0.0.1:1/"}), "cannot judge: status 302"),
        ((200, b"<html>", {}), "something else than a chat completion"),
        ((200, {"choices": []}, {}), "something else than a chat completion"),
    ],
)
def test_endpoint_that_does_not_answer_is_told(server: Server, reply: tuple, words: str) -> None:
    server.rules.append(lambda path, body: reply)
    with pytest.raises(JudgeError, match=words):
        ask(server)
    assert len(server.asked) == 1


def test_chart_is_whole_and_stays_within_its_axes() -> None:
    across = figures.Axis(title="KL", ticks=(0, 0.9, 4.5), bend=figures.logarithm)
    up = figures.Axis(title="reward", ticks=(0, 1))
    lines = [
        figures.Line("a & b", [(0, 0), (0.9, 0.5), (100, 2)], {1: (0.25, 0.75)}),
        figures.Line("exact", [(0, 1)], exact=True),
    ]
    svg = figures.chart("<title>", across, up, lines)
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    line = next(root.iter("{http://www.w3.org/2000/svg}polyline"))
    places = [tuple(map(float, one.split(","))) for one in line.get("points", "").split()]
    assert places[1][0] == pytest.approx((places[0][0] + places[2][0]) / 2)  # log 4 is half of log 16
    assert places[2] == (pytest.approx(544.0), pytest.approx(36.0))  # the corner
    bar = root.findall("{http://www.w3.org/2000/svg}line[@stroke]")[0]
    assert float(bar.get("y1", "")) - float(bar.get("y2", "")) == pytest.approx(160)  # half the height
    assert "prefers-color-scheme:dark" in svg


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_paper_is_written_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["paper", "--tiny", "--workers", "2", "--folder", str(tmp_path / "runs"), "--docs", str(tmp_path)]
    # As `make paper` starts it: its processes import what they are to do from the command's own module.
    subprocess.run([sys.executable, "-m", "benchmarks.paper", *given[1:]], check=True, cwd=ROOT)
    text = (tmp_path / "paper.md").read_text()
    for part in (
        "A smoke run",
        "24 of 450 comparisons",
        "## Reward and KL",
        "## Wins by",
        "## Generalization",
        "## An automatic judge",
    ):
        assert part in text
    generalization = text.partition("## Generalization")[2].partition("\n## ")[0]
    assert "| DPO, assisted |" in generalization
    assert (tmp_path / "paper" / "starter-frontier.svg").exists()
    seconds = (tmp_path / "runs" / "0" / "seconds.txt").read_text()
    with serving(Server()) as server:
        server.rules.append(lambda path, body: (200, completion("A"), {}))
        monkeypatch.setattr("sys.argv", [*given, "--judge-url", f"http://{server.host}/v1"])
        command.main()
    added = (tmp_path / "runs" / "0" / "seconds.txt").read_text().removeprefix(seconds)
    assert added.split()[1:] == ["judge", "endpoint"]
    assert "default and annotator" in (tmp_path / "paper.md").read_text()
