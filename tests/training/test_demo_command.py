"""`manage.py demo` and `manage.py simulate` as processes, as a person starts, kills and stops them."""

import http.cookiejar
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.instances import ROOT, Demo, laptop
from tests.servers import free_port
from tests.waiting import wait_for


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    return laptop(tmp_path / "var")


@pytest.fixture
def start(environment) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(environment, *arguments))
        return started[-1]

    yield start
    for demo in started:
        demo.stop()


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400
    )


def logs_in(address: str, username: str, password: str) -> bool:
    """Return whether the login form of a running site takes this login."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
    )
    page = opener.open(address + "login/").read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = {"csrfmiddlewaretoken": token[1], "username": username, "password": password}
    opener.open(address + "login/", urllib.parse.urlencode(form).encode())
    return any(cookie.name == "sessionid" for cookie in jar)


@pytest.mark.chaos
@pytest.mark.timeout(500)  # half a minute on two free cores
def test_the_demo_serves_survives_kills_and_goes_on(environment, start):
    port = str(free_port())
    first = start("--port", port)
    address = first.wait_for(r"ready at (http://\S+)")[1]
    assert list(first.logins) == ["ada", "ben", "chloe", "rosa"]
    assert all(logs_in(address, *login) for login in first.logins.items())

    again = run(environment, "demo", "--port", port)
    assert again.returncode == 0
    assert address in again.stdout
    assert "running already" in again.stdout

    web = next(one for one in first.tree if "gunicorn" in " ".join(one.cmdline()))
    web.kill()
    first.wait_for(r"The web server was killed by signal 9; starting it again\.")

    first.process.kill()  # and what it started is left behind
    first.process.wait()
    second = start("--port", port)
    second.wait_for(r"Ended the worker that an earlier command had left running\.")
    second.wait_for(r"ready at")
    assert not first.running()
    assert "completions ..." not in second.printed  # nothing is sampled again
    assert second.logins == first.logins
    assert all(logs_in(address, *login) for login in second.logins.items())

    second.process.terminate()
    assert second.process.wait(40) == 0
    assert "goes on from here" in second.printed
    assert not second.running()
    assert "No demo is running" in run(environment, "demo", "--stop").stdout


def test_a_port_in_use_is_named_with_the_way_out(environment):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(environment, "demo", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"CommandError: Port {port} is in use by another program")
    assert f"make demo PORT={port + 1}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_database_is_named_with_the_way_out(environment):
    var = Path(environment["WHETSTONE_VAR"])
    var.mkdir()
    (var / "db.sqlite3").write_bytes(b"this is not a database, " * 1000)
    done = run(environment, "demo", "--port", str(free_port()))
    assert done.returncode == 1
    assert "The database cannot be used: file is not a database." in done.stderr
    assert "make demo RESET=1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.chaos
@pytest.mark.timeout(500)
def test_the_loop_runs_and_writes_its_figures(environment, tmp_path):
    result = tmp_path / "results" / "loop.json"
    done = run(
        environment,
        "simulate",
        "--rounds=1",
        "--judgments=40",
        "--overlap=2",
        "--fresh=16",
        f"--json={result}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(result.read_text())["rounds"]
    assert [row["number"] for row in rows] == [0, 1]
    keys = {
        "number",
        "pairs",
        "mean_reward",
        "mean_reward_ci",
        "win_rate_previous",
        "win_rate_start",
        "kl_start",
    }
    assert keys | {"train_seconds", "sample_seconds", "adapter"} <= rows[1].keys()
    starter, first = rows
    assert starter["kl_start"] == pytest.approx(0, abs=1e-3)
    assert starter["adapter"] is None
    assert first["labels"] == 40
    assert first["gate_labels"] > 0
    assert first["kl_start_ci"][0] <= first["kl_start"] <= first["kl_start_ci"][1]
    assert first["reward_at_kl"].keys() == first["reward_at_kl_ci"].keys() == {"1", "2", "5"}
    assert 0 < first["pairs"] <= 20  # forty judgments, two on each comparison
    assert first["mean_reward_ci"][0] <= first["mean_reward"] <= first["mean_reward_ci"][1]
    assert first["win_rate_previous"] == first["win_rate_start"]
    assert first["train_seconds"] > 0
    assert (Path(first["adapter"]) / "adapter_model.safetensors").is_file()
    # No annotator would judge more of what the last round wrote.
    with sqlite3.connect(tmp_path / "var" / "db.sqlite3") as database:
        written = database.execute("SELECT DISTINCT kind FROM annotate_comparison WHERE batch = 'round 1'")
        assert written.fetchall() == [("gate",)]
    assert not list((tmp_path / "var" / "workers").iterdir())  # its worker and its messages are gone


def test_an_option_out_of_range_is_one_sentence(environment):
    done = run(environment, "simulate", "--overlap=3")
    assert done.returncode == 1
    assert done.stderr.strip() == "CommandError: --overlap must be from 1 to 2, not 3."


@pytest.mark.chaos
@pytest.mark.timeout(500)
def test_a_loop_with_too_few_pairs_ends_with_the_reason(environment, tmp_path):
    done = run(
        environment,
        "simulate",
        "--judgments=10",
        "--overlap=2",
        "--fresh=8",
        "--json",
        str(tmp_path / "loop.json"),
    )
    assert done.returncode == 1
    assert "CommandError: Round 1: Preference pairs" in done.stderr
    rows = json.loads((tmp_path / "loop.json").read_text())["rounds"]
    assert [row["number"] for row in rows] == [0]  # what was measured before is kept


@pytest.mark.chaos
def test_interrupting_the_loop_ends_its_worker(environment, tmp_path):
    var = Path(environment["WHETSTONE_VAR"])
    command = [sys.executable, "manage.py", "simulate", "--rounds=1"]
    loop = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: list(var.glob("workers/*/processes.json")) or loop.poll() is not None, 60)
        assert loop.poll() is None
        tree = psutil.Process(loop.pid).children(recursive=True)
        loop.send_signal(signal.SIGINT)
        _, complaint = loop.communicate(timeout=120)
    finally:
        loop.kill()
    assert loop.returncode == 1
    assert complaint.decode().strip().endswith("Stopped.")
    assert not any(one.is_running() and one.status() != "zombie" for one in tree)
