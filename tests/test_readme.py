import doctest
import os
import re
import shlex
import shutil
import tempfile
import unittest
import warnings
from pathlib import Path

import microgpt
from tests import exercises
from tests.support import PROGRAM, README, ROOT, result, section, start, start_default_run

TESTED = {  # elsewhere, or in little
    "python -m unittest": None,
    "python tests/benchmark.py": "python tests/benchmark.py --quick",
    "python tests/exercises.py": "python tests/exercises.py --quick",
}


def shortened(command):
    """Return a command with fewer steps and tokens, where it has many."""
    few = {
        "num_steps 2000": "num_steps 4", "num_steps 1000": "num_steps 5", "num_steps 40": "num_steps 4",
        "num_steps 30": "num_steps 3", "interval 500": "interval 3", "tokens 60": "tokens 30",
        "interval 200": "interval 3 --num_steps 4", "embd 32": "embd 4",
        "five.txt --stream": "five.txt --stream --num_steps 4",
    }  # fmt: skip
    for many in few:
        command = command.replace(many, few[many])
    return command


def blocks(language):
    """Return the fenced blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """Start all commands in a copy of the project, so that the other tests run meanwhile."""
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        copy = Path(folder.name)
        shutil.copy(PROGRAM, copy)
        for name, size in (("names.txt", 300), ("README.md", 1000)):  # less to grade the model on
            text = (ROOT / name).read_text(encoding="utf-8")[:size]
            (copy / name).write_text(text, encoding="utf-8")
        commands = [line for block in blocks("sh") for line in block.splitlines()]
        assert set(TESTED) <= set(commands), "a command that is tested is not there"
        cls.running = []
        for command in commands:
            command = shortened(TESTED.get(command, command) or "")
            if command:
                python, *words = shlex.split(command)
                assert python == "python", command
                cwd = ROOT if command.startswith("python tests/") else copy
                cls.running.append((command, start(*words, cwd=cwd)))
                cls.addClassCleanup(cls.running[-1][1].communicate)
            if "names.json" in command or "-c \"open(" in command:  # the next one needs it
                cls.running[-1][1].wait()

    def test_the_session_is_what_the_default_run_prints(self):
        out = re.sub(r"(?m)^(step .* \| lr .*|saved .*)\n", "", result(start_default_run())[1])
        where = 0
        for part in blocks("text")[0].split("...\n"):
            self.assertIn(part, out[where:])
            where = out.index(part, where) + len(part)
        self.assertEqual(where, len(out))

    def test_what_is_to_be_typed_works(self):
        shown = {"--help": "\n  --temperature ", "benchmark": "first loss on the screen"}
        shown.update({"exercises": "all as in the README\n", "open('few": "", "open('five": ""})
        for command, process in self.running:
            with self.subTest(command):
                out, err = process.communicate()
                self.assertEqual((process.returncode, err), (0, ""))
                wanted = [words for name, words in shown.items() if name in command]
                self.assertIn((wanted or ["\nsample  1: "])[0], out)

    def test_each_exercise_asks_first_and_its_change_fits_the_program(self):
        source, texts = PROGRAM.read_text(encoding="utf-8"), exercises.texts()
        self.assertEqual([*texts], [str(i + 1) for i in range(len(texts))])
        for number, text in texts.items():
            with self.subTest(number):
                question, answer = text.split(f"\n<details><summary>Answer {number}</summary>\n")
                self.assertIn("?", question)
                self.assertIn("\n</details>\n", answer)
                for spoiler in ("```diff", "| ", "loss 2."):
                    self.assertNotIn(spoiler, question)
                rows = [row for row in exercises.rows() if row.number == number]
                self.assertEqual(len(rows), text.count("\n| `"))
                self.assertTrue(rows or "```console\n$ python microgpt.py" in answer)
                for row in rows:
                    diffs = exercises.changes(number, row.label)
                    self.assertTrue(diffs or row.command.startswith("microgpt.py"))
                    program = source
                    for diff in diffs:
                        program = exercises.changed(program, diff)
                    compile(program, "try.py", "exec")
                    self.assertRegex(row.few, r"\A(>?\d+(\.\d{4})?|–)\Z")
                    for loss in (row.train, row.val):
                        self.assertRegex(loss, r"\A(\d\.\d{4}|>\d+(\.\d+)?|overflow|diverges)\Z")
        # `dot` written with + and * is the same program, digit for digit
        (row,) = (row for row in exercises.rows() if row.number == "2")
        out = result(start_default_run())[1]
        self.assertIn(f"\ntrain loss {row.train} | val loss {row.val} | ", out)

    def test_a_change_is_found_by_its_code_whatever_a_comment_says(self):
        source = "if a:\n    b = 1  # one\nb = 1\n"
        changed = exercises.changed(source, " if a:\n-    b = 1\n+    b = 2\n")
        self.assertEqual(changed, "if a:\n    b = 2\nb = 1\n")
        for diff in ("-b = 3\n+b = 4\n", "-    b = 1  \n+    b = 2\n", "-if a:\n-b = 1\n+c\n"):
            self.assertRaises(ValueError, exercises.changed, source, diff)
        self.assertRaises(ValueError, exercises.changed, "c\nc\n", "-c\n+d\n")

    def test_a_figure_that_differs_is_noticed(self):
        for figure, wanted, is_right in (
            ("2.3808", "2.3808", True), ("2.3809", "2.3808", False), ("diverges", "diverges", True),
            ("2.3808", "diverges", False), ("4.1302", ">4", True), ("overflow", "diverges", False), ("3.9", ">4", False),
            ("diverges", ">4", False), ("Traceback", ">4", False),
        ):  # fmt: skip
            self.assertIs(exercises.agrees(figure, wanted), is_right)

    def test_the_python_sessions_give_what_they_show(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(ROOT)
        session = doctest.DocTestParser().get_doctest(
            "\n".join(blocks("pycon")), {}, "README.md", "README.md", 0
        )
        self.assertGreater(len(session.examples), 10)
        with warnings.catch_warnings():  # a short session doesn't close the file of names
            warnings.simplefilter("ignore", ResourceWarning)
            failures, _ = doctest.DocTestRunner(verbose=False).run(session)
        self.assertEqual(failures, 0)

    def test_each_chapter_has_the_names_that_it_is_said_to_have(self):
        source = PROGRAM.read_text(encoding="utf-8")
        chapters = dict(re.findall(r"(?ms)^# %% (\d)\. (.*?)(?=^# %%|\Z)", source))
        shown = dict(re.findall(r"(?ms)^(\d)\. \*\*(.+?)(?=^\d\. |\n\n)", section("The lesson")))
        self.assertEqual([*shown], [*chapters])
        for number, item in shown.items():
            names = re.findall(r"`(\w+)`", item)
            self.assertGreater(len(names), 0)
            for name in names:
                self.assertRegex(chapters[number], rf"(?m)^(def|class) {name}\b")

    def test_the_table_of_flags_has_them_all_with_their_defaults(self):
        block = re.search(r"(?s)```text\n(.+?)```", section("All flags"))[1]
        table, group = [], ""
        row = r"(?m)^(?:(\w+)|  --(\w+) +.+?(?:  +(\S+))?)$"
        for word, flag, default in re.findall(row, block):
            group = word or group
            if flag:
                table.append((flag, group, default))
        wanted = [(flag, x[0], str(x[2])) for flag, x in microgpt.FLAGS.items()]
        self.assertEqual(table, wanted)
