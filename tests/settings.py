"""The site's settings for a test run: everything it writes goes to a scratch folder, never to the checkout's var/."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

# Child processes of a test (an engine, a worker, a command) share its folder; parallel test workers do not.
if "WHETSTONE_TEST_VAR" not in os.environ:
    os.environ["WHETSTONE_TEST_VAR"] = tempfile.mkdtemp(prefix="whetstone-tests-")
    atexit.register(shutil.rmtree, os.environ["WHETSTONE_TEST_VAR"], ignore_errors=True)
SCRATCH = Path(os.environ["WHETSTONE_TEST_VAR"]) / os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["WHETSTONE_VAR"] = str(SCRATCH)
# Nor do they share a database of the Redis: a worker of one test would take the messages of another. A child process
# has that of its test, or a broker of its own.
broker = os.environ.get("CELERY_BROKER_URL", "")
if urlsplit(broker).scheme in ("redis", "rediss") and os.environ.get("WHETSTONE_TEST_BROKER") != broker:
    parts, worker = urlsplit(broker), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    database = int(parts.path.strip("/") or 0) + int(worker.removeprefix("gw"))
    os.environ["CELERY_BROKER_URL"] = parts._replace(path=f"/{database}").geturl()
    os.environ["WHETSTONE_TEST_BROKER"] = os.environ["CELERY_BROKER_URL"]
# Playwright's synchronous API runs an event loop in the test's thread; Django would refuse the ORM there.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
# Several test workers share the cores: a tiny model gains nothing from more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Threads that spin while they wait take them from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from config.scripts import join_modules  # noqa: E402
from config.settings import *  # noqa: E402, F403 - the environment above must be set first
from config.settings import (  # noqa: E402
    DATABASES,
    INSTALLED_APPS,
    STATIC_ROOT,
    STATICFILES_DIRS,
    STORAGES,
)
from config.static_files import JOINED  # noqa: E402
from primitives.files import write_whole  # noqa: E402

if "sqlite3" in DATABASES["default"]["ENGINE"]:
    # A file, not memory, so that other processes of a test (a worker, a second annotator) see the same rows.
    DATABASES["default"]["TEST"] = {"NAME": str(SCRATCH / "test.sqlite3")}
if "WHETSTONE_TEST_DATABASE" in os.environ:
    DATABASES["default"]["NAME"] = os.environ["WHETSTONE_TEST_DATABASE"]  # in a child process of a test

STATIC_ROOT.mkdir(exist_ok=True)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# By this name pytest-django knows that its live server has to serve them from where they lie.
INSTALLED_APPS[INSTALLED_APPS.index("config.apps.StaticFilesConfig")] = "django.contrib.staticfiles"
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
# Browsers get the scripts that they get in production.
for entry in JOINED:
    script = SCRATCH / "joined" / entry
    script.parent.mkdir(parents=True, exist_ok=True)
    text = join_modules(entry, lambda name: (STATICFILES_DIRS[0] / name).read_text()).text
    write_whole(script, text.encode(), durable=False)
STATICFILES_DIRS.insert(0, SCRATCH / "joined")
