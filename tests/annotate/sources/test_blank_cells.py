"""An empty value is the same thing in every container: no container makes a missing one of it."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.imports.files import reception
from annotate.imports.files.rows import Rows
from annotate.imports.records import Item
from annotate.imports.writing import portion
from annotate.sources.lines import as_lines
from tests.annotate.sources.test_lines import LIMIT, xlsx

pytestmark = pytest.mark.once  # files, which no database sees

Table = list[dict[str, str]]
WHOLE = 7  # times the rows of a table without a blank: enough of them to recognise it


def table(**columns: str) -> Table:
    """Return rows of these columns, of which each has texts of its own. `1|2|2|1` are the values of the rows."""
    rows = []
    for number in range(4):
        cells = {}
        for name, text in columns.items():
            values = text.split("|")
            cells[name.replace("__", " ")] = (
                values[number] if len(values) > 1 else text.replace("N", str(number))
            )
        rows.append(cells)
    return rows


TABLES = {
    "trl": table(prompt="Why N?", chosen="Blue N.", rejected="Green N."),
    "trl-common-start": table(prompt="Why N?", chosen="It is blue N.", rejected="It is green N."),
    "trl-system": table(system="Be short.", prompt="Why N?", chosen="Blue N.", rejected="Green N."),
    "chosen-rejected": table(question="Why N?", chosen="It is blue N.", rejected="It is green N."),
    "preferred-rejected": table(prompt="Why N?", preferred_response="A blue N.", rejected_response="A green N."),
    "whetstone": table(prompt="Why N?", completion_a="Blue N.", completion_b="Green N.", policy_a="x",
                       policy_b="y", id="row N", gold="a|b|none|a", prompt_external_id="p N"),
    "whetstone-prompts": table(prompt="Why N?", id="row N", prompt_external_id=""),
    "prompts": table(prompt="Why N?", topic="air N"),
    "alpaca": table(instruction="Why N?", input="The sky N", output="Blue N."),
    "side-by-side": table(prompt="Why N?", response_a="Blue N.", response_b="Green N.",
                          winner="response_a|response_b|response_b|tie", annotator="anna|jan|eve|jan",
                          rationale="Because N"),
    "side-by-side-numbered": table(prompt="Why N?", response_1="It is blue N.", response_2="It is green N.",
                                   better="response_1|response_2|response_2|tie"),
    "raters": table(prompt="Why N?", response_a="Blue N.", response_b="Green N.", rater_1="A|B|A|B",
                    rater_2="B|B|A|tie"),
    "alpaca-eval": table(instruction="Why N?", input="The sky N", output_1="Blue N.", output_2="Green N.",
                         generator_1="x", generator_2="y", annotator="gpt", preference="1|2|2|1"),
    "pandalm": table(instruction="Why N?", input="The sky", response1="Blue N.", response2="Green N.",
                     annotator1="1|2|0|1", cmp_key="x_y"),
    "helpsteer2": table(prompt="Why N?", response_1="Blue N.", response_2="Green N.",
                        preference_strength="1|-2|0|3"),
    "ms-swift": table(system="Short.", query="Why N?", response="Blue N.", rejected_response="Green N."),
    "llama-factory": table(system="Short.", instruction="Why N?", input="The sky", chosen="Blue N.",
                           rejected="Green N."),
    "shp": table(history="Why N?", human_ref_A="Blue N.", human_ref_B="Green N.", labels="1|0|0|1",
                 post_id="N"),
    "cvalues": table(prompt="Why N?", pos_resp="Blue N.", neg_resp="Green N."),
    "step-dpo": table(prompt="Why N?", initial_reason_steps="First, N.", chosen="Blue N.", rejected="Green N."),
    "nemo": table(prompt="Why N?", chosen_response="Blue N.", rejected_response="Green N.", chosen_reward="2",
                  rejected_reward="1"),
    "medical-gpt": table(system="Short.", history="[]", question="Why N?", response_chosen="Blue N.",
                         response_rejected="Green N."),
    "llmbar": table(input="Why N?", output_1="Blue N.", output_2="Green N.", label="1|2|2|1"),
    "autosxs": table(inference_instruction="Why N?", inference_context="The sky", response_a="Blue N.",
                     response_b="Green N.", choice="A|B|B|A", explanation="Because N"),
    "vertex": table(prompt="Why N?", baseline_model_response="Blue N.", response="Green N.", **{
        "pairwise_quality/pairwise_choice": "BASELINE|CANDIDATE|TIE|BASELINE"}),
    "arena-columns": table(prompt="Why N?", response_a="Blue N.", response_b="Green N.",
                           winner_model_a="1|0|0|1", winner_model_b="0|1|0|0", winner_tie="0|0|1|0"),
    "prometheus": table(orig_instruction="Why N?", orig_response_A="Blue N.", orig_response_B="Green N.",
                        orig_preference="A|B|B|A"),
    "safe-rlhf": table(prompt="Why N?", response_0="Blue N.", response_1="Green N.",
                       better_response_id="0|1|1|0"),
}  # fmt: skip


def separated(separator: str) -> Callable[[Table], bytes]:
    def write(rows: Table) -> bytes:
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode()

    return write


def workbook(rows: Table) -> bytes:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return xlsx(
        {
            f"{chr(65 + column)}{number}": text
            for number, line in enumerate(lines, 1)
            for column, text in enumerate(line)
            if text
        }
    )


def parquet(rows: Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


CONTAINERS: dict[str, Callable[[Table], bytes]] = {
    "a.csv": separated(","),
    "a.tsv": separated("\t"),
    "a.xlsx": workbook,
    "a.parquet": parquet,
    "a.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "a.json": lambda rows: json.dumps(rows).encode(),
}


def read(content: bytes, name: str) -> tuple[str, list[list[Any] | None]]:
    """Return the format of a file, and what each record becomes. None is a record that is refused."""
    with as_lines(io.BytesIO(content), name, LIMIT) as found:
        options, _records = reception.inspect(found)
        reader = options.reader(found.file, found.format)
        rows = Rows(reader, portion(reader, 100), options) if options.format != "unknown" else []
        if not options.format or options.format == "unknown":
            return options.format, []
        made = [None if row.error else [essence(item) for item in row.items] for row in rows]
    return options.format, made


def essence(item: Item) -> Any:
    metadata = [
        {key: value for key, value in (one or {}).items() if value not in ("", None)}
        for one in (item.metadata, item.prompt_metadata)
    ]
    return (
        item.prompt,
        item.completions,
        item.policies,
        item.external_id,
        item.prompt_external_id,
        item.gold,
        [tuple(one) for one in item.opinions],
        json.loads(json.dumps(metadata)),
    )


def with_blanks(rows: Table, value: Any) -> list[dict[str, Any]]:
    """Return whole rows, and behind them one for each column in which it is blank."""
    return [*rows * WHOLE, *(dict(row, **{name: value}) for row in rows[2:3] for name in row)]


def outcomes(containers: Sequence[str], name: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return what becomes of the row in which each column is blank, by container."""
    columns = list(TABLES[name][0])
    found = {kind: read(CONTAINERS[kind](with_blanks(TABLES[name], value)), kind) for kind in containers}
    assert all(one is not None for _format, made in found.values() for one in made[: 4 * WHOLE]), found
    assert all(len(made) == 4 * WHOLE + len(columns) for _format, made in found.values()), found
    return {
        kind: dict(zip(columns, made[-len(columns) :], strict=True))
        for kind, (_format, made) in found.items()
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_blank_says_the_same_in_every_container(name: str) -> None:
    found = outcomes(list(CONTAINERS), name, "")
    for column, said in found["a.csv"].items():
        assert {kind: one[column] for kind, one in found.items() if one[column] != said} == {}, (column, said)


@pytest.mark.parametrize("name", TABLES)
def test_a_null_says_the_same_in_every_container(name: str) -> None:
    found = outcomes(["a.jsonl", "a.json", "a.parquet"], name, None)
    for column, said in found["a.jsonl"].items():
        if column == "gold":
            continue  # in JSON null says that there is none, and a cell of Parquet without a value says nothing
        assert {kind: one[column] for kind, one in found.items() if one[column] != said} == {}, (column, said)


OTHER_NAMES = {
    "instruction": table(instruction="Why N?", chosen="It is blue N.", rejected="It is green N."),
    "question": TABLES["chosen-rejected"],
    "instruction-and-input": TABLES["llama-factory"],
    "alpaca": TABLES["alpaca"],
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_one_blank_prompt_of_few_is_refused_alone(name: str) -> None:
    """Few rows: where the blank one is of no format, the file is of none."""
    rows = OTHER_NAMES[name]
    blank = [key for key in ("instruction", "question", "input") if key in rows[0]]
    changed = [*rows[:3], rows[3] | dict.fromkeys(blank, "")]
    found = {kind: read(write(changed), kind)[1] for kind, write in CONTAINERS.items()}
    for kind, made in found.items():
        assert [one is not None for one in made] == [True, True, True, False], kind


@pytest.mark.parametrize("name", ["alpaca", "llama-factory"])
def test_an_input_without_an_instruction_is_the_prompt(name: str) -> None:
    rows = [dict(row, system="") for row in TABLES[name]]
    changed = [*rows[:3], rows[3] | {"instruction": ""}]
    for kind, write in CONTAINERS.items():
        made = read(write(changed), kind)[1][-1]
        assert made is not None, kind
        assert made[0][0] == rows[3]["input"], kind


def doubled(**cells: str) -> dict[str, bytes]:
    """Return files of two rows, of which the second has these cells. Two of the columns are called `note`."""
    columns = {"A": "prompt", "B": "chosen", "C": "rejected", "D": "note", "E": "note", "F": "chosen"}
    lines = [columns, dict(zip("ABCD", ("Sky?", "It is blue.", "It is green.", "x"), strict=True)), cells]
    text = "\n".join(",".join(line.get(letter, "") for letter in columns) for line in lines)
    book = {f"{place}{number}": cell for number, line in enumerate(lines, 1) for place, cell in line.items()}
    return {"a.xlsx": xlsx(book), "a.csv": f"{text}\n".encode()}


WHOLE_ROW = {"A": "Sea?", "B": "It is wet.", "C": "It is dry."}


def test_two_values_under_one_name_are_kept_as_metadata() -> None:
    for kind, content in doubled(**WHOLE_ROW, D="x", E="y").items():
        notes = [made[0][7][0] for made in read(content, kind)[1] if made]
        assert notes == [{"note": "x"}, {"note": ["x", "y"]}], kind


def test_two_values_for_one_completion_refuse_the_row() -> None:
    for kind, content in doubled(**WHOLE_ROW, F="It is salty.").items():
        with as_lines(io.BytesIO(content), kind, LIMIT) as found:
            options, _records = reception.inspect(found)
            reader = options.reader(found.file, found.format)
            first, second = Rows(reader, portion(reader, 100), options)
        assert (first.error, len(first.items)) == ("", 1), kind
        assert second.error == "Two columns are called “chosen”, and this row has a value in both.", kind


def test_two_verdicts_in_one_of_few_rows_leave_the_format() -> None:
    columns = ("prompt", "response_a", "response_b", "winner", "winner")
    rows = [
        (f"Sky {n}?", f"Blue {n}.", f"Red {n}.", "response_a", "response_b" if n == 2 else "")
        for n in range(3)
    ]
    text = "\n".join(",".join(row) for row in (columns, *rows))
    book = {
        f"{'ABCDE'[at]}{n}": cell for n, row in enumerate((columns, *rows), 1) for at, cell in enumerate(row)
    }
    for kind, content in {"a.csv": text.encode(), "a.xlsx": xlsx(book)}.items():
        format, made = read(content, kind)
        assert (format, [one is not None for one in made]) == ("side-by-side", [True, True, False]), kind
