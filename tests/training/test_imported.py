"""A round that trains on pairs that were judged elsewhere, without one judgment of the project's own people."""

from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.sources.candidates import Answer, Candidate, Opinion
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory
from training.rounds import runner, state_machine
from training.rounds.readiness import find_readiness

TOOLS = ({"type": "function", "function": {"name": "look_up"}},)
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "look_up", "arguments": "{}"}}],
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def judged(prompt, *contents, strength=None, **more):
    opinion = Opinion((1.0, 0.0), annotator="maria", strength=strength)
    return Candidate(prompt, tuple(Answer(content) for content in contents), (opinion,), **more)


def test_a_round_starts_on_imported_pairs_alone(project, owner, tiny):
    project.held_out_share = 0
    project.save()
    chat = [{"role": "user", "content": "Is it cold?"}]
    rows = [judged(f"P{n}", f"good {n}", f"bad {n}", strength=3) for n in range(8)]
    rows += [
        judged(chat, [CALL], "No", tools=TOOLS),
        judged(chat, [CALL, {"role": "tool", "content": "3"}], "Yes"),  # several messages
        judged([{"role": "user", "content": [IMAGE]}], "A cat", "A dog"),
    ]
    items = [item for row in rows for item in expand(row, Choices("judged"))]
    write(project, list(enumerate(items, start=1)))
    account = find_readiness(project).account
    assert (account.train, account.left_out) == (9, [("with images, or a completion of several messages", 2)])
    round_ = state_machine.start(project, owner, {**tiny, "pairs": {"margin_scale": 1 / 3}})
    round_ = state_machine.claim_round(round_.pk, "worker of the tests")
    files = RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    pairs = read_pairs(files.pairs)
    assert [pair.margin for pair in pairs] == [1.0] * 8 + [0.0]
    assert [pair.chosen.text for pair in pairs[:8]] == [f"good {n}" for n in range(8)]
    assert pairs[8].tools == list(TOOLS)
    assert pairs[8].chosen.text == [CALL]
    assert pairs[8].rejected.text == [{"role": "assistant", "content": "No"}]
