"""The file as a text in chapters, each of which is a working program, and as the cells of a notebook."""

import ast
import contextlib
import doctest
import io
import math
import re
import types
import unittest

import microgpt
from tests.support import PROGRAM, ROOT

SOURCE = PROGRAM.read_text(encoding="utf-8")
CELLS = re.split(r"(?m)^(?=# %% )", SOURCE)  # the first one holds the docstring and the imports
WALL = next(i for i, cell in enumerate(CELLS) if "algorithm ends here" in cell.split("\n")[0])


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
        titles = [cell.split("\n")[0] for cell in CELLS[1:]]
        numbers = [title[5] for title in titles if re.match(r"# %% \d\. \w", title)]
        self.assertEqual(numbers, list("12345678"))
        self.assertTrue(titles[WALL - 2].startswith("# %% 5. "))
        self.assertTrue(titles[WALL].startswith("# %% 6. "))

    def test_cut_off_after_any_cell_the_file_runs_and_so_do_the_examples_of_its_last_chapter(self):
        known, all_tried = set(), 0
        for i in range(len(CELLS)):
            with self.subTest(CELLS[i].split("\n")[0]):
                module = cut_after(i)
                tried, failed = examples(module, vars(module).keys() - known)
                self.assertEqual(failed, 0)
                known, all_tried = known | vars(module).keys(), all_tried + tried
        tests = doctest.DocTestFinder().find(microgpt)
        self.assertEqual(all_tried, sum(len(test.examples) for test in tests))

    def test_each_chapter_has_an_example_in_a_docstring(self):
        starts = [SOURCE[: SOURCE.index(cell)].count("\n") for cell in CELLS]
        chapters = set()
        for test in doctest.DocTestFinder().find(microgpt):
            if test.examples:
                title = CELLS[max(i for i, start in enumerate(starts) if start <= test.lineno)]
                chapters.add(title[5])
        self.assertEqual(chapters, set("12345678"))

    def test_every_public_function_and_class_has_a_docstring(self):
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

    def test_the_lesson_imports_nothing_but_numbers_and_loops(self):
        lesson = ast.parse("".join(CELLS[:WALL]))
        modules = set()
        for node in ast.walk(lesson):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
        self.assertEqual(modules, {"math", "random", "collections", "itertools", "operator"})

    def test_the_lesson_knows_nothing_of_the_workshop(self):
        lesson = "".join(CELLS[1:WALL]).lower().replace("residual stream", "")
        for word in ("stream", "window", "checkpoint", "flag", "--", "terminal", "signal", "collector",
                     "cosine", "warm"):  # fmt: skip
            self.assertFalse(word in lesson, word)


class Figures(unittest.TestCase):
    def test_what_the_text_says_of_losses_is_what_comes_out(self):
        lesson = " ".join("".join(CELLS[:WALL]).split("\n# "))
        for p, loss in (("1/2", 0.69), ("1/100", 4.61)):
            self.assertIn(f"{loss:.2f} if p = {p}", lesson)
            self.assertEqual(round(-math.log(eval(p)), 2), loss)
        for words, figure in (
            (r"loss of log\(27\) = (\S+)\. ", f"{math.log(27):.2f}"),
            (r"bigram model gets (\S+): ", "2.46"),  # 2.4602, see above
            (r"27\*\*5 = (\d+) million", str(27**5 // 10**6)),
            (r"those of all (\S+) training names", f"{32033 - 32033 // 10:,}"),
        ):
            self.assertEqual(re.findall(words, lesson.replace("\n    ", " ")), [figure])


class Cells(unittest.TestCase):
    def run_cells(self, cells):
        """Run cells as a notebook does, in one namespace, and return that and what was printed."""
        names, out = {"__name__": "__main__"}, io.StringIO()
        with contextlib.redirect_stdout(out):
            for cell in cells:
                exec(compile(cell, "<cell>", "exec"), names)
        return names, out.getvalue()

    def test_the_definitions_print_nothing_and_train_nothing(self):
        self.assertEqual(self.run_cells(CELLS[:-1])[1], "")

    def test_the_last_cell_holds_only_the_call(self):
        self.assertLess(len(CELLS[-1].splitlines()), 9)
        self.assertNotIn("def ", CELLS[-1])

    def test_the_names_file_is_beside_the_tests(self):
        self.assertTrue((ROOT / "names.txt").exists())
