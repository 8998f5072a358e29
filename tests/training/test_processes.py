"""The children of `demo` and `simulate`: started, restarted, stopped, and found again after a kill."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.local_server import LocalServer, QuietHandler, serving
from tests.waiting import wait_for
from training.demo.supervisor import (
    ProcessError,
    Service,
    Supervisor,
    end_leftovers,
    is_answering,
    require_port,
)

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


def service(tmp_path: Path, program: str, name: str = "sleeper") -> Service:
    return Service(name, (sys.executable, "-c", textwrap.dedent(program)), tmp_path / "logs" / f"{name}.log")


def child_pid(record: Path) -> int:
    pid: int = json.loads(record.read_text())["children"][0]["pid"]
    return pid


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_leaving_ends_every_child_and_its_children(tmp_path):
    program = f"""
        import subprocess, sys, time
        print(subprocess.Popen([sys.executable, "-c", {SLEEPS!r}]).pid, flush=True)
        time.sleep(60)
    """
    with Supervisor(tmp_path / "record.json") as supervisor:
        one = service(tmp_path, program)
        supervisor.start(one)
        wait_for(lambda: "up" in one.log.read_text())
        child, grandchild = child_pid(tmp_path / "record.json"), int(one.log.read_text().split()[0])
        assert is_running(child)
        assert is_running(grandchild)
    wait_for(lambda: not is_running(child) and not is_running(grandchild))
    assert not (tmp_path / "record.json").exists()


def test_a_child_that_will_not_stop_is_killed_after_the_patience(tmp_path):
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
    one = service(tmp_path, stubborn)
    supervisor = Supervisor(tmp_path / "record.json")
    supervisor.start(one)
    wait_for(lambda: "up" in one.log.read_text())
    pid = child_pid(tmp_path / "record.json")
    supervisor.stop(patience=0.1)
    assert not is_running(pid)


def test_a_child_that_dies_is_reported_and_started_again(tmp_path):
    said: list[str] = []
    with Supervisor(tmp_path / "record.json") as supervisor:
        supervisor.start(service(tmp_path, SLEEPS))
        first = child_pid(tmp_path / "record.json")
        psutil.Process(first).send_signal(signal.SIGKILL)
        wait_for(lambda: supervisor.check(said.append) or bool(said))
        second = child_pid(tmp_path / "record.json")
        assert second != first
        assert is_running(second)
    assert said == ["The sleeper was killed by signal 9; starting it again."]


def test_a_child_that_keeps_dying_ends_the_watch_with_its_log(tmp_path):
    with Supervisor(tmp_path / "record.json") as supervisor:
        supervisor.start(service(tmp_path, "import sys; sys.exit('no disk left')", "worker"))
        with pytest.raises(ProcessError, match="worker ended with exit code 1, for the third") as caught:
            supervisor.watch(lambda line: None)
    assert "no disk left" in str(caught.value)


def test_waiting_for_a_child_that_dies_says_why_it_did_not_start(tmp_path):
    with Supervisor(tmp_path / "record.json") as supervisor:
        supervisor.start(service(tmp_path, "import sys; sys.exit('bad setting')", "web server"))
        with pytest.raises(ProcessError, match=r"(?s)web server did not start.*bad setting"):
            supervisor.wait_until(lambda: False, 30, "Nothing answered")


def test_waiting_has_an_end(tmp_path):
    with Supervisor(tmp_path / "record.json") as supervisor:
        supervisor.start(service(tmp_path, SLEEPS))
        with pytest.raises(ProcessError, match="Nothing answered within 0 seconds"):
            supervisor.wait_until(lambda: False, 0.2, "Nothing answered")


def test_the_words_of_the_run_before_are_kept(tmp_path):
    for words in ("first", "second"):
        one = service(tmp_path, f"print({words!r}, flush=True); {SLEEPS}")
        with Supervisor(tmp_path / "record.json") as supervisor:
            supervisor.start(one)
            wait_for(lambda log=one.log: "up" in log.read_text())
    assert "second" in one.log.read_text()
    assert "first" in one.log.with_name("sleeper.log.1").read_text()


def test_what_a_killed_command_left_running_is_ended(tmp_path):
    record = tmp_path / "record.json"
    supervisor = Supervisor(record)
    supervisor.start(service(tmp_path, SLEEPS))
    pid = child_pid(record)
    assert end_leftovers(record) == ["sleeper"]
    assert not is_running(pid)
    assert not record.exists()
    supervisor.stop()  # only here: a killed command cannot


def test_a_process_that_only_has_the_recorded_id_is_left_alone(tmp_path):
    bystander = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.DEVNULL)
    try:
        record = tmp_path / "record.json"
        process = {"name": "worker", "pid": bystander.pid, "created": 1000.0}
        record.write_text(json.dumps({"address": "", "parent": process, "children": [process]}))
        assert end_leftovers(record) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("content", ["", "[", "{}", "[3]", '{"address": "", "parent": 1, "children": [2]}'])
def test_a_torn_record_is_dropped(tmp_path, content):
    record = tmp_path / "record.json"
    record.write_text(content)
    assert end_leftovers(record) == []
    assert not record.exists()


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 0, "does not exist"),
        ("127.0.0.1", 70000, "does not exist"),
        ("192.0.2.1", 8000, "cannot be used"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_by_name(host, port, sentence):
    with pytest.raises(ProcessError, match=sentence):
        require_port(host, port)


def test_a_taken_port_is_named_and_only_a_page_is_an_answer():
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/login/" else 500)
            self.end_headers()

    with serving(LocalServer(Handler)) as server:
        port = server.server_port
        with pytest.raises(ProcessError, match=rf"Port {port} is in use .* PORT="):
            require_port("127.0.0.1", port)
        assert is_answering(f"http://127.0.0.1:{port}/login/")
        assert not is_answering(f"http://127.0.0.1:{port}/broken/")
    assert not is_answering(f"http://127.0.0.1:{port}/login/")
