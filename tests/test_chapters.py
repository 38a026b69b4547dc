"""The file as a text in chapters, each of which is a working program, and as the cells of a notebook."""

import ast
import contextlib
import doctest
import inspect
import io
import math
import re
import tempfile
import types
import unittest
from pathlib import Path

import microgpt
from tests.support import PROGRAM, ROOT, TRACE, default_run, start_default_run

SOURCE = PROGRAM.read_text(encoding="utf-8")
CELLS = re.split(r"(?m)^(?=# %% )", SOURCE)  # the first one holds the docstring and the imports
WALL = next(i for i, cell in enumerate(CELLS) if "algorithm ends here" in cell.split("\n")[0])


def setUpModule():
    start_default_run()


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


def first_run(docs, num_steps):
    """Return what the lesson's last function prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        microgpt.first_run(docs, num_steps)
    return out.getvalue()


def as_first_run(out, every):
    """Return what first_run prints, from what the program prints of the same training."""
    losses = [float(loss) for loss in re.findall(r"(?m)^step .* \| loss (\S+)$", out)]
    lines = []
    for i in range(every, len(losses) + 1, every):
        lines.append(f"step {i:4d} | loss {sum(losses[i - every : i]) / every:.4f}")
    form = r"train loss \S+ \| val loss (\S+) \| bigram table (\S+) \| ln\(27\) (\S+)"
    model, bigrams, guess = re.search(form, out).groups()
    lines.append(f"held-out loss: {model} model, {bigrams} bigrams, {guess} blind guess")
    return [*lines, " ".join(re.findall(r"(?m)^sample +\d+: (\S*)", out)) + " "]


class FirstRun(unittest.TestCase):
    DOCS = microgpt.split_docs((ROOT / "names.txt").read_text(encoding="utf-8"))

    def assert_alike(self, ours, theirs):
        """The same lines, but for the last digit of means that were taken of rounded losses."""
        self.assertEqual(len(ours), len(theirs))
        for a, b in zip(ours, theirs):
            if a.startswith("step"):
                self.assertEqual(a[:-6], b[:-6])
                self.assertAlmostEqual(float(a[-6:]), float(b[-6:]), delta=0.00011)
            else:
                self.assertEqual(a, b)

    def test_it_is_the_training_grading_and_sampling_of_the_program(self):
        docs = self.DOCS[:120]  # few to grade, and all letters
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "names").write_text("\n".join(docs))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                microgpt.main(num_steps=20, data=f"{folder}/names")
        self.assert_alike(first_run(docs, 20).splitlines(), as_first_run(out.getvalue(), 2))

    def test_what_it_is_said_to_print_is_what_comes_out_of_a_thousand_steps(self):
        said = inspect.getdoc(microgpt.first_run)
        form = r"(?m)^(step .*|held-out .*|kelon .*?)(?: \.\.\.)?$"
        first, last, grades, names = re.findall(form, said)
        printed = as_first_run(default_run()[1], 100)
        self.assert_alike([first, last, grades], [printed[0], printed[9], printed[10]])
        self.assertTrue(printed[11].startswith(f"{names} "))
        losses = TRACE["default"]["losses"]
        self.assertAlmostEqual(float(first[-6:]), sum(losses[:100]) / 100, delta=0.0001)
        self.assertEqual(printed[11].split(), TRACE["default"]["samples"])
        model, bigrams, guess = map(float, re.findall(r"\d\.\d+", grades))
        self.assertLess(model, bigrams)
        self.assertLess(bigrams, guess)

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
