import contextlib
import functools
import gc
import inspect
import io
import itertools
import math
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest
from collections import Counter
from pathlib import Path
from unittest import mock

import microgpt
from tests.support import PROGRAM, README, ROOT
from tests.support import heed_ctrl_c_in, losses, run, samples, section, start, the_rest

try:
    import fcntl
    import pty
    import struct
    import termios
except ImportError:  # no terminals to test on
    pty = None

try:
    import resource
except ImportError:  # no limits on the size of a file
    resource = None

THREE_STEPS = '("num_steps": .*)1000', r"\g<1>3"
FEW = "emma\nolivia\nava\nzoe\nmax\nkai\n" * 5
# What a notebook does with the file: the arguments are the kernel's. Three steps show enough.
NOTEBOOK = f"""
import re
import sys
sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json"]
with open({str(PROGRAM)!r}, encoding="utf-8") as file:
    source = re.sub(*{THREE_STEPS!r}, file.read())
for cell in CELLS:
    exec(compile(cell, "<cell>", "exec"))
print("left:", len(run.model.parameters), run.tokenizer.vocab_size, len(run.losses))
assert sample(run.model, [run.tokenizer.bos], 5) and run.flags["num_steps"] == 3
"""
IN_ONE_CELL = NOTEBOOK.replace("CELLS", "[source]")
CELL_BY_CELL = NOTEBOOK.replace("CELLS", 'source.replace("\\n# %%", "\\0#").split("\\0")')
SMALL = ("--n_embd", "4", "--n_head", "2", "--num_samples", "2")
OUT_OF_MEMORY = "out of memory: a smaller model, batch or block_size needs less"


def call(*flags):
    """Call main() with flags as on the command line; return the run."""
    return microgpt.main(**microgpt.parse([str(flag) for flag in flags]))


@functools.lru_cache(maxsize=None)
def periodic_folder():
    return Path(tempfile.mkdtemp())


@functools.lru_cache(maxsize=None)
def start_periodic_run():
    """Start to train on a text that repeats itself; leave a checkpoint."""
    (periodic_folder() / "text").write_text("abcd" * 64)
    return start(
        PROGRAM, "--data", periodic_folder() / "text", "--save", periodic_folder() / "model.json",
        "--stream", "--n_layer", 2, "--n_embd", 8, "--n_head", 2, "--block_size", 8,
        "--batch_size", 4, "--num_steps", 100, "--lr_schedule", "constant", "--weight_decay", 0.01,
        "--prompt", "a", "--temperature", 0, "--max_new_tokens", 40, "--num_samples", 1,
    )  # fmt: skip


def setUpModule():
    with contextlib.suppress(unittest.SkipTest):  # then it is the test that waits for it
        start_periodic_run()
    unittest.addModuleCleanup(shutil.rmtree, periodic_folder())


class ThreeWaysIn(unittest.TestCase):
    def check_notebook(self, code):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "names.txt").write_text(FEW)
            process = start("-c", code, cwd=folder)
            out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertEqual((len(losses(out)), len(samples(out))), (3, 20))
        num_chars = len(set(FEW.replace("\n", "")))
        num_params = 16 * (2 * (num_chars + 1) + 16 + 12 * 16)
        self.assertTrue(out.endswith(f"left: {num_params} {num_chars + 1} 3\n"), out[-200:])

    def test_in_one_cell_of_a_notebook_it_trains_and_leaves_its_pieces_behind(self):
        self.check_notebook(IN_ONE_CELL)

    def test_cell_by_cell_along_its_marks_it_does_the_same(self):
        self.assertGreater(PROGRAM.read_text(encoding="utf-8").count("\n# %% "), 9)
        self.check_notebook(CELL_BY_CELL)

    def test_from_another_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = run("--num_steps", 1, "--val_fraction", 0, *SMALL, cwd=folder)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("num docs: 32033", out)

    def test_importing_it_trains_nothing_and_prints_nothing(self):
        process = start("-c", "import microgpt")
        self.assertEqual(process.communicate(), ("", ""))

    def test_from_python_the_defaults_are_those_of_the_command(self):
        for function in (microgpt.GPT, microgpt.sample, microgpt.draw):
            for name, parameter in inspect.signature(function).parameters.items():
                if name in microgpt.DEFAULTS and parameter.default is not parameter.empty:
                    default = microgpt.DEFAULTS[name]
                    self.assertEqual(parameter.default, default, f"{name} of {function}")

    def test_in_a_thread_of_another_program(self):
        flags = {"num_steps": 2, "num_samples": 1, "val_fraction": 0, "n_embd": 4}
        code = "import microgpt, threading; "
        code += f"threading.Thread(target=microgpt.main, kwargs={flags!r}).start()"
        out, err = start("-c", code).communicate()
        self.assertEqual((len(losses(out)), len(samples(out)), err), (2, 1, ""))

    def test_in_a_notebook_mistakes_are_value_errors_in_the_words_of_the_command(self):
        for name, value in (
            ("n_head", 3), ("num_steps", "x"), ("num_steps", -1), ("data", "no.txt"), ("no", 1),
            ("num_step", 20), ("lr_schedule", "square"), ("val_fraction", 1.0), ("load", "none"),
        ):  # fmt: skip
            with self.subTest(name), self.assertRaises(ValueError) as caught:
                microgpt.main(**{name: value})
            err = run(f"--{name}", value)[2]
            self.assertEqual(err, f"microgpt.py: error: {caught.exception}\n")

    def test_from_python_a_value_of_a_wrong_type_is_an_error_and_none_is_as_if_not_given(self):
        for name, value in (
            ("num_steps", "20"), ("num_steps", 1.5), ("num_steps", True), ("num_steps", [20]),
            ("learning_rate", "0.1"), ("learning_rate", 10**400), ("stream", 1), ("prompt", 5),
            ("stream", "yes"), ("stream", ROOT), ("data", 3), ("save", b"x"), ("lr_schedule", ["linear"]),
            ("lr_schedule", 1), ("temperature", math.nan), ("prompt", ["a"]),
        ):  # fmt: skip
            words = re.escape(f"--{name}: ") + ".+" + re.escape(f" is needed, not {value!r}")
            with self.subTest(name), self.assertRaisesRegex(ValueError, words):
                microgpt.main(**{name: value})
        self.assertEqual(microgpt.check({"save": None, "num_steps": 5}), {"num_steps": 5})
        self.assertEqual(microgpt.check({"data": ROOT}), {"data": str(ROOT)})
        rate = microgpt.check({"learning_rate": 1})["learning_rate"]
        self.assertEqual((rate, type(rate)), (1.0, float))

    def test_from_python_words_of_a_command_line_get_a_sentence_that_helps(self):
        for words in ("--num_steps 20", ["--num_steps", "20"], 20):
            with self.assertRaisesRegex(ValueError, r"by name, as in main\(num_steps=20\), not .*20"):
                microgpt.main(words)
        with self.assertRaisesRegex(ValueError, r", not '--num_steps'\Z"):
            microgpt.main("--num_steps", "20")

    def test_it_returns_the_run(self):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run = microgpt.main(num_steps=2, n_embd=4, n_head=2, num_samples=0, val_fraction=0)
        self.assertEqual([float(f"{loss:.4f}") for loss in run.losses], losses(out.getvalue()))
        self.assertIs(run.optimizer.parameters, run.model.parameters)
        self.assertEqual((run.optimizer.steps_done, run.tokenizer.vocab_size), (2, 27))
        self.assertEqual(run.flags, {**microgpt.DEFAULTS, "num_steps": 2, "n_embd": 4, "n_head": 2,
                                     "num_samples": 0, "val_fraction": 0.0})  # fmt: skip

    def test_the_collector_rests_while_it_trains_and_is_given_back(self):
        collecting, evaluate = [], microgpt.evaluate
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        (Path(folder.name) / "names").write_text(FEW)
        few = {"data": f"{folder.name}/names", "num_steps": 1, "num_samples": 1}

        def spy(*arguments):
            collecting.append(gc.isenabled())
            return evaluate(*arguments)

        for enable in (gc.enable, gc.disable):
            enable()
            was = gc.isenabled()
            try:
                with mock.patch.object(microgpt, "evaluate", spy):
                    with contextlib.redirect_stdout(io.StringIO()):
                        microgpt.main(**few)
                self.assertEqual(gc.isenabled(), was)
                with mock.patch.object(microgpt, "evaluate", side_effect=ZeroDivisionError):
                    with contextlib.redirect_stdout(io.StringIO()), self.assertRaises(ZeroDivisionError):
                        microgpt.main(**few)
                self.assertEqual(gc.isenabled(), was)
            finally:
                gc.enable()
        needs_it = sys.implementation.name == "pypy"
        self.assertEqual(collecting, 2 * [needs_it] + 2 * [False])  # the losses on both parts

    def test_run_by_a_program_whose_output_is_no_file(self):
        out = io.StringIO()  # as in a notebook's %run
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "names").write_text(FEW)
            flags = ("microgpt.py", "--data", f"{folder}/names", "--num_steps", "2", *SMALL)
            with mock.patch("sys.argv", [*flags]), contextlib.redirect_stdout(out):
                left = runpy.run_path(str(PROGRAM), run_name="__main__")
        self.assertEqual((len(losses(out.getvalue())), len(samples(out.getvalue()))), (2, 2))
        self.assertEqual(left["run"].flags["n_embd"], 4)

    def test_an_editor_that_runs_it_in_a_console_keeps_its_arguments(self):
        source, out = re.sub(*THREE_STEPS, PROGRAM.read_text(encoding="utf-8")), io.StringIO()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "names.txt").write_text(FEW)
            names = {"__name__": "__main__", "__file__": f"{folder}/microgpt.py"}
            with mock.patch("sys.argv", ["console.py", "--strange"]):
                with contextlib.redirect_stdout(out):
                    exec(compile(source, "<cell>", "exec"), names)
        self.assertEqual((len(losses(out.getvalue())), len(samples(out.getvalue()))), (3, 20))

    def test_after_an_error_an_interpreter_that_goes_on_can_print(self):
        code = "import runpy, sys\nsys.argv = ['microgpt.py', '--n_head', '3']\ntry:\n"
        code += f"    runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
        code += "except SystemExit as end:\n    print('status', end.code)"
        out, err = start("-c", code).communicate()
        self.assertEqual((out, err.count("\n")), ("status 2\n", 1))

    def test_where_names_txt_is_missing_the_error_says_where_it_comes_from(self):
        with tempfile.TemporaryDirectory() as folder:
            err = start("-c", IN_ONE_CELL, cwd=folder).communicate()[1]
        self.assertRegex(err, r"ValueError: cannot read 'names\.txt'.*names\.txt.* comes with")


class Streams(unittest.TestCase):
    def test_the_next_character_of_a_periodic_text_is_learned(self):
        out, err = start_periodic_run().communicate()
        found = losses(out)
        self.assertEqual((err, len(found)), ("", 100))
        for step, most in ((50, 0.35), (75, 0.016), (100, 0.0035)):
            self.assertLessEqual(found[step - 1], most)
        text = re.search(r"^sample  1: (\w+)", out, re.M)[1]
        self.assertEqual(text, ("abcd" * 20)[: len(text)])  # from an a, far past the context
        self.assertEqual(len(text), 41)
        self.assertIn(f"sample  1: {text}  (in the data)\n", out)
        path = str(periodic_folder() / "model.json")
        with contextlib.redirect_stdout(io.StringIO()):
            run = microgpt.main(load=path, num_samples=0, temperature=0)
        for start_at in range(4):
            for length in range(1, 9):
                prompt = ("abcd" * 4)[start_at : start_at + length]
                text = microgpt.complete(run, prompt)
                self.assertEqual(text, ("abcd" * 8)[start_at : start_at + length + 8])

    def test_any_text_will_do(self):
        flags = ("--stream", "--num_steps", 3, "--num_samples", 2, "--prompt", "The ", *SMALL)
        with tempfile.TemporaryDirectory() as folder:
            path, text = Path(folder) / "text", README[:2000]
            path.write_text(text, encoding="utf-8")
            status, out, err = run("--data", path, *flags)
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.startswith(f"num chars: {len(text)}\nvocab size: {len(set(text))}\n"))
        self.assertRegex(out, r"(?s)\ntrain loss .*\nsample  1: The .*\nsample  2: The ")


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
            rf"train loss {number} \| val loss {number} \| bigram table {number} \| ln\(12\) 2\.4849",
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
        self.assertEqual((status, err, len(out.splitlines())), (0, "", 4))
        self.assertRegex(out, r"\ntrain loss \d\.\d{4}\n\Z")

    def test_what_only_looks_bad_works(self):
        few = ("--num_steps", 2, "--num_samples", 3)
        for text, flags in (
            ("x", ()), ("ab" * 5000, ()), ("ab" * 5000, ("--stream",)),
            ("a" * 17, ("--stream", "--val_fraction", 0)), ("\ufeffanna\r\nbob\r\n", ()),
            ("Зоя\n美咲\n😀👍🏽\nمريم\n", ()), ("Зоя 美咲 😀👍🏽", ("--block_size", 3, "--stream")),
            ("anna", ("--n_layer", 12)), ("anna", ("--top_k", 1000)), ("anna", ("--seed", 0)),
            ("anna", ("--val_fraction", 0.99)), ("anna", ("--num_steps", 0)),
            ("anna", ("--num_samples", 0)), ("anna", ("--warmup_steps", 99)),
            ("anna", ("--batch_size", 5)), ("anna", ("--eval_interval", 1)),
            ("anna", ("--prompt", "nannananna", "--max_new_tokens", 30)),
            ("anna", ("--temperature", 1e-300)),
        ):  # fmt: skip
            with self.subTest(text=text[:20], flags=flags):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "text"
                    path.write_bytes(text.encode())
                    with contextlib.redirect_stdout(io.StringIO()):
                        call("--data", path, *SMALL, *few, *flags)

    def test_a_byte_order_mark_and_windows_line_ends_are_not_in_the_alphabet(self):
        out = self.small("--num_steps", 0, text="\ufeffanna\r\nbob\r\n")[1]
        self.assertIn("vocab size: 5\n", out)

    def test_what_a_text_makes_of_a_terminal_is_shown_not_done(self):
        flags = ("--stream", "--num_steps", 0, "--max_new_tokens", 99, "--temperature", 1)
        out = self.small(*flags, text="a\x1b\x07\x7f\x9b\tb\n" * 9)[1]
        self.assertEqual(set(out) - set(map(chr, range(32, 127))), set("\n\t"))
        self.assertIn("\\x1b", out)

    def test_emoji_on_an_ascii_terminal(self):
        flags = ("--num_steps", 1, "--temperature", 1, "--prompt", "😀")
        ascii_only = {"PYTHONIOENCODING": "ascii"}
        status, out, err = self.small(*flags, text="😀é\n" * 9, env=ascii_only)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("sample  1: \\U0001f600", out)

    def test_a_utf_8_terminal_gets_bars_however_its_encoding_is_spelt(self):
        for name in ("utf-8", "UTF-8", "utf8"):
            out = self.small("--num_steps", 9, env={"PYTHONIOENCODING": name})[1]
            self.assertRegex(out, r"loss curve \d\.\d\d [▁▂▃▄▅▆▇█]{9} \d\.\d\d\n")

    def test_an_ascii_terminal_gets_ascii(self):
        status, out, err = self.small("--num_steps", 9, env={"PYTHONIOENCODING": "ascii"})
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.isascii())
        self.assertRegex(out, r"loss curve \d\.\d\d [_.:=+*#-]{9} \d\.\d\d\n")

    def test_a_reader_that_has_seen_enough_does_not_make_an_error(self):
        process = start(PROGRAM, "--num_steps", 50, "--val_fraction", 0)
        for _ in range(5):
            process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.stderr.read(), "")
        process.stderr.close()
        self.assertEqual(process.wait(), 1)

    @unittest.skipUnless(resource, "no limits on the size of a file")
    def test_output_that_cannot_be_written_to_the_end_is_an_error_in_one_line(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        (Path(folder.name) / "names").write_text("anna\n" * 20)
        flags = ("--data", f"{folder.name}/names", "--num_steps", 2)
        lines = run(*flags, "--num_samples", 1)[1].splitlines(keepends=True)
        self.assertEqual(len(lines), 8)
        for n in range(len(lines)):
            most = sum(len(line.encode()) for line in lines[: n + 1]) - 1
            num_samples = int(n == 7)  # so that line n is the last
            with tempfile.TemporaryFile() as file:
                limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
                words = (*flags, "--num_samples", num_samples)
                process = start(PROGRAM, *words, stdout=file, preexec_fn=limit)
                err = process.communicate()[1]
            self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")
            self.assertEqual(process.returncode, 2)

    @unittest.skipIf(os.name == "nt", "needs a way to close it")
    def test_closed_output_is_no_error(self):
        few = ("--num_steps", 2, *SMALL)
        process = start(PROGRAM, *few, preexec_fn=lambda: os.close(1))
        self.assertEqual((*process.communicate(), process.returncode), ("", "", 0))

    @unittest.skipUnless(Path("/dev/full").exists(), "needs a device that is always full")
    def test_output_that_cannot_be_written_is_an_error_in_one_line(self):
        for flags in (("--num_steps", 2), ("--num_steps", 0, "--num_samples", 0)):
            with open("/dev/full", "w") as full:
                process = start(PROGRAM, *flags, stdout=full)
                err = process.communicate()[1]
            self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")
            self.assertEqual(process.returncode, 2)


class Plain(io.StringIO):
    """An output that notes how much was there at each flush."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def flush(self):
        self.sizes.append(len(self.getvalue()))


class Notebook(Plain):
    """The output of a notebook, as far as the name of its module tells."""

    __module__ = "ipykernel.iostream"


class Terminal(Plain):
    """The output on a terminal, if os.isatty() says so of its file descriptor."""

    def fileno(self):
        return 1


class Pretender(io.StringIO):
    """An output that says that it is a terminal, but has no file descriptor: that of IDLE."""

    def isatty(self):
        return True


def ticking(seconds):
    """Let so many seconds pass between one look at the clock and the next."""
    clock = itertools.count()
    return mock.patch("time.perf_counter", lambda: seconds * next(clock))


class LiveLine(unittest.TestCase):
    FEW = ("--val_fraction", 0, *SMALL)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        (Path(folder.name) / "names").write_text(FEW)
        self.few = ("--data", f"{folder.name}/names", *self.FEW)

    def printed(self, *flags, out=None):
        """Return what main() prints."""
        out = io.StringIO() if out is None else out
        with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, COLUMNS="90"):
            call(*flags, *self.few)
        return out.getvalue()

    def test_there_is_one_in_a_notebook_and_none_where_there_is_no_file(self):
        with open(os.devnull, "w") as null:
            for out, is_live in (
                (io.StringIO(), False), (Notebook(), True), (Pretender(), False), (null, False),
                (types.SimpleNamespace(write=print), False), (None, False),
            ):  # fmt: skip
                with mock.patch("sys.stdout", out):
                    self.assertIs(microgpt.Screen().is_live, is_live)
        self.assertNotIn("\r", self.printed("--num_steps", 3, out=Pretender()))

    def test_each_line_is_on_the_screen_at_once(self):
        for out in (Notebook(), Plain()):
            with ticking(2.0):
                text = self.printed("--num_steps", 3, out=out)
            self.assertEqual("\r" in text, type(out) is Notebook)
            ends = {found.end() for found in re.finditer("\n", text)}
            ends |= {found.end() for found in re.finditer("[^\r]\r", text)}
            self.assertGreater(len(ends), 8)
            self.assertLessEqual(ends, set(out.sizes))

    def test_it_shows_the_mean_of_fifty_losses_the_speed_and_the_time_left(self):
        found = losses(self.printed("--num_steps", 103))
        with ticking(2.0):
            out = self.printed("--num_steps", 103, out=Notebook())
        shown = re.findall(r"step (.{4}) /  103 \| loss (\S+) \| (\S+) steps/s \| (\S+) left", out)
        self.assertEqual(shown.pop(), shown[-1])  # the last one stays
        self.assertEqual(len(shown), 103)
        for step, (number, mean, speed, left) in enumerate(shown, 1):
            recent, seconds = found[max(0, step - 50) : step], 2 * (103 - step)
            self.assertEqual((number, speed), (f"{step:4d}", "0.5"))
            self.assertAlmostEqual(float(mean), sum(recent) / len(recent), delta=0.000101)
            self.assertEqual(left, f"{seconds // 60}:{seconds % 60:02d}")

    def test_it_is_drawn_ten_times_a_second_or_once_in_a_notebook_and_at_the_end(self):
        for kind, seconds, steps in (
            (Terminal, 0.03, [1, 5, 9, 13, 17, 20]), (Notebook, 0.3, [1, 5, 9, 13, 17, 20]),
            (Terminal, 0.2, range(1, 21)), (Notebook, 2.0, range(1, 21)),
            (Terminal, 1e-6, [1, 20]), (Notebook, 1e-3, [1, 20]),
        ):  # fmt: skip
            with ticking(seconds), mock.patch("os.isatty", lambda _: True):
                out = self.printed("--num_steps", 20, out=kind())
            drawn = [int(step) for step in re.findall(r"step +(\d+) /", out)]
            self.assertEqual(drawn, [*steps, 20][: len(drawn)])
            self.assertEqual(set(drawn), set(steps))
            self.assertRegex(out, r"\rstep   20 /   20 [^\r\n]+\nloss curve")

    def test_what_is_drawn_over_it_hides_it(self):
        out = Notebook()
        with mock.patch("sys.stdout", out):
            screen = microgpt.Screen()
            screen.show("a long line", transient=True)
            screen.show("a short one", transient=True)
            out.write("^C")
            screen.show("short", transient=True)
            screen.show("stays")
            screen.show("last")
        self.assertEqual(self.on_screen(out.getvalue()), ["stays", "last"])

    def on_screen(self, text):
        """Return the lines that a terminal shows, on which a carriage return goes to the left."""
        lines, line, column = [], "", 0
        for char in text:
            if char == "\n":
                lines.append(line.rstrip())
                line = ""
            elif char != "\r":
                line = line[:column] + char + line[column + 1 :]
            column = 0 if char in "\r\n" else column + 1
        return lines

    def test_it_is_cut_between_its_parts_and_an_unknown_width_is_80(self):
        line = "step   30 /   30 | loss 2.4444 | 99.9 steps/s | 0:00 left"
        for columns, shown in (
            (80, line), (58, line), (57, line[:45]), (40, line[:30]), (30, line[:16]), (9, line[:8]),
            (1, "s"), (0, line),
        ):  # fmt: skip
            size = os.terminal_size((columns, 24))
            with mock.patch("shutil.get_terminal_size", lambda: size):
                self.assertEqual(microgpt.fit(line), shown)

    def test_after_ctrl_c_a_word_says_that_it_stops_and_the_line_of_the_last_step_stays(self):
        heed_ctrl_c_in(self)
        loss, show = microgpt.GPT.loss, microgpt.Screen.show
        calls = itertools.count(1)

        def in_a_step(*arguments):
            if next(calls) == 3:
                signal.raise_signal(signal.SIGINT)
            return loss(*arguments)

        def after_a_line(screen, line, **how):
            show(screen, line, **how)
            if line.startswith("step    3") and next(calls) == 1:
                signal.raise_signal(signal.SIGINT)

        for owner, name, function in (
            (microgpt.GPT, "loss", in_a_step), (microgpt.Screen, "show", after_a_line),
        ):  # fmt: skip
            with mock.patch.object(owner, name, function), ticking(2.0):
                out = self.printed("--num_steps", 50, out=Notebook())
            self.assertEqual(out.count("stopping after this step | Ctrl-C again: at once"), 1)
            shown = self.on_screen(out)
            self.assertRegex(shown[3], r"^step    3 /   50 \| loss \d\.\d{4} \| .* left$")
            self.assertTrue(shown[4].startswith("loss curve"), shown)
            calls = itertools.count(1)
            with mock.patch.object(owner, name, function):
                out = self.printed("--num_steps", 50)
            self.assertRegex(out, r"\nstopping after this step [^\n]+\n(step    3 [^\n]+\n)?loss curve")
            calls = itertools.count(1)


@unittest.skipUnless(pty and sys.platform != "emscripten", "needs a terminal")
class RealTerminal(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.names = Path(folder.name) / "names"
        self.names.write_text("anna\nbob\nolivia\nemma\n" * 10)

    def on_terminal(self, *flags, columns, status=0):
        """Return what a terminal of so many columns receives."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        flags = ("--data", self.names, *SMALL, *flags)
        process = start(PROGRAM, *flags, stdout=theirs, env={"COLUMNS": "", "LINES": ""})
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
        self.assertEqual((bool(process.communicate()[1]), process.returncode), (status > 0, status))
        return received.decode().replace("\r\n", "\n")

    def test_one_line_is_rewritten_with_step_loss_speed_and_time_left(self):
        for columns in (80, 0):  # some report 0 columns where they don't know how many there are
            out = self.on_terminal("--num_steps", 200, columns=columns)
            (line,) = (line for line in out.split("\n") if "step" in line)
            shown = [part.rstrip() for part in line.split("\r") if part]
            self.assertGreater(len(shown), 1)
            for part in shown:
                form = r"step +\d+ / +200 \| loss \d\.\d{4} \| \d+\.\d steps/s \| \d+:\d\d left"
                self.assertRegex(part, f"^{form}$")
            self.assertRegex(shown[-1], r"^step  200 / .* 0:00 left$")

    def test_an_error_is_not_written_into_the_line_that_is_rewritten(self):
        out = self.on_terminal("--weight_decay", 1e9, "--num_steps", 99, columns=80, status=2)
        self.assertRegex(out, r"\rstep[^\n]+\n\Z")

    def test_losses_on_both_parts_have_a_line_of_their_own_however_narrow_it_is(self):
        for columns in (80, 20):
            out = self.on_terminal("--num_steps", 4, "--eval_interval", 2, columns=columns)
            lines = [line.split("\r")[-1].rstrip() for line in out.split("\n") if "step" in line]
            self.assertEqual(len(lines), 2)
            form = r"train loss \d\.\d{4} \| val loss \d\.\d{4}"
            self.assertRegex(lines[0], rf"^step    2 /    4 \| lr 0.00750 \| {form}$")
            self.assertRegex(lines[1], r"^step    4 /    4")
            self.assertRegex(out, rf"\n{form} \| bigram table ")

    def test_a_narrow_terminal_does_not_wrap(self):
        for columns, shown in ((40, "step   30 /   30 | loss"), (20, "step   30 /   30"), (5, "st")):
            out = self.on_terminal("--num_steps", 30, columns=columns)
            (line,) = (line for line in out.split("\n") if "step" in line or line[:2] == "st")
            self.assertTrue(all(len(part) < columns for part in line.split("\r")))
            self.assertTrue(line.split("\r")[-1].startswith(shown))
            self.assertIn("sample  2: ", out)


@unittest.skipIf(os.name == "nt", "Windows has no SIGINT to send")
class CtrlC(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.names = Path(folder.name) / "names"
        self.names.write_text(FEW)

    def started(self, *flags, until="step    5 ", **options):
        """Start a run of many steps, and return it when it has printed its fifth."""
        flags = ("--data", self.names, "--num_steps", 100_000, *flags)
        process = start(PROGRAM, *flags, **options)
        while not process.stdout.readline().startswith(until):
            self.assertIsNone(process.poll())
        return process

    def test_it_ends_the_training_and_not_the_program(self):
        process = self.started(*SMALL)
        process.send_signal(signal.SIGINT)
        out, err = the_rest(process)
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertRegex(out, r"(?m)^loss curve .*\ntrain loss .*\nsample  1: .*\nsample  2: .*\n\Z")
        self.assertLess(len(losses(out)), 1000)

    def test_the_first_one_is_noted_the_second_is_an_interrupt_and_then_all_is_as_before(self):
        heed_ctrl_c_in(self)
        for times in (1, 2):
            before, loss, calls = signal.getsignal(signal.SIGINT), microgpt.GPT.loss, itertools.count(1)

            def interrupted(*arguments):
                if next(calls) == 3:
                    for _ in range(times):
                        signal.raise_signal(signal.SIGINT)
                return loss(*arguments)

            few = {"data": self.names, "num_steps": 9, "n_embd": 4, "n_head": 2, "num_samples": 1}
            few["eval_interval"] = 3
            with mock.patch.object(microgpt.GPT, "loss", interrupted):
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    if times == 1:
                        self.assertEqual(len(microgpt.main(**few).losses), 3)
                    else:
                        with self.assertRaises(KeyboardInterrupt):
                            microgpt.main(**few)
            self.assertEqual("sample" in out.getvalue(), times == 1)
            self.assertEqual(out.getvalue().count("val loss"), 2 - times)
            self.assertIs(signal.getsignal(signal.SIGINT), before)

    def test_while_the_losses_are_taken_it_ends_the_training_after_that_step(self):
        heed_ctrl_c_in(self)
        evaluate, out = microgpt.evaluate, io.StringIO()

        def interrupted(*arguments):
            if len(losses(out.getvalue())) == 4:
                signal.raise_signal(signal.SIGINT)
                microgpt.evaluate = evaluate
            return evaluate(*arguments)

        few = {"n_embd": 4, "n_head": 2, "num_steps": 9, "eval_interval": 2, "num_samples": 0}
        with mock.patch.object(microgpt, "evaluate", interrupted), contextlib.redirect_stdout(out):
            run = microgpt.main(data=self.names, **few)
        self.assertEqual(run.optimizer.steps_done, 4)
        self.assertEqual(len(re.findall("val loss", out.getvalue())), 3)

    def test_kill_and_a_terminal_that_is_closed_end_the_program_after_saving(self):
        path = self.names.parent / "model.json"
        is_pypy = sys.implementation.name == "pypy"
        for number in (signal.SIGTERM,) if is_pypy else (signal.SIGTERM, signal.SIGHUP):
            process = self.started(*SMALL, "--save", path)
            process.send_signal(number)
            out, err = the_rest(process)
            self.assertEqual((process.returncode, err), (128 + number, ""))
            self.assertNotIn("train loss", out)
            self.assertGreaterEqual(microgpt.load(path).optimizer.steps_done, 5)
            path.unlink()

    def test_what_is_ignored_when_it_starts_stays_ignored(self):  # as after nohup, or with &
        is_heeded = sys.implementation.name == "pypy"  # it heeds SIGINT however it was started
        numbers = (signal.SIGHUP,) if is_heeded else (signal.SIGHUP, signal.SIGINT)
        ignore = [functools.partial(signal.signal, number, signal.SIG_IGN) for number in numbers]
        process = self.started(*SMALL, preexec_fn=lambda: [each() for each in ignore])
        for number in numbers:
            process.send_signal(number)
        lines = [process.stdout.readline()[:4] for _ in range(200)]
        process.kill()
        the_rest(process)
        self.assertEqual(set(lines), {"step"})

    def test_the_second_one_ends_the_program_at_once(self):
        process = self.started("--batch_size", 200, until="step    1 ")
        time.sleep(0.1)  # the second step, which takes longer, has begun
        process.send_signal(signal.SIGINT)
        self.assertRegex(process.stdout.readline(), "^stopping after this step ")
        process.send_signal(signal.SIGINT)
        out, err = the_rest(process)
        self.assertEqual((process.returncode, err), (130, ""))
        self.assertNotIn("sample", out)


class OddPlaces(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "names.txt").write_text("anna\nbob\nçelik\n美咲\n" * 3, encoding="utf-8")
        self.flags = {"data": str(self.folder / "names.txt"), "num_steps": 2, "n_embd": 4}
        self.words = [word for name in self.flags for word in (f"--{name}", self.flags[name])]

    def assert_whole(self, out):
        self.assertEqual((len(losses(out)), len(samples(out))), (2, 20), out)

    def python(self, *words, **options):
        """Return what a Python process prints; it must end well, and without a complaint."""
        process = start(*words, **options)
        out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        return out

    def test_outputs_of_all_kinds(self):
        class NoMore:
            """No more than print() needs."""

            def __init__(self):
                self.text, self.flush = "", lambda: None

            def write(self, text):
                self.text += text

        closed = io.StringIO()
        closed.close()
        for out in (None, closed, NoMore(), Pretender()):
            with mock.patch("sys.stdout", out):
                run = microgpt.main(**self.flags)
            self.assertEqual(len(run.losses), 2)
            if out not in (None, closed):
                self.assert_whole(getattr(out, "text", None) or out.getvalue())

    def test_main_where_there_is_no_output(self):
        code = f"import microgpt; assert len(microgpt.main(**{self.flags!r}).losses) == 2"
        self.assertEqual(self.python("-c", code, preexec_fn=lambda: os.close(1)), "")

    def test_main_where_there_is_only_ascii(self):
        code = f"import microgpt; microgpt.main(**{self.flags!r}, prompt='çe', temperature=2)"
        out = self.python("-c", code, env={"PYTHONIOENCODING": "ascii"})
        self.assert_whole(out)
        self.assertTrue(out.isascii())
        self.assertIn("sample  1: \\xe7e", out)

    @unittest.skipIf(os.name == "nt", "needs a way to close it")
    def test_an_error_has_status_2_and_is_never_on_standard_output(self):
        process = start(PROGRAM, "--num_steps", "x", preexec_fn=lambda: os.close(2))
        self.assertEqual((*process.communicate(), process.returncode), ("", "", 2))
        if Path("/dev/full").exists():
            with open("/dev/full", "w") as full:
                process = start(PROGRAM, "--num_steps", "x", stderr=full)
                self.assertEqual((process.communicate()[0], process.returncode), ("", 2))

    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_through_a_link_the_names_are_those_beside_the_file_itself(self):
        shutil.copy(PROGRAM, self.folder)
        (self.folder / "elsewhere").mkdir()
        link = self.folder / "elsewhere" / "gpt.py"
        link.symlink_to(self.folder / "microgpt.py")
        out = self.python(link, *self.words[2:])
        self.assertTrue(out.startswith("num docs: 12\n"))
        self.assert_whole(out)

    def test_help_where_it_cannot_be_written(self):
        process = start(PROGRAM, "--help")
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait()), ("", 1))
        process.stderr.close()
        if Path("/dev/full").exists():
            with open("/dev/full", "w") as full:
                process = start(PROGRAM, "--help", stdout=full)
                self.assertRegex(process.communicate()[1], r"\Amicrogpt\.py: error: [^\n]+\n\Z")
                self.assertEqual(process.returncode, 2)

    def test_with_options_of_python(self):
        for options in (("-I",), ("-OO",), ("-X", "dev"), ("-W", "error"), ("-bb",), ("-E", "-s")):
            options = (*options, "-X", "utf8")  # -I and -E leave out what start() says of it
            with self.subTest(options):
                self.assert_whole(self.python(*options, PROGRAM, *self.words))
        self.assert_whole(self.python("-m", "microgpt", *self.words))

    @unittest.skipIf(os.name == "nt", "it can't be deleted there")
    def test_from_a_folder_that_was_deleted(self):
        code = "import os, sys; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); "
        code += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        words = ("-c", code, PROGRAM, *self.words)
        self.assert_whole(self.python(*words, cwd=self.folder))
        process = start(*words, "--save", "x.json", cwd=self.folder)
        out, err = process.communicate()
        self.assertRegex(err, r"\Amicrogpt\.py: error: cannot save 'x\.json' \([^\n]+\n\Z")
        self.assertEqual((process.returncode, out), (2, ""))

    def test_after_python_i_the_run_is_there(self):
        code = "print('left:', len(run.losses), run.flags['n_embd'])\n"
        process = start("-i", PROGRAM, *self.words, stdin=subprocess.PIPE)
        out, err = process.communicate(code)
        self.assert_whole(out)
        self.assertIn("left: 2 4\n", out)
        self.assertNotIn("Error", err)


class BadArguments(unittest.TestCase):
    def check(self, *flags):
        """The flags are a ValueError of one line, before anything is printed; return it."""
        out = io.StringIO()
        with self.subTest(flags), contextlib.redirect_stdout(out):
            with self.assertRaises(ValueError) as caught:
                call(*flags)
            self.assertNotIn("\n", str(caught.exception))
            self.assertEqual(out.getvalue(), "")
            return str(caught.exception)

    def test_on_the_command_line_each_is_one_line_on_standard_error_and_status_2(self):
        for flags in (("--num_steps", "1.5"), ("--data", "no\nfile"), ("x\ny",), ("--load", ROOT)):
            with self.subTest(flags):
                status, out, err = run(*flags)
                self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")
                self.assertEqual((status, out), (2, ""))

    def test_numbers_that_are_none_or_out_of_bounds(self):
        counts = ("num_steps", "warmup_steps", "eval_interval", "num_samples", "top_k")
        sizes = ("n_layer", "n_embd", "n_head", "block_size", "batch_size", "max_new_tokens")
        amounts = ("temperature", "weight_decay")
        rates, parts = ("learning_rate",), ("val_fraction",)
        bad = ("ten", "", "-1", "nan", "inf", "-inf", "0x10", "1,5")
        for names, others in (
            (counts, ("1.5", "10" * 20)), (sizes, ("0", "1.5", "10" * 20)), (amounts, ("1e999",)),
            (rates, ("0", "-0.0", "1e999")), (parts, ("1", "1.5")), (("seed",), ("1.0",)),
        ):  # fmt: skip
            for name in names:
                for text in (*bad, *others):
                    if (name, text) != ("seed", "-1"):
                        self.assertIn(f"--{name}: a ", self.check(f"--{name}={text}"))

    def test_flags_choices_and_sizes_that_there_are_not(self):
        for flags in (
            ("--steps", 3), ("--num_step", 3), ("three",), ("--num_steps",), ("--stream", "x"),
            ("--lr_schedule", "square"), ("--n_head", 3), ("--n_embd", 10), ("--load",),
        ):  # fmt: skip
            self.check(*flags)

    def test_data_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            for data in (b"", b" \n\t\n", b"\x00\x01\x02", b"\xff\xfe\xfd", b"\x89PNG\r\n\x1a\n"):
                path.write_bytes(data)
                self.check("--data", path)
                self.check("--data", path, "--stream")
            for other in (Path(folder) / "none", folder, path / "x", os.devnull):
                self.check("--data", other)

    def test_a_stream_that_is_shorter_than_a_window(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            two = ("--block_size", 2)
            for n, flags, least in ((3, (), 17), (16, (), 17), (17, (), 17), (2, two, 3)):
                path.write_text("a" * n)
                error = self.check("--data", path, "--stream", *flags)
                there = n - n // 10  # a tenth is held out
                words = f"--data has {there} characters to train on, and needs {least}"
                self.assertEqual(error, words)

    def test_a_prompt_outside_the_alphabet_is_named_with_the_alphabet(self):
        error = self.check("--prompt", "annÄ!")
        alphabet = "'abcdefghijklmnopqrstuvwxyz'"
        self.assertEqual(error, f"--prompt 'annÄ!': '!Ä' is not in the alphabet, which is {alphabet}")

    def test_an_error_says_what_is_wrong_and_what_would_be_right(self):
        whole, million = "whole number", "1,000,000,000,000"
        for name, text, wanted in (
            ("num_steps", "'ten'", f"{whole} from 0 to below {million}"),
            ("eval_interval", "-1", f"{whole} from 0 to below {million}"),
            ("n_layer", "0", f"{whole} from 1 to below {million}"),
            ("max_new_tokens", "1000000000000", f"{whole} from 1 to below {million}"),
            ("seed", "-1000000000001", f"{whole} from -{million} to below {million}"),
            ("learning_rate", "0.0", "number from 1e-12 to below 1e+308"),
            ("temperature", "-1.0", "number from 0.0 to below 1e+308"),
            ("val_fraction", "1.0", "number from 0 to below 1"),
        ):
            words = f"--{name}: a {wanted} is needed, not {text}"
            text = text.strip("'")
            self.assertEqual(self.check(f"--{name}={text}"), words)
        self.assertEqual(self.check("--foo", 1), "there is no flag '--foo': --help lists them")
        words = "--seed -1 would do the same as 1: give that"
        self.assertEqual(self.check("--seed", -1), words)
        self.assertRegex(self.check("--prompt", "-x"), "expected one argument: is --prompt=-x meant")
        self.assertRegex(self.check("--prompt", "a", "--prompt", "-y"), "is --prompt=-y meant")
        self.assertNotIn("meant", self.check("--prompt"))
        words = "there is no flag '--num_step': did you mean --num_steps?"
        self.assertEqual(self.check("--num_step", 3), words)
        self.assertEqual(self.check("--num_step=3"), words)
        self.assertIn("'three' is not", self.check("three").replace("expected here", ""))
        self.assertRegex(self.check("--lr_schedule", "x"), "linear.*cosine.*constant")

    def test_numbers_at_their_bounds_are_right(self):
        most = 10**12 - 1
        for name, number in (
            ("num_steps", 0), ("warmup_steps", 0), ("eval_interval", 0), ("num_samples", 0),
            ("top_k", 0), ("n_layer", 1), ("n_embd", 1), ("n_head", 1), ("block_size", 1),
            ("batch_size", 1), ("max_new_tokens", 1), ("temperature", 0.0), ("weight_decay", 0.0),
            ("learning_rate", 1e-12), ("val_fraction", 0.0), ("seed", -(10**12)),
            ("num_steps", most), ("n_layer", most), ("seed", most), ("learning_rate", 1e307),
        ):  # fmt: skip
            flags = microgpt.check(microgpt.parse([f"--{name}={number}"]))
            self.assertEqual(flags, {name: number})

    def test_out_of_memory_is_an_error_of_one_line(self):
        for name in ("GPT", "load"):
            flags = ["microgpt.py", "--load", str(ROOT / "tests" / "checkpoint.json")]
            with mock.patch("sys.argv", flags), contextlib.redirect_stderr(io.StringIO()) as err:
                with mock.patch.object(microgpt, name, side_effect=MemoryError()):
                    with self.assertRaises(SystemExit) as caught:
                        microgpt.command()
            words = f"microgpt.py: error: {OUT_OF_MEMORY}\n"
            self.assertEqual((caught.exception.code, err.getvalue()), (2, words))

    def test_whatever_the_words_are_they_are_flags_or_a_value_error(self):
        flags = [f"--{name}" for name in microgpt.FLAGS]
        words = ["1", "0", "-1", "0.5", "1e9", "nan", "x", "", "-", "--", "=", "-x", "--x", "\udcff",
                 "\0", "\n", "%s", "%(prog)s", "{}", "٣", "1_0", " 7 ", "9" * 5000, "linear"]  # fmt: skip
        outcomes = Counter()
        for seed in range(1000):
            rng = random.Random(seed)
            kinds = [flags if rng.random() < 0.4 else words for _ in range(rng.randrange(6))]
            argv = [rng.choice(kind) for kind in kinds]
            argv += [rng.choice(flags) + "=" + rng.choice(words)]
            with self.subTest(argv):
                try:
                    outcomes[type(microgpt.check(microgpt.parse(argv)))] += 1
                except ValueError:
                    outcomes[ValueError] += 1
        self.assertEqual(len(outcomes), 2)
        status, out, err = run("--data", "\udcff\n", "\udcfe")
        self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")

    def test_whatever_the_data_is_it_trains_or_is_a_value_error(self):
        outcomes = Counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            for seed in range(150):
                rng = random.Random(seed)
                kinds = range(256), range(128), range(32, 127), b"ab\n", b"\n \r\t"
                path.write_bytes(bytes(rng.choices(rng.choice(kinds), k=rng.randrange(1 + seed))))
                flags = ["--data", path, "--num_steps", 1, "--num_samples", 1, "--n_embd", 2]
                flags += ["--n_head", 1, "--block_size", rng.randint(1, 8)]
                flags += ["--stream"] * rng.randrange(2)
                with self.subTest(seed), contextlib.redirect_stdout(io.StringIO()):
                    try:
                        outcomes[type(call(*flags))] += 1
                    except ValueError:
                        outcomes[ValueError] += 1
        self.assertEqual(len(outcomes), 2)

    def test_a_loss_that_runs_away_is_such_an_error_too(self):
        status, out, err = run("--learning_rate", "1e300", "--num_steps", "50")
        words = "the loss is nan: try a smaller learning rate"
        self.assertEqual(err, f"microgpt.py: error: {words}\n")
        self.assertRegex(out, r"step .* \| loss \S+\n\Z")
        self.assertEqual(status, 2)

    def test_help_explains_every_flag_with_its_default_in_the_words_of_the_readme(self):
        status, out, err = run("--help", env={"COLUMNS": "200"})
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"\Ausage: microgpt\.py \[-h\]")
        self.assertIn("\n\nTrain a GPT on a text, then let it write.\n\n", out)
        form = re.compile(r"^  --(\w+)(?: \S+)?\s+(.+) \(default: (.*)\)$", re.M)
        shown = []
        for group in re.split(r"\n\n(?=[\w ]+:\n)", out)[2:]:
            name = group[: group.index(":")]
            shown += [(name, *found) for found in form.findall(group.replace("\n    ", ""))]
        table, name = [], ""
        row = r"(?m)^(?:(\w+)|  --(\w+) +(.+?)(?:  +(\S.*)| *))$"
        block = re.search(r"(?s)```text\n(.+?)```", section("All flags"))[1]
        for group, flag, meaning, default in re.findall(row, block):
            name = group or name
            if flag:
                default = str(ROOT / "names.txt") if flag == "data" else default
                table.append((name, flag, meaning, default))
        self.assertEqual(shown, table)
        flags = {flag: default for _, flag, _, default in table}
        self.assertEqual(flags, {name: str(x) for name, x in microgpt.DEFAULTS.items()})
        self.assertEqual(microgpt.parse([]), {})
