import doctest
import re
import shlex
import shutil
import tempfile
import unittest

from tests.support import ROOT, default_run, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
TESTED = {  # elsewhere, or with fewer steps
    "python microgpt.py --num_steps 1000": None,
    "python -m unittest": None,
    "python tests/benchmark.py": "python tests/benchmark.py --quick",
}


def shortened(command):
    """Return a command with fewer steps where it has very many."""
    few = {"--num_steps 2000": "--num_steps 4", "interval 500": "interval 4", "embd 32": "embd 4"}
    for many in few if "2000" in command else ():
        command = command.replace(many, few[many])
    return command


def blocks(language):
    """Return the fenced blocks of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


class Readme(unittest.TestCase):
    def test_the_session_is_what_the_default_run_prints(self):
        out = default_run()[1]
        (session,) = blocks("text")
        where = 0
        for part in session.split("...\n"):
            self.assertIn(part, out[where:])
            where = out.index(part, where) + len(part)
        self.assertEqual(where, len(out))

    def test_every_command_works(self):
        commands = [line for block in blocks("sh") for line in block.splitlines()]
        self.assertLessEqual(set(TESTED), set(commands))
        commands = [shortened(TESTED.get(command, command) or "") for command in commands]
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(ROOT, f"{folder}/copy", ignore=shutil.ignore_patterns(".git"))
            running = []
            for command in filter(None, commands):
                python, *words = shlex.split(command)
                self.assertEqual(python, "python")
                running.append((command, start(*words, cwd=copy)))
                if "names.json" in command:  # the next one needs it
                    running[-1][1].wait()
            for command, process in running:
                with self.subTest(command):
                    out, err = process.communicate()
                    self.assertEqual((process.returncode, err), (0, ""))
                    last = "\n  --temperature " if "--help" in command else "sample "
                    self.assertIn("first loss on the" if "benchmark" in command else last, out)

    def test_the_lines_of_the_longer_run_are_those_that_it_prints(self):
        (report,) = blocks("console")
        form = [rf"step +{step} / 2000 \| val loss \d\.\d{{4}}" for step in (500, 1000, 1500, 2000)]
        form += [r"val loss (\d\.\d{4}) \| bigram table 2\.4602 \| ln\(27\) 3\.2958"]
        self.assertRegex(report, "\\A" + "\n".join(form) + "\n\\Z")
        *_, last, end = report.splitlines()
        self.assertEqual(last.split()[-1], end.split()[2])

    def test_the_python_sessions_give_what_they_show(self):
        session = doctest.DocTestParser().get_doctest(
            "\n".join(blocks("pycon")), {}, "README.md", "README.md", 0
        )
        self.assertGreater(len(session.examples), 10)
        failures, _ = doctest.DocTestRunner(verbose=False).run(session)
        self.assertEqual(failures, 0)

    def test_every_name_that_it_takes_from_the_program_is_there(self):
        source = (ROOT / "microgpt.py").read_text(encoding="utf-8")
        table = README[README.index("| chapter |") : README.index("The one unusual thing")]
        for name in re.findall(r"`(\w+)(?:\(\))?`", table):
            self.assertRegex(source, rf"(?m)^ *(def|class) {name}\b")
