"""The program as its users meet it: the ways to start it, and what it prints where."""

import contextlib
import gc
import io
import itertools
import math
import os
import re
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from unittest import mock

import microgpt
from microgpt import DEFAULTS, bigram_loss, curve, evaluate
from tests.support import PROGRAM, Folder, command, has_processes, losses, main, run, samples
from tests.support import start

try:
    import pty
except ImportError:  # no terminals to test on
    pty = None

SOURCE = PROGRAM.read_text(encoding="utf-8")
FEW = "emma\nolivia\nava\nzoe\nmax\nkai\n" * 3
TINY = {"num_steps": 2, "n_embd": 2, "n_head": 1, "block_size": 8, "num_samples": 2}
WORDS = [f"--{name}={x}" for name, x in TINY.items()]
LIVE = r"step (.{4}) / (.{4}) \| loss (\S+) \| (\S+) steps/s \| (\S+) left *"


class WithNames(Folder):
    """A test with a few names in a file."""

    def setUp(self):
        super().setUp()
        self.names.write_text(FEW)

    def trained(self, text=FEW, out=None, **flags):
        """Train a tiny model on a text; return the run, and what was printed."""
        self.names.write_bytes(text if isinstance(text, bytes) else text.encode())
        with contextlib.redirect_stdout(out or io.StringIO()) as out:
            run = microgpt.main(data=self.names, **{**TINY, **flags})
        return run, out.getvalue()


class WaysIn(WithNames):
    def execute(self, cells, words, **names):
        """Let another program, started with these words, do what is in some cells."""
        names = {"__name__": "__main__", **names}
        with mock.patch("sys.argv", words), mock.patch("signal.signal"):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                for cell in cells:
                    exec(compile(cell, "<cell>", "exec"), names)
        return names.get("run"), out.getvalue()

    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_in_notebooks_and_consoles_and_through_a_link(self):
        (self.folder / "names.txt").write_text(FEW)
        program, link = str(self.folder / "microgpt.py"), str(self.folder / "link" / "gpt.py")
        os.mkdir(os.path.dirname(link))
        os.symlink(program, link)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        small = SOURCE.replace("\nif __name__", f"\nDEFAULTS.update({TINY})\nif __name__")
        notebook = ["ipykernel_launcher.py", "-f", "kernel.json"]
        for cells, words, names, num_steps in (
            ([small], notebook, {}, 2),
            (re.split(r"(?m)^(?=# %% )", small), notebook, {}, 2),
            ([small], ["console.py", "--strange"], {"__file__": program}, 2),
            ([small], ["x/microgpt.py", "--num_steps=3"], {"__file__": program}, 3),
            ([small], ["gpt.py", "--num_steps=3"], {"__file__": link}, 3),
        ):
            run, out = self.execute(cells, words, **names)
            self.assertIn("docs: 18\n", out)
            self.assertEqual((len(losses(out)), len(samples(out))), (num_steps, 2))
            self.assertEqual(run.optimizer.steps_done, num_steps)

    def test_importing_it_trains_nothing_and_prints_nothing(self):
        found = self.execute([SOURCE], ["x.py"], __name__="microgpt", __file__="microgpt.py")
        self.assertEqual(found, (None, ""))

    @has_processes  # nor are there threads
    def test_in_a_thread_too_it_returns_the_run(self):
        with ThreadPoolExecutor(1) as pool:
            run, _ = pool.submit(self.trained, stream=True, val_fraction=0).result()
        self.assertIs(run.optimizer.parameters, run.model.parameters)
        self.assertEqual((run.optimizer.steps_done, len(run.losses)), (2, 2))
        given = {"data": str(self.names), "stream": True, "val_fraction": 0}
        self.assertEqual(run.flags, {**DEFAULTS, **TINY, **given})
        self.assertTrue(run.complete("em").startswith("em"))

    def test_garbage_collection_is_off_while_it_trains(self):
        def spy(*_):
            seen.append(gc.isenabled())
            raise KeyError

        seen = []
        with mock.patch.object(microgpt, "train_step", spy):
            self.assertRaises(KeyError, self.trained)
        self.assertEqual(seen, [sys.implementation.name != "cpython"])
        self.assertTrue(gc.isenabled())

    def test_missing_names_are_fetched_once(self):
        there = self.folder / "there.txt"
        with mock.patch.multiple(microgpt, NAMES=self.path, NAMES_URL=there.as_uri()):
            self.assertIn(str(self.path), self.error())  # as without a network
            there.write_bytes(b"anna\nbob\n")
            breaking_off = mock.Mock()
            breaking_off.read.side_effect = HTTPException
            with mock.patch("urllib.request.urlopen", return_value=breaking_off):
                self.assertIn(str(self.path), self.error())
            self.error(data=self.folder / "none")  # never fetched
            self.assertFalse(self.path.exists())
            out = main(**TINY)
            self.assertIn(there.as_uri(), out)
            self.assertIn("docs: 2\n", out)
            there.unlink()
            self.assertIn("docs: 2\n", main(**TINY))


class Output(WithNames):
    def test_the_report_has_the_figures_of_the_run(self):
        run, out = self.trained("anna\nbob\nçelik\n美咲\n" * 5, num_steps=3, eval_interval=2)
        # 12 tokens, 8 positions and 12 tokens, and 12 matrices, of 2 by 2
        head = re.findall(r"\d+", out.split("step")[0])
        self.assertEqual(head, ["20", "12", str((12 + 8 + 12) * 2 + 12 * 4)])
        self.assertNotIn(" \n", out)  # nothing is filled up to the width of a terminal
        self.assertEqual(losses(out), [float(f"{loss:.4f}") for loss in run.losses])
        train, val = run.graded
        figures = [evaluate(run.model, train), evaluate(run.model, val)]
        figures += [bigram_loss(run.training, val, 12), math.log(12)]
        bars, grades, *texts = out.splitlines()[-4:]
        self.assertTrue(bars.endswith(curve(run.losses)))
        self.assertEqual(re.findall(r"\d\.\d{4}", grades), [f"{x:.4f}" for x in figures])
        self.assertEqual(len(samples("\n".join(texts))), 2)

    def test_the_curve_goes_from_high_to_low_with_its_ends_in_numbers(self):
        falling = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
        self.assertEqual(curve(falling, 30), "8.00 █▇▆▅▄▃▂▁ 1.00")
        self.assertEqual(curve([4.0, 2.0, 3.0, 1.0], 2), "3.00 █▁ 2.00")
        self.assertEqual(curve([2.0]), "2.00 ▁ 2.00")

    def test_samples_that_are_copies_of_a_document_are_marked(self):
        _, out = self.trained("ab\nba\n", num_samples=60, temperature=1, val_fraction=0.5)
        found = re.findall(r"(?m)^sample +\d+: (\S*)(.*)$", out)
        self.assertEqual({text for text, mark in found if mark}, {"ab", "ba"})  # one is held out
        self.assertFalse({text for text, mark in found if not mark} & {"ab", "ba"})

    def test_documents_that_are_cut_are_counted_and_copies_of_the_rest_are_marked(self):
        for text, cut in (("abc\n", []), ("abcd\n", [("1", "1")]), ("abc\nabcde\n", [("1", "2")])):
            _, out = self.trained(text, num_steps=0, block_size=4, val_fraction=0)
            self.assertEqual(re.findall(r"(?m)^(\d+) of (\d+) ", out), cut)
        _, out = self.trained("abcdefgh\n", num_steps=40, block_size=2, learning_rate=0.1)
        self.assertRegex(out, r"sample  1: ab  \(.+\)\n")

    def test_a_stream_that_repeats_itself_is_learned_and_continued_past_the_context(self):
        text = "\tab\n" * 30
        model = {"n_embd": 8, "block_size": 3, "learning_rate": 0.1, "num_steps": 60}
        how = {"stream": True, "temperature": 0, "prompt": "\ta", "max_new_tokens": 20}
        run, out = self.trained(text, **model, **how)
        self.assertLess(run.losses[-1], 0.05)
        self.assertRegex(out, r"\A.*: 120\n.*: 4\n")  # nothing is stripped
        self.assertRegex(out, rf"sample  1: {text[:22]}  \(.+\)\nsample  2: ")
        self.assertNotIn(" of ", out)  # nor cut

    def test_what_only_looks_bad_works(self):
        flags = {"val_fraction": 0.05, "top_k": 1000, "warmup_steps": 99, "block_size": 2}
        for text in ("ab" * 5000, "a" * 20, "Зоя 美咲 😀👍🏽مريم"):
            for stream in (False, True):
                _, out = self.trained(text, stream=stream, **{**flags, "batch_size": 5})
                self.assertEqual(len(samples(out)), 2)

    def test_byte_order_marks_and_windows_line_ends_are_not_in_the_alphabet(self):
        for encoding, end in itertools.product(("utf-8", "utf-16-le", "utf-16-be"), ("\r\n", "\r")):
            data = f"\ufeffanna{end}bob{end}".encode(encoding)
            for stream, expected in ((False, "abno"), (True, "\nabno")):
                run, _ = self.trained(data, num_steps=0, stream=stream, block_size=2)
                self.assertEqual("".join(run.tokenizer.chars), expected)

    def test_what_an_output_cannot_show_is_written_as_a_code(self):
        self.names.write_text("😀é\n" * 9, encoding="utf-8")
        words = ("--data", self.names, "--prompt", "😀", *WORDS)
        for encoding, shown in (("ascii", r"\U0001f600"), ("utf-8", "😀")):
            status, out, err = command(*words, encoding=encoding)
            self.assertEqual((status, err), (0, ""))
            self.assertIn(f"sample  1: {shown}", out)

    def test_closed_output_is_no_error(self):
        with contextlib.redirect_stdout(None):
            microgpt.main(data=self.names, **TINY)


class Notebook(io.StringIO):
    """The output of a notebook, as far as the name of its module tells."""

    __module__ = "ipykernel.iostream"


class LiveLine(WithNames):
    def shown(self, seconds, columns=80, **flags):
        """Train with so many seconds between one look at the clock and the next."""
        clock = mock.patch("time.perf_counter", itertools.count(1000, seconds).__next__)
        with clock, mock.patch.dict(os.environ, COLUMNS=str(columns)):
            return self.trained(**{"out": Notebook(), **flags})

    def test_it_shows_the_mean_of_fifty_losses_the_speed_and_the_time_left(self):
        run, out = self.shown(2, num_steps=103)
        *shown, last = re.findall(LIVE, out)
        self.assertEqual((len(shown), last), (103, shown[-1]))  # the last one stays
        for step, figures in enumerate(shown, 1):
            recent, seconds = run.losses[max(0, step - 50) : step], 2 * (103 - step)
            loss, left = sum(recent) / len(recent), f"{seconds // 60}:{seconds % 60:02d}"
            self.assertEqual(figures, (f"{step:4d}", " 103", f"{loss:.4f}", "0.5", left))

    def test_it_is_drawn_some_four_times_a_second_and_at_the_end(self):
        for seconds, least, most in ((0.25, 20, 50), (0.02, 2, 6), (1e-9, 0, 0), (0.0, 0, 0)):
            _, out = self.shown(seconds, num_steps=50)
            self.assertTrue(least <= out.count("\r") - 1 <= most, out)
            self.assertRegex(out, r"\rstep   50 /   50 [^\r\n]+\n")

    def test_the_next_line_overwrites_it_and_it_does_not_wrap(self):
        for columns in (80, 20):
            _, out = self.shown(2, columns, num_steps=5, eval_interval=2)
            rows = [line.split("\r") for line in out.split("\n") if "step" in line]
            self.assertEqual([row[-1][:9] for row in rows], ["step    2", "step    4", "step    5"])
            for *before, last in rows:
                self.assertEqual({len(text) for text in before if text}, {columns - 1})
                self.assertGreaterEqual(len(last), columns - 1)
            for *_, last in rows[:2]:
                self.assertRegex(last, r"train loss \d\.\d{4} \| val loss \d\.\d{4} *$")

    def test_an_error_does_not_begin_within_it(self):
        out = Notebook()
        with self.assertRaises(ArithmeticError):
            self.shown(2, out=out, num_steps=99, weight_decay=1e9)
        self.assertRegex(out.getvalue(), r"\rstep[^\n]+\n\Z")


@has_processes
class Processes(WithNames):
    def test_in_an_odd_place_with_options_of_python_it_does_the_same(self):
        folder = self.folder / "-a b %s {x} ' é 美"
        folder.mkdir()
        program, path = folder / "microgpt.py", folder / "model"
        program.write_text(SOURCE, encoding="utf-8")
        words = ("--data", self.names, "--save", path, *WORDS)
        expected = command(*words)
        options = ("-I", "-X", "dev", "-W", "error", "-bb", "-X", "utf8")
        for how in ((*options, program), ("-m", "microgpt")):
            process = start(*how, *words, cwd=folder)
            out, err = process.communicate()
            self.assertEqual((process.returncode, out, err), expected)
        self.assertEqual(len(losses(main(load=path, num_steps=3))), 1)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs a device that is always full")
    def test_output_that_cannot_be_written_is_an_error_in_one_line(self):
        with open("/dev/full", "w") as full:
            status, _, err = run("--data", self.names, *WORDS, stdout=full)
        self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")
        self.assertEqual(status, 2)

    @unittest.skipUnless(pty, "needs a terminal")
    def test_on_a_real_terminal(self):
        code = "import itertools, time, microgpt\n"
        code += "time.perf_counter = itertools.count().__next__\n"  # so that each step is drawn
        code += "microgpt.command()"
        words = ("-c", code, "--data", self.names, *WORDS)
        ours, theirs = pty.openpty()
        process = start(*words, stdout=theirs, env={"COLUMNS": "", "LINES": ""})
        os.close(theirs)
        received = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while data := os.read(ours, 4096):
                received += data
        os.close(ours)
        self.assertEqual((*process.communicate(), process.returncode), (None, "", 0))
        (line,) = re.findall(r"(?m)^.*step.*?(?=\r*\n)", received.decode())
        for part in filter(None, line.split("\r")):
            self.assertRegex(part, f"^{LIVE}$")
        self.assertEqual(len(re.findall(LIVE, line)), 3)  # it doesn't know its width: 0 columns
