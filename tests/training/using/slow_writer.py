"""A model that takes some seconds to write, and a worker's thread that lets it: fixtures."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

TEMPLATE = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a narrow, deep model of random weights: some seconds for a few hundred tokens."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "deep"
    shutil.copytree(site.STARTER_MODEL, folder)
    shape = json.loads((folder / "config.json").read_text())
    shape |= {"num_hidden_layers": 32, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1}
    shape |= {"num_key_value_heads": 1, "max_position_embeddings": 4096}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**shape))
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def slow_trial(
    transactional_db: None,
    project: Any,
    owner: Any,
    slow_model: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Return a trial of that model that no worker has yet."""
    from annotate.models import Policy
    from training.usage import trials
    from training.usage.warm_engine import engine

    monkeypatch.setattr(trials, "send", lambda trial: None)
    settings.BASE_MODELS = [str(slow_model.parent)]
    policy = Policy.objects.create(
        project=project, name="deep", kind=Policy.Kind.BASE, base_model=str(slow_model)
    )
    yield trials.request(project, owner, "A quiet", [policy], {"max_new_tokens": 600, "temperature": 0})
    engine.close()


@contextmanager
def working(trial: Any) -> Iterator[Callable[[], Any]]:
    """Let a worker's thread answer, and yield what returns the answer as it is by now."""
    from django.db import connection

    from training.models import Answer
    from training.usage import trials

    def work() -> None:
        try:
            trials.answer(str(trial.pk), "worker")
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: Answer.objects.get(trial=trial)
    finally:
        trial.answers.cancel()
        thread.join()
