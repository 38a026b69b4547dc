"""Each part of the program, taken out, put back in another author's words, and put back wrong."""

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import textwrap
import time
import types
import unittest
import unittest.mock
from pathlib import Path

from tests import rebuild
from tests.rebuilt import BODIES, MISTAKES
from tests.support import PROGRAM, ROOT, TRACE, section, start

SOURCE = PROGRAM.read_text(encoding="utf-8")
WALL = "# %% The algorithm ends here"
TOOL = ROOT / "tests" / "rebuild.py"


def put_back(**bodies):
    """Return the program with other bodies; _ stands for the . in the name of a method."""
    text = rebuild.take_out(bodies)
    for name, body in bodies.items():
        indent = " " * (8 if "." in name else 4)
        old = "".join(f"{indent}{line}\n" for line in rebuild.placeholder(name))
        assert text.count(old) == 1, name
        body = textwrap.dedent(body).strip("\n")
        text = text.replace(old, textwrap.indent(body, indent) + "\n")
    return text


def put_back_in_other_words(name, old="", new=""):
    """Return the program with a part in another author's words, and perhaps a mistake in them."""
    body = BODIES[name]
    assert not old or body.count(old) == 1, (name, old, body.count(old))
    return put_back(**{name: body.replace(old, new)})


@unittest.skipIf(sys.platform == "emscripten", "the tool needs processes, and a thread to end them")
class Tool(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "try.py"

    def tearDown(self):
        rebuild.faulthandler.cancel_dump_traceback_later()

    def call(self, *words):
        """Run the tool; return its exit status, output and errors."""
        process = start(TOOL, *words, cwd=self.path.parent)
        out, err = process.communicate()
        return process.returncode, out, err

    def check(self, source, patience=rebuild.PATIENCE):
        """Check a program in a process of its own; return the exit status, and what was said."""
        self.path.write_text(source, encoding="utf-8")
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            before = os.dup(1)
            os.dup2(file.fileno(), 1)
            try:
                with contextlib.redirect_stdout(file):
                    status = rebuild.check(self.path, patience)
                    file.flush()
            finally:
                os.dup2(before, 1)
                os.close(before)
            file.seek(0)
            return status, file.read()

    def stage(self, name, source):
        """Return whether a single stage of a check agrees, and what it says."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            agrees = getattr(rebuild.Check(rebuild.Program(source, self.path)), name)()
        return agrees, out.getvalue()


class TakenOut(Tool):
    def test_a_part_keeps_its_signature_its_docstring_and_its_examples(self):
        before = rebuild.functions(SOURCE)
        for name in rebuild.PARTS:
            with self.subTest(name):
                text = rebuild.take_out([name])
                after = rebuild.functions(text)
                self.assertEqual(after.keys(), before.keys())
                for other in before:
                    a, b = (rebuild.ast.get_docstring(each[other]) for each in (before, after))
                    self.assertEqual(a, b)
                    a, b = (rebuild.ast.dump(each[other].args) for each in (before, after))
                    self.assertEqual(a, b)
                    if other != name:
                        self.assertEqual(*(rebuild.shape(each[other]) for each in (before, after)))
                self.assertTrue(rebuild.is_blank(name, after[name]))
                self.assertIn(f"    # {rebuild.PARTS[name]}\n", text)
                self.assertLessEqual(max(map(len, text.split("\n"))), 100)

    def test_it_fails_with_a_clear_word(self):
        for name in rebuild.PARTS:
            with self.subTest(name):
                text = rebuild.take_out([name])
                status, out = self.check(text)
                (line,) = re.findall(rf"\Ato write   {name} \(line (\d+)\)\n\Z", out)
                self.assertEqual(status, 1)
                self.assertIn(rebuild.PARTS[name], text.split("\n")[int(line) - 2])

    def test_it_never_overwrites_what_the_learner_has_written(self):
        self.assertEqual(self.call("softmax")[0], 0)
        self.assertEqual(self.path.read_text(encoding="utf-8"), rebuild.take_out(["softmax"]))
        self.assertEqual(self.call("dot", "2")[0], 0)  # nothing was written yet
        text = self.path.read_text(encoding="utf-8")
        self.assertEqual(text, rebuild.take_out(rebuild.parts_of("2")))
        blank = "".join(f"    {line}\n" for line in rebuild.placeholder("dot"))
        lines = rebuild.text(SOURCE, rebuild.functions(SOURCE)["dot"])
        body = "\n".join(lines[lines.index('    """') + 1 :])
        self.assertIn(blank, text)
        typed_back = text.replace(blank, body + "\n")  # the other parts aren't given away
        self.assertEqual(rebuild.Program(typed_back, self.path).own, ["dot"])
        for work in (typed_back, text + "\n# a thought\n", SOURCE, "def", "é".encode("latin-1"), ""):
            work = work if isinstance(work, bytes) else work.encode("utf-8")
            self.path.write_bytes(work)
            status, out, err = self.call("softmax")
            self.assertEqual((status, out), (2, ""))
            self.assertIn("try.py holds your work: move it away first", err)
            self.assertEqual(self.path.read_bytes(), work)

    def test_a_chapter_is_all_of_its_parts(self):
        names = [rebuild.parts_of(chapter) for chapter in "12345"]
        self.assertEqual([name for part in names for name in part], [*rebuild.PARTS])
        self.assertEqual(self.call("5")[0], 0)
        self.assertEqual(self.call("--check")[1].count(" (line "), len(names[4]))

    def test_the_list_names_all_parts_in_the_order_of_the_file(self):
        lines = [rebuild.functions(SOURCE)[name].lineno for name in rebuild.PARTS]
        self.assertEqual(lines, sorted(lines))
        status, out, err = self.call("--list")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(re.findall(r"(?m)^   (\S+) ", out), [*rebuild.PARTS])
        self.assertEqual(re.findall(r"(?m)^(\d)\. ", out), [*"12345"])

    def test_a_mistake_on_the_command_line_is_one_line_and_status_2(self):
        for words, reason in (
            (("sofmax",), "there is no part 'sofmax': did you mean softmax?"),
            (("6",), "there is no part '6': --list names all"),
            ((), "give a part to write, or --check, or --list"),
            (("dot", "--check"), "give a part to write, or --check, or --list"),
            (("--check", "."), "there is no file .: PART writes one"),
            (("--check", "mine.py"), "there is no file mine.py: PART writes one"),
        ):
            with self.subTest(words):
                status, out, err = self.call(*words)
                self.assertEqual((status, out, err.count("\n")), (2, "", 1))
                self.assertIn(f"rebuild.py: error: {reason}", err)

    def test_the_tables_fit_the_program(self):
        self.assertEqual(rebuild.PARTS.keys(), rebuild.CASES.keys())
        self.assertEqual(rebuild.PARTS.keys(), rebuild.MISTAKES.keys())
        for name in rebuild.PARTS:
            self.assertNotIn("", [case for group in rebuild.reference(name) for case in group])
            for *edits, words in rebuild.MISTAKES[name]:
                for old, new in zip(edits[::2], edits[1::2]):
                    with self.subTest(name, old=old):
                        self.assertEqual(rebuild.LESSON.count(old), 1)
                        self.assertNotEqual(old, new)
                self.assertIn(len(edits), (2, 4, 6))
                self.assertLess(len(words), 90)


class Session(Tool):
    def test_the_session_of_the_readme_is_what_happens(self):
        body, said = None, ""
        for language, block in re.findall(r"```(\w+)\n(.+?)```", section("Rebuild it yourself"), re.S):
            if language == "python":
                body = textwrap.dedent(block)
                continue
            command, _, wanted = block.partition("\n")
            prompt, tool, *words = command.split()[1:]
            self.assertEqual((prompt, tool), ("python", "tests/rebuild.py"))
            if body:
                self.path.write_text(put_back(rmsnorm=body), encoding="utf-8")
            status, out, err = self.call(*words)
            self.assertEqual((status, out, err), (1 if body else 0, wanted, ""))
            said += out
        self.assertIn("hint", said)

    def test_the_program_names_the_tool(self):
        self.assertIn("`python tests/rebuild.py --list`", SOURCE[: SOURCE.index("import math")])


class PutBack(Tool):
    @classmethod
    def setUpClass(cls):
        """Start the longest check, which goes on beside the other tests."""
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        (Path(folder.name) / "try.py").write_text(put_back(**BODIES), encoding="utf-8")
        cls.process = start(TOOL, "--check", cwd=folder.name)
        cls.addClassCleanup(cls.process.communicate)

    def test_in_another_authors_words_each_part_agrees(self):
        self.assertEqual(BODIES.keys(), rebuild.PARTS.keys())
        for name in BODIES:
            with self.subTest(name):
                learner = rebuild.Program(put_back_in_other_words(name), self.path)
                self.assertEqual(learner.own, [name])
                found = rebuild.results(rebuild.load(learner.source, self.path), name, learner)
                for theirs, ours in zip(found, rebuild.reference(name)):
                    for case in ours:
                        self.assertEqual(rebuild.difference(case, theirs[case], ours[case]), "")

    def test_together_all_parts_agree_in_everything(self):
        out, err = self.process.communicate()
        self.assertEqual((self.process.returncode, err), (0, ""), out)
        form = (
            r"yours      Tokenizer\.encode, .*, evaluate\n"
            r"examples   (\d+) of \1 give what they show\n"
            r"cases      (\d+) of \2 are as in microgpt\.py\n"
            r"gradients  18 of 18 fit what yours computes, by a nudge of 0\.001\n"
            r"losses     20 steps of the default run, five held-out names and five new ones agree\n"
            r"speed      a step takes \d+\.\d times as long as in microgpt\.py: "
            r"its graph has \d+\.\d times as many nodes\n"
        )
        self.assertRegex(out, rf"\A{form}\Z")

    def test_the_original_body_agrees(self):
        learner = rebuild.Program(SOURCE, self.path)
        self.assertEqual((learner.own, learner.blank, learner.missing), ([], [], []))
        self.assertEqual(self.stage("cases", SOURCE)[0], True)

    def test_what_is_still_to_be_written_is_lent_by_the_program_meanwhile(self):
        taken = rebuild.take_out(rebuild.parts_of("3"))
        old = "".join(f"        {line}\n" for line in rebuild.placeholder("GPT.losses"))
        self.assertEqual(taken.count(old), 1)
        good = textwrap.indent(textwrap.dedent(BODIES["GPT.losses"]), " " * 8)
        source = taken.replace(old, good)
        learner = rebuild.Program(source, self.path)
        self.assertEqual((learner.own, len(learner.blank)), (["GPT.losses"], 6))
        for stage in ("cases", "gradients"):
            self.assertTrue(self.stage(stage, source)[0])
        status, out = self.check(taken.replace(old, "        return None\n"))
        self.assertEqual(status, 1)
        form = r"(?s)yours      GPT\.losses\ncases .* is None.*\nto write   linear \(line \d+\), "
        self.assertRegex(out, form)

    def test_it_has_passed_only_when_nothing_is_left_to_write(self):
        agrees = types.SimpleNamespace(returncode=rebuild.AGREES)
        blank = "".join(f"    {line}\n" for line in rebuild.placeholder("dot"))
        half = rebuild.take_out(["dot", "softmax"]).replace(blank, "    return None\n")
        with unittest.mock.patch.object(rebuild.subprocess, "run", return_value=agrees):
            self.assertEqual(self.check(half)[0], 1)
            self.assertEqual(self.check(SOURCE)[0], 0)

    def test_the_last_digits_of_an_example_may_differ(self):
        for got, is_right in (
            ("Value(data=11.000000000000002)\n", True), ("Value(data=11.1)\n", False),
            ("Value(data=11)\n", False), ("11.0\n", False), ("Value(data=11.0) 1.0\n", False),
        ):  # fmt: skip
            checker = rebuild.Checker()
            self.assertIs(checker.check_output("Value(data=11.0)\n", got, 0), is_right)

    def test_each_usual_mistake_gets_its_hint_and_no_other_does(self):
        for name, old, new, words in MISTAKES:
            with self.subTest(name, new=new):
                source = put_back_in_other_words(name, old, new).split(WALL)[0]  # saves time
                agrees, said = self.stage("cases", source)
                self.assertFalse(agrees, said)
                hint = said.partition("\nhint       ")[2]
                self.assertTrue(words in hint if words else not hint, said)

    def test_the_first_loss_that_differs_is_named_with_what_it_should_be(self):
        losses = TRACE["default"]["losses"]
        text = put_back(linear_decay="return (peak * 2 for _ in range(num_steps))")
        agrees, said = self.stage("losses", text)
        self.assertFalse(agrees)
        form = rf"losses     1 of 20 agree; step 2 should be {losses[1]}, and is \d\.\d+\n"
        self.assertRegex(said, rf"\A{form}\Z")

    def test_a_gradient_that_a_nudge_contradicts_is_named(self):
        text = put_back(rmsnorm="size = (sum(xi.data**2 for xi in x) / len(x) + 1e-5) ** 0.5\n"
                        "return [xi / size for xi in x]")  # fmt: skip
        agrees, said = self.stage("gradients", text)
        self.assertFalse(agrees)
        form = r"gradients  grad of \S+\[\d+\]\[\d+\] is (\S+), and a nudge .* should be (\S+)\n"
        grad, slope = map(float, re.fullmatch(form, said).groups())
        self.assertNotAlmostEqual(grad, slope, places=4)


class Accidents(Tool):
    def line(self, source, words):
        """Return the number of the line that holds some words."""
        return source[: source.index(words)].count("\n") + 1

    def test_an_error_is_shown_with_the_learners_line(self):
        for body, kind in (
            ("a = 1\nreturn [x / total_ for x in logits]", "NameError: name 'total_' is not "),
            ("a = 1\nimport sys; sys.exit('total_')", "SystemExit: total_"),
            ("a = 1\nreturn [x.exp() for x in logits + 'total_']", "TypeError: "),
        ):
            with self.subTest(body):
                source = put_back(softmax=body)
                status, out = self.check(source)
                self.assertEqual(status, 1)
                line = body.split("\n")[1]
                number = self.line(source, line)
                self.assertRegex(out, rf"raises {kind}.*; line {number}: {re.escape(line)}\n")
                self.assertNotIn("Traceback", out)

    def test_the_line_is_the_learners_even_if_the_program_raises(self):
        body = "exps = [x.exp() for x in logits]\nreturn [e / sum(exps) for e in exps]"
        source = put_back(softmax=body)
        status, out = self.check(source)
        number = self.line(source, "exps = [x.exp()")
        self.assertIn(f"OverflowError: math range error; line {number}: exps = [x.exp()", out)
        self.assertIn("\nhint       subtract the largest logit", out)

    def test_what_never_returns_is_ended(self):
        for body in ("while True:\n    pass", "from itertools import count\nreturn sum(count())"):
            with self.subTest(body):
                source = put_back(rmsnorm=body)
                start = time.monotonic()
                status, out = self.check(source, patience=1)
                self.assertLess(time.monotonic() - start, 20)
                self.assertEqual(status, 1)
                form = r"\nstopped    not finished after 1 seconds: .*; line \d+: (.+)\n"
                line = re.search(form, out)[1]
                own = ("def rmsnorm(x):", *body.split("\n"))  # PyPy knows only the function
                self.assertIn(line, [each.strip() for each in own])

    def test_a_missing_return_is_asked_for(self):
        for body in ("[x.exp() for x in logits]", ""):
            out = self.stage("cases", put_back(softmax=body))[1]
            self.assertIn("softmax(vector(2, 1, 0)) should be [Value(0.66524), Value(0.2", out)
            self.assertIn("and is None: is there a return?\n", out)

    def test_a_plain_number_in_the_place_of_a_value_is_seen(self):
        body = "exps = [math.exp(x.data - 9) for x in logits]\nreturn [e / sum(exps) for e in exps]"
        out = self.stage("cases", put_back(softmax=body))[1]
        self.assertIn("softmax(vector(2, 1, 0))[0] should be Value(0.66524), and is 0.66524", out)

    def test_a_syntax_error_and_a_missing_def_are_named(self):
        source = put_back(softmax="return [")
        status, out = self.check(source)
        self.assertEqual(status, 1)
        self.assertRegex(out, r"\Asyntax     .+; line \d+: ")
        status, out = self.check(SOURCE.replace("def softmax(", "def soft_max("))
        self.assertEqual(status, 1)
        self.assertRegex(out, r"\Amissing    softmax: ")
        for source in ("-" * 200000 + "1", "\0", "# -*- coding: nonsense -*-"):
            status, out = self.check(source)
            self.assertEqual((status, out[:11], out.count("\n")), (1, "syntax     ", 1))

    def test_what_the_learner_prints_does_not_bury_the_report(self):
        new = "        print('here', len(logits), sep='+')\n        powers = []"
        source = put_back_in_other_words("softmax", "        powers = []", new)
        for stage in ("examples", "cases"):
            agrees, said = self.stage(stage, source)
            self.assertTrue(agrees)
            self.assertLessEqual(said.count("printed    here+"), 5)
            self.assertIn("printed    here+3\n", said)
            self.assertLess(said.count("\n"), 10)

    def test_a_program_that_ends_python_has_not_passed(self):
        source = put_back(rmsnorm="import os\nos._exit(0)")
        status, out = self.check(source)
        self.assertEqual(status, 1)
        self.assertIn("\nstopped    the program has ended Python, with status 0\n", out)

    def test_what_lies_beside_the_program_or_starts_its_file_does_no_harm(self):
        (self.path.parent / "code.py").write_text("import nonsense")
        self.path.write_text("\ufeff" + put_back(linear_decay="return 0"), encoding="utf-8")
        status, out, err = self.call("--check")
        self.assertEqual((status, err), (1, ""))
        self.assertIn("\ncases      list(linear_decay(0.01, 4)) should be [0.01, 0.0075, ", out)
        self.assertIn("\nskipped    the rest: mend the error first\n", out)

    def test_ctrl_c_ends_it_without_a_word(self):
        self.path.write_text(put_back(rmsnorm="while True:\n    pass"), encoding="utf-8")
        process = start(TOOL, "--check", cwd=self.path.parent, start_new_session=True)
        self.assertEqual(process.stdout.readline(), "yours      rmsnorm\n")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
        self.assertEqual((process.returncode, out, err), (130, "", ""))


if __name__ == "__main__":
    unittest.main()
