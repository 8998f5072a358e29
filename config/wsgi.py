import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from config.storage import require_storage  # noqa: E402 - settings are loaded by then

require_storage()  # servers run no checks

# What is loaded stays for good. Searching it for garbage would take a third of the time of a long export.
import_module(settings.ROOT_URLCONF)
gc.freeze()
