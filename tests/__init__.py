"""The tests. README.md beside them says what is where, and how to add one."""

import os
from pathlib import Path

from tests.support import DEFAULT_RUN, begun


def load_tests(loader, tests, pattern):
    """Do what unittest would do; begin the long run, if it is wanted, before the first test."""
    if os.environ.get("MICROGPT_SLOW"):
        begun(*DEFAULT_RUN)
    tests.addTests(loader.discover(Path(__file__).parent, pattern))
    return tests
