"""The site for WSGI servers: gunicorn, waitress, `manage.py runserver`.

It serves its static files itself. With many visitors, let the proxy in front of it do that.
"""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = StaticFilesHandler(get_wsgi_application())
