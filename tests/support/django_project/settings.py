"""The settings of the project for tests."""

from __future__ import annotations

from typing import Any, Dict

SECRET_KEY = "only for tests, where nothing is secret"
#: Where no test may write: each has a folder of its own.
MEDIA_ROOT = "/nonexistent"
STATIC_URL = "static/"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
ROOT_URLCONF = "tests.support.django_project.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "runtimeuse_sync.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Quick, as nobody guesses them here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True

#: The alias has its URL from the environment, as the fixtures of the pytest plugin set it.
RUNTIMEUSE: Dict[str, Dict[str, Any]] = {"default": {"MODEL": "test-model"}}
