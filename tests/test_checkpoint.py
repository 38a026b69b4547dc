import contextlib
import errno
import io
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path
from unittest import mock

import microgpt
from tests.support import PROGRAM, ROOT, heed_ctrl_c_in, run, start, the_rest

try:
    import resource
except ImportError:  # no limits on the size of a file
    resource = None

ALL_NAMES = [f"{a}{b}{c}\n" for a in "abcd" for b in "efgh" for c in "ijk"]
NAMES = "".join(ALL_NAMES[::2])  # 24, of all letters
SMALL = ("--n_embd", "4", "--n_head", "2", "--block_size", "6")
DOCUMENTS = (*SMALL, "--batch_size", "2", "--lr_schedule", "cosine", "--warmup_steps", "3")
WINDOWS = (*SMALL, "--stream", "--batch_size", "2", "--weight_decay", "0.1")


def main(*flags):
    """Return what the main program prints, with flags as on its command line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        microgpt.main(**microgpt.parse([str(flag) for flag in flags]))
    return out.getvalue()


def steps(out):
    return re.findall(r"(?m)^step .*\| loss .*", out)


def samples(out):
    return re.findall(r"(?m)^sample .*", out)


class Folder(unittest.TestCase):
    """A test with a folder of its own, and some names in it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.names, self.path = self.folder / "names", self.folder / "model.json"
        self.names.write_text(NAMES)

    def train(self, *flags):
        """Train for two steps or as the flags say, save, and return what was printed."""
        few = ("--num_steps", 2, "--num_samples", 2)
        return main("--data", self.names, *SMALL, *few, "--save", self.path, *flags)

    def error(self, *flags):
        """Return the words of the ValueError that the flags are."""
        out = io.StringIO()
        with self.assertRaises(ValueError) as caught, contextlib.redirect_stdout(out):
            microgpt.main(**microgpt.parse([str(flag) for flag in flags]))
        self.assertEqual(out.getvalue(), "")
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)


class GoingOn(Folder):
    def test_from_every_step_on_it_is_the_training_that_was_never_stopped(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = ("--data", self.names, "--num_samples", 3, "--num_steps", 9, *mode)
            saved = []
            with mock.patch.object(microgpt, "save", lambda path, text: saved.append(text)):
                whole = main(*flags, "--eval_interval", 1, "--save", self.path)
            evaluate = mock.patch.object(microgpt, "evaluate", lambda *_: 1.0)
            evaluate.start()  # it takes long, and changes nothing
            self.addCleanup(evaluate.stop)
            self.assertEqual(len(saved), 9)
            lines = steps(main(*flags))
            self.assertEqual(steps(whole), lines)
            for step, text in enumerate(saved, 1):
                self.path.write_text(text)
                rest = main("--load", self.path, "--save", self.path, "--data", self.names)
                self.assertEqual(steps(rest), lines[step:])
                self.assertEqual(samples(rest)[:3], samples(whole))
                self.assertEqual(self.path.read_text(), saved[-1])

    @unittest.skipIf(os.name == "nt", "Windows has no SIGINT to send")
    def test_after_ctrl_c_too(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = ("--data", self.names, "--num_steps", 150, "--num_samples", 3, *mode)
            whole = start(PROGRAM, *flags, "--save", self.folder / "whole.json")
            stopped = start(PROGRAM, *flags, "--save", self.path)
            while not stopped.stdout.readline().startswith("step   20 "):
                self.assertIsNone(stopped.poll())
            stopped.send_signal(signal.SIGINT)
            first, err = the_rest(stopped)
            self.assertEqual((stopped.returncode, err), (0, ""))
            self.assertEqual(len(samples(first)), 3)
            self.assertLess(len(steps(first)), 129)
            rest = run("--load", self.path, "--save", self.path, "--data", self.names)
            out, err = whole.communicate()
            self.assertEqual((rest[0], rest[2], err), (0, "", ""))
            self.assertEqual(steps(out)[20:], steps(first) + steps(rest[1]))
            self.assertEqual(samples(out), samples(rest[1])[:3])
            self.assertEqual((self.folder / "whole.json").read_bytes(), self.path.read_bytes())

    def test_lines_go_on_from_the_step_that_was_reached_to_the_planned_end(self):
        self.train()
        again = self.train("--load", self.path, "--num_steps", 5)
        self.assertEqual([line[:16] for line in steps(again)], [
            "step    3 /    5", "step    4 /    5", "step    5 /    5",
        ])  # fmt: skip

    def test_flags_that_are_not_given_are_those_of_the_checkpoint_and_those_given_win(self):
        self.train("--learning_rate", 0.5, "--warmup_steps", 7, "--lr_schedule", "constant")
        names = ("learning_rate", "warmup_steps", "n_embd", "lr_schedule", "num_steps")
        flags = microgpt.load(self.path).flags
        self.assertEqual([flags[name] for name in names], [0.5, 7, 4, "constant", 2])
        flags = microgpt.load(self.path, learning_rate=0.1, num_steps=3).flags
        self.assertEqual([flags[name] for name in names], [0.1, 7, 4, "constant", 3])

    def test_another_weight_decay_is_that_of_the_steps_to_come(self):
        self.train("--weight_decay", 0.5)
        self.assertEqual(microgpt.load(self.path).optimizer.weight_decay, 0.5)
        self.assertEqual(microgpt.load(self.path, weight_decay=0.1).optimizer.weight_decay, 0.1)

    def test_from_an_untrained_model_on_it_is_the_whole_training(self):
        whole = self.train()
        self.train("--num_steps", 0)
        self.assertEqual(microgpt.load(self.path).optimizer.steps_done, 0)
        self.assertEqual(self.train("--load", self.path, "--num_steps", 2), whole)

    def test_a_plan_that_ends_before_the_step_that_was_reached_trains_nothing(self):
        self.train()
        before = json.loads(self.path.read_text())["weights"]
        self.assertEqual(steps(self.train("--load", self.path, "--num_steps", 1)), [])
        self.assertEqual(json.loads(self.path.read_text())["weights"], before)

    def test_where_no_step_is_left_the_data_is_not_read(self):
        self.train()
        for flags in ((), ("--num_steps", 0), ("--num_steps", 2)):
            out = main("--load", self.path, "--data", self.folder / "none", *flags)
            self.assertEqual(len(samples(out)), 20)
            self.assertTrue(out.startswith("vocab size: 12\n"))
            self.assertNotIn(" loss ", out)

    def test_another_seed_gives_other_samples_but_holds_out_the_same_documents(self):
        self.train("--val_fraction", 0.5)
        flags = ("--load", self.path, "--num_steps", 4, "--data", self.names)
        first, same, other, again = (main(*flags, "--seed", seed) for seed in (42, 42, 7, 7))
        self.assertEqual((first, other), (same, again))
        self.assertNotEqual(samples(first), samples(other))
        self.assertEqual(first[: first.index("sample")], other[: other.index("sample")])

    def test_a_prompt_is_completed_by_another_process(self):
        self.train()
        flags = ("--prompt", "ae", "--temperature", 0, "--num_samples", 2, "--max_new_tokens", 9)
        status, out, err = run("--load", self.path, *flags)
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"\nsample  1: ae\w{0,9}\nsample  2: ae\w{0,9}\n\Z")
        likeliest = main("--load", self.path, *flags, "--temperature", 1, "--top_k", 1)
        self.assertEqual(samples(likeliest), samples(out))

    def test_a_model_of_twelve_layers_goes_through_a_file(self):
        self.train("--n_layer", 12, "--num_steps", 1)
        self.assertEqual(microgpt.load(self.path).model.n_layer, 12)


class EarlierVersions(Folder):
    """checkpoint.json was saved after 5 steps by an earlier version of this program.

    The figures are those that it printed when it went on to step 9.
    """

    OLD = ROOT / "tests" / "checkpoint.json"

    def test_a_checkpoint_of_an_earlier_version_goes_on_with_its_losses_and_samples(self):
        self.names.write_text("".join(ALL_NAMES))
        out = main("--load", self.OLD, "--data", self.names, "--num_steps", 9, "--num_samples", 3)
        losses = [line[-6:] for line in steps(out)]
        self.assertEqual(losses, ["2.4390", "2.4906", "2.3381", "2.3867"])
        self.assertIn(" | val loss 2.4112 | bigram table 1.4728 | ln(12) 2.4849\n", out)
        self.assertEqual(samples(out), ["sample  1: abfk", "sample  2: cgf", "sample  3: f"])

    def test_it_is_saved_as_it_was(self):
        self.assertEqual(microgpt.load(self.OLD).to_json(), self.OLD.read_text())


class HeldOut(Folder):
    def spied(self, *flags):
        """Return what training saw, what evaluations saw, and what was printed."""
        trained, evaluated = [], []
        loss, evaluate = microgpt.GPT.loss, microgpt.evaluate
        spies = {"evaluate": lambda *args: evaluated.append(args[1]) or evaluate(*args)}
        spy = mock.patch.object(
            microgpt.GPT, "loss", lambda model, tokens: trained.append(tokens) or loss(model, tokens)
        )
        with spy, mock.patch.multiple(microgpt, **spies):
            out = main("--data", self.names, *SMALL, *flags)
        return trained, evaluated, out

    def test_documents_that_are_held_out_are_never_trained_on_and_always_the_same(self):
        trained, evaluated, _ = self.spied("--num_steps", 90, "--eval_interval", 40)
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
        trained, evaluated, _ = self.spied("--stream", "--num_steps", 30, "--batch_size", 3)
        self.assertEqual({len(window) for window in trained}, {7})
        places = {token for window in trained for token in window}
        self.assertLessEqual(places, set(range(90)))
        self.assertGreater(len(places), 80)
        for windows, places in zip(evaluated, (range(89), range(90, 99))):
            pairs = [pair for window in windows for pair in zip(window, window[1:])]
            self.assertEqual(pairs, [(i, i + 1) for i in places])

    def test_two_hundred_documents_or_windows_are_enough(self):
        self.names.write_text("ab\n" * 9000)
        for kind in ((), ("--stream",)):
            _, evaluated, _ = self.spied("--num_steps", 1, *kind)
            self.assertEqual([len(documents) for documents in evaluated], [200, 200])

    def test_the_figures_are_the_mean_losses_of_a_prediction(self):
        self.names.write_text("ab\nabcabcabcabc\n" * 40)  # longer than the context too
        with contextlib.redirect_stdout(io.StringIO()) as out:
            flags = microgpt.parse([*SMALL, "--num_steps", "2", "--data", str(self.names)])
            run = microgpt.main(**flags)
        model, tokenizer = run.model, run.tokenizer
        docs = ["ab", "abcabcabcabc"] * 40
        random.Random(42).shuffle(docs)
        documents = [tokenizer.encode(doc)[:7] for doc in docs[-8:]]
        counted = [tokenizer.encode(doc) for doc in docs[:-8]]
        bigrams = microgpt.bigram_loss(counted, documents, 4)
        graded = [tokenizer.encode(doc)[:7] for doc in docs[:72]], documents
        means = []
        for part in graded:
            sizes = [len(tokens) - 1 for tokens in part]
            total = sum(model.loss(tokens).data * n for tokens, n in zip(part, sizes))
            means.append(total / sum(sizes))
        yardsticks = f"bigram table {bigrams:.4f} | ln(4) {math.log(4):.4f}\n"
        losses = f"train loss {means[0]:.4f} | val loss {means[1]:.4f}"
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
        self.assertEqual(re.findall(r"(?m)^train loss \S+$", out), out.split("\n")[-22:-21])
        flags = ("--num_steps", 4, "--eval_interval", 3, "--lr_schedule", "constant")
        out = self.spied(*flags, "--learning_rate", 3e-6)[2]
        self.assertIn("\nstep    3 /    4 | lr 3.00e-06 | train loss ", out)


@unittest.skipIf(os.name == "nt", "needs kill -9")
class Crashes(Folder):
    def test_killed_at_any_moment_while_saving_at_every_step_it_leaves_a_whole_file(self):
        flags = ("--data", self.names, "--num_steps", 10**6, "--val_fraction", 0)
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
            step = microgpt.load(self.path).optimizer.steps_done
            self.assertGreater(step, last)
            last = step
        left = {name for name in os.listdir(self.folder) if not name.endswith(".tmp")}
        self.assertEqual(left, {"model.json", "names"})

    def test_three_runs_that_save_to_one_file_leave_it_whole(self):
        self.train("--num_steps", 2)
        flags = ("--load", self.path, "--data", self.names, "--num_steps", 12, "--eval_interval", 1)
        processes = [start(PROGRAM, *flags, "--save", self.path) for _ in range(3)]
        while any(process.poll() is None for process in processes):
            self.assertGreaterEqual(microgpt.load(self.path).optimizer.steps_done, 2)
        for process in processes:
            out, err = process.communicate()
            self.assertEqual((process.returncode, err), (0, ""))
        self.assertEqual(microgpt.load(self.path).optimizer.steps_done, 12)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_a_crash_before_the_file_is_in_its_place_leaves_the_old_one(self):
        self.path.write_text("old")
        with mock.patch("os.replace", side_effect=SystemError("crash")) as replace:
            with self.assertRaisesRegex(SystemError, "crash"):
                microgpt.save(self.path, "new")
        temporary, place = replace.call_args[0]
        self.assertRegex(temporary.name, r"\Amicrogpt\.\d+\.tmp\Z")
        self.assertEqual((temporary.parent, place), (place.parent, Path(os.path.realpath(self.path))))
        self.assertEqual((self.path.read_text(), temporary.read_text()), ("old", "new"))
        self.assertEqual(len(os.listdir(self.folder)), 3)

    def test_a_file_that_cannot_be_replaced_is_written_over(self):
        self.train()
        old = self.path.stat().st_ino
        with mock.patch("os.replace", side_effect=OSError(errno.EBUSY, "busy")):
            out = main("--load", self.path, "--save", self.path, "--data", self.names, "--num_steps", 5)
        self.assertEqual(len(steps(out)), 3)
        self.assertEqual(microgpt.load(self.path).optimizer.steps_done, 5)
        self.assertEqual(self.path.stat().st_ino, old)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_if_that_fails_too_the_new_one_is_still_there(self):
        full = OSError(errno.ENOSPC, "full")
        with mock.patch("os.replace", side_effect=OSError(errno.EBUSY, "busy")):
            with mock.patch("shutil.copyfile", side_effect=full):
                with self.assertRaisesRegex(ValueError, r"cannot save .* \(full\)"):
                    microgpt.save(self.path, "new")
        (temporary,) = self.folder.glob("microgpt.*.tmp")
        self.assertEqual(temporary.read_text(), "new")

    @unittest.skipUnless(resource, "no limits on the size of a file")
    def test_where_a_file_cannot_grow_the_old_one_is_untouched(self):
        self.train()
        before = self.path.read_bytes()
        status, out, err = run(
            "--load", self.path, "--save", self.path, "--data", self.names, "--num_steps", 4,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )  # fmt: skip
        self.assertEqual((status, len(steps(out))), (2, 2))
        self.assertRegex(err, r"\Amicrogpt\.py: error: cannot save [^\n]*large[^\n]*\n\Z")
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_a_loss_or_a_weight_that_is_not_finite_is_an_error_and_never_in_a_file(self):
        growing = ("--data", self.names, *SMALL, "--weight_decay", 1e9, "--num_steps", 99)
        status, out, err = run(*growing, "--eval_interval", 1, "--save", self.path)
        self.assertEqual(status, 2)
        self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]*try a smaller learning rate\n\Z")
        reached = microgpt.load(self.path).optimizer.steps_done
        self.assertIn(len(steps(out)) - reached, (0, 1))
        self.path.unlink()
        # the last step's own update: infinite, or so large that the next loss could be
        for rate in (1e300, 1e153, 1e51):
            once = ("--data", self.names, *SMALL, "--learning_rate", rate, "--num_steps", 1)
            for flags in (once, (*once, "--save", self.path)):
                with self.assertRaisesRegex(FloatingPointError, "try a smaller learning rate$"):
                    main(*flags)
        self.assertEqual(os.listdir(self.folder), ["names"])

    def test_what_is_not_too_large_to_be_saved_has_a_finite_loss(self):
        run = microgpt.Run({**microgpt.DEFAULTS, "n_layer": 3}, ["abc"], random.Random(0))
        for p in run.model.parameters:
            p.data = math.copysign(0.99e50, p.data)
        run.check_finite()
        tokens = run.rng.choices(range(4), k=17)
        self.assertTrue(math.isfinite(run.model.loss(tokens).data))
        written = microgpt.sample(run.model, [3], 16, 1e-300, rng=run.rng)
        self.assertEqual(len(written), 16)
        for i, bad in enumerate((1e50, -1e50, math.inf, math.nan)):
            run.model.parameters[i].data = bad
            with self.assertRaisesRegex(FloatingPointError, "try a smaller learning rate$"):
                run.check_finite()
            run.model.parameters[i].data = 0.0
        for memory in (run.optimizer.means, run.optimizer.squares):
            memory[5] = math.inf
            self.assertRaises(FloatingPointError, run.check_finite)
            memory[5] = 0.0


class NothingLost(Folder):
    """Whatever ends a training, what was trained is saved, and goes on to the last bit."""

    def trained(self, path, *flags):
        """Train for 9 steps in one of two modes, and save."""
        return main("--data", self.names, "--num_steps", 9, "--num_samples", 2, "--save", path, *flags)

    def assert_goes_on(self, mode, reached):
        """The checkpoint is of a step, and the rest is that of the training that was never stopped."""
        step = microgpt.load(self.path).optimizer.steps_done
        self.assertEqual(step, reached)
        main("--load", self.path, "--data", self.names, "--save", self.path, "--num_steps", 9)
        self.trained(self.folder / "whole", *mode)
        self.assertEqual(self.path.read_text(), (self.folder / "whole").read_text())
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names", "whole"])

    def assert_prefix(self, mode, least):
        """The checkpoint is what the first steps of 9999 have led to, however they were ended."""
        reached, train = microgpt.load(self.path).optimizer.steps_done, microgpt.train
        self.assertGreaterEqual(reached, least)
        with mock.patch.object(microgpt, "train", lambda *x: itertools.islice(train(*x), reached)):
            self.trained(self.folder / "first", *mode, "--num_steps", 9999)
        self.assertEqual(self.path.read_text(), (self.folder / "first").read_text())

    def test_an_output_that_fails(self):
        class Full(io.StringIO):
            def write(self, text):
                if text.startswith("step    5"):
                    raise OSError(28, "No space left on device")
                return super().write(text)

        for mode in (DOCUMENTS, WINDOWS):
            with self.assertRaisesRegex(OSError, "No space"), contextlib.redirect_stdout(Full()):
                flags = ("--num_steps", 9, *mode, "--data", self.names, "--save", self.path)
                microgpt.main(**microgpt.parse([str(flag) for flag in flags]))
            self.assert_goes_on(mode, reached=5)

    def test_a_reader_that_goes(self):
        flags = ("--data", self.names, "--num_steps", 9999, *WINDOWS, "--save", self.path)
        process = start(PROGRAM, *flags)
        for _ in range(9):
            process.stdout.readline()
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait()), ("", 1))
        process.stderr.close()
        self.assert_prefix(WINDOWS, least=6)

    def test_an_error_while_the_losses_are_taken(self):
        for mode in (DOCUMENTS, WINDOWS):
            with mock.patch.object(microgpt, "evaluate", side_effect=ZeroDivisionError):
                with self.assertRaises(ZeroDivisionError):
                    self.trained(self.path, *mode, "--eval_interval", 4)
            self.assert_goes_on((*mode, "--eval_interval", 4), reached=4)

    def test_a_training_that_took_no_step_leaves_an_older_checkpoint(self):
        self.trained(self.path)
        before = self.path.read_text()
        loss, calls = microgpt.GPT.loss, itertools.count()

        def failing_once(*arguments):
            if next(calls) == 0:
                raise MemoryError
            return loss(*arguments)

        with mock.patch.object(microgpt.GPT, "loss", failing_once):
            with self.assertRaises(MemoryError):
                self.trained(self.path)
        self.assertEqual(self.path.read_text(), before)

    @unittest.skipUnless(resource and sys.implementation.name == "cpython", "needs exact limits")
    @unittest.skipUnless(Path("/proc/self/statm").exists(), "needs to know what it uses")
    def test_a_step_that_takes_too_much_memory(self):
        letters = "".join(map(chr, range(192, 252)))  # 60, for a model of some size
        rows = [letters[i : i + 6] for i in range(0, 60, 3)]
        self.names.write_text("\n".join([*rows, letters * 4]), encoding="utf-8")
        code = "import microgpt, os, resource, sys; sys.argv[0] = 'microgpt.py'; "
        code += "pages = int(open('/proc/self/statm').read().split()[0]); "
        code += "most = pages * os.sysconf('SC_PAGE_SIZE') + 55 * 10**6; "
        code += "resource.setrlimit(resource.RLIMIT_AS, (most, most)); microgpt.command()"
        flags = ("--data", self.names, "--num_steps", 99, "--block_size", 250, "--n_embd", 24)
        flags += ("--val_fraction", 0, "--seed", 3, "--save", self.path)
        process = start("-c", code, *flags)
        out, err = process.communicate()
        self.assertRegex(err, r"\Amicrogpt\.py: error: out of memory: [^\n]+\n\Z")
        self.assertEqual(process.returncode, 2)
        self.assertGreater(len(steps(out)), 0)
        self.assertEqual(microgpt.load(self.path).optimizer.steps_done, len(steps(out)))

    def test_a_signal_to_end_while_it_is_saved_ends_the_program_after_that(self):
        heed_ctrl_c_in(self)
        fsync = os.fsync
        flags = ("--data", self.names, "--num_steps", 9, *SMALL, "--save", self.path)
        ctrl_c, kill = signal.SIGINT, signal.SIGTERM
        for numbers, ending in (
            ((ctrl_c, ctrl_c), KeyboardInterrupt), ((kill,), SystemExit), ((ctrl_c, kill), SystemExit)
        ):  # fmt: skip

            def pressed(file, numbers=numbers):
                for number in numbers:
                    signal.raise_signal(number)
                fsync(file)

            self.path.unlink(missing_ok=True)
            out = io.StringIO()
            with mock.patch("os.fsync", pressed), contextlib.redirect_stdout(out):
                with self.assertRaises(ending) as caught:
                    microgpt.main(**microgpt.parse([str(flag) for flag in flags]))
            self.assertEqual(getattr(caught.exception, "code", None), 143 if kill in numbers else None)
            self.assertEqual(microgpt.load(self.path).optimizer.steps_done, 9)
            self.assertEqual((len(steps(out.getvalue())), "train loss" in out.getvalue()), (9, False))

    def test_ctrl_c_many_times_at_any_moment(self):
        heed_ctrl_c_in(self)
        loss, sqrt, fsync = microgpt.GPT.loss, math.sqrt, os.fsync

        def pressing(function, when, times):
            """Return a function after which Ctrl-C is pressed, at a call, and then at each."""
            calls = itertools.count(1)

            def pressed(*arguments):
                if next(calls) >= when:
                    for _ in range(times):
                        signal.raise_signal(signal.SIGINT)
                return function(*arguments)

            return pressed

        num_params = len(microgpt.GPT(12, 1, 4, 2, 6).parameters)
        for owner, name, function, when, reached in (
            (microgpt.GPT, "loss", loss, 7, 3), (math, "sqrt", sqrt, 4 * num_params + 99, None),
            (os, "fsync", fsync, 1, 9),
        ):  # fmt: skip
            for mode in (DOCUMENTS, WINDOWS):
                with self.subTest(name, mode=mode):
                    with mock.patch.object(owner, name, pressing(function, when, 5)):
                        with contextlib.suppress(KeyboardInterrupt):
                            self.trained(self.path, *mode)
                    step = microgpt.load(self.path).optimizer.steps_done
                    self.assert_goes_on(mode, reached=step if reached is None else reached)

    @unittest.skipIf(os.name == "nt", "Windows has no SIGINT to send")
    def test_a_process_that_is_told_so_many_times(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = ("--data", self.names, "--num_steps", 9999, *mode, "--save", self.path)
            process = start(PROGRAM, *flags)
            while not process.stdout.readline().startswith("step    9 "):
                self.assertIsNone(process.poll())
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            the_rest(process)
            self.assertIn(process.returncode, (130, -signal.SIGINT))
            self.assert_prefix(mode, least=9)


class Saving(Folder):
    @unittest.skipIf(sys.platform == "emscripten", "a file in a browser may have any name")
    def test_what_cannot_be_written_is_found_out_before_training(self):
        with self.assertRaisesRegex(ValueError, r"^cannot save .*/x' \(.+\): try another path$"):
            microgpt.save(self.folder / "\0" / "x", "text")
        for path in (self.names / "x", self.folder / ("x" * 300), "", "x\0", self.folder, os.devnull):
            error = self.error("--data", self.names, "--save", path)
            form = rf"\Acannot save {re.escape(repr(str(path)))} \(.+\): try another path\Z"
            self.assertRegex(error, form)
        self.assertIn(" (it is not a file that may be written): ", error)
        self.assertTrue(Path(os.devnull).exists())
        self.assertEqual(os.listdir(self.folder), ["names"])

    def test_the_reason_is_named_even_if_no_file_could_be_opened(self):
        error = PermissionError(errno.EACCES, "may not")
        with mock.patch.object(microgpt, "open", create=True, side_effect=error):
            with self.assertRaisesRegex(ValueError, r"^cannot save .* \(may not\): "):
                microgpt.save(self.path, "text")

    def test_a_folder_that_is_missing_is_named_as_it_was_given(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        for path, folder in (("none/x.json", "none"), ("../none/x", "../none"), ("names/x", "names")):
            error = self.error("--data", self.names, "--save", path)
            self.assertEqual(error, f"cannot save {path!r} (there is no folder {folder}): try another path")

    @unittest.skipUnless(Path("/proc/1").is_dir(), "needs a folder that not even root can write to")
    def test_so_is_a_folder_that_is_protected(self):
        error = self.error("--data", self.names, "--save", "/proc/x.json")
        self.assertRegex(error, r"\Acannot save '/proc/x\.json' \([^()/]+\): try another path\Z")

    def test_the_check_leaves_nothing_behind(self):
        microgpt.check_place(self.path)
        self.train()
        before = self.path.read_text(), self.path.stat().st_mtime_ns, self.path.stat().st_ino
        microgpt.check_place(self.path)
        after = self.path.read_text(), self.path.stat().st_mtime_ns, self.path.stat().st_ino
        self.assertEqual(after, before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    def test_it_is_said_after_the_last_one(self):
        out = self.train("--eval_interval", 1)
        self.assertRegex(out, rf"\ntrain loss [^\n]+\nsaved {re.escape(str(self.path))}\nsample  1")
        self.assertEqual(out.count("saved"), 1)
        self.assertNotIn("saved", main("--load", self.path))

    @unittest.skipIf(not hasattr(os, "geteuid") or os.geteuid() == 0, "the superuser may write it")
    def test_a_file_that_is_protected_stays(self):
        self.path.write_text("mine")
        self.path.chmod(0o444)
        self.assertIn("may be written", self.error("--data", self.names, "--save", self.path))
        self.assertEqual(self.path.read_text(), "mine")

    def test_the_data_is_not_written_over(self):
        link = self.folder / "link"
        link.symlink_to(self.names)
        for path in (self.names, link, self.folder / ".." / self.folder.name / "names"):
            error = self.error("--data", self.names, "--save", path)
            why = "it holds something other than a checkpoint"
            self.assertEqual(error, f"cannot save {str(path)!r} ({why}): try another path")
        self.assertEqual(self.names.read_text(), NAMES)

    def test_nor_is_a_file_that_holds_something_else(self):
        notes = self.folder / "notes"
        for text in ("mine", '{"chars":{"a":0}}'):
            notes.write_text(text)
            error = self.error("--data", self.names, "--save", notes)
            self.assertIn(" (it holds something other than a checkpoint): try another path", error)
            self.assertEqual(notes.read_text(), text)
        notes.write_text("")
        main("--data", self.names, "--save", notes, "--num_steps", 1, "--num_samples", 0, *SMALL)
        main("--data", self.names, "--save", notes, "--num_steps", 2, "--num_samples", 0, *SMALL)
        self.assertEqual(microgpt.load(notes).optimizer.steps_done, 2)

    def test_nor_is_the_program(self):
        copy = self.folder / "microgpt.py"
        copy.write_bytes(PROGRAM.read_bytes())
        error = self.error("--data", self.names, "--save", copy)
        self.assertIn(" (it holds something other than a checkpoint): try another path", error)
        self.assertEqual(copy.read_bytes(), PROGRAM.read_bytes())

    def test_no_other_file_is_touched(self):
        others = [self.folder / f"{name}.tmp" for name in ("model.json", "model", ".model.json")]
        for other in others:
            other.write_text("mine")
        self.train()
        self.assertEqual([other.read_text() for other in others], ["mine"] * 3)
        self.assertEqual(len(os.listdir(self.folder)), 5)

    def test_nothing_is_written_where_an_argument_or_the_data_is_wrong(self):
        self.path.write_text("old")
        for flags in (("--n_head", 3), ("--data", self.folder / "none"), ("--prompt", "xyz")):
            self.error("--data", self.names, "--save", self.path, *flags)
        self.assertEqual(self.path.read_text(), "old")
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.json", "names"])

    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_through_a_link_and_with_the_usual_rights(self):
        link, plain = self.folder / "link", self.folder / "plain"
        link.symlink_to(self.path)
        plain.touch()
        microgpt.save(link, "{}")
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.read_text(), "{}")
        self.assertEqual(self.path.stat().st_mode, plain.stat().st_mode)
        self.path.chmod(0o600)
        microgpt.save(link, "[]")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)


class Loading(Folder):
    def setUp(self):
        super().setUp()
        self.train("--val_fraction", 0.9)
        self.good = json.loads(self.path.read_text())

    def rejected(self, text):
        self.path.write_text(text if isinstance(text, str) else json.dumps(text))
        error = self.error("--load", self.path)
        start, end = f"cannot load {str(self.path)!r} (", "): give one that --save has written"
        self.assertEqual((error[: len(start)], error[-len(end) :]), (start, end))
        return error[len(start) : -len(end)]

    def test_it_holds_the_format_the_shape_the_weights_and_what_going_on_needs(self):
        good = self.good
        self.assertEqual((good["format"], good["version"]), ("microgpt checkpoint", 1))
        self.assertEqual((good["chars"], good["step"]), ("abcdefghijk", 2))
        flags = microgpt.DEFAULTS
        for name in ("data", "save", "load", "prompt", "num_samples", "temperature", "top_k"):
            self.assertNotIn(name, good["flags"])
        for name, flag in good["flags"].items():
            self.assertIs(type(flag), type(flags[name]), name)
        self.assertEqual(len(good["flags"]), 14)
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
        words = f"cannot load {str(self.path)!r} ({os.strerror(errno.ENOENT)}): give one that --save has written"
        self.assertEqual(self.error("--load", self.path), words)
        self.assertIn("cannot load", self.error("--load", self.folder))
        self.path.write_bytes(b"\xff\xfe{}")
        self.assertIn("cannot load", self.error("--load", self.path))

    @unittest.skipIf(sys.platform == "emscripten", "json overflows the stack")
    def test_so_is_what_is_nested_too_deeply(self):
        self.rejected("[" * 10**5)

    def test_another_version_is_named_as_the_reason(self):
        for version in (2, 0, "1", None, 1.5):
            why = self.rejected({**self.good, "version": version})
            self.assertEqual(why, "it is not of version 1, which this program reads")

    def test_too_little_memory_is_called_that(self):
        with mock.patch("json.loads", side_effect=MemoryError), self.assertRaises(MemoryError):
            microgpt.load(self.path)

    def test_the_order_of_its_parts_and_the_space_between_them_do_not_matter(self):
        self.path.write_text(json.dumps(dict(reversed([*self.good.items()])), indent=1))
        self.assertEqual(json.loads(microgpt.load(self.path).to_json()), self.good)

    def test_a_step_is_a_number_that_can_be_planned(self):
        self.path.write_text(json.dumps({**self.good, "step": 10**12 - 1}))
        self.assertEqual(microgpt.load(self.path).optimizer.steps_done, 10**12 - 1)
        self.rejected({**self.good, "step": 10**12})

    def test_the_reason_is_named(self):
        self.assertEqual(self.rejected({}), "it is not a microgpt checkpoint")
        self.assertEqual(self.rejected([]), "it is not a microgpt checkpoint")
        fewer = {**self.good, "means": self.good["means"][1:]}
        reason = "its flags don't fit its number of parameters"
        self.assertEqual(self.rejected(fewer), reason)
        wrong = {**self.good, "more": 1}
        reason = "something in it has a wrong type, length or range"
        self.assertEqual(self.rejected(wrong), reason)
        for name in self.good:
            if name not in ("format", "version"):
                fewer = {part: self.good[part] for part in self.good if part != name}
                self.assertEqual(self.rejected(fewer), reason)
        self.assertIn("'ten'", self.rejected({**self.good, "step": "ten"}))

    def test_a_path_may_be_a_string(self):
        self.assertEqual(microgpt.load(str(self.path)).optimizer.steps_done, 2)

    def test_flags_beside_it_are_checked(self):
        for flags, words in (
            ({"num_step": 3}, "there is no flag '--num_step': did you mean --num_steps?"),
            ({"num_steps": "3"}, "--num_steps: a whole number from 0 to below 1,000,000,000,000 is needed"),
        ):
            with self.assertRaisesRegex(ValueError, f"^{re.escape(words)}"):
                microgpt.load(self.path, **flags)
        self.assertEqual(microgpt.load(self.path, num_steps=3, seed=None).flags["num_steps"], 3)

    def test_nothing_in_it_is_trusted(self):
        junk = (None, True, "x", "1", -1, 1.5, math.nan, math.inf, -math.inf, 10**400, [], {}, [1])

        def places(part):
            """Every place in a dictionary, and the first and last of a list, at any depth."""
            keys = list(part) if isinstance(part, dict) else [0, len(part) - 1]
            for key in keys:
                yield part, key
                if isinstance(part[key], (dict, list)):
                    yield from places(part[key])

        self.train("--n_embd", 2, "--n_head", 1, "--block_size", 1)  # a small one is quickly read
        self.good, tried = json.loads(self.path.read_text()), 0
        for part, key in places(self.good):
            kept = part[key]
            for other in junk:
                is_right = other == 1.5 and isinstance(kept, float) and key != "val_fraction"
                if is_right or other == -1 and key == "seed":
                    continue
                part[key] = other
                self.rejected(self.good)
                tried += 1
            part[key] = kept
        self.assertGreater(tried, 700)

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
        def with_change(change):
            bad = json.loads(json.dumps(self.good))
            change(bad)
            self.rejected(bad)

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
            lambda x: x["random_state"].__setitem__(3, 2**32),
            lambda x: x["random_state"].__setitem__(-1, 625),
            lambda x: x.update(chars="bacdefghijk"),
            lambda x: x.update(chars="aacdefghijk"),
            lambda x: x.update(chars=""),
            lambda x: x.pop("step"),
            lambda x: x["flags"].pop("seed"),
            lambda x: x["flags"].update(data="names"),
            lambda x: x["flags"].update(help=True),
            lambda x: x["weights"]["lm_head"].__setitem__(0, [1e308] * 4),
            lambda x: x["flags"].update(lr_schedule="square"),
            lambda x: x["flags"].update(n_layer=2),
            lambda x: x["flags"].update(n_layer=10**9),
            lambda x: x["flags"].update(n_embd=10**9, n_head=1),
            lambda x: x["flags"].update(block_size=10**11),
            lambda x: x["flags"].update(n_head=3),
            lambda x: x["flags"].update(num_steps=10**30),
            lambda x: x["flags"].update(stream=True),
        ):
            with_change(change)

    def test_a_model_flag_that_contradicts_it_is_an_error(self):
        for flags in (("--n_layer", 2), ("--n_embd", 8), ("--n_head", 1), ("--block_size", 9)):
            error = self.error("--load", self.path, *flags)
            known = self.good["flags"][flags[0][2:]]
            words = f"{flags[0]} {flags[1]} contradicts the checkpoint, which has {known}"
            self.assertEqual(error, words)
        words = "--stream True contradicts the checkpoint, which has False"
        self.assertEqual(self.error("--load", self.path, "--stream"), words)
        main("--load", self.path, *SMALL)  # the same again does not

    def test_data_and_prompts_that_it_does_not_know_are_errors(self):
        self.names.write_text("abc\nabx\n")
        error = self.error("--load", self.path, "--data", self.names, "--num_steps", 9)
        words = f"--data {str(self.names)!r}: 'x' is not in the alphabet, which is 'abcdefghijk'"
        self.assertEqual(error, words)
        self.assertIn("--prompt 'aYX': 'XY' is not in", self.error("--load", self.path, "--prompt", "aYX"))
