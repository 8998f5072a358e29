"""The imports of a running process, seen in `sys.modules`: import-linter reads the code, this runs it."""

import json
import os
import re
import subprocess
import sys

from django.conf import settings

HEAVY = {"torch", "transformers", "peft"}
WEB = {"django", "celery", "rest_framework", "annotate", "config"}

SITE = "import django; django.setup();"
ALL_OF = """
import importlib, pkgutil, {package}
for module in pkgutil.walk_packages({package}.__path__, "{package}."):
    if ".migrations" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def imported_by(program: str) -> set[str]:
    """Return the top-level modules, and our own packages' modules, that a fresh interpreter holds after `program`."""
    quick = "import gc; gc.disable()"  # nothing of what is imported is garbage, and searching it takes long
    report = "import sys, json; print(json.dumps(sorted(sys.modules))); gc.freeze()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{quick}\n{program}\n{report}"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    return modules | {name.partition(".")[0] for name in modules}


def test_only_the_engine_loads_pytorch():
    """Neither does the web server load it, nor a worker, nor a command, nor any module of `annotate`."""
    web_server = "import config.wsgi, django.urls; django.urls.get_resolver().url_patterns"
    worker = "import config.celery; config.celery.app.loader.import_default_modules(); import training.tasks"
    commands = "import training.demo.loop, training.demo.instance, training.management.commands.demo"
    programs = [SITE, web_server, worker, commands, ALL_OF.format(package="annotate")]
    assert imported_by("\n".join(programs)) & HEAVY == set()


def test_the_engine_loads_nothing_of_the_web_application():
    modules = imported_by(ALL_OF.format(package="training.engine"))
    assert modules & WEB == set()
    ours = {name for name in modules if name.startswith("training.")}
    assert {name for name in ours if not name.startswith("training.engine")} == set()
    assert "torch" in modules  # the program above did import the engine


def test_primitives_need_the_standard_library_alone():
    # -S leaves out everything that is installed.
    subprocess.run([sys.executable, "-S", "-c", ALL_OF.format(package="primitives")], check=True)


def test_annotate_never_loads_training():
    # The site's settings install both, so this looks at the source of the imports: a site with annotate alone.
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "training" or name.startswith("training."):
            raise AssertionError("annotate imported " + name)
from django.conf import settings
import config.settings as site
values = {{key: getattr(site, key) for key in dir(site) if key.isupper()}}
values["INSTALLED_APPS"] = [app for app in site.INSTALLED_APPS if app != "training"]
settings.configure(**values)
sys.meta_path.insert(0, Refuse())
import django
django.setup()
{ALL_OF.format(package="annotate")}
"""
    assert "training" not in imported_by(program)


def test_the_engine_explains_itself_without_loading_pytorch():
    program = """
import training.engine.__main__ as engine
try:
    engine.main(["train", "--help"])
except SystemExit:
    pass
"""
    assert imported_by(program) & HEAVY == set()


def test_templates_of_annotate_read_no_round():
    # They link by URL name and include fragments of templates/training, which get a project, a policy or a snapshot.
    reading = re.compile(r"\brounds?\.\w|\.rounds?\b")
    pages = sorted((settings.BASE_DIR / "templates" / "annotate").glob("*.html"))
    assert pages
    assert [page.name for page in pages if reading.search(page.read_text())] == []
