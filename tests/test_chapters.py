"""The file as it is read: the lesson alone, up to where the algorithm ends, and cell by cell."""

import ast
import contextlib
import doctest
import io
import re
import types
import unittest
from unittest import mock

import microgpt
from tests.support import PROGRAM

SOURCE = PROGRAM.read_text(encoding="utf-8")
CELLS = re.split(r"(?m)^(?=# %%)", SOURCE)  # the first one holds the docstring and the imports
LAST = next(i for i, cell in enumerate(CELLS) if "\ndef demo(" in cell)  # of the lesson
LESSON = "".join(CELLS[: LAST + 1])


def examples(module):
    """Try the examples in all docstrings of a module; return how many there are, and fail."""
    runner = doctest.DocTestRunner(verbose=False)
    with contextlib.redirect_stdout(io.StringIO()):
        for test in doctest.DocTestFinder().find(module):
            runner.run(test)
    return runner.tries, runner.failures


class Chapters(unittest.TestCase):
    def test_the_lesson_alone_is_a_complete_program(self):
        module = types.ModuleType("lesson")
        exec(compile(LESSON, "lesson", "exec"), vars(module))
        names = ["emma", "ava", "olivia", "mia", "bob", "eve"]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            model, tokenizer = module.demo(names, 1, n_embd=4)
        self.assertTrue(out.getvalue())
        self.assertEqual(len(model.state_dict["wte"]), tokenizer.vocab_size)
        tried, failed = examples(module)
        self.assertGreater(tried, 9)
        self.assertEqual(failed, 0)

    def test_the_lesson_imports_nothing_but_math_and_random(self):
        modules = set()
        for node in ast.walk(ast.parse(LESSON)):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
        self.assertEqual(modules, {"math", "random"})

    def test_the_examples_in_the_docstrings_hold(self):
        tried, failed = examples(microgpt)
        self.assertGreater(tried, 9)
        self.assertEqual(failed, 0)

    def test_cell_by_cell_only_the_last_one_trains(self):
        names = {"__name__": "__main__"}  # as in a notebook: all cells in one namespace
        with contextlib.redirect_stdout(io.StringIO()) as out:
            for cell in CELLS[:-1]:
                exec(compile(cell, "cell", "exec"), names)
        self.assertEqual(out.getvalue(), "")
        names["main"] = mock.Mock()
        exec(compile(CELLS[-1], "cell", "exec"), names)
        names["main"].assert_called_once_with()
