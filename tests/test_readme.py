"""What README.md says to type is typed here, in little, and its sessions are run as they stand."""

import contextlib
import doctest
import io
import os
import re
import runpy
import shlex
import sys
import types
import unittest
import xml.etree.ElementTree
from pathlib import Path
from unittest import mock

import microgpt
from tests.support import README, ROOT, Folder, command, has_processes, slow, start

COMMAND = r"(?m)^(cat|.*(?:microgpt|gpt_torch)\.py)( .*)$"  # the two programs are alike in flags


def blocks(language):
    """Return the fenced blocks in a language."""
    return re.findall(rf"(?m)^```{language}\n((?s:.*?))^```$", README)


def in_little(words):
    """Return the words of a command with fewer steps and smaller sizes."""
    words = ["--num_steps", "1000", "--num_samples", "1", *words]
    for i, (flag, word) in enumerate(zip(words, words[1:]), 1):
        if flag in ("--num_steps", "--eval_interval"):
            words[i] = str(int(word) // 250)
        elif flag == "--n_embd":
            words[i] = "8"
    return words


class Page(Folder):
    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def copy(self, name, size=None, to=None):
        """Put a file of the project, or its beginning, into the folder."""
        text = (ROOT / name).read_text(encoding="utf-8")[:size]
        Path(to or name).write_text(text, encoding="utf-8")

    def test_the_commands_work(self):
        self.copy("names.txt", 300)  # less to grade a model on
        self.copy("README.md", 400, to="words.txt")
        self.copy("README.md", 400, to="book.txt")
        commands = re.findall(COMMAND, "".join(blocks("sh")).replace("\\\n", ""))
        self.assertIn(("python microgpt.py", " --num_steps 1000"), commands)
        for program, words in commands:
            words = shlex.split(words)
            with self.subTest(words), mock.patch.object(microgpt, "NAMES", Path("names.txt")):
                if program == "cat":
                    *paths, _, path = words
                    Path(path).write_text("".join(Path(x).read_text("utf-8") for x in paths), "utf-8")
                else:
                    status, out, err = command(*in_little(words))
                    self.assertEqual((status, err), (0, ""))
                    self.assertIn("\nnum params: ", out)

    def test_the_help_is_that_of_the_program(self):
        flags = command("--help")[1].partition("--data")[2]
        self.assertTrue(" ".join(flags.split()) in " ".join(README.split()), flags)

    def test_the_session_prints_what_it_shows(self):
        session = "".join(blocks("pycon"))
        test = doctest.DocTestParser().get_doctest(session, {}, "README.md", None, 0)
        self.assertGreater(len(test.examples), 4)
        self.assertEqual(doctest.DocTestRunner(verbose=False).run(test).failed, 0)

    def test_the_pictures_are_those_that_one_name_prints(self):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            runpy.run_path(str(ROOT / "tests" / "one_name.py"))
        pictures = [x for x in blocks("text") if not x.startswith(("num docs", "usage"))]
        self.assertEqual("\n".join(pictures), out.getvalue())

    def test_the_code_for_a_notebook_draws_any_run(self):
        codes = blocks("python")
        drawing, calls = next(pair for pair in zip(codes, codes[1:]) if "_repr_svg_" in pair[0])
        exec(drawing, names := vars(microgpt).copy())
        self.names.write_text("maria\nelba\n<a&b>\n" * 9)
        with contextlib.redirect_stdout(io.StringIO()):
            sizes = {"n_layer": 2, "n_embd": 4, "n_head": 2}
            names["run"] = microgpt.main(data=self.names, num_steps=3, **sizes)
        for call in [*calls.splitlines(), "loss_curve([2.5])", "attention_map(run, '<a', 0)"]:
            picture = eval(call, names)._repr_svg_()
            self.assertEqual(xml.etree.ElementTree.fromstring(picture).tag[-3:], "svg")

    def test_the_code_for_a_browser_fetches_the_files_and_trains(self):
        served = {"microgpt.py": None, "names.txt": 300}
        module = types.ModuleType("pyodide.http")
        module.open_url = lambda url: io.StringIO(
            (ROOT / Path(url).name).read_text(encoding="utf-8")[: served.pop(Path(url).name)]
        )
        (code,) = (block for block in blocks("python") if "pyodide" in block)
        parts = {"pyodide": types.ModuleType("pyodide"), "pyodide.http": module}
        with mock.patch.dict(sys.modules, parts), mock.patch.object(sys, "path", [""]):
            del sys.modules["microgpt"]
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(re.sub(r"(num_steps=)\d+", r"\g<1>2", code), names := {})
        self.assertEqual((served, len(names["run"].losses)), ({}, 2))
        self.assertIn("sample 20: ", out.getvalue())


class Benchmark(unittest.TestCase):
    @slow
    @has_processes
    def test_it_runs(self):
        process = start(ROOT / "tests" / "benchmark.py", "--quick")
        out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertIn("times the cost of derivatives by hand", out)
