"""A user's Sphinx: automodule and napoleon over all public modules. `tox -e docs` builds it; no warning is accepted."""

from __future__ import annotations

import os

import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["runtimeuse_sync.django"])
django.setup()

project = "a user's own documentation"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
#: Types in the signatures (Sphinx's own default), in the descriptions, or nowhere: both has all that these have.
autodoc_typehints = os.environ.get("TYPEHINTS", "both")
#: All names of this package must lead somewhere (`-n`); where others are documented is the user's business.
nitpick_ignore_regex = [
    ("py:.*", r"(?!runtimeuse_sync\b).*"),
    # Names of private modules, which signatures show by their full paths.
    ("py:.*", r"runtimeuse_sync(\.\w+)*\._.*"),
    # What objects that users do not make are made of.
    ("py:.*", r"runtimeuse_sync\.runtime\.(agents|masking|outbox)\..*"),
    # Documented as names of the package.
    ("py:.*", r"runtimeuse_sync\.(client|errors|futures|keywords|messages|options|results|run|session|transports)\..*"),
]
