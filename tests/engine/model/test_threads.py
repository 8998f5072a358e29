"""Jobs of a small model run side by side, each on one thread, and end together."""

from threading import Barrier, Event

import pytest
import torch

from tests.engine.conftest import tiny_llama
from training.engine.errors import ModelError
from training.engine.model.threads import Crew, threads_apart


def test_the_first_error_ends_all_jobs_and_is_raised() -> None:
    begun, ended, barrier = [], [], Barrier(2)

    def fail(stopping: Event) -> None:
        barrier.wait(60)
        raise ModelError("damaged")

    def go_on(stopping: Event) -> None:
        begun.append(1)
        barrier.wait(60)
        assert stopping.wait(60)
        ended.append(1)

    with pytest.raises(ModelError, match="damaged"), Crew(2) as crew:
        crew.run([go_on, fail])
    assert begun == ended == [1]


def test_threads_compute_on_one_each_and_give_all_back() -> None:
    before, found = torch.get_num_threads(), []
    with Crew(2) as crew:
        crew.run([lambda stopping: found.append(torch.get_num_threads())] * 2)
    assert found == [1, 1]
    assert torch.get_num_threads() == before


def test_a_crew_of_one_is_its_caller() -> None:
    found = []
    with Crew(1) as crew:
        crew.run([lambda stopping: found.append(torch.get_num_threads())])
    assert found == [torch.get_num_threads()]


@pytest.mark.parametrize(
    ("hidden", "device", "expected"), [(32, "cpu", 2), (512, "cpu", 1), (32, "cuda", 1)], ids=str
)
def test_only_small_models_on_a_cpu_are_worth_it(
    hidden: int, device: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert threads_apart(tiny_llama(hidden_size=hidden), torch.device(device)) == expected
