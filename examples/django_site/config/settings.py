"""The settings of the site. All that differs from one deployment to the next is read from the environment.

| variable | meaning | default |
| --- | --- | --- |
| `SITE_DATA` | the directory of the database, the cache, the artifacts and the secret key | `var` |
| `SITE_HOSTS` | host names that the site answers to, separated by commas | this machine's |
| `SITE_HTTPS` | `1` if browsers reach the site by HTTPS only | |
| `SITE_URL` | the site's URL as the runtime reaches it, to upload artifacts | that of the request |
| `SITE_SECRET_KEY` | Django's secret key | one that is made once, in the data directory |
| `SITE_DEBUG` | `1` for Django's debug mode | |
| `RUNTIMEUSE_WS_URL` | the agent runtime's URL | `ws://127.0.0.1:8080` |
| `RUNTIMEUSE_TOKEN` | the agent runtime's token | |
| `RUNTIMEUSE_MODEL` | the model that the agent uses | `gpt-4.1` |
"""

import os
from pathlib import Path
from typing import Any, Dict

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SITE_DATA", BASE_DIR / "var")).resolve()
DATA.mkdir(parents=True, exist_ok=True)


def _secret_key() -> str:
    if os.environ.get("SITE_SECRET_KEY"):
        return os.environ["SITE_SECRET_KEY"]
    path = DATA / "secret-key"
    # Made under another name and then linked: of two processes that start at once, one wins, and both read its key.
    if not path.exists():
        own = DATA / f"secret-key-{os.getpid()}"
        descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(get_random_secret_key())
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        finally:
            own.unlink()
    return path.read_text()


SECRET_KEY = _secret_key()
DEBUG = os.environ.get("SITE_DEBUG") == "1"
SITE_URL = os.environ.get("SITE_URL", "")
ALLOWED_HOSTS = [name for name in os.environ.get("SITE_HOSTS", "localhost,127.0.0.1,[::1]").split(",") if name]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "runtimeuse_sync.django",
    "runs",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]

# SQLite is shared by many threads and processes: see `runs/apps.py` for the rest of that.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "site.sqlite3",
        # Seconds for which a write waits for its turn.
        "OPTIONS": {"timeout": 30},
        # In memory, as tests have it by default, threads cannot share it.
        "TEST": {"NAME": str(DATA / "test.sqlite3")},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Through it, one process cancels a run of another one. Several machines need one that they share, such as Redis.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": DATA / "cache",
        # From 300 entries on, Django would remove some at random: requests to cancel, and which upload URLs were used.
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}

MEDIA_ROOT = DATA / "artifacts"
# Nothing is served from there but by the view that asks for the owner.
MEDIA_URL = "/no-such-place/"
STATIC_URL = "/static/"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "runs"
LOGOUT_REDIRECT_URL = "login"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if os.environ.get("SITE_HTTPS") == "1":
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

_HEADERS: Dict[str, str] = {}
if os.environ.get("RUNTIMEUSE_TOKEN"):
    _HEADERS["Authorization"] = f"Bearer {os.environ['RUNTIMEUSE_TOKEN']}"
RUNTIMEUSE: Dict[str, Dict[str, Any]] = {
    "default": {
        "WS_URL": os.environ.get("RUNTIMEUSE_WS_URL", "ws://127.0.0.1:8080"),
        "MODEL": os.environ.get("RUNTIMEUSE_MODEL", "gpt-4.1"),
        "HEADERS": _HEADERS,
    }
}


def _seconds(name: str, default: float) -> float:
    return float(os.environ.get(name, default))


# All in seconds, except for what says otherwise.
RUNS = {
    # The longest that a run may take.
    "TIMEOUT": _seconds("SITE_RUN_TIMEOUT", 3600),
    # How long a run that is not to go on alone waits for its first reader, whose page may take its time to load.
    "READER_WITHIN": _seconds("SITE_READER_WITHIN", 60),
    # And how long it goes on after its last reader has left. A reload takes less.
    "ABANDON_AFTER": _seconds("SITE_ABANDON_AFTER", 15),
    # A run of which its server process has not said for so long that it is at work is lost.
    "LOST_AFTER": _seconds("SITE_LOST_AFTER", 10),
    # How many runs of one user there may be at once.
    "AT_ONCE": int(os.environ.get("SITE_RUNS_AT_ONCE", "20")),
    # Bytes of all files that go with one run, and characters of output that are kept of it.
    "MAX_INPUT": 10 * 1024 * 1024,
    "MAX_OUTPUT": 4 * 1024 * 1024,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"runs": {"handlers": ["stderr"], "level": "INFO"}},
}
