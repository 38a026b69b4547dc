import contextlib
import decimal
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
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

import microgpt
from tests.support import PROGRAM, README, ROOT, Folder, call, command, losses, main
from tests.support import run, samples, section, start

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
assert isinstance(sample(run.model, run.tokenizer), str) and run.flags["num_steps"] == 3
"""
IN_ONE_CELL = NOTEBOOK.replace("CELLS", "[source]")
CELL_BY_CELL = NOTEBOOK.replace("CELLS", 'source.replace("\\n# %%", "\\0#").split("\\0")')
SMALL = ("--n_embd", 4, "--n_head", 2, "--block_size", 8, "--num_samples", 2)
TINY = {"n_embd": 2, "n_head": 1, "block_size": 4, "num_samples": 1}
ONE_LINE = r"\Amicrogpt\.py: error: [^\n]+\n\Z"


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


class WithNames(Folder):
    """A test with a folder of its own, and a few names in it."""

    def setUp(self):
        super().setUp()
        self.names.write_text(FEW)

    def printed(self, *flags, text=None):
        """Return what main() prints if trained on a text, or on the few names."""
        if text is not None:
            self.names.write_bytes(text if isinstance(text, bytes) else text.encode())
        return main("--data", self.names, *SMALL, *flags)


class ThreeWaysIn(WithNames):
    def check_notebook(self, code):
        (self.folder / "names.txt").write_text(FEW)
        process = start("-c", code, cwd=self.folder)
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

    def test_importing_it_trains_nothing_and_prints_nothing(self):
        self.assertEqual(start("-c", "import microgpt").communicate(), ("", ""))

    def test_from_python_the_defaults_are_those_of_the_command(self):
        for function in (microgpt.GPT, microgpt.sample, microgpt.demo):
            for name, parameter in inspect.signature(function).parameters.items():
                if name in microgpt.DEFAULTS and parameter.default is not parameter.empty:
                    default = microgpt.DEFAULTS[name]
                    self.assertEqual(parameter.default, default, f"{name} of {function}")

    @unittest.skipIf(sys.platform == "emscripten", "there are no threads in a browser")
    def test_in_a_thread_of_another_program(self):
        flags = {"data": self.names, "num_steps": 2, **TINY}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            thread = threading.Thread(target=microgpt.main, kwargs=flags)
            thread.start()
            thread.join()
        self.assertEqual((len(losses(out.getvalue())), len(samples(out.getvalue()))), (2, 1))

    def test_from_python_mistakes_are_value_errors_in_the_words_of_the_command(self):
        for name, value in (
            ("n_head", 3), ("num_steps", "x"), ("num_steps", -1), ("data", "no.txt"), ("no", 1),
            ("num_step", 20), ("lr_schedule", "square"), ("val_fraction", 1.0), ("load", "none"),
        ):  # fmt: skip
            with self.subTest(name), contextlib.redirect_stdout(io.StringIO()):
                with self.assertRaises(ValueError) as caught:
                    microgpt.main(**{name: value})
                status, _, err = command(f"--{name}={value}")
                self.assertEqual(err, f"microgpt.py: error: {caught.exception}\n")
                self.assertEqual(status, 2)

    def test_from_python_a_value_of_a_wrong_type_is_an_error(self):
        for name, value in (
            ("num_steps", 1.5), ("num_steps", True), ("num_steps", [20]), ("num_steps", b"20"),
            ("learning_rate", True), ("learning_rate", 1j), ("learning_rate", None.__class__),
            ("stream", 1), ("stream", "yes"), ("lr_schedule", ["linear"]), ("lr_schedule", 1),
            ("temperature", math.nan), ("data", 3), ("prompt", True),
            ("n_embd", decimal.Decimal("4.5")),
        ):  # fmt: skip
            self.assertIn(f"--{name}" if name != "data" else "3", self.error(**{name: value}))

    def test_a_flag_that_there_is_not_is_an_error_whatever_its_value(self):
        for value in (None, False, True, 3, "x"):
            self.assertIn("--num_step", self.error(num_step=value))

    def test_none_and_false_are_as_if_not_given(self):
        flags = dict.fromkeys(microgpt.FLAGS)
        self.assertEqual(microgpt.parse([], **flags), {})
        self.assertEqual(microgpt.parse([], stream=False), {})

    def test_numbers_of_other_types(self):
        class Float64(float):
            """As in NumPy, where repr() says more than the number."""

            def __repr__(self):
                return f"np.float64({float(self)})"

            __str__ = float.__repr__

        class Int64(int):
            def __repr__(self):
                return f"np.int64({int(self)})"

            __str__ = int.__repr__

        given = {"learning_rate": decimal.Decimal("0.02"), "weight_decay": Float64(0.1), "seed": 7}
        given.update(num_steps=Int64(2), warmup_steps=decimal.Decimal(1), prompt=Path("a"))
        flags = microgpt.parse([], **given)
        found = {"learning_rate": 0.02, "weight_decay": 0.1, "seed": 7, "num_steps": 2}
        self.assertEqual(flags, {**found, "warmup_steps": 1, "prompt": "a"})
        for name, flag in flags.items():
            self.assertIs(type(flag), type(microgpt.DEFAULTS[name]))
        main(data=self.names, save=self.path, **TINY, **given)
        main(load=self.path, **given)

    def test_it_returns_the_run(self):
        flags = {"data": self.names, "num_steps": 2, "val_fraction": 0, **TINY}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run = microgpt.main(**flags)
        self.assertEqual([float(f"{loss:.4f}") for loss in run.losses], losses(out.getvalue()))
        self.assertIs(run.optimizer.parameters, run.model.parameters)
        self.assertEqual((run.optimizer.steps_done, run.tokenizer.vocab_size), (2, 11))
        flags.update(data=str(self.names), val_fraction=0.0)
        self.assertEqual(run.flags, {**microgpt.DEFAULTS, **flags})
        self.assertTrue(run.complete("em").startswith("em"))

    def test_the_collector_rests_while_it_trains_and_is_given_back(self):
        collecting, evaluate = [], microgpt.evaluate
        flags = {"data": self.names, "num_steps": 2, "eval_interval": 1, "val_fraction": 0, **TINY}

        def spy(*arguments):
            collecting.append(gc.isenabled())
            return evaluate(*arguments)

        self.addCleanup(gc.enable)
        for enable in (gc.enable, gc.disable):
            enable()
            was = gc.isenabled()
            with mock.patch.object(microgpt, "evaluate", spy):
                main(**flags)
            self.assertEqual(gc.isenabled(), was)
            with mock.patch.object(microgpt, "evaluate", side_effect=ZeroDivisionError):
                self.assertRaises(ZeroDivisionError, main, **flags)
            self.assertEqual(gc.isenabled(), was)
        self.assertEqual(collecting[:2], [sys.implementation.name != "cpython", True])

    @unittest.skipUnless(sys.implementation.name == "cpython", "no other one counts")
    def test_memory_does_not_grow(self):
        used, train_step = [], microgpt.train_step

        def spy(*arguments):
            used.append(sys.getallocatedblocks())
            return train_step(*arguments)

        with mock.patch.object(microgpt, "train_step", spy):
            main(data=self.names, num_steps=60, **TINY)
        self.assertLess(max(used[30:]) - max(used[10:30]), 300)

    def test_run_by_a_program_whose_output_is_no_file(self):
        out = io.StringIO()  # as in a notebook's %run
        flags = ("microgpt.py", "--data", self.names, "--num_steps", 2, *SMALL)
        with mock.patch("sys.argv", [*map(str, flags)]), contextlib.redirect_stdout(out):
            with mock.patch("signal.signal"):
                left = runpy.run_path(str(PROGRAM), run_name="__main__")
        self.assertEqual((len(losses(out.getvalue())), len(samples(out.getvalue()))), (2, 2))
        self.assertEqual(left["run"].flags["n_embd"], 4)

    def test_an_editor_that_runs_it_in_a_console_keeps_its_arguments(self):
        source = re.sub(*THREE_STEPS, PROGRAM.read_text(encoding="utf-8"))
        (self.folder / "names.txt").write_text(FEW)
        names = {"__name__": "__main__", "__file__": f"{self.folder}/microgpt.py"}
        with mock.patch("sys.argv", ["console.py", "--strange"]):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, "<cell>", "exec"), names)
        self.assertEqual((len(losses(out.getvalue())), len(samples(out.getvalue()))), (3, 20))

    def test_after_python_i_the_run_is_there(self):
        words = ("--data", self.names, "--num_steps", 2, *SMALL)
        process = start("-i", PROGRAM, *words, stdin=subprocess.PIPE)
        out, err = process.communicate("print('left:', len(run.losses), run.flags['n_embd'])\n")
        self.assertIn("left: 2 4\n", out)
        self.assertNotIn("Error", err)


class NamesTxt(WithNames):
    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_it_is_the_one_beside_the_program_through_a_link_and_from_another_folder(self):
        folder = self.folder / "here"
        folder.mkdir()
        shutil.copy(PROGRAM, folder)
        (folder / "names.txt").write_text("anna\nbob\n")
        link = self.folder / "gpt.py"
        link.symlink_to(folder / "microgpt.py")
        for program in (folder / "microgpt.py", link):
            process = start(program, "--num_steps", 1, *SMALL, cwd=self.folder)
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, ""))
            self.assertTrue(out.startswith("num docs: 2\n"))

    def serve(self, answer):
        """Serve something on this machine; return the list of what is asked for, as it grows."""
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                answer(self)

            def log_message(self, *_):
                pass

        try:
            server = HTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        except (OSError, RuntimeError):
            self.skipTest("no servers or threads here")
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_address[1]}/names.txt"
        self.patch_names(url)
        return asked

    def patch_names(self, url):
        for what in (
            mock.patch.object(microgpt, "NAMES", self.path),
            mock.patch.object(microgpt, "NAMES_URL", url),
            mock.patch.dict(os.environ, no_proxy="127.0.0.1"),
        ):  # fmt: skip
            what.start()
            self.addCleanup(what.stop)

    def test_where_it_is_missing_it_is_fetched_once(self):
        def answer(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(b"anna\nbob\n")

        asked = self.serve(answer)
        few = {"num_steps": 1, **TINY}
        out = main(data=self.names, **few)
        self.assertTrue(out.startswith("num docs: 30\n"))
        self.assertEqual((asked, self.path.exists()), ([], False))
        out = main(**few)
        self.assertIn(microgpt.NAMES_URL, out.split("\n")[0])
        self.assertIn("\nnum docs: 2\n", out)
        self.assertEqual(self.path.read_bytes(), b"anna\nbob\n")
        self.assertTrue(main(**few).startswith("num docs: 2\n"))
        self.assertEqual(asked, ["/names.txt"])

    def test_data_that_is_missing_is_never_fetched(self):
        asked = self.serve(lambda handler: handler.send_error(404))
        self.assertIn("no.txt", self.error(data=self.folder / "no.txt"))
        self.assertEqual(asked, [])

    def test_what_cannot_be_fetched_is_an_error_that_says_what_to_put_where(self):
        def refuse(handler):
            handler.send_error(404)

        def break_off(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"anna\nbo")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a socket that an error leaves open
            for answer in (refuse, break_off, lambda handler: handler.wfile.write(b"no")):
                asked = self.serve(answer)
                self.assertIn(str(self.path), self.error())
                self.assertEqual((len(asked), self.path.exists()), (1, False))
                gc.collect()

    def test_so_it_is_without_a_network(self):
        self.patch_names("http://127.0.0.1:1/names.txt")
        error = self.error()
        self.assertIn(str(self.path), error)
        self.assertIn("UTF-8", error)
        with mock.patch.object(microgpt, "NAMES", self.folder / "none" / "names.txt"):
            self.error()


class Streams(WithNames):
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
        run = microgpt.load(periodic_folder() / "model.json", temperature=0)
        for start_at in range(4):
            for length in (1, 2, 7, 8, 9, 30):
                prompt = ("abcd" * 9)[start_at : start_at + length]
                text = run.complete(prompt)
                self.assertEqual(text, ("abcd" * 12)[start_at : start_at + length + 8])

    def test_without_a_prompt_it_writes_as_after_a_line_end(self):
        for text, first in (("a\tb\n" * 9, "\n"), ("ba" * 9, "a")):
            self.names.write_text(text)
            with contextlib.redirect_stdout(io.StringIO()):
                run = microgpt.main(data=self.names, stream=True, num_steps=0, **TINY)
            with mock.patch.object(run.model, "forward", wraps=run.model.forward) as forward:
                run.complete("")
            self.assertEqual(run.tokenizer.chars[forward.call_args_list[0][0][0]], first)

    def test_any_text_will_do(self):
        flags = ("--stream", "--num_steps", 2, "--prompt", "The ")
        text = f"\t{README[:2000]}\v"  # nothing is stripped
        out = self.printed(*flags, text=text)
        self.assertTrue(out.startswith(f"num chars: {len(text)}\nvocab size: {len(set(text))}\n"))
        self.assertRegex(out, r"(?s)\ntrain loss .*\nsample  1: The .*\nsample  2: The ")


class Output(WithNames):
    TEXT = "anna\nbob\nçelik\n美咲\n" * 5

    def test_a_report_in_a_file_has_a_line_for_each_step_and_then_the_rest(self):
        self.names.write_text(self.TEXT, encoding="utf-8")
        status, out, err = run("--data", self.names, "--num_steps", 3, *SMALL)
        self.assertEqual((status, err), (0, ""))
        number, sample = r"\d+\.\d{4}", r"\S*(  \(in the data\))?"
        lines = [
            "num docs: 20", "vocab size: 12", r"num params: \d+",
            *[rf"step    {i} /    3 \| loss {number}" for i in (1, 2, 3)],
            r"loss curve \d\.\d\d [▁▂▃▄▅▆▇█]{3} \d\.\d\d",
            rf"train loss {number} \| val loss {number} \| bigram table {number} \| ln\(12\) 2.4849",
            f"sample  1: {sample}", f"sample  2: {sample}", "",
        ]  # fmt: skip
        self.assertRegex(out, "^" + "\n".join(lines) + "$")
        self.assertEqual(out, command("--data", self.names, "--num_steps", 3, *SMALL)[1])

    def test_samples_that_are_copies_of_a_document_are_marked_and_no_others(self):
        flags = ("--num_steps", 30, "--num_samples", 30, "--temperature", 1)
        out = self.printed(*flags, text="ab\nba\n" * 9)
        found = re.findall(r"^sample +\d+: (\S*)(  \(in the data\))?$", out, re.M)
        self.assertEqual(len(found), 30)
        for text, mark in found:
            self.assertEqual(bool(mark), text in ("ab", "ba"), text)
        self.assertEqual({bool(mark) for _, mark in found}, {True, False})

    def test_documents_that_are_cut_are_counted_and_copies_of_what_is_left_are_marked(self):
        flags = ("--block_size", 4, "--num_steps", 0, "--val_fraction", 0)
        for text, cut in (("abc\n" * 9, 0), ("abcd\n", 1), ("abc\nabcde\nabcdef\n", 2), (FEW, 10)):
            out = self.printed(*flags, text=text)
            found = re.findall(r"(?m)^(\d+) of (\d+) docs .*block_size 4\b", out)
            self.assertEqual(found, [(str(cut), str(text.count("\n")))] if cut else [])
        self.assertNotIn("cut", self.printed("--stream", *flags))
        self.assertNotIn("cut", main(**{**TINY, "block_size": 16}, num_steps=0))
        flags = ("--block_size", 4, "--num_steps", 60, "--learning_rate", 0.1)
        out = self.printed(*flags, text="abcdefgh\n" * 9)
        self.assertIn("sample  1: abcd  (in the data)\n", out)

    def test_the_curve_goes_from_high_to_low_with_its_ends_in_numbers(self):
        falling = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
        self.assertEqual(microgpt.curve(falling, 30), "8.00 █▇▆▅▄▃▂▁ 1.00")
        self.assertEqual(microgpt.curve([4.0, 2.0, 3.0, 1.0], 2), "3.00 █▁ 2.00")
        self.assertEqual(microgpt.curve([2.0]), "2.00 ▁ 2.00")

    def test_without_steps_or_samples_or_held_out_documents_there_is_less_to_say(self):
        out = self.printed("--num_steps", 0, "--num_samples", 0, "--val_fraction", 0)
        self.assertRegex(out, r"\Anum docs: 30\nvocab .+\nnum params: .+\ntrain loss \d\.\d{4}\n\Z")

    def test_what_only_looks_bad_works(self):
        few = ("--num_steps", 2)
        for text, flags in (
            ("x", ()), ("ab" * 5000, ()), ("ab" * 5000, ("--stream",)),
            ("a" * 9, ("--stream", "--val_fraction", 0)), ("\ufeffanna\r\nbob\r\n", ()),
            ("Зоя\n美咲\n😀👍🏽\nمريم\n", ()), ("Зоя 美咲 😀👍🏽", ("--block_size", 3, "--stream")),
            ("anna", ("--n_layer", 12)), ("anna", ("--top_k", 1000)), ("anna", ("--seed", 0)),
            ("anna", ("--val_fraction", 0.99)), ("anna", ("--warmup_steps", 99)),
            ("anna", ("--batch_size", 5)), ("anna", ("--eval_interval", 1)),
            ("anna", ("--prompt", "nannananna", "--max_new_tokens", 30)),
            ("anna", ("--temperature", 1e-320)), ("anna", ("--temperature", 1e300)),
            ("anna", ("--learning_rate", 0)), ("a" * 20, ("--stream", "--val_fraction", 0.05)),
        ):  # fmt: skip
            with self.subTest(text=text[:20], flags=flags):
                self.assertEqual(len(samples(self.printed(*few, *flags, text=text))), 2)

    def test_marks_and_windows_line_ends_are_not_in_the_alphabet(self):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            text = "\ufeffanna\r\nbob\r\n".encode(encoding)
            self.assertIn("num docs: 2\nvocab size: 5\n", self.printed("--num_steps", 0, text=text))
            out = self.printed("--num_steps", 0, "--stream", "--block_size", 2, text=text)
            self.assertIn("\nvocab size: 5\n", out)

    @unittest.skipUnless(Path("/dev/fd").exists(), "needs a name for a pipe")
    def test_data_from_a_pipe(self):
        ours, theirs = os.pipe()
        os.write(theirs, FEW.encode())
        os.close(theirs)
        out = main("--data", f"/dev/fd/{ours}", "--num_steps", 1, *SMALL)
        os.close(ours)
        self.assertTrue(out.startswith("num docs: 30\n"))

    def test_what_a_terminal_cannot_show_is_written_as_a_code(self):
        self.names.write_text("😀é\n" * 9, encoding="utf-8")
        words = ("--data", self.names, "--num_steps", 3, "--prompt", "😀", *SMALL)
        for encoding in ("ascii", "cp1252"):
            status, out, err = command(*words, encoding=encoding)
            self.assertEqual((status, err), (0, ""))
            self.assertIn("sample  1: \\U0001f600", out)
            self.assertIn("loss curve", out)
        self.assertIn("sample  1: 😀", command(*words)[1])

    def test_nor_does_it_stop_a_run_from_python(self):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with contextlib.redirect_stdout(out):
            microgpt.main(data=self.names, num_steps=3, num_samples=1, n_embd=4)
        text = out.buffer.getvalue().decode("ascii")
        self.assertIn("loss curve", text)
        self.assertIn("sample  1: ", text)

    @unittest.skipUnless(resource, "no limits on the size of a file")
    def test_output_that_cannot_be_written_to_the_end_is_an_error_in_one_line(self):
        flags = ("--data", self.names, "--num_steps", 2, *SMALL)
        lines = run(*flags)[1].splitlines(keepends=True)
        self.assertEqual(len(lines), 9)
        for n in (0, 4, 8):
            most = sum(len(line.encode()) for line in lines[: n + 1]) - 1
            with tempfile.TemporaryFile() as file:
                limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
                process = start(PROGRAM, *flags, stdout=file, preexec_fn=limit)
                err = process.communicate()[1]
            self.assertRegex(err, ONE_LINE)
            self.assertEqual(process.returncode, 2)

    @unittest.skipUnless(Path("/dev/full").exists(), "needs a device that is always full")
    def test_so_is_a_device_that_is_full(self):
        with open("/dev/full", "w") as full:
            process = start(PROGRAM, "--num_steps", 0, "--num_samples", 0, stdout=full)
            err = process.communicate()[1]
        self.assertRegex(err, ONE_LINE)
        self.assertEqual(process.returncode, 2)

    @unittest.skipIf(os.name == "nt", "needs a way to close it")
    def test_closed_output_is_no_error(self):
        few = ("--data", self.names, "--num_steps", 2, *SMALL)
        process = start(PROGRAM, *few, preexec_fn=lambda: os.close(1))
        self.assertEqual((*process.communicate(), process.returncode), ("", "", 0))


class Notebook(io.StringIO):
    """The output of a notebook, as far as the name of its module tells."""

    __module__ = "ipykernel.iostream"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def ticking(seconds):
    """Let so many seconds pass between one look at the clock and the next."""
    clock = itertools.count()
    return mock.patch("time.perf_counter", lambda: seconds * next(clock))


def on_screen(text):
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


class LiveLine(WithNames):
    def shown(self, out, *flags):
        """Return what is printed to such an output."""
        few = ("--data", self.names, "--n_embd", 2, "--n_head", 1, "--num_samples", 1)
        with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, COLUMNS="90"):
            call(*few, "--val_fraction", 0, *flags)
        return out.getvalue()

    def test_there_is_one_in_a_notebook_and_on_a_terminal_and_none_in_a_file(self):
        for out, is_live in ((io.StringIO(), False), (Notebook(), True), (Terminal(), True)):
            with ticking(2.0):
                self.assertIs("\r" in self.shown(out, "--num_steps", 3), is_live)

    def test_it_shows_the_mean_of_fifty_losses_the_speed_and_the_time_left(self):
        found = losses(self.shown(io.StringIO(), "--num_steps", 103))
        with ticking(2.0):
            out = self.shown(Notebook(), "--num_steps", 103)
        shown = re.findall(r"step (.{4}) /  103 \| loss (\S+) \| (\S+) steps/s \| (\S+) left", out)
        self.assertEqual(shown.pop(), shown[-1])  # the last one stays
        self.assertEqual(len(shown), 103)
        parts = [part for part in re.split("[\r\n]", out) if part.startswith("step")]
        self.assertEqual({len(part) for part in parts}, {89})  # so that each hides the last one
        for step, (number, mean, speed, left) in enumerate(shown, 1):
            recent, seconds = found[max(0, step - 50) : step], 2 * (103 - step)
            self.assertEqual((number, speed), (f"{step:4d}", "0.5"))
            self.assertAlmostEqual(float(mean), sum(recent) / len(recent), delta=0.000101)
            self.assertEqual(left, f"{seconds // 60}:{seconds % 60:02d}")

    def test_it_is_drawn_a_few_times_a_second_and_at_the_end(self):
        for seconds, least, most in ((2.0, 100, 100), (0.01, 2, 10), (1e-9, 0, 0)):
            with ticking(seconds):
                out = self.shown(Terminal(), "--num_steps", 100)
            self.assertTrue(least <= out.count("\r") - 1 <= most, out)
            self.assertRegex(out, r"\rstep  100 /  100 [^\r\n]+\nloss curve")

    def test_a_clock_that_stands_still_is_no_error(self):
        with mock.patch("time.perf_counter", lambda: 5.0):
            for out in (io.StringIO(), Notebook()):
                self.shown(out, "--num_steps", 2)

    def test_what_is_printed_over_it_hides_it(self):
        train_step, calls = microgpt.train_step, itertools.count(1)

        def until_ctrl_c(*arguments):
            if next(calls) == 6:
                raise KeyboardInterrupt
            return train_step(*arguments)

        with mock.patch.object(microgpt, "train_step", until_ctrl_c), ticking(2.0):
            out = self.shown(Notebook(), "--num_steps", 9, "--eval_interval", 2)
        lines = on_screen(out)[3:]
        for line, form in zip(lines, (
            r"step    2 /    9 \| lr \S+ \| train loss \d\.\d{4}",
            r"step    4 /    9 \| lr \S+ \| train loss \d\.\d{4}",
            r"step    5 /    9 \| loss \d\.\d{4} \| .* left",
            r"loss curve .*", r"train loss \d\.\d{4}", "sample  1: .*",
        )):  # fmt: skip
            self.assertRegex(line, f"^{form}$")


@unittest.skipUnless(pty and sys.platform != "emscripten", "needs a terminal")
class RealTerminal(WithNames):
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
            out = self.on_terminal("--num_steps", 200, "--n_embd", 16, columns=columns)
            (line,) = (line for line in out.split("\n") if "step" in line)
            shown = [part.rstrip() for part in line.split("\r") if part]
            self.assertGreaterEqual(len(shown), 1 if sys.implementation.name == "pypy" else 2)
            for part in shown:
                form = r"step +\d+ / +200 \| loss \d\.\d{4} \| \d+\.\d steps/s \| \d+:\d\d left"
                self.assertRegex(part, f"^{form}$")
            self.assertRegex(shown[-1], r"^step  200 / .* 0:00 left$")

    def test_an_error_is_not_written_into_the_line_that_is_rewritten(self):
        out = self.on_terminal("--weight_decay", 1e9, "--num_steps", 99, columns=80, status=2)
        self.assertRegex(out, r"\rstep[^\n]+\n\Z")

    def test_losses_on_both_parts_have_a_line_of_their_own_and_a_narrow_one_does_not_wrap(self):
        for columns in (80, 20, 5):
            out = self.on_terminal("--num_steps", 30, "--eval_interval", 15, columns=columns)
            form = r"train loss \d\.\d{4} \| val loss \d\.\d{4}"
            self.assertRegex(out, rf"(\A|[\r\n])step   15 /   30 \| lr 0.00533 \| {form} *\n")
            self.assertRegex(out, rf"\n{form} \| bigram table ")
            live = [part for part in re.split(r"[\r\n]", out) if part.startswith("st")]
            live = [part for part in live if "lr" not in part]
            self.assertTrue(live)
            self.assertTrue(all(len(part) < columns for part in live), live)


class OddPlaces(WithNames):
    def test_with_options_of_python(self):
        words = ("--data", self.names, "--num_steps", 2, *SMALL)
        options = ("-I", "-X", "dev", "-W", "error", "-bb", "-X", "utf8")
        for how in ((*options, PROGRAM), ("-m", "microgpt")):
            process = start(*how, *words)
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, ""))
            self.assertEqual((len(losses(out)), len(samples(out))), (2, 2))

    @unittest.skipIf(os.name == "nt", "not all of them may be in a name there")
    def test_folders_with_strange_names(self):
        for name in ("-a b %s {x} '\"", "é 美\n", "\udcff"):
            folder = self.folder / name
            try:
                folder.mkdir()
            except OSError:  # not every file system takes them
                continue
            shutil.copy(PROGRAM, folder)
            (folder / "names.txt").write_text("anna\nbob\n")
            with self.subTest(repr(name)):
                words = ("--num_steps", 0, *SMALL, "--save", "x")
                process = start(folder / "microgpt.py", *words, cwd=folder)
                self.assertEqual((process.communicate()[1], process.returncode), ("", 0))
                data, path = ("--data", folder / "names.txt"), folder / "x"
                for flags in (("--num_steps", 1, *data), ("--num_steps", 2)):
                    status, out, err = command("--load", path, *flags, "--save", path)
                    self.assertEqual((status, err), (0, ""))
                    self.assertIn("num docs: 2\n", out)

    @unittest.skipIf(os.name == "nt", "needs a way to close it")
    def test_an_error_has_status_2_even_if_it_cannot_be_printed(self):
        process = start(PROGRAM, "--num_steps", "x", preexec_fn=lambda: os.close(2))
        process.communicate()
        self.assertEqual(process.returncode, 2)


class BadArguments(WithNames):
    def test_on_the_command_line_each_is_one_line_on_standard_error_and_status_2(self):
        status, out, err = run("--num_steps", "1.5")
        self.assertRegex(err, ONE_LINE)
        self.assertEqual((status, out), (2, ""))
        for flags in (("--data", "no\nfile"), ("x\ny",), ("--load", ROOT), ("--prompt", "\r\n")):
            status, out, err = command(*flags)
            self.assertRegex(err, ONE_LINE)
            self.assertEqual((status, out), (2, ""))

    def test_numbers_that_are_none_or_out_of_bounds(self):
        counts = ("num_steps", "warmup_steps", "eval_interval", "num_samples", "top_k", "seed")
        sizes = ("n_layer", "n_embd", "n_head", "block_size", "batch_size", "max_new_tokens")
        amounts = ("temperature", "weight_decay", "learning_rate", "val_fraction")
        bad = ("ten", "", "-1", "nan", "inf", "-inf", "0x10", "1,5")
        for names, others in ((counts, ("1.5",)), (sizes, ("0", "1.5")), (amounts, ("1e999",))):
            for name in names:
                for text in (*bad, *others):
                    with self.assertRaisesRegex(ValueError, f"--{name}"):
                        microgpt.parse([f"--{name}={text}"])

    def test_numbers_at_their_bounds_are_right(self):
        for name, number in (
            ("num_steps", 0), ("warmup_steps", 0), ("eval_interval", 0), ("num_samples", 0),
            ("top_k", 0), ("n_layer", 1), ("n_embd", 1), ("n_head", 1), ("block_size", 1),
            ("batch_size", 1), ("max_new_tokens", 1), ("temperature", 0.0), ("weight_decay", 0.0),
            ("learning_rate", 0.0), ("val_fraction", 0.0), ("seed", 0), ("seed", 10**20),
        ):  # fmt: skip
            for flags in ([f"--{name}={number}"], [f"--{name}", f"{number}"]):
                self.assertEqual(microgpt.parse(flags), {name: number})

    def test_flags_choices_and_sizes_that_there_are_not(self):
        for flags in (
            ("--steps", 3), ("--num_step", 3), ("three",), ("--num_steps",), ("--stream", "x"),
            ("--lr_schedule", "square"), ("--n_head", 3), ("--n_embd", 10), ("--load",),
            ("--prompt",), ("--prompt", "-x"), ("--num_steps", 1, 2),
        ):  # fmt: skip
            self.error(*flags)
        self.assertEqual(microgpt.parse(["--prompt=-x"]), {"prompt": "-x"})

    def test_a_part_held_out_that_leaves_nothing_to_train_on(self):
        for fraction in (1, 1.0, 5, 1e300):
            for flags in ((), ("--stream",)):
                error = self.error("--data", self.names, "--val_fraction", fraction, *flags)
                self.assertIn("--val_fraction", error)

    def test_data_that_is_none(self):
        for data in (b"", b" \n\t\n", b"\x00\x01\x02", b"\xff\xfe\xfd", b"\x89PNG\r\n\x1a\n",
                     "anna".encode("utf-16-le"), b"\xff\xfe"):  # fmt: skip
            self.names.write_bytes(data)
            for flags in ((), ("--stream",)):
                self.assertIn(str(self.names), self.error("--data", self.names, *flags))
        for other in (self.folder / "none", self.folder, self.names / "x", os.devnull, ""):
            self.error("--data", other)

    def test_a_text_in_another_encoding_is_to_be_saved_as_utf_8(self):
        self.names.write_bytes("Zoë\nÇelik\n".encode("cp1252"))
        self.assertIn("UTF-8", self.error("--data", self.names))

    def test_a_stream_that_is_shorter_than_a_window(self):
        two = ("--block_size", 2)
        for n, flags, least in ((3, (), 17), (16, (), 17), (17, (), 17), (2, two, 3)):
            self.names.write_text("a" * n)
            error = self.error("--data", self.names, "--stream", *flags)
            self.assertIn("--block_size", error)
            self.assertIn(str(n - n // 10), error)  # a tenth is held out
            self.assertIn(str(least), error)

    def test_unknown_characters_are_all_named_at_once_and_no_long_alphabet(self):
        error = self.error("--data", self.names, "--prompt", "emmÄ!")
        self.assertIn("--prompt", error)
        self.assertIn("'!Ä'", error)
        many = "".join(map(chr, range(0x4E00, 0x4E00 + 600)))
        self.names.write_text(many, encoding="utf-8")
        for prompt in ("x", many[:300].translate({ord(x): ord(x) + 1000 for x in many})):
            error = self.error("--data", self.names, *SMALL, "--prompt", prompt)
            self.assertIn(prompt[:9], error)
            self.assertLess(len(error), 250)

    def test_out_of_memory_is_an_error_of_one_line(self):
        for name, flags in (("GPT", ()), ("load", ("--load", ROOT / "tests" / "checkpoint.json"))):
            with mock.patch.object(microgpt, name, side_effect=MemoryError()):
                status, _, err = command(*flags)
            self.assertRegex(err, ONE_LINE)
            self.assertIn("memory", err)
            self.assertEqual(status, 2)

    def test_whatever_the_words_are_they_are_flags_or_a_value_error(self):
        flags = [f"--{name}" for name in microgpt.FLAGS]
        words = ["1", "0", "-1", "0.5", "1e9", "nan", "x", "", "-", "--", "=", "-x", "--x", "\0",
                 "\udcff", "\n", "%s", "%(prog)s", "{}", "٣", "1_0", " 7 ", "9" * 5000]  # fmt: skip
        outcomes = Counter()
        for seed in range(400):
            rng = random.Random(seed)
            kinds = [flags if rng.random() < 0.4 else words for _ in range(rng.randrange(6))]
            argv = [rng.choice(kind) for kind in kinds]
            argv += [rng.choice(flags) + "=" + rng.choice(words)]
            with self.subTest(argv):
                try:
                    flags_found = microgpt.parse(argv)
                    self.assertEqual(microgpt.parse([], **flags_found), flags_found)
                    outcomes[dict] += 1
                except ValueError:
                    outcomes[ValueError] += 1
        self.assertEqual(len(outcomes), 2)
        self.assertRegex(command("--data", "\udcff\n", "\udcfe")[2], ONE_LINE)

    def test_whatever_the_data_is_it_trains_or_is_a_value_error(self):
        outcomes = Counter()
        for seed in range(100):
            rng = random.Random(seed)
            kinds = range(256), range(128), range(32, 127), b"ab\n", b"\n \r\t"
            data = bytes(rng.choices(rng.choice(kinds), k=rng.randrange(1 + seed)))
            self.names.write_bytes(rng.choice((b"", b"", b"\xff\xfe", b"\xef\xbb\xbf")) + data)
            flags = {**TINY, "stream": rng.random() < 0.5, "block_size": rng.randint(1, 8)}
            with self.subTest(seed):
                try:
                    main(data=self.names, num_steps=1, **flags)
                    outcomes["trained"] += 1
                except ValueError:
                    outcomes["not"] += 1
        self.assertEqual(len(outcomes), 2)

    def test_a_loss_that_runs_away_is_such_an_error_too(self):
        status, out, err = command("--data", self.names, "--learning_rate", "1e300", *SMALL)
        self.assertRegex(err, ONE_LINE)
        self.assertIn("--learning_rate", err)
        self.assertRegex(out, r"step .* \| loss \S+\n\Z")
        self.assertEqual(status, 2)

    def test_help_explains_every_flag_with_its_default_and_so_does_the_readme(self):
        status, out, err = run("--help", env={"COLUMNS": "200"})
        self.assertEqual((status, err), (0, ""))
        form = r"(?m)^  --(\w+)(?: \S+)? +(\S.*) \(default: (.*)\)$"
        shown = re.findall(form, out.replace("\n    ", ""))
        self.assertEqual(len(shown), 22)
        self.assertEqual({name: default for name, _, default in shown},
                         {name: str(x) for name, x in microgpt.DEFAULTS.items()})  # fmt: skip
        self.assertEqual([name for name, _, _ in shown], [*microgpt.FLAGS])
        table = re.search(r"(?s)```text\n(.+?)```", section("All flags"))[1]
        row = r"(?m)^  --(\w+) +\S.*?(?:  +(\S.*)| *)$"
        for (name, default), flag in itertools.zip_longest(re.findall(row, table), microgpt.FLAGS):
            self.assertEqual(name, flag)
            if flag != "data":
                self.assertEqual(default, str(microgpt.DEFAULTS[flag]))
