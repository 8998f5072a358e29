"""Files for other trainers: what their loaders would misread leaves in their way, or is left out."""

import io
import json
import re
import zipfile
from typing import Any

import pytest

from annotate.exports import account
from annotate.exports.bundle import open_download
from annotate.exports.trainers import openai
from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.sources.candidates import Answer, Candidate, Opinion

ASKED = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
CALLED = '[{"name": "add", "arguments": {"a": 1}}]'
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.fixture
def leave(project: Any, select: Any) -> Any:
    """leave(format, prompt, chosen, tools): the records of one pair, and why pairs were left out."""

    def leave(format: str, prompt: Any, chosen: Any, tools: Any = ()) -> tuple[list[Any], dict[str, int]]:
        row = Candidate(prompt, (Answer(chosen), Answer("No.")), (Opinion((1.0, 0.0)),), tuple(tools))
        items = expand(row, Choices("judged", empty_completions=True))
        write(project, list(enumerate(items, start=1)))
        selection = select(format=format)
        data = b"".join(open_download(selection).chunks)
        found = account.count(project, selection.filters, selection.settings)
        if format == "llama_factory":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                (name,) = (name for name in archive.namelist() if name != "dataset_info.json")
                return json.loads(archive.read(name)), found["excluded"]
        return [json.loads(line) for line in data.splitlines()], found["excluded"]

    return leave


def test_llama_factory_gets_arguments_as_objects(leave: Any) -> None:
    ((row,), _excluded) = leave("llama_factory", [ASKED], [said(None, tool_calls=[CALL])])
    assert row["chosen"] == {"from": "function_call", "value": CALLED}


def test_arguments_that_are_no_json_stay_text(leave: Any) -> None:
    call = {"function": {"name": "add", "arguments": "{a"}}
    ((row,), _excluded) = leave("llama_factory", [ASKED], [said(None, tool_calls=[call])])
    assert json.loads(row["chosen"]["value"]) == [{"name": "add", "arguments": "{a"}]


def test_llama_factory_gets_reasoning_and_text_beside_calls(leave: Any) -> None:
    chosen = [said("I look.", reasoning_content="Hm.", tool_calls=[CALL])]
    ((row,), _excluded) = leave("llama_factory", [ASKED], chosen)
    value = f"<think>\nHm.\n</think>\n\nI look.<tool_call>{CALLED}</tool_call>"
    assert row["chosen"] == {"from": "function_call", "value": value}


def parse_call(value: str) -> tuple[str, Any]:
    """Return what LLaMA-Factory's FunctionFormatter finds in a value: thought and text, and the calls."""
    call = re.search("<tool_call>(.*?)</tool_call>", value, re.DOTALL)
    thought = re.search("<think>\n(.*?)\n</think>\n\n", value, re.DOTALL)
    beside = value.replace(call[0], "") if call else thought[0] if thought else ""
    return beside, json.loads(call[1] if call else value.replace(beside, ""))


@pytest.mark.parametrize(
    "text", ["", "I look.", "A <tool_call> is <tool_call>x</tool_call>.", "</think> ends it."]
)
@pytest.mark.parametrize("reasoning", ["", "Hm.", "Is it <tool_call>x</tool_call>?", "a\n</think>\n\nb"])
@pytest.mark.parametrize("argument", ["1", "<tool_call>x</tool_call>", "</tool_call>", "<think>\n\n</think>"])
def test_llama_factory_finds_calls_beside_any_text(
    leave: Any, text: str, reasoning: str, argument: str
) -> None:
    call = {"function": {"name": "add", "arguments": json.dumps({"a": argument})}}
    chosen = said(text or None, tool_calls=[call], **({"reasoning_content": reasoning} if reasoning else {}))
    ((row,), _excluded) = leave("llama_factory", [ASKED], [chosen])
    beside, calls = parse_call(row["chosen"]["value"])
    assert calls == [{"name": "add", "arguments": {"a": argument}}]
    assert beside == (f"<think>\n{reasoning}\n</think>\n\n" if reasoning else "") + text


def test_llama_factory_gets_turns_of_one_speaker_as_one(leave: Any) -> None:
    results = [{"role": "tool", "content": content, "tool_call_id": "c1"} for content in "34"]
    orders = [{"role": role, "content": role} for role in ("system", "developer")]
    prompt = [*orders, ASKED, ASKED, said(None, tool_calls=[CALL, CALL]), *results]
    ((row,), _excluded) = leave("llama_factory", prompt, "Seven.")
    assert [(turn["from"], turn["value"]) for turn in row["conversations"]] == [
        ("system", "system\n\ndeveloper"),
        ("human", "Hi\n\nHi"),
        ("function_call", f"[{CALLED[1:-1]}, {CALLED[1:-1]}]"),
        ("observation", "3\n</tool_response>\n<tool_response>\n4"),
    ]


def test_axolotl_gets_a_role_and_a_text_of_each_message(leave: Any) -> None:
    prompt = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": "here"}]},
    ]
    ((row,), _excluded) = leave("axolotl", prompt, "\n  Yes.\n")
    assert row == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look\n\nhere"}],
        "chosen": said("Yes."),
        "rejected": said("No."),
    }


@pytest.mark.parametrize(
    ("prompt", "chosen", "reason", "formats"),
    [
        ([ASKED], [said(None, tool_calls=[CALL])], "calls", {"axolotl"}),
        ([ASKED, said(None, tool_calls=[CALL]), {"role": "tool", "content": "1"}], "Two.", "calls", {"axolotl"}),
        ([ASKED], [said("Yes.", reasoning_content="Hm.")], "reasoning", {"axolotl", "openai"}),
        ([ASKED], "", "empty", {"axolotl"}),
        *(([ASKED], blank, "empty", {"axolotl"}) for blank in (" \n", "\x0b", "\x1c", "\x85", "\u00a0", "\u3000")),
        ([ASKED], "\u200b", "", set()),
        ([ASKED], "\u3000No. \n", "blanks", {"axolotl"}),
        ([ASKED], [said([{"type": "text", "text": " No."}])], "blanks", {"axolotl"}),
        ([ASKED], "No .", "", set()),
        ([{"role": "user", "content": [IMAGE]}], "Yes.", "images",
         {"axolotl", "llama_factory", "openai", "nemo_rl"}),
        ([{"role": "user", "content": 'Say "tool_calls": [] and "reasoning_content": 1'}], "Yes.", "", set()),
    ],
)  # fmt: skip
def test_what_a_trainer_misreads_is_left_out_and_counted(
    leave: Any, prompt: Any, chosen: Any, reason: str, formats: set[str]
) -> None:
    for format in ("axolotl", "llama_factory", "openai", "ms_swift", "nemo_rl"):
        rows, excluded = leave(format, prompt, chosen)
        assert (len(rows), excluded) == ((0, {reason: 1}) if format in formats else (1, {}))


# --- OpenAI ------------------------------------------------------------------------------------------------------


def test_openai_gets_an_id_for_each_call_and_result(leave: Any) -> None:
    calls = [{"function": {"name": name, "arguments": {"a": 1}}} for name in ("add", "find")]
    results = [{"role": "tool", "name": name, "content": name} for name in ("add", "find")]
    ((row,), _excluded) = leave("openai", [ASKED, said(None, tool_calls=calls), *results], "Two.")
    _asked, called, *told = row["input"]["messages"]
    assert [(call["id"], call["type"], call["function"]) for call in called["tool_calls"]] == [
        ("call_1", "function", {"name": "add", "arguments": '{"a": 1}'}),
        ("call_2", "function", {"name": "find", "arguments": '{"a": 1}'}),
    ]
    assert [(one["tool_call_id"], one["content"]) for one in told] == [("call_1", "add"), ("call_2", "find")]


def call_of(name: str, **more: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": "{}"}, **more}


def result(content: str, **more: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, **more}


@pytest.mark.parametrize(
    ("messages", "ids"),
    [
        (  # results in another order
            [said(None, tool_calls=[call_of("add"), call_of("find")]),
             result("F", name="find"), result("A", name="add")],
            [["call_1", "call_2"], "call_2", "call_1"],
        ),
        (  # an id that would be made is there
            [said(None, tool_calls=[call_of("add"), call_of("find", id="call_1")]), result("A"), result("F")],
            [["call_2", "call_1"], "call_2", "call_1"],
        ),
        (  # a call without a result
            [said(None, tool_calls=[call_of("add")]), ASKED, said(None, tool_calls=[call_of("find")]), result("F")],
            [["call_1"], ["call_2"], "call_2"],
        ),
        (  # a result without an id before one with the first call's
            [said(None, tool_calls=[call_of("add", id="1"), call_of("find", id="2")]),
             result("F"), result("A", tool_call_id="1")],
            [["1", "2"], "2", "1"],
        ),
        (  # an id that a later turn has again
            [said(None, tool_calls=[call_of("add", id="c")]), result("A"),
             said(None, tool_calls=[call_of("find", id="c")]), result("F", tool_call_id="c")],
            [["c"], "c", ["c"], "c"],
        ),
        ([result("F")], [None]),
    ],
)  # fmt: skip
def test_openai_gets_a_result_with_the_id_of_its_call(
    leave: Any, messages: list[Any], ids: list[Any]
) -> None:
    ((row,), _excluded) = leave("openai", [ASKED, *messages], "Two.")
    told = row["input"]["messages"]
    found = [[call["id"] for call in one.get("tool_calls", ())] or one.get("tool_call_id") for one in told]
    assert [one for one, message in zip(found, told, strict=True) if message["role"] != "user"] == ids
    assert not any("name" in message for message in told)


def test_ids_of_a_completion_are_other_ones_than_the_prompts(leave: Any) -> None:
    prompt = [ASKED, said(None, tool_calls=[call_of("add")]), result("A")]
    ((row,), _excluded) = leave("openai", prompt, [said(None, tool_calls=[call_of("find")])])
    assert row["preferred_output"][0]["tool_calls"][0]["id"] == "call_2"


def test_openai_gets_tools_of_anthropic_as_functions() -> None:
    tool = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
    (row,) = openai({"prompt": [ASKED], "chosen": [], "rejected": [], "tools": json.dumps([tool])})
    function = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    assert row["input"]["tools"] == [{"type": "function", "function": function}]


def test_openai_keeps_ids_and_arguments_as_they_are(leave: Any) -> None:
    closely = {"name": "add", "arguments": '{"a":1}'}
    calls = [CALL, {**CALL, "id": "c2", "function": closely}]
    results = [{"role": "tool", "tool_call_id": name, "content": name} for name in ("c2", "c1")]
    ((row,), _excluded) = leave("openai", [ASKED, said(None, tool_calls=calls), *results], "Two.")
    _asked, called, *told = row["input"]["messages"]
    assert called == said(None, tool_calls=calls)
    assert [one["tool_call_id"] for one in told] == ["c2", "c1"]


def test_openai_gets_no_keys_that_its_api_lacks(leave: Any) -> None:
    prompt = [{**ASKED, "name": "ada"}, said("Hi.", reasoning_content="Hm."), ASKED]
    ((row,), _excluded) = leave("openai", prompt, "Yes.")
    assert row["input"]["messages"] == [{**ASKED, "name": "ada"}, said("Hi."), ASKED]


# --- ms-swift and NeMo RL ----------------------------------------------------------------------------------------


def test_ms_swift_gets_two_whole_chats(leave: Any) -> None:
    prompt = [{"role": "developer", "content": "Be brief."}, ASKED]
    chosen = [
        said(None, tool_calls=[CALL]),
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        said("3"),
    ]
    ((row,), _excluded) = leave("ms_swift", prompt, chosen)
    asked = [{"role": "system", "content": "Be brief."}, ASKED]
    assert row == {
        "messages": [*asked, said("", tool_calls=[CALL]), *chosen[1:]],
        "rejected_messages": [*asked, said("No.")],
    }


def test_ms_swift_gets_reasoning_inside_the_text(leave: Any) -> None:
    ((row,), _excluded) = leave("ms_swift", [ASKED], [said("Yes.", reasoning_content="Hm.")])
    assert row["messages"][-1] == said("<think>\nHm.\n</think>\n\nYes.")


def test_ms_swift_tells_both_chats_of_the_tools(leave: Any) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    ((row,), _excluded) = leave("ms_swift", [ASKED], "Yes.", tools)
    assert json.loads(row["tools"]) == json.loads(row["rejected_tools"]) == tools


def test_nemo_rl_gets_the_chosen_completion_at_rank_0(leave: Any) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    prompt = [
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": "here"}]}
    ]
    ((row,), _excluded) = leave("nemo_rl", prompt, [said(None, tool_calls=[CALL])], tools)
    assert json.loads(row.pop("tools")) == tools
    assert row == {
        "context": [{"role": "user", "content": "Look\n\nhere"}],
        "completions": [
            {"rank": 0, "completion": [said(None, tool_calls=[CALL])]},
            {"rank": 1, "completion": [said("No.")]},
        ],
    }
