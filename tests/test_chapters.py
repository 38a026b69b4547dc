"""The file as a text in chapters, each a working program, and as the cells of a notebook."""

import ast
import contextlib
import doctest
import io
import re
import types
import unittest

import microgpt
from tests.support import PROGRAM

SOURCE = PROGRAM.read_text(encoding="utf-8")
CELLS = re.split(r"(?m)^(?=# %% )", SOURCE)  # the first one holds the docstring and the imports
WALL = next(i for i, cell in enumerate(CELLS) if "algorithm ends here" in cell.split("\n")[0])
TITLES = [cell.split("\n")[0] for cell in CELLS[1:]]


def cut_after(i):
    """Return the module that the file is if it ends after cell i."""
    module = types.ModuleType("chapters")
    module.__file__ = str(PROGRAM)
    exec(compile("".join(CELLS[: i + 1]), str(PROGRAM), "exec"), vars(module))
    return module


def examples(module, names):
    """Try the examples in the docstrings of some names; return how many there were, and failed."""
    failed = tried = 0
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(module):
        if test.name.split(".")[1:2] and test.name.split(".")[1] in names:
            failures, number = runner.run(test)
            failed, tried = failed + failures, tried + number
    return tried, failed


class Chapters(unittest.TestCase):
    def test_the_numbers_of_the_chapters_and_where_the_algorithm_ends(self):
        numbers = [title[5] for title in TITLES if re.match(r"# %% \d\. \w", title)]
        self.assertEqual(numbers, list("12345678"))
        self.assertTrue(TITLES[WALL - 2].startswith("# %% 5. "))
        self.assertTrue(TITLES[WALL].startswith("# %% 6. "))

    def test_cut_off_after_any_cell_the_file_runs_and_so_do_the_examples_of_its_last_chapter(self):
        known, all_tried = set(), 0
        for i in range(len(CELLS)):
            with self.subTest(CELLS[i].split("\n")[0]):
                module = cut_after(i)
                tried, failed = examples(module, vars(module).keys() - known)
                self.assertEqual(failed, 0)
                if CELLS[i][5:6] in list("1234"):  # chapter 5 shows what its program prints
                    self.assertGreater(tried, 0)
                known, all_tried = known | vars(module).keys(), all_tried + tried
        tests = doctest.DocTestFinder().find(microgpt)
        self.assertEqual(all_tried, sum(len(test.examples) for test in tests))

    def test_cut_off_where_the_algorithm_ends_the_file_is_a_complete_program(self):
        names = ["emma", "ava", "olivia", "mia", "bob", "eve"]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            model, tokenizer = cut_after(WALL - 1).demo(names, 100, n_embd=4)
        loss, grades, written, end = out.getvalue().split("\n")
        self.assertRegex(loss, r"^step  100 \| loss \d\.\d{4}$")
        self.assertRegex(grades, r"\d\.\d{4}.*\d\.\d{4}")
        self.assertTrue(written)
        self.assertEqual(end, "")
        self.assertEqual(len(model.state_dict["wte"]), tokenizer.vocab_size)

    def test_every_function_and_class_has_a_docstring(self):
        for node in ast.parse(SOURCE).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.assertTrue(ast.get_docstring(node), node.name)

    def test_nothing_is_used_before_it_is_defined(self):
        tree = ast.parse(SOURCE)
        lines = {node.name: node.lineno for node in tree.body if hasattr(node, "name")}
        for node in tree.body:
            for used in ast.walk(node):
                if isinstance(used, ast.Name) and used.id in lines:
                    self.assertLessEqual(lines[used.id], used.lineno, used.id)

    def test_the_lesson_imports_nothing_but_math_and_random(self):
        modules = set()
        for node in ast.walk(ast.parse("".join(CELLS[:WALL]))):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
        self.assertEqual(modules, {"math", "random"})

    def test_the_lesson_knows_nothing_of_the_plumbing(self):
        lesson = "".join(CELLS[1:WALL]).lower().replace("residual stream", "")
        words = "flag file screen schedule stream checkpoint top_k terminal signal window --"
        for word in words.split():
            self.assertFalse(word in lesson, word)


class Cells(unittest.TestCase):
    def test_the_definitions_print_nothing_and_train_nothing(self):
        names = {"__name__": "__main__"}  # as in a notebook: all cells in one namespace
        with contextlib.redirect_stdout(io.StringIO()) as out:
            for cell in CELLS[:-1]:
                exec(compile(cell, "<cell>", "exec"), names)
        self.assertEqual((out.getvalue(), "run" in names), ("", False))

    def test_the_last_cell_defines_nothing(self):
        for node in ast.walk(ast.parse(CELLS[-1])):
            self.assertNotIsInstance(node, (ast.FunctionDef, ast.ClassDef))
