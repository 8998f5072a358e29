"""The targets of `make gpu-check` are read from what its parts found."""

from benchmarks.gpu_check import targets


def test_targets_say_what_was_found_and_whether_it_suffices() -> None:
    train = {
        "0.5b-hh": {"speed ratio": 2.4, "utilization": 0.5},
        "7b-hh": {"utilization": 0.41},
        "seconds": 9.0,
    }
    sample = {"0.5B": {"ours, no adapter": 900.0, "generate, no adapter": 100.0}, "problem": "late"}
    found = targets({"train": train, "sample": sample})
    assert found["times TRL's best"] == {"target": 2.0, "found": [2.4], "reached": True}
    assert found["utilization"] == {"target": 0.45, "found": [0.5, 0.41], "reached": False}
    assert found["times generate"] == {"target": 5.0, "found": [9.0], "reached": True}
    assert targets({}) == {}
