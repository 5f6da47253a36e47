"""For old versions of pip, whose editable installs need this file. Everything else is in setup.cfg."""

from setuptools import setup

setup()
