"""The tests. What takes long is started before the first of them, and waited for by the last."""

from pathlib import Path

from tests.support import start_deeper_run, start_default_run, start_few_names_run


def load_tests(loader, tests, pattern):
    """Do what unittest would do, and start the long runs."""
    start_default_run()
    start_few_names_run()
    start_deeper_run()
    tests.addTests(loader.discover(Path(__file__).parent, pattern))
    return tests
