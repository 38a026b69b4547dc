import contextlib
import io
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import time
import unittest
from collections import Counter
from unittest import mock

import microgpt
from tests.support import PROGRAM, ROOT, Folder, call, main, run, start, the_rest

try:
    import resource
except ImportError:  # no limits on the size of a file
    resource = None

ALL_NAMES = [f"{a}{b}{c}\n" for a in "abcd" for b in "efgh" for c in "ijk"]
NAMES = "".join(ALL_NAMES[::2])  # 24, of all letters
SMALL = ("--n_embd", 4, "--n_head", 2, "--block_size", 6)
DOCUMENTS = (*SMALL, "--batch_size", 2, "--lr_schedule", "cosine", "--warmup_steps", 3)
WINDOWS = (*SMALL, "--stream", "--batch_size", 2, "--weight_decay", 0.1)
OLD = ROOT / "tests" / "checkpoint.json"


def steps(out):
    return re.findall(r"(?m)^step .*\| loss .*", out)


def samples(out):
    return re.findall(r"(?m)^sample .*", out)


def steps_in(path):
    return microgpt.load(path).optimizer.steps_done


def patch(name, function):
    """Let a function of the program be another one."""
    return mock.patch.object(microgpt, name, function)


@contextlib.contextmanager
def states():
    """Collect the texts of the checkpoints that would be written, from that before a step on."""
    found = []
    with patch("save", lambda state, *_, **how: found.append(json.dumps(state, sort_keys=True))):
        yield found


@contextlib.contextmanager
def ctrl_c_at(number, *functions):
    """Press Ctrl-C at a line of these functions: of all that are run, that of this number."""
    codes, count = {function.__code__ for function in functions}, itertools.count()

    def at_line(frame, event, _):
        if event == "line" and next(count) == number:
            raise KeyboardInterrupt
        return at_line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: at_line if frame.f_code in codes else None)
    try:
        yield count
    finally:
        sys.settrace(before)


class Notebook(io.StringIO):
    """The output of a notebook, as far as the name of its module tells."""

    __module__ = "ipykernel.iostream"


class Trained(Folder):
    """A test with some names, and a training that saves."""

    def setUp(self):
        super().setUp()
        self.names.write_text(NAMES)

    def train(self, *flags):
        """Train for two steps or as the flags say, save, and return what was printed."""
        few = ("--num_steps", 2, "--num_samples", 2)
        return main("--data", self.names, *SMALL, *few, "--save", self.path, *flags)


class GoingOn(Trained):
    def test_from_every_step_on_it_is_the_training_that_was_never_stopped(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = ("--data", self.names, "--num_samples", 3, "--num_steps", 9, *mode)
            with states() as saved, patch("evaluate", lambda *_: 1.0):
                whole = main(*flags, "--eval_interval", 1)
            self.assertEqual(len(saved), 10)
            lines = steps(main(*flags))
            self.assertEqual(steps(whole), lines)
            for step, text in enumerate(saved):
                self.path.write_text(text)
                with patch("evaluate", lambda *_: 1.0):
                    rest = main("--load", self.path, "--save", self.path, "--num_samples", 3)
                self.assertEqual(steps(rest), lines[step:])
                self.assertEqual(samples(rest), samples(whole))
                self.assertEqual(self.path.read_text(), saved[-1])

    def test_lines_go_on_from_the_step_that_was_reached_to_the_planned_end(self):
        self.train()
        again = self.train("--load", self.path, "--num_steps", 4)
        heads = [line[:16] for line in steps(again)]
        self.assertEqual(heads, ["step    3 /    4", "step    4 /    4"])

    def test_flags_that_are_not_given_are_those_of_the_checkpoint_and_those_given_win(self):
        self.train("--learning_rate", 0.5, "--warmup_steps", 7, "--lr_schedule", "constant")
        names = ("learning_rate", "warmup_steps", "n_embd", "lr_schedule", "num_steps")
        flags = microgpt.load(self.path).flags
        self.assertEqual([flags[name] for name in names], [0.5, 7, 4, "constant", 2])
        flags = microgpt.load(self.path, learning_rate=0.1, num_steps=3, seed=None).flags
        self.assertEqual([flags[name] for name in names], [0.1, 7, 4, "constant", 3])

    def test_another_weight_decay_is_that_of_the_steps_to_come(self):
        self.train("--weight_decay", 0.5)
        for flags, decay in (((), 0.5), (("--weight_decay", 0.1), 0.1)):
            with contextlib.redirect_stdout(io.StringIO()):
                run = call("--load", self.path, "--num_steps", 3, "--num_samples", 0, *flags)
            self.assertEqual(run.optimizer.weight_decay, decay)

    def test_from_an_untrained_model_on_it_is_the_whole_training(self):
        whole = self.train()
        self.train("--num_steps", 0)
        self.assertEqual(steps_in(self.path), 0)
        self.assertEqual(self.train("--load", self.path, "--num_steps", 2), whole)

    def test_where_no_step_is_left_it_says_so_reads_no_data_and_changes_nothing(self):
        self.train()
        before = self.path.read_text()
        self.names.unlink()
        for flags in ((), ("--num_steps", 0), ("--data", self.folder / "none"), ("--num_steps", 1)):
            out = main("--load", self.path, *flags)
            self.assertIn("no steps left", out.split("\n")[0])
            self.assertIn("\nvocab size: 12\n", out)
            self.assertEqual((len(samples(out)), steps(out)), (20, []))
            self.assertNotIn(" loss ", out)
        main("--load", self.path, "--save", self.path)
        self.assertEqual(self.path.read_text(), before)

    def test_another_seed_gives_other_samples_but_holds_out_the_same_documents(self):
        self.train("--val_fraction", 0.5)
        flags = ("--load", self.path, "--num_steps", 3)
        first, same, other, again = (main(*flags, "--seed", seed) for seed in (42, 42, 7, 7))
        self.assertEqual((first, other), (same, again))
        self.assertNotEqual(samples(first), samples(other))
        self.assertEqual(first[: first.index("sample")], other[: other.index("sample")])

    def test_a_prompt_is_completed(self):
        self.train()
        flags = ("--load", self.path, "--prompt", "ae", "--num_samples", 2, "--max_new_tokens", 9)
        out = main(*flags, "--temperature", 0)
        self.assertRegex(out, r"\nsample  1: ae\w{0,9}\nsample  2: ae\w{0,9}\n\Z")
        self.assertEqual(samples(main(*flags, "--temperature", 1, "--top_k", 1)), samples(out))

    def test_a_model_of_twelve_layers_goes_through_a_file(self):
        self.train("--n_layer", 12, "--num_steps", 0)
        self.assertEqual(microgpt.load(str(self.path)).model.n_layer, 12)


class Data(Trained):
    def test_it_goes_on_with_the_data_it_had(self):
        self.train()
        out = main("--load", self.path, "--num_steps", 3)
        self.assertTrue(out.startswith("num docs: 24\n"))
        others = self.folder / "others"
        others.write_text("abc\n" * 5)
        out = main("--load", self.path, "--num_steps", 3, "--data", others, "--save", self.path)
        self.assertTrue(out.startswith("num docs: 5\n"))
        self.assertTrue(main("--load", self.path, "--num_steps", 4).startswith("num docs: 5\n"))

    def test_from_another_folder_too(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.train("--data", "names")
        os.chdir(ROOT)
        self.assertTrue(main("--load", self.path, "--num_steps", 3).startswith("num docs: 24\n"))

    def test_if_it_is_gone_the_error_names_it(self):
        self.train()
        self.names.unlink()
        self.assertIn(str(self.names), self.error("--load", self.path, "--num_steps", 3))

    def test_the_names_that_come_with_the_program_are_not_stored(self):
        with mock.patch.object(microgpt, "NAMES", self.names):
            main(*SMALL, "--num_steps", 1, "--save", self.path)
        self.assertNotIn(str(self.folder), self.path.read_text())
        others = self.folder / "elsewhere"
        self.names.rename(others)
        with mock.patch.object(microgpt, "NAMES", others):
            out = main("--load", self.path, "--num_steps", 2)
        self.assertTrue(out.startswith("num docs: 24\n"))


class EarlierVersions(Trained):
    """checkpoint.json was saved after 5 steps by an earlier version of this program.

    The figures are those that it printed when it went on to step 9.
    """

    def test_a_checkpoint_of_an_earlier_version_goes_on_with_its_losses_and_samples(self):
        self.names.write_text("".join(ALL_NAMES))
        flags = ("--load", OLD, "--num_steps", 9, "--num_samples", 3)
        out = main(*flags, "--data", self.names)
        losses = [line[-6:] for line in steps(out)]
        self.assertEqual(losses, ["2.4390", "2.4906", "2.3381", "2.3867"])
        self.assertIn(" | val loss 2.4112 | bigram table 1.4728 | ln(12) 2.4849\n", out)
        self.assertEqual(samples(out), ["sample  1: abfk", "sample  2: cgf", "sample  3: f"])
        with mock.patch.object(microgpt, "NAMES", self.names):
            self.assertEqual(main(*flags), out)

    def test_it_is_saved_as_it_was(self):
        main("--load", OLD, "--save", self.path)
        self.assertEqual(self.path.read_bytes(), OLD.read_bytes())


class HeldOut(Trained):
    def spied(self, *flags):
        """Return what training saw, what evaluations saw, and what was printed."""
        trained, evaluated = [], []
        step, evaluate = microgpt.train_step, microgpt.evaluate

        def train_step(model, optimizer, batch, learning_rate):
            trained.extend(batch)
            return step(model, optimizer, batch, learning_rate)

        spy = patch("evaluate", lambda *args: evaluated.append(args[1]) or evaluate(*args))
        with spy, patch("train_step", train_step):
            out = main("--data", self.names, *SMALL, "--num_samples", 1, *flags)
        return trained, evaluated, out

    def test_documents_that_are_held_out_are_never_trained_on_and_always_the_same(self):
        trained, evaluated, _ = self.spied("--num_steps", 50, "--eval_interval", 20)
        self.assertEqual(len(evaluated), 6)
        self.assertEqual(evaluated[:2], evaluated[2:4])
        self.assertEqual(evaluated[:2], evaluated[4:])
        trained, graded, held_out = (set(map(tuple, x)) for x in (trained, *evaluated[:2]))
        self.assertEqual((len(trained), len(held_out)), (22, 2))
        self.assertFalse(trained & held_out)
        self.assertEqual(trained, graded)

    def test_of_a_stream_the_tail_is_held_out(self):
        text = [chr(0x4E00 + i) for i in range(100)]  # each character tells its place
        self.names.write_text("".join(text), encoding="utf-8")
        trained, evaluated, _ = self.spied("--stream", "--num_steps", 20, "--batch_size", 5)
        self.assertEqual({len(window) for window in trained}, {7})
        places = {token for window in trained for token in window}
        self.assertLessEqual(places, set(range(90)))
        self.assertGreater(len(places), 80)
        for windows, places in zip(evaluated, (range(89), range(90, 99))):
            pairs = [pair for window in windows for pair in zip(window, window[1:])]
            self.assertEqual(pairs, [(i, i + 1) for i in places])

    def test_two_hundred_documents_or_windows_or_some_3400_tokens_are_enough(self):
        tiny = ("--num_steps", 0, "--n_embd", 2, "--n_head", 1, "--val_fraction", 0.5)
        for text, size, kind, found in (
            ("ab\n" * 900, 6, (), 200), ("ab\n" * 900, 6, ("--stream",), 200),
            ("ab" * 4000, 64, ("--stream",), None), (("ab" * 60 + "\n") * 120, 64, (), None),
            ("ab" * 4000, 3999, ("--stream",), 1),
        ):  # fmt: skip
            self.names.write_text(text)
            with patch("evaluate", lambda model, part: graded.append(part) or 1.0):
                graded = []
                main("--data", self.names, *tiny, "--block_size", size, *kind, "--num_samples", 0)
            for part in graded:
                if found:
                    self.assertEqual(len(part), found)
                else:
                    self.assertTrue(3000 < sum(map(len, part)) < 3500)
                    self.assertEqual(len(part[0]), size + 1)

    def test_the_figures_are_the_mean_losses_of_a_prediction(self):
        docs = ["ab", "abcabcabcabc"] * 40  # longer than the context too
        self.names.write_text("\n".join(docs))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run = call(*SMALL, "--num_steps", 2, "--data", self.names)
        random.Random(42).shuffle(docs)
        examples = [run.tokenizer.encode(doc) for doc in docs]
        means = []
        for part in examples[:72], examples[72:]:
            found = [x.data for tokens in part for x in run.model.losses(tokens[:7])]
            means.append(sum(found) / len(found))
        bigrams = microgpt.bigram_loss(examples[:72], [tokens[:7] for tokens in examples[72:]], 4)
        losses = f"train loss {means[0]:.4f} | val loss {means[1]:.4f}"
        yardsticks = f"bigram table {bigrams:.4f} | ln(4) {math.log(4):.4f}\n"
        self.assertIn(f"\n{losses} | {yardsticks}", out.getvalue())

    def test_taking_it_changes_nothing_about_the_training_that_follows(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = ("--data", self.names, "--num_steps", 12, *mode)
            plain, watched = main(*flags), main(*flags, "--eval_interval", 5)
            form = r"step +(\d+) / +12 \| lr \S+ \| train loss \d+\.\d{4} \| val loss \d+\.\d{4}\n"
            self.assertEqual(re.findall(form, watched), ["5", "10"])
            self.assertEqual(re.sub(form, "", watched), plain)

    def test_it_is_taken_once_at_the_last_step_and_says_the_rate_of_the_step_before_it(self):
        flags = ("--num_steps", 4, "--eval_interval", 2, "--val_fraction", 0, "--warmup_steps", 1)
        _, evaluated, out = self.spied(*flags, "--learning_rate", 0.001)
        self.assertEqual(len(evaluated), 2)
        # a warm-up of one step to half the rate; then 1, 2/3 and 1/3 of it
        self.assertRegex(out, r"\nstep    2 /    4 \| lr 0.00100 \| train loss \d\.\d{4}\n")
        self.assertRegex(out, r"\ntrain loss \d\.\d{4}\nsample  1: ")
        flags = ("--num_steps", 4, "--eval_interval", 3, "--lr_schedule", "constant")
        out = self.spied(*flags, "--learning_rate", 3e-6)[2]
        self.assertIn("\nstep    3 /    4 | lr 3.00e-06 | train loss ", out)


class NothingLost(Trained):
    """Whatever ends a training, what was trained is saved, and goes on to the last bit."""

    def reference(self, *flags):
        """Return the checkpoints of a training that nothing ends, one for each step from 0 on."""
        flags = ("--data", self.names, *flags, "--num_samples", 0)
        with states() as saved, patch("evaluate", lambda *_: 1.0):
            main(*flags, "--eval_interval", 1)
        return [text.replace('"eval_interval": 1', '"eval_interval": 0') for text in saved]

    def assert_is_step(self, reached, *flags):
        """The checkpoint is what the first steps of 9999 have led to, however they were ended."""
        train_step = microgpt.train_step

        def and_no_further(model, optimizer, *others):
            if optimizer.steps_done == reached:
                raise KeyboardInterrupt
            return train_step(model, optimizer, *others)

        with patch("train_step", and_no_further), patch("evaluate", lambda *_: 1.0):
            self.train(*flags, "--num_steps", 9999, "--save", self.folder / "first")
        self.assertEqual(self.path.read_text(), (self.folder / "first").read_text())

    def test_ctrl_c_at_any_line_of_the_training(self):
        quickly = mock.patch("os.fsync", lambda _: None)
        quickly.start()
        self.addCleanup(quickly.stop)
        inner = microgpt.train_step, microgpt.Run.batch, microgpt.Run.state, microgpt.Run.grade
        inner += microgpt.Adam.step, microgpt.AdamW.step, microgpt.GPT.losses, microgpt.GPT.forward
        for mode, functions, times, kind in (
            (DOCUMENTS, (microgpt.train,), 99, io.StringIO), (DOCUMENTS, inner, 15, io.StringIO),
            (DOCUMENTS, (microgpt.train,), 99, Notebook), (WINDOWS, inner, 15, io.StringIO),
        ):  # fmt: skip
            flags = (*mode, "--n_embd", 2, "--n_head", 1, "--block_size", 2, "--batch_size", 1)
            flags += ("--num_steps", 3, "--val_fraction", 0)
            reference = self.reference(*flags)
            flags = ("--data", self.names, *flags, "--num_samples", 0, "--save", self.path)
            with ctrl_c_at(-1, *functions) as count:
                main(*flags)
            ended, rng, number = 0, random.Random(0), next(count)
            for place in sorted(rng.sample(range(number), min(number, times))):
                out = kind()
                try:
                    with ctrl_c_at(place, *functions), contextlib.redirect_stdout(out):
                        run = call(*flags)
                except KeyboardInterrupt:  # just before or after the training
                    ended += 1
                    self.assertIn(self.path.read_text(), reference)
                else:
                    text = self.path.read_text()
                    reached = reference.index(text)
                    self.assertGreaterEqual(reached, len(steps(out.getvalue())), place)
                    self.assertEqual(json.dumps(run.state(), sort_keys=True), text)
            self.assertLess(ended, 15)

    def test_ctrl_c_and_kill_while_it_is_saved(self):
        fsync, train_step = os.fsync, microgpt.train_step
        both = (KeyboardInterrupt, SystemExit)
        for last, ends in ((4, both[:1]), (9, both[:1]), (9, both[1:])):
            rest = iter([None, *ends])  # the first place is tried before the training

            def ended(model, optimizer, *others):
                if optimizer.steps_done == last:  # by a first Ctrl-C
                    raise KeyboardInterrupt
                return train_step(model, optimizer, *others)

            def pressed(file):
                end = next(rest, None)
                if end:
                    raise end
                fsync(file)

            with patch("train_step", ended), mock.patch("os.fsync", pressed):
                with self.assertRaises(both):
                    self.train(*DOCUMENTS, "--num_steps", 9)
            self.assertEqual(steps_in(self.path), last)
            self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])
            self.path.unlink()

    def test_an_error_of_any_kind_in_a_step(self):
        train_step = microgpt.train_step
        for error in (MemoryError, ZeroDivisionError, SystemExit, KeyboardInterrupt):
            calls = itertools.count(1)

            def failing(model, *others):
                loss = train_step(model, *others)
                if next(calls) == 4:
                    raise error
                return loss

            with patch("train_step", failing), contextlib.redirect_stdout(io.StringIO()) as out:
                is_end = error is KeyboardInterrupt  # of the training, not of the program
                expected = contextlib.nullcontext() if is_end else self.assertRaises(error)
                with expected:
                    call("--data", self.names, *DOCUMENTS, "--num_steps", 9999, "--save", self.path)
            self.assertEqual("sample 20" in out.getvalue(), is_end)
            self.assertEqual(steps_in(self.path), 3)
            self.assert_is_step(3, *DOCUMENTS)

    def test_an_output_that_fails(self):
        class Full(io.StringIO):
            def write(self, text):
                if text.startswith("step    5"):
                    raise OSError(28, "No space left on device")
                return super().write(text)

        for mode in (DOCUMENTS, WINDOWS):
            with self.assertRaisesRegex(OSError, "No space"), contextlib.redirect_stdout(Full()):
                call("--data", self.names, "--num_steps", 9999, *mode, "--save", self.path)
            self.assertEqual(steps_in(self.path), 5)
            self.assert_is_step(5, *mode)

    def test_an_error_while_the_losses_are_taken(self):
        for mode in (DOCUMENTS, WINDOWS):
            with patch("evaluate", mock.Mock(side_effect=ZeroDivisionError)):
                with self.assertRaises(ZeroDivisionError):
                    self.train(*mode, "--num_steps", 9999, "--eval_interval", 4)
            self.assertEqual(steps_in(self.path), 4)
            self.assert_is_step(4, *mode, "--eval_interval", 4)

    def test_a_reader_that_goes(self):
        flags = ("--data", self.names, "--num_steps", 9999, *WINDOWS, "--save", self.path)
        process = start(PROGRAM, *flags)
        for _ in range(9):  # lines that arrive while it trains
            process.stdout.readline()
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait()), ("", 1))
        process.stderr.close()
        self.assertGreaterEqual(steps_in(self.path), 6)
        self.assert_is_step(steps_in(self.path), *WINDOWS)

    @unittest.skipIf(os.name == "nt", "Windows has no such signals to send")
    def test_ctrl_c_and_kill(self):
        for mode in (DOCUMENTS, WINDOWS):
            for number in (signal.SIGINT, signal.SIGTERM):
                flags = ("--data", self.names, "--num_steps", 9999, *mode, "--save", self.path)
                process = start(PROGRAM, *flags)
                while not process.stdout.readline().startswith("step    9 "):
                    self.assertIsNone(process.poll())
                process.send_signal(number)
                out, err = the_rest(process)
                is_end = number == signal.SIGTERM
                self.assertEqual((process.returncode, err), (143 if is_end else 0, ""))
                form = r"(?ms)^saved [^\n]+\nloss curve [^\n]+\ntrain loss .+^sample 20: "
                self.assertEqual(bool(re.search(form, out)), not is_end, out[-999:])
                reached = steps_in(self.path)
                self.assertGreaterEqual(reached, 9 + len(steps(out)))
                self.assert_is_step(reached, *mode)

    @unittest.skipIf(os.name == "nt", "Windows has no SIGINT to send")
    def test_the_second_ctrl_c_ends_the_program_after_that(self):
        process = start(PROGRAM, "--num_steps", 9999, "--save", self.path)
        while not process.stdout.readline().startswith("step    3 "):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        while not process.stdout.readline().startswith("saved"):  # grading takes some time
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        out, err = the_rest(process)
        self.assertEqual((process.returncode, err), (130, ""))
        self.assertNotIn("sample", out)
        self.assertGreaterEqual(steps_in(self.path), 3)

    @unittest.skipIf(os.name == "nt", "needs kill -9")
    def test_killed_at_any_moment_while_saving_at_every_step_it_leaves_a_whole_file(self):
        flags = ("--data", self.names, "--num_steps", 10**6, "--val_fraction", 0, *SMALL)
        flags += ("--eval_interval", 1)
        rng, last = random.Random(0), 0
        for _ in range(5):
            load = ("--load", self.path) if self.path.exists() else ()
            process = start(PROGRAM, *flags, *load, "--save", self.path)
            for _ in range(6):  # of counts, and of steps and losses: the first is saved by then
                process.stdout.readline()
            time.sleep(rng.random() / 20)
            process.kill()
            process.communicate()
            step = steps_in(self.path)
            self.assertGreater(step, last)
            last = step
        left = {name for name in os.listdir(self.folder) if not name.endswith(".tmp")}
        self.assertEqual(left, {"model.json", "names"})

    def test_three_runs_that_save_to_one_file_leave_it_whole(self):
        self.train()
        flags = ("--load", self.path, "--num_steps", 12, "--eval_interval", 1)
        processes = [start(PROGRAM, *flags, "--save", self.path) for _ in range(3)]
        while any(process.poll() is None for process in processes):
            self.assertGreaterEqual(steps_in(self.path), 2)
        for process in processes:
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, ""))
        self.assertEqual(steps_in(self.path), 12)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    @unittest.skipUnless(resource, "no limits on the size of a file")
    def test_where_a_file_cannot_grow_the_old_one_is_untouched(self):
        self.train()
        before = self.path.read_bytes()
        status, out, err = run(
            "--load", self.path, "--save", self.path, "--num_steps", 4,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )  # fmt: skip
        self.assertEqual(status, 2)
        self.assertRegex(err, r"\Amicrogpt\.py: error: cannot save [^\n]*large[^\n]*\n\Z")
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_a_model_that_has_diverged_is_an_error_and_never_in_a_file(self):
        growing = ("--weight_decay", 1e9, "--num_steps", 99, "--eval_interval", 1)
        with self.assertRaisesRegex(FloatingPointError, "--learning_rate"):
            self.train(*growing)
        self.assertGreater(steps_in(self.path), 0)
        for rate in (1e300, 1e200, 1e153, 1e120, 1e100, 1e80):
            self.path.unlink(missing_ok=True)
            with self.assertRaisesRegex(ArithmeticError, "--learning_rate"):
                self.train("--learning_rate", rate, "--num_steps", 9)
            if self.path.exists():
                steps_in(self.path)
        self.path.unlink(missing_ok=True)
        with self.assertRaises((ValueError, ArithmeticError)):
            self.train("--learning_rate", 1e300, "--weight_decay", 1e300, "--num_steps", 1)
        self.assertEqual(os.listdir(self.folder), ["names"])


class Saving(Trained):
    @unittest.skipIf(sys.platform == "emscripten", "a file in a browser may have any name")
    def test_what_cannot_be_written_is_found_out_before_training(self):
        self.assertTrue(os.path.exists(os.devnull))
        paths = [self.names / "x", self.folder / "none" / "x", "x" * 300, "", "x\0", self.folder]
        paths += [os.devnull] + ["/proc/x.json"] * os.path.isdir("/proc/1")
        for path in paths:
            self.error("--data", self.names, *SMALL, "--save", path)
        self.assertTrue(os.path.exists(os.devnull))
        self.assertEqual(os.listdir(self.folder), ["names"])

    def test_the_file_is_named(self):
        for path in (self.folder / "none" / "x", self.folder):
            self.assertIn(str(path), self.error("--data", self.names, *SMALL, "--save", path))

    def test_it_is_said_right_after_it_and_without_steps_too(self):
        saved = rf"\nsaved {re.escape(str(self.path))}"
        out = self.train("--eval_interval", 1)
        self.assertRegex(out, rf"\nstep    2 [^\n]+{saved}\nloss curve [^\n]+\ntrain loss ")
        self.assertEqual(out.count("saved"), 1)
        before = self.path.read_text()
        self.path.unlink()
        self.assertRegex(self.train("--num_steps", 0), rf"{saved}\ntrain loss ")
        self.assertEqual(steps_in(self.path), 0)
        self.path.write_text(before)
        copy = self.folder / "copy"
        out = main("--load", self.path, "--save", copy, "--num_samples", 2)
        self.assertIn(f"\nsaved {copy}\nsample  1: ", out)
        self.assertEqual(copy.read_text(), before)
        self.assertNotIn("saved", main("--load", self.path))

    def test_a_file_that_holds_something_else_is_not_written_over(self):
        link, program = self.folder / "link", self.folder / "microgpt.py"
        program.write_bytes(PROGRAM.read_bytes())
        others = [self.names, program, self.folder / ".." / self.folder.name / "names"]
        if os.name != "nt":
            link.symlink_to(self.names)
            others.append(link)
        for text in ("mine", "", '{"char":0}', "\ufeff{}", "é"):
            others.append(self.folder / f"{len(others)}")
            others[-1].write_text(text, encoding="utf-8")
        others.append(self.folder / "bytes")
        others[-1].write_bytes(b"\xff\xfe\0")
        before = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        for path in others:
            error = self.error("--data", self.names, *SMALL, "--save", path)
            self.assertIn(str(path), error)
        self.assertEqual({path.name: path.read_bytes() for path in self.folder.iterdir()}, before)

    def test_a_checkpoint_is_written_over_and_no_other_file_is_touched(self):
        others = [self.folder / f"{name}.tmp" for name in ("model.json", "model", ".model.json")]
        for other in others:
            other.write_text("mine")
        self.train("--num_steps", 1)
        self.train()
        self.assertEqual(steps_in(self.path), 2)
        self.assertEqual([other.read_text() for other in others], ["mine"] * 3)
        self.assertEqual(len(os.listdir(self.folder)), 5)

    def test_nothing_is_written_where_an_argument_or_the_data_is_wrong(self):
        self.path.write_text("old")
        for flags in (("--n_head", 3), ("--data", self.folder / "none"), ("--prompt", "xyz")):
            self.error("--data", self.names, "--save", self.path, *flags)
        self.assertEqual(self.path.read_text(), "old")
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_a_crash_before_the_file_is_in_its_place_leaves_the_old_one(self):
        self.train()
        before = self.path.read_text()
        with mock.patch("os.replace", side_effect=SystemError("crash")):
            with self.assertRaisesRegex(SystemError, "crash"):
                self.train("--num_steps", 1)
        self.assertEqual(self.path.read_text(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_through_a_link_and_with_the_usual_rights(self):
        link, plain = self.folder / "link", self.folder / "plain"
        link.symlink_to(self.path)
        plain.touch()
        self.train("--save", link)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.stat().st_mode, plain.stat().st_mode)
        self.path.chmod(0o600)
        self.train("--save", link, "--num_steps", 1)
        self.assertTrue(link.is_symlink())
        self.assertEqual(steps_in(self.path), 1)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)


class Loading(Trained):
    def setUp(self):
        super().setUp()
        self.train("--n_embd", 2, "--n_head", 1, "--block_size", 1, "--val_fraction", 0.9)
        self.good = json.loads(self.path.read_text())

    def rejected(self, text):
        self.path.write_text(text if isinstance(text, str) else json.dumps(text))
        self.assertIn(str(self.path), self.error("--load", self.path))

    def test_it_holds_the_format_the_shape_the_weights_and_what_going_on_needs(self):
        good = self.good
        self.assertEqual((good["format"], good["version"]), ("microgpt checkpoint", 1))
        self.assertEqual((good["chars"], good["step"]), ("abcdefghijk", 2))
        others = {"save", "load", "prompt", "num_samples", "temperature", "top_k", "max_new_tokens"}
        self.assertEqual(good["flags"].keys(), microgpt.DEFAULTS.keys() - others)
        self.assertEqual(good["flags"].pop("data"), str(self.names))
        for name, flag in good["flags"].items():
            self.assertIs(type(flag), type(microgpt.DEFAULTS[name]), name)
        model = microgpt.load(self.path).model
        for name, matrix in model.state_dict.items():
            self.assertEqual([[p.data for p in row] for row in matrix], good["weights"][name])
        self.assertEqual(len(good["means"]), len(model.parameters))
        self.assertEqual(len(good["squares"]), len(model.parameters))

    def test_what_is_not_a_file_with_a_checkpoint_is_rejected(self):
        text = self.path.read_text()
        for other in ("", "hello", "[]", "{}", "null", "3", '"x"', text + "x",
                      *[text[: len(text) * i // 20] for i in range(20)]):  # fmt: skip
            self.rejected(other)
        self.path.unlink()
        self.assertIn(str(self.path), self.error("--load", self.path))
        self.assertIn(str(self.folder), self.error("--load", self.folder))
        self.path.write_bytes(b"\xff\xfe{}")
        self.assertIn(str(self.path), self.error("--load", self.path))

    @unittest.skipIf(sys.platform == "emscripten", "json overflows the stack")
    def test_so_is_what_is_nested_too_deeply(self):
        self.rejected("[" * 10**5)

    def test_so_is_another_version(self):
        for version in (2, 0, "1", None, 1.5):
            self.rejected({**self.good, "version": version})

    def test_so_is_one_with_a_part_too_many_or_too_few(self):
        self.rejected({**self.good, "more": 1})
        for name in self.good:
            self.rejected({part: self.good[part] for part in self.good if part != name})

    def test_too_little_memory_is_called_that(self):
        with mock.patch("json.loads", side_effect=MemoryError):
            self.assertIn("memory", self.error("--load", self.path))

    def test_the_order_of_its_parts_and_the_space_between_them_do_not_matter(self):
        self.path.write_text(json.dumps(dict(reversed([*self.good.items()])), indent=1))
        main("--load", self.path, "--save", self.folder / "copy")
        self.assertEqual(json.loads((self.folder / "copy").read_text()), self.good)

    def test_a_flag_that_is_unknown_or_missing_is_no_damage(self):
        flags = {"more": [1], **self.good["flags"]}
        for name in ("seed", "batch_size", "lr_schedule", "val_fraction", "data", "num_steps"):
            del flags[name]
            self.path.write_text(json.dumps({**self.good, "flags": flags}))
            default = microgpt.DEFAULTS[name]
            self.assertEqual(microgpt.load(self.path).flags[name], default)
        main("--load", self.path, "--save", self.folder / "copy", "--num_steps", 0)
        self.assertNotIn("more", (self.folder / "copy").read_text())

    def test_flags_beside_it_are_checked(self):
        for flags in ({"num_step": 3}, {"num_step": None}, {"num_steps": "x"}, {"n_head": 0}):
            with self.assertRaisesRegex(ValueError, f"--{[*flags][0]}"):
                microgpt.load(self.path, **flags)

    def test_nothing_in_it_is_trusted(self):
        junk = (None, True, "x", "1", -1, 1.5, math.nan, -math.inf, 10**400, [], {})

        def places(part):
            """Every place in a dictionary, and the first and last of a list, at any depth."""
            keys = list(part) if isinstance(part, dict) else [0, len(part) - 1]
            for key in keys:
                yield part, key
                if isinstance(part[key], (dict, list)):
                    yield from places(part[key])

        tried = 0
        for part, key in places(self.good):
            kept = part[key]
            for other in junk:
                if other == 1.5 and isinstance(kept, float):
                    continue
                part[key] = other
                self.path.write_text(json.dumps(self.good))
                with self.subTest(key=key, other=f"{other}"[:9]):
                    if part is self.good["flags"] or key == "flags":  # or it is right, as a flag
                        with contextlib.suppress(ValueError):
                            flags = microgpt.load(self.path).flags
                            self.assertIs(type(flags.pop("data") or ""), str)
                            for name, flag in flags.items():
                                self.assertIs(type(flag), type(microgpt.DEFAULTS[name]))
                    elif (key, other) != ("step", 10**400):  # there may be that many
                        self.assertRaises(ValueError, microgpt.load, self.path)
                tried += 1
            part[key] = kept
        self.assertGreater(tried, 600)

    def test_whatever_the_damage_is_it_is_read_or_a_value_error(self):
        text, outcomes = json.dumps(self.good), Counter()
        for seed in range(200):
            rng = random.Random(seed)
            start, size = rng.randrange(len(text)), rng.choice((0, 1, 1, 2, 9, 300))
            other = rng.randrange(len(text))
            new = rng.choice(("", "0", "-", "9e9", ",", "]", '"', "[[", "null", text[other:][:9]))
            self.path.write_text(text[:start] + new + text[start + size :])
            with self.subTest(seed):
                try:
                    outcomes[type(microgpt.load(self.path))] += 1
                except ValueError:
                    outcomes[ValueError] += 1
        self.assertEqual(len(outcomes), 2)

    def test_lengths_names_and_order_are_checked(self):
        is_pypy = sys.implementation.name == "pypy"  # which takes larger numbers, too
        for change in (
            lambda x: x["weights"]["wte"][0].pop(),
            lambda x: x["weights"]["wte"][0].append(0.5),
            lambda x: x["weights"]["wte"].pop(),
            lambda x: x["weights"]["layer0.attn_wq"].append([0.5] * 4),
            lambda x: x["weights"].update(more=[[0.5]]),
            lambda x: x["weights"].pop("wpe"),
            lambda x: x["means"].pop(),
            lambda x: x["squares"].append(0.5),
            lambda x: x["squares"].__setitem__(3, -0.5),
            lambda x: x["random_state"].pop(),
            lambda x: x["random_state"].__setitem__(3, -1 if is_pypy else 2**32),
            lambda x: x["random_state"].__setitem__(-1, 625),
            lambda x: x.update(chars="bacdefghijk"),
            lambda x: x.update(chars="aacdefghijk"),
            lambda x: x.update(chars=""),
            lambda x: x["flags"].update(lr_schedule="square"),
            lambda x: x["flags"].update(n_layer=2),
            lambda x: x["flags"].update(n_layer=10**9),
            lambda x: x["flags"].update(n_embd=10**9, n_head=1),
            lambda x: x["flags"].update(block_size=10**11),
            lambda x: x["flags"].update(n_head=3),
            lambda x: x["flags"].update(stream=True),
        ):
            bad = json.loads(json.dumps(self.good))
            change(bad)
            self.rejected(bad)

    def test_what_it_has_fixed_cannot_be_changed(self):
        for flag, value, known in (
            ("--n_layer", 2, 1), ("--n_embd", 8, 2), ("--n_head", 2, 1), ("--block_size", 9, 1),
            ("--val_fraction", 0.1, 0.9), ("--val_fraction", 0, 0.9), ("--stream", "", False),
        ):  # fmt: skip
            for others in ((), ("--num_steps", 9)):
                words = [flag] if value == "" else [flag, value]
                error = self.error("--load", self.path, *words, *others)
                self.assertIn(flag, error)
                self.assertIn(str(known), error)
        main("--load", self.path, "--n_embd", 2, "--val_fraction", 0.9)  # the same again is fine

    def test_data_and_prompts_that_it_does_not_know_are_errors(self):
        self.names.write_text("abc\nabx\nyabz\nxa\nb\n")
        error = self.error("--load", self.path, "--num_steps", 9)
        self.assertIn("--data", error)
        self.assertIn("'xyz'", error)
        self.assertIn("3 of 5", error)
        error = self.error("--load", self.path, "--prompt", "aYX")
        self.assertIn("--prompt", error)
        self.assertIn("'XY'", error)
