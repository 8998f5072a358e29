import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from primitives.garbage import keep_what_is_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from config.storage import require_storage  # noqa: E402 - settings are loaded by then

require_storage()  # servers run no checks

import_module(settings.ROOT_URLCONF)
keep_what_is_loaded()
