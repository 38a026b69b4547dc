import inspect
import os
import re
import shutil
import signal
import tempfile
import time
import unittest
from pathlib import Path

import microgpt
from tests.support import PROGRAM, ROOT, TRACE, default_run, run, start, start_default_run

try:
    import fcntl
    import pty
    import struct
    import termios
except ImportError:  # no terminals to test on
    pty = None

# What a notebook does with the file: the arguments are the kernel's. Three steps show enough.
NOTEBOOK = f"""
import sys
sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json"]
with open({str(PROGRAM)!r}, encoding="utf-8") as file:
    source = file.read().replace('("num_steps", amount, 1000,', '("num_steps", amount, 3,')
for cell in CELLS:
    exec(compile(cell, "<cell>", "exec"))
print("left:", len(model.parameters), tokenizer.vocab_size, sample(model, tokenizer) is not None)
"""
IN_ONE_CELL = NOTEBOOK.replace("CELLS", "[source]")
CELL_BY_CELL = NOTEBOOK.replace("CELLS", 'source.replace("\\n# %%", "\\0#").split("\\0")')
SMALL = ("--n_embd", "4", "--n_head", "2", "--num_samples", "2")


def losses(out):
    return [float(x) for x in re.findall(r"^step +\d+ / +\d+ \| loss (\d+\.\d{4})$", out, re.M)]


def samples(out):
    return re.findall(r"^sample +\d+: (\S*)", out, re.M)


def setUpModule():
    """Start what takes longest, so that the other tests run meanwhile."""
    start_default_run()
    unittest.addModuleCleanup(default_run)


class ReferenceFigures(unittest.TestCase):
    def check(self, name, out):
        expected = TRACE[name]
        self.assertIn(f"num docs: {expected['num_docs']}\n", out)
        self.assertIn(f"vocab size: {expected['vocab_size']}\n", out)
        self.assertIn(f"num params: {expected['num_params']}\n", out)
        self.assertEqual(losses(out), expected["losses"])
        self.assertEqual(samples(out), expected["samples"])

    def test_the_deeper_run_prints_the_figures_of_the_trace(self):
        flags = [word for item in TRACE["deep"]["flags"].items() for word in item]
        flags = [f"--{word}" if isinstance(word, str) else word for word in flags]
        status, out, err = run(*flags)
        self.assertEqual((status, err), (0, ""))
        self.check("deep", out)

    def test_the_default_run_prints_the_figures_of_the_trace(self):
        status, out, err = default_run()
        self.assertEqual((status, err), (0, ""))
        self.check("default", out)


class ThreeWaysIn(unittest.TestCase):
    def check_notebook(self, code):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(ROOT / "names.txt", folder)
            process = start("-c", code, cwd=folder)
            out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertEqual(len(losses(out)), 3)
        self.assertEqual(losses(out)[:2], TRACE["default"]["losses"][:2])
        self.assertEqual(len(samples(out)), 20)
        self.assertTrue(out.endswith("left: 4192 27 True\n"), out[-200:])

    def test_in_one_cell_of_a_notebook_it_trains_and_leaves_its_pieces_behind(self):
        self.check_notebook(IN_ONE_CELL)

    def test_cell_by_cell_along_its_marks_it_does_the_same(self):
        self.assertEqual(PROGRAM.read_text(encoding="utf-8").count("\n# %% "), 6)
        self.check_notebook(CELL_BY_CELL)

    def test_from_another_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = run("--num_steps", 1, "--num_samples", 1, cwd=folder)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("num docs: 32033", out)

    def test_importing_it_trains_nothing_and_prints_nothing(self):
        process = start("-c", "import microgpt")
        self.assertEqual(process.communicate(), ("", ""))

    def test_from_python_the_defaults_are_those_of_the_command(self):
        flags = vars(microgpt.parse([]))
        for function in (microgpt.GPT, microgpt.train, microgpt.sample):
            for name, parameter in inspect.signature(function).parameters.items():
                if name in flags:
                    self.assertEqual(parameter.default, flags[name], f"{name} of {function}")

    def test_in_a_thread_of_another_program(self):
        flags = ["--num_steps", "2", "--num_samples", "1", "--val_fraction", "0"]
        code = "import microgpt, threading; "
        code += f"threading.Thread(target=microgpt.main, args=({flags!r},)).start()"
        out, err = start("-c", code).communicate()
        self.assertEqual((len(losses(out)), len(samples(out)), err), (2, 1, ""))

    def test_in_a_notebook_mistakes_are_value_errors_in_the_words_of_the_command(self):
        bad = (["--n_head", "3"], ["--num_steps", "x"], ["--data", "no.txt"], ["--no"])
        for flags in bad:
            with self.subTest(flags), self.assertRaises(ValueError) as caught:
                microgpt.main(flags)
            self.assertEqual(run(*flags)[2], f"microgpt.py: error: {caught.exception}\n")

    def test_where_names_txt_is_missing_the_error_says_where_it_comes_from(self):
        with tempfile.TemporaryDirectory() as folder:
            err = start("-c", IN_ONE_CELL, cwd=folder).communicate()[1]
        self.assertRegex(err, r"ValueError: cannot read 'names\.txt'.*names\.txt comes with")


class Output(unittest.TestCase):
    def small(self, *flags, text="anna\nbob\nçelik\n美咲\n" * 5, **options):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "names"
            path.write_text(text, encoding="utf-8")
            return run("--data", path, *SMALL, *flags, **options)

    def test_a_report_in_a_file_has_a_line_for_each_step_and_then_the_rest(self):
        status, out, err = self.small("--num_steps", 3)
        self.assertEqual((status, err), (0, ""))
        number, sample = r"\d+\.\d{4}", r"\S*(  \(in the data\))?"
        lines = [
            "num docs: 20", "vocab size: 12", r"num params: \d+",
            *[rf"step    {i} /    3 \| loss {number}" for i in (1, 2, 3)],
            r"loss curve \d\.\d\d [▁▂▃▄▅▆▇█]{3} \d\.\d\d",
            rf"val loss {number} \| bigram table {number} \| ln\(12\) 2\.4849",
            f"sample  1: {sample}", f"sample  2: {sample}", "",
        ]  # fmt: skip
        self.assertRegex(out, "^" + "\n".join(lines) + "$")

    def test_samples_that_are_copies_of_a_document_are_marked_and_no_others(self):
        status, out, _ = self.small(
            "--num_steps", 30, "--num_samples", 30, "--temperature", 1, text="ab\nba\n" * 9
        )
        found = re.findall(r"^sample +\d+: (\S*)(  \(in the data\))?$", out, re.M)
        self.assertEqual(len(found), 30)
        for text, mark in found:
            self.assertEqual(bool(mark), text in ("ab", "ba"), text)
        self.assertEqual({bool(mark) for _, mark in found}, {True, False})

    def test_the_curve_goes_from_high_to_low_with_its_ends_in_numbers(self):
        falling = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
        self.assertEqual(microgpt.curve(falling, 30), "8.00 █▇▆▅▄▃▂▁ 1.00")
        self.assertEqual(microgpt.curve([4.0, 2.0, 3.0, 1.0], 12), "3.00 █▁ 2.00")
        self.assertEqual(microgpt.curve([2.0], 1), "2.00 ▁ 2.00")

    def test_without_steps_or_samples_or_held_out_documents_there_is_less_to_say(self):
        flags = ("--num_steps", 0, "--num_samples", 0, "--val_fraction", 0)
        status, out, err = self.small(*flags)
        self.assertEqual((status, err, len(out.splitlines())), (0, "", 3))

    def test_one_document_of_one_character_is_enough(self):
        status, out, err = self.small("--num_steps", 2, text="x")
        self.assertEqual((status, err), (0, ""))

    def test_a_document_of_10000_characters_is_cut_to_the_context(self):
        status, _, err = self.small("--num_steps", 1, text="ab" * 5000)
        self.assertEqual((status, err), (0, ""))

    def test_an_ascii_terminal_gets_ascii(self):
        status, out, err = self.small("--num_steps", 9, env={"PYTHONIOENCODING": "ascii"})
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.isascii())
        self.assertRegex(out, r"loss curve \d\.\d\d [_.:=+*#-]{9} \d\.\d\d\n")

    def test_a_reader_that_has_seen_enough_does_not_make_an_error(self):
        process = start(PROGRAM, "--num_steps", 50)
        for _ in range(5):
            process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.stderr.read(), "")
        process.stderr.close()
        self.assertEqual(process.wait(), 1)


@unittest.skipUnless(pty, "needs a terminal")
class Terminal(unittest.TestCase):
    def on_terminal(self, *flags, columns):
        """Return what a terminal of so many columns receives."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = start(PROGRAM, *SMALL, *flags, stdout=theirs, env={"COLUMNS": "", "LINES": ""})
        os.close(theirs)
        received = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                data = b""
            if not data:
                break
            received += data
        os.close(ours)
        self.assertEqual((process.communicate()[1], process.returncode), ("", 0))
        return received.decode().replace("\r\n", "\n")

    def test_one_line_is_rewritten_with_step_loss_speed_and_time_left(self):
        out = self.on_terminal("--num_steps", 200, columns=80)
        (line,) = (line for line in out.split("\n") if "step" in line)
        shown = [part.rstrip() for part in line.split("\r")[1:]]
        self.assertGreater(len(shown), 1)
        for part in shown:
            form = r"step +\d+ / +200 \| loss \d\.\d{4} \| \d+\.\d steps/s \| \d+:\d\d left"
            self.assertRegex(part, f"^{form}$")
        self.assertRegex(shown[-1], r"^step  200 / .* 0:00 left$")
        self.assertEqual({len(part) for part in line.split("\r")[1:]}, {77})

    def test_a_narrow_terminal_does_not_wrap(self):
        for columns in (30, 5):
            out = self.on_terminal("--num_steps", 30, columns=columns)
            (line,) = (line for line in out.split("\n") if "step" in line or "\rs" in line)
            self.assertTrue(all(len(part) < columns for part in line.split("\r")))
            self.assertIn("sample  2: ", out)


@unittest.skipIf(os.name == "nt", "Windows has no SIGINT to send")
class CtrlC(unittest.TestCase):
    def started(self, *flags):
        """Start a run of many steps, and return it when it has printed its fifth."""
        process = start(PROGRAM, "--num_steps", 100_000, *flags)
        while not process.stdout.readline().startswith("step    5 "):
            self.assertIsNone(process.poll())
        return process

    def test_it_ends_the_training_and_not_the_program(self):
        process = self.started(*SMALL)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertRegex(out, r"(?m)^loss curve .*\nval loss .*\nsample  1: .*\nsample  2: .*\n\Z")
        self.assertLess(len(losses(out)), 1000)

    def test_the_second_one_ends_the_program_at_once(self):
        process = self.started("--n_embd", 48, "--n_layer", 2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two at the same moment arrive as one
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        self.assertEqual((process.returncode, err), (130, ""))
        self.assertNotIn("sample", out)


class BadArguments(unittest.TestCase):
    def test_each_is_one_line_on_standard_error_and_status_2(self):
        bad = [
            ("--num_steps", "ten"), ("--num_steps", "-1"), ("--num_steps", "1.5"),
            ("--n_layer", "0"), ("--n_embd", "-16"), ("--n_head", "x"), ("--n_head", "3"),
            ("--block_size", "0"), ("--learning_rate", "0"), ("--learning_rate", "nan"),
            ("--learning_rate", "inf"), ("--learning_rate", "-1"), ("--learning_rate", "fast"),
            ("--seed", "1.0"), ("--num_samples", "-1"), ("--temperature", "-0.1"),
            ("--temperature", "nan"), ("--temperature", "inf"), ("--val_fraction", "1"),
            ("--val_fraction", "-0.1"), ("--val_fraction", "nan"), ("--num_steps",),
            ("--steps", "3"), ("--num_step", "3"), ("three",), ("--data", "no.txt"),
            ("--data", str(ROOT)), ("--data", os.devnull),
        ]  # fmt: skip
        for flags in bad:
            with self.subTest(flags):
                status, out, err = run(*flags)
                self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")
                self.assertEqual((status, out), (2, ""))

    def test_an_error_says_what_is_wrong_and_what_would_be_right(self):
        err = run("--num_steps", "ten")[2]
        self.assertIn("--num_steps: a whole number from 0 up is needed, not 'ten'", err)
        self.assertIn("n_head 3", run("--n_head", "3")[2])

    def test_a_loss_that_runs_away_is_such_an_error_too(self):
        status, out, err = run("--learning_rate", "1e300", "--num_steps", "50")
        self.assertRegex(err, r"\Amicrogpt\.py: error: the loss is nan: [^\n]+\n\Z")
        self.assertEqual(status, 2)

    def test_help_explains_every_flag_with_its_default(self):
        status, out, err = run("--help", env={"COLUMNS": "200"})
        self.assertEqual((status, err), (0, ""))
        for flag, value in vars(microgpt.parse([])).items():
            self.assertRegex(out, rf"--{flag} \w+ +[^\n]+\(default: {re.escape(str(value))}\)")
