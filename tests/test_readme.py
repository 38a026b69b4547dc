import doctest
import re
import unittest

from tests.support import ROOT, default_run, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
TESTED = {  # elsewhere, or with fewer steps
    "python microgpt.py --num_steps 1000": None,
    "python -m unittest": None,
    "python tests/benchmark.py": "python tests/benchmark.py --quick",
}


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
        commands = [TESTED.get(command, command) for command in commands]
        started = {command: start(*command.split()[1:]) for command in commands if command}
        for command, process in started.items():
            with self.subTest(command):
                out, err = process.communicate()
                self.assertEqual((process.returncode, err), (0, ""))
                self.assertEqual(command.split()[0], "python")
                last = "  --temperature N" if "--help" in command else "sample "
                self.assertIn("first loss on the" if "benchmark" in command else last, out)

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
