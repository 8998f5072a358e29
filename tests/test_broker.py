"""The broker that needs no server: messages in files, written whole, and torn ones passed over."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from config.broker import Transport
from config.settings import filesystem_broker


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Any]:
    options = filesystem_broker(tmp_path)
    with Connection("filesystem://", transport=Transport, transport_options=options) as connection:
        yield connection.default_channel


def test_messages_arrive_once_and_in_order(channel: Any) -> None:
    for number in range(3):
        channel._put("default", {"body": str(number)})
    assert [channel._get("default")["body"] for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(queue.Empty):
        channel._get("default")


def test_a_message_is_seen_by_its_own_queue_alone(channel: Any) -> None:
    channel._put("training", {"body": "x"})
    with pytest.raises(queue.Empty):
        channel._get("default")
    assert channel._get("training") == {"body": "x"}


@pytest.mark.parametrize("torn", [b"", b'{"body": "half'])
def test_a_torn_message_is_passed_over(channel: Any, tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "messages" / "0_torn.default.msg").write_bytes(torn)
    channel._put("default", {"body": "whole"})
    assert channel._get("default") == {"body": "whole"}


def test_a_message_that_is_still_being_written_is_not_read(channel: Any, tmp_path: Path) -> None:
    (tmp_path / "messages" / ".0_x.default.msg.part").write_text('{"body": ')
    with pytest.raises(queue.Empty):
        channel._get("default")
    assert len(list((tmp_path / "messages").iterdir())) == 1
