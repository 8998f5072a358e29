"""The controlled-sentiment world: rewards, the frontier, intervals, scaled adapters and their KL."""

import math
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmarks.controlled import frontier, intervals, people, policies, rewards, world
from benchmarks.controlled.policies import Measurement
from training.engine.adapters.loading import load_sampled

PRAISE, BLAME = " I adored it. The acting is superb.", " I hated it. The acting is wooden."
BOTH = " I adored it. The acting is wooden."


def test_exact_frontier_is_the_exponential_tilt() -> None:
    share = math.exp(1.5) / (1 + math.exp(1.5))
    kl = share * math.log(2 * share) + (1 - share) * math.log(2 * (1 - share))
    assert frontier.tilt([0, 1], [0, 1], 1.5) == pytest.approx((share, kl))
    assert frontier.reward_of_tilt([0, 1], [0, 1], kl) == pytest.approx(share, abs=1e-6)
    assert frontier.best_of_bound(4) == pytest.approx(math.log(4) - 3 / 4)


def test_coherence_is_even_in_the_sign_of_opinions() -> None:
    assert rewards.coherence(PRAISE) == rewards.coherence(BLAME) > rewards.coherence(BOTH)
    assert rewards.coherence(PRAISE) > rewards.coherence(" I adored it. They adored it.")


def test_annotators_prefer_by_bradley_terry_and_tie_when_equal() -> None:
    rng = random.Random(0)
    votes = [people.Person("ada").judge(0.25, rng) for _ in range(2000)]
    assert votes.count("first") / 2000 == pytest.approx(people.prefers_first(0.25), abs=0.03)
    assert people.Person("ada").judge(0.0, rng) == "tie"
    assert {people.Person("eve", spams=True).judge(5.0, rng) for _ in range(50)} == {"first", "second"}


def test_reward_at_a_budget_is_interpolated_in_the_root_of_kl() -> None:
    path = [Measurement(1.0, ("a",), (4.0,))]
    assert frontier.reward_at(path, lambda text: 0.8, 1.0, start=0.0) == (pytest.approx(0.4), True)
    assert frontier.reward_at(path, lambda text: 0.8, 5.0, start=0.0) == (pytest.approx(0.8), False)


def test_interval_over_seeds_is_students() -> None:
    low, high = intervals.t_interval([1.0, 2.0, 3.0]) or (0, 0)
    assert (low, high) == (pytest.approx(2 - 4.303 / math.sqrt(3)), pytest.approx(2 + 4.303 / math.sqrt(3)))
    assert intervals.t_interval([1.0]) is None
    low, high = intervals.bootstrap([float(at % 2) for at in range(100)])
    assert low < 0.5 < high


def test_scaled_adapter_has_the_product_times_lambda(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    weights = {f"layer.lora_{name}.weight": torch.randn(4, 4) for name in "AB"}
    safetensors.torch.save_file(weights, adapter / "adapter_model.safetensors")
    scaled = safetensors.torch.load_file(
        policies.scale_adapter(adapter, 0.25, tmp_path / "scaled") / "adapter_model.safetensors"
    )
    product = weights["layer.lora_B.weight"] @ weights["layer.lora_A.weight"]
    assert torch.allclose(scaled["layer.lora_B.weight"] @ scaled["layer.lora_A.weight"], product / 4)


def test_kl_of_a_completion_sums_over_the_vocabulary() -> None:
    starter, policy = (load_sampled(world.settings(), None).model for _ in range(2))
    with torch.no_grad():
        policy.model.norm.weight.mul_(1.1)
        logits = [
            model(torch.tensor([[5, 6, 7]])).logits[0, 1:].log_softmax(-1) for model in (policy, starter)
        ]
    expected = float((logits[0].exp() * (logits[0] - logits[1])).sum())
    found = policies.token_kls(policy, starter, [((5, 6), (7, 8)), ((5,), (6, 7, 8, 9))])
    assert found[0] == pytest.approx(expected, rel=1e-3)
    assert policies.token_kls(starter, starter, [((5, 6), (7, 8))]) == [pytest.approx(0, abs=1e-6)]
