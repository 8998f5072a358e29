import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from config.storage import require_storage  # noqa: E402 - settings are loaded by then

require_storage()  # servers run no checks
