"""One settings file, driven by the environment. Every default works on a laptop with nothing installed.

docs/operating.md lists each variable; `WHETSTONE_VAR` is the folder that holds everything the site writes.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url
from django.contrib.messages import constants as messages
from environs import Env, validate

from config.storage import LOCAL, storage_options
from primitives.files import create_once

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)

VAR = Path(env.str("WHETSTONE_VAR", str(BASE_DIR / "var"))).resolve()
os.umask(0o077)  # whatever a process of the site writes is for its own account alone
VAR.mkdir(parents=True, exist_ok=True)
with suppress(PermissionError):  # another account's folder keeps the mode that its owner chose
    VAR.chmod(0o700)


def stored_secret_key(path: Path) -> str:
    """Return the key in `path`, made on first use; several processes that start at once agree on one."""
    if not path.exists():
        create_once(path, secrets.token_urlsafe(50).encode())
    return path.read_text()


DEBUG = env.bool("WHETSTONE_DEBUG", False)
SECRET_KEY = env.str("WHETSTONE_SECRET_KEY", "") or stored_secret_key(VAR / "secret_key")
ALLOWED_HOSTS = env.list("WHETSTONE_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("WHETSTONE_ORIGINS", [])

INSTALLED_APPS = [
    "annotate",
    "training",
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "config.apps.StaticFilesConfig",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
]

MIDDLEWARE = [
    "config.headers.SecurityHeadersMiddleware",  # first, so that no answer goes out without them
    "django_htmx.middleware.HtmxMiddleware",  # before all that may fail: pages of errors ask `request.htmx`
    "annotate.imports.upload_limits.RefusedBodyMiddleware",
    "annotate.people.misconfiguration.ProtocolMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.time_zone.TimeZoneMiddleware",
    "annotate.people.access.LoginMiddleware",
    "annotate.people.authentication.KnownBrowserMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "annotate.people.access.project_context",
            ],
        },
    }
]

# --- Data --------------------------------------------------------------------------------------------------------


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for a database URL; SQLite gets what it needs to serve several processes at once."""
    settings: dict[str, Any] = dict(
        dj_database_url.parse(url, conn_max_age=env.int("WHETSTONE_CONN_MAX_AGE", 600))
    )
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        settings["OPTIONS"] = {
            # A transaction takes its write lock at once and waits its turn, rather than failing half-way.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # FULL: a committed judgment survives a power cut.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=134217728;",
        }
    else:
        settings["ENGINE"] = "config.postgresql"
        settings["CONN_HEALTH_CHECKS"] = True
        if env.bool("WHETSTONE_PREPARED_STATEMENTS", True):
            # What comes again and again, such as the queue's statements, is planned once for a connection.
            prepared = {"server_side_binding": True, "prepare_threshold": 3}
            settings["OPTIONS"] = prepared | settings.get("OPTIONS", {})
    return settings


DATABASES = {"default": database(env.str("DATABASE_URL", f"sqlite:///{VAR / 'db.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STORAGE_PLACE = env.str("WHETSTONE_STORAGE", "")
# Without one, the files of rounds are nowhere but below VAR: web servers and workers share it.
STORES_RUNS = STORAGE_PLACE not in ("", LOCAL)
# Time for which a worker waits for a storage that is away.
STORAGE_SECONDS = env.int("WHETSTONE_STORAGE_SECONDS", 600)
# Time between what a worker puts while it trains.
CHECKPOINT_SECONDS = env.int("WHETSTONE_CHECKPOINT_SECONDS", 180)
STORAGES: dict[str, dict[str, Any]] = {
    "default": storage_options(STORAGE_PLACE),
    "staticfiles": {"BACKEND": "config.static_files.StaticFilesStorage"},
}
MEDIA_ROOT = VAR / "files"
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["png", "woff2", "map"]  # maps are large, and for who debugs
WHITENOISE_KEEP_ONLY_HASHED_FILES = True  # pages name no others

# --- People ------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["annotate.people.authentication.ThrottledBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 14

# --- Security ----------------------------------------------------------------------------------------------------

HTTPS = env.bool("WHETSTONE_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if HTTPS else 0
# The owner of the domain decides on subdomains and browsers' preload lists: the proxy can say so.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "annotate.views.errors.csrf_failure"
TRUSTED_PROXIES = env.int("WHETSTONE_TRUSTED_PROXIES", 0)  # that append to X-Forwarded-For
FILE_UPLOAD_HANDLERS = [
    "annotate.imports.upload_limits.ImportsOnly",  # before anything is written
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "annotate.imports.upload_limits.TemporaryFile",
]
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024  # bytes; files are streamed to disk and do not count
# Bytes of one file of prompts or pairs.
IMPORT_LIMIT = env.int("WHETSTONE_IMPORT_MEGABYTES", 1024) * 1024 * 1024
# Hosts that files may be imported from, such as `huggingface.co` for hf://datasets/…; none unless named.
IMPORT_HOSTS: list[str] = env.list("WHETSTONE_IMPORT_HOSTS", [])

# Hosts whose OpenAI-compatible endpoints may write, each with the variable of its key: `api.example.com=EXAMPLE_KEY`.
ENDPOINTS: list[str] = env.list("WHETSTONE_ENDPOINTS", [])
ENDPOINT_REQUESTS = env.int("WHETSTONE_ENDPOINT_REQUESTS", 4)  # that are under way at once

# --- Language and time -------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = env.str("WHETSTONE_TIME_ZONE", "UTC")
USE_TZ = True
MESSAGE_TAGS = {messages.ERROR: "error"}

# --- Celery ------------------------------------------------------------------------------------------------------


def filesystem_broker(folder: Path) -> dict[str, Any]:
    """Return the options of Celery's filesystem transport with its messages below `folder`, which is made."""
    for name in ("messages", "processed", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "processed_folder": str(folder / "processed"),
        "control_folder": str(folder / "control"),
        "store_processed": False,
    }


CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "filesystem://")
if CELERY_BROKER_URL.startswith("filesystem://"):
    CELERY_BROKER_TRANSPORT_OPTIONS = filesystem_broker(
        Path(CELERY_BROKER_URL.removeprefix("filesystem://") or VAR / "broker")
    )
    CELERY_BROKER_URL = "filesystem://localhost"  # a host for Kombu, which warns without one and uses none
    CELERY_BROKER_TRANSPORT = "config.broker:Transport"
else:
    # A page that starts a round must not wait for a broker that is away: the row is kept, and the sweep sends it.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"max_retries": 0, "interval_start": 0}
    if CELERY_BROKER_URL.startswith("redis"):
        CELERY_BROKER_TRANSPORT_OPTIONS["socket_connect_timeout"] = 2
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    f"training.tasks.{name}": {"queue": "training"}
    for name in ("run_round", "estimate", "answer_trial", "merge_weights")
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = TIME_ZONE

# --- Training ----------------------------------------------------------------------------------------------------

RUNS = VAR / "runs"
STARTER_MODEL = BASE_DIR / "training" / "starter"
# Folders, hub ids and patterns of hub ids that projects may take as base models, besides the starter.
BASE_MODELS: list[str] = [
    entry.strip() for entry in env.list("WHETSTONE_MODELS", [str(VAR / "models")]) if entry.strip()
]
# Variables that a training is given besides those it needs.
CHILD_ENVIRONMENT: list[str] = [
    entry.strip() for entry in env.list("WHETSTONE_CHILD_ENVIRONMENT", [], subcast=str) if entry.strip()
]
HUB_CACHE = Path(env("HF_HUB_CACHE", "") or Path(env("HF_HOME", "~/.cache/huggingface"), "hub")).expanduser()
HEARTBEAT_SECONDS = env.int("WHETSTONE_HEARTBEAT_SECONDS", 5)
# Time without a heartbeat after which a round is re-queued.
SILENT_SECONDS = env.int("WHETSTONE_SILENT_SECONDS", 60)
# In which a worker trains, one for each GPU: a number, or `all`.
PROCESSES = env.str("WHETSTONE_PROCESSES", "1", validate=validate.Regexp("^(all|[1-9][0-9]?)$"))
SWEEP_SECONDS = env.int("WHETSTONE_SWEEP_SECONDS", 15)
# Kept in memory: a file would remember a time that a wrong clock told, and nothing would be swept until then.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
CELERY_BEAT_SCHEDULE = (
    {
        "sweep": {
            "task": "training.tasks.sweep",
            "schedule": SWEEP_SECONDS,
            "options": {"expires": SWEEP_SECONDS},
        },
        "exports": {"task": "annotate.tasks.sweep_exports", "schedule": 3600, "options": {"expires": 3600}},
        "waiting exports": {
            "task": "annotate.tasks.look_after_exports",
            "schedule": 60,
            "options": {"expires": 60},
        },
    }
    if SWEEP_SECONDS
    else {}
)

# --- API ---------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "annotate.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "annotate.api.access.TokenScope",  # before any role
    ],
    "URL_FORMAT_OVERRIDE": None,  # `format` in a query is for those that say so
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["annotate.api.parsing.BoundedJSONParser"],
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS would describe an address to users without a role there
    "EXCEPTION_HANDLER": "annotate.api.errors.answer",
    "DEFAULT_SCHEMA_CLASS": "annotate.api.operations.schema.OperationSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Whetstone",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SORT_OPERATIONS": False,  # as in the addresses
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "POSTPROCESSING_HOOKS": ["annotate.api.operations.schema.finish"],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"one line": {"()": "annotate.people.misconfiguration.OneLine"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["one line"]}},
    "loggers": {"botocore": {"level": "WARNING"}, "boto3": {"level": "WARNING"}},  # they tell each start
    "root": {"handlers": ["console"], "level": env.str("WHETSTONE_LOG_LEVEL", "INFO")},
}
