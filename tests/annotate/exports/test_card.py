"""The dataset card: the figures of the project, and a header that the hub reads."""

import io
import json
import re

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from annotate.exports.bundle import open_download
from annotate.pairs.snapshots import take_snapshot
from tests.annotate.exports.test_formats import members

pytestmark = pytest.mark.once


def test_the_card_says_how_the_data_came_to_be(project, owner, three, plain, researcher, client_for, select):
    project.guidelines = "# Prefer the true one\n\nNot the long one."
    project.licence = "cc-by-4.0"
    project.save()
    files = members(select(format="datasets", test="40", salt="s"))
    text = files["README.md"].decode()
    card = DatasetCard(text)
    assert (card.data.license, card.data.pretty_name) == ("cc-by-4.0", "Film reviews")
    assert card.data.size_categories == ["n<1K"]
    (config,) = card.data.configs
    [path] = (
        name
        for name, content in files.items()
        if name.endswith(".parquet") and len(pq.read_table(io.BytesIO(content)))
    )
    assert [one["path"] for one in config["data_files"]] == [path]
    for says in (
        "1 preference pair from 2 judgments of 2 annotators",
        "| Verdicts: tie | 1 |",
        "> # Prefer the true one",
        "preferred in 50.0 % (9.5 to 90.5 %, 2 counted) of the votes",
        "the longer one in 0.0 % (0.0 to 79.3 %, 1 counted)",
        "| Agreement of two annotators on a comparison | 100.0 %",
        '"test": 0.4',
        "@misc{reviews-",
    ):
        assert says in text
    assert not any(person.username in text for person in three)
    alone = client_for(researcher).get("/p/reviews/export/card/")
    assert "1 preference pair from 2 judgments" in alone.content.decode()


def test_the_card_names_no_setting_that_nobody_chose(plain, researcher, client_for):
    text = client_for(researcher).get("/p/reviews/export/card/").content.decode()
    settings = json.loads(text.split("```json\n")[1].split("```")[0])
    assert "filters" not in settings


def test_the_card_says_which_verdicts_make_no_pair(project, owner, plain, select):
    digest = take_snapshot(project, owner).digest
    sentence = "Those on gold comparisons make no pair"
    assert sentence in members(select(format="datasets"))["README.md"].decode()
    assert sentence not in members(select(format="datasets", snapshot=digest))["README.md"].decode()


def test_the_hash_of_a_frozen_export_is_its_snapshots(project, owner, plain, select):
    digest = take_snapshot(project, owner).digest
    for choices in ({}, {"snapshot": digest}):
        text = members(select(format="datasets", **choices))["README.md"].decode()
        assert re.search(r"canonical form \| `(\w+)`", text)[1] == digest
    assert open_download(select(snapshot=digest)).filename == "reviews-pairs.jsonl"
