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
from unittest import mock

import microgpt
from tests.support import PROGRAM, ROOT, Folder, call, command, losses, main
from tests.support import samples, slow, start, the_rest

NAMES = [f"{a}{b}{c}\n" for a in "abcd" for b in "efgh" for c in "ijk"]
SMALL = {"n_embd": 4, "n_head": 2, "block_size": 6}
DOCUMENTS = {"batch_size": 2, "lr_schedule": "constant", "warmup_steps": 3}
WINDOWS = {"batch_size": 2, "lr_schedule": "constant", "stream": True, "weight_decay": 0.1}
EARLIER = ROOT / "tests" / "checkpoint.json"
STEPS = re.compile(r"(?m)^step .* \| loss .*")


def words(flags):
    """Return flags as on a command line."""
    return [f"--{name}" if x is True else f"--{name}={x}" for name, x in flags.items()]


def steps_in(path):
    return microgpt.load(path).optimizer.steps_done


def patch(name, new):
    """Let something in the program be another one."""
    return mock.patch.object(microgpt, name, new)


@contextlib.contextmanager
def states():
    """Collect the texts of the checkpoints that would be saved, the first of them untrained."""
    found = []
    with patch("save", lambda state, *_, **how: found.append(json.dumps(state, sort_keys=True))):
        yield found


@contextlib.contextmanager
def ctrl_c_at(number, functions):
    """Press Ctrl-C at a line of these functions: of all that are run, that of this number.

    Yield the count of these lines. A number of -1 presses nothing, and only counts.
    """
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


class Trained(Folder):
    def setUp(self):
        super().setUp()
        self.names.write_text("".join(NAMES[::2]))  # 24, of all letters

    def flags(self, **flags):
        """Return flags for a short training that saves."""
        few = {"num_steps": 2, "num_samples": 2, **SMALL}
        return {"data": self.names, "save": self.path, **few, **flags}

    def train(self, **flags):
        """Train, save, and return what was printed."""
        return main(**self.flags(**flags))

    def assert_only(self, *names):
        """These are all the files there are, but for the data."""
        self.assertEqual(sorted(os.listdir(self.folder)), sorted([self.names.name, *names]))


class Resuming(Trained):
    def test_resume_matches_an_uninterrupted_run(self):
        for mode in (DOCUMENTS, WINDOWS):
            flags = {**mode, "num_steps": 6, "lr_schedule": "cosine", "eval_interval": 1}
            with patch("evaluate", lambda *_: 1.0):
                with states() as saved:
                    whole = self.train(**flags)
                self.assertEqual(len(saved), 7)
                for step, text in enumerate(saved):
                    self.path.write_text(text)
                    rest = main(load=self.path, save=self.path, num_samples=2)
                    self.assertEqual(STEPS.findall(rest), STEPS.findall(whole)[step:])
                    self.assertEqual(samples(rest), samples(whole))
                    self.assertTrue(self.path.read_text() == saved[-1], step)

    def test_a_checkpoint_of_an_earlier_version_goes_on(self):
        """It was saved after 5 steps; the figures were printed as that version went on to 9."""
        self.names.write_text("".join(NAMES))
        out = main(load=EARLIER, num_steps=9, num_samples=3, data=self.names)
        self.assertEqual(losses(out), [2.4390, 2.4906, 2.3381, 2.3867])
        self.assertIn("val loss 2.4112", out)
        self.assertEqual(samples(out), ["abfk", "cgf", "f"])
        main(load=EARLIER, save=self.path)
        earlier, saved = (json.loads(path.read_text()) for path in (EARLIER, self.path))
        saved["flags"] = {name: saved["flags"][name] for name in earlier["flags"]}  # may have more
        self.assertEqual(saved, earlier)

    def test_flags_are_those_of_the_checkpoint_unless_given(self):
        self.train(learning_rate=0.5, warmup_steps=7, lr_schedule="constant")
        flags = microgpt.load(self.path).flags
        expected = {"learning_rate": 0.5, "warmup_steps": 7, "lr_schedule": "constant", **SMALL}
        self.assertEqual({**flags, **expected}, flags)
        given = {"learning_rate": 0.1, "num_steps": 3}
        self.assertEqual(microgpt.load(self.path, **given, seed=None).flags, {**flags, **given})
        self.assertRaises(ValueError, microgpt.load, self.path, num_step=3)

    def test_flags_given_apply_to_the_steps_that_are_left(self):
        self.train()
        flags = {"load": self.path, "num_steps": 5}
        found = [losses(main(**flags))]
        names = [name for name, entry in microgpt.FLAGS.items() if entry[0] == "training"]
        for name in set(names) - {"num_steps", "seed"}:
            found.append(losses(main(**flags, **{name: "cosine" if name == "lr_schedule" else 3})))
            self.assertNotIn(found[-1], found[:-1], name)

    def test_what_is_fixed_cannot_be_changed(self):
        self.train(val_fraction=0.5, n_layer=2)
        for flags in ({"n_layer": 1}, {"n_embd": 8}, {"n_head": 1}, {"block_size": 9},
                      {"val_fraction": 0}, {"stream": True}):  # fmt: skip
            self.assertIn(f"--{[*flags][0]}", self.error(load=self.path, **flags))
        main(load=self.path, val_fraction=0.5, n_head=2)  # the same again is fine
        self.names.write_text("abc\nabx\n")  # the alphabet is fixed, too
        self.assertIn("'x'", self.error(load=self.path, num_steps=9))

    def test_without_steps_left_it_reads_no_data_and_changes_nothing(self):
        self.train()
        before = self.path.read_text()
        self.names.unlink()
        for flags in ({}, {"num_steps": 1}, {"save": self.path}):
            out = main(load=self.path, prompt="a", **flags)
            self.assertNotIn(" loss ", out)
            self.assertIn("--num_steps", out)
            self.assertEqual([text[0] for text in samples(out)], ["a"] * 20)
        self.assertEqual(self.path.read_text(), before)

    def test_another_seed_changes_the_samples_but_not_what_is_held_out(self):
        self.train(val_fraction=0.5)
        flags = {"load": self.path, "num_steps": 3}
        first, same, other, again = (main(**flags, seed=seed) for seed in (42, 42, 7, 7))
        self.assertEqual((first, other), (same, again))
        self.assertNotEqual(samples(first), samples(other))
        self.assertEqual(first.split("sample")[0], other.split("sample")[0])

    def test_evaluations_do_not_change_the_training(self):
        for stream in (False, True):
            flags = {"num_steps": 10, "stream": stream}
            plain, graded = self.train(**flags), self.train(**flags, eval_interval=5)
            # 0.00600 is 0.01 * (1 - 4 / 10); the last step is graded at the end, as always
            form = r"(?m)^step    5 /   10 \| lr 0.00600 \| train loss \d\S+ \| val loss \d\S+\n"
            self.assertEqual(re.sub(form, "", graded), plain)
            self.assertNotEqual(graded, plain)

    def test_the_data_is_remembered(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.train(data="names")
        os.chdir(ROOT)
        self.assertIn("num docs: 24\n", main(load=self.path, num_steps=3))
        others = self.folder / "others"
        others.write_text("abc\n" * 5)
        main(load=self.path, num_steps=3, data=others, save=self.path)
        self.assertIn("num docs: 5\n", main(load=self.path, num_steps=4))
        others.unlink()
        self.assertIn(str(others), self.error(load=self.path, num_steps=4))

    def test_a_finished_run_reads_data_only_if_it_is_given(self):
        self.train()
        self.assertNotIn("num docs", main(load=self.path))
        out = main(load=self.path, data=self.names)
        self.assertRegex(out, r"num docs: 24\n(.|\n)*val loss")

    def test_the_names_that_come_with_the_program_are_found_elsewhere_too(self):
        with patch("NAMES", self.names):
            self.train(data=None)
        with patch("NAMES", self.names.rename(self.folder / "elsewhere")):
            self.assertIn("num docs: 24\n", main(load=self.path, num_steps=3))


class NothingLost(Trained):
    """Whatever ends a training, what was trained is saved, and goes on to the last bit."""

    def begin(self, **flags):
        """Start the program and read its first lines: three of counts, then of steps."""
        process = start(PROGRAM, *words(self.flags(**flags)))
        for _ in range(12):
            process.stdout.readline()
        return process

    def assert_uninterrupted(self, least, **flags):
        """The checkpoint is that of as many steps that nothing has ended, and of a least number."""
        found, other = json.loads(self.path.read_text()), self.folder / "uninterrupted"
        self.assertGreaterEqual(found["step"], least)
        self.train(**flags, num_steps=found["step"], save=other)
        expected = json.loads(other.read_text())
        del found["flags"]["num_steps"], expected["flags"]["num_steps"]
        self.assertTrue(found == expected, found["step"])

    def test_ctrl_c_at_any_line(self):
        more = 10 if os.environ.get("MICROGPT_SLOW") else 1
        train, step = [microgpt.train], [microgpt.train_step, microgpt.GPT.forward]
        step += [microgpt.Adam.step, microgpt.AdamW.step, microgpt.Run.batch, microgpt.Run.state]
        tiny = {"n_embd": 2, "batch_size": 1, "block_size": 2, "num_steps": 3, "eval_interval": 1}
        for mode, functions, is_terminal, every in (
            (DOCUMENTS, train, False, 1),
            (WINDOWS, train, True, 3),
            (DOCUMENTS, step, False, 399),
            (WINDOWS, step, False, 399),
        ):
            flags, ended = self.flags(**{**mode, **tiny, "num_samples": 0}), 0
            with states() as reference, ctrl_c_at(-1, functions) as count:
                main(**flags)
            places = range(0, next(count), every // more or 1)
            for place in places:
                self.path.unlink(missing_ok=True)
                out = io.StringIO()
                out.isatty = mock.Mock(return_value=is_terminal)
                with contextlib.redirect_stdout(out), patch("evaluate", lambda *_: 1.0):
                    try:
                        with mock.patch("os.fsync"), ctrl_c_at(place, functions):
                            run = call(**flags)
                    except KeyboardInterrupt:  # just before or after the training
                        ended += 1
                        continue
                text, printed = self.path.read_text(), len(STEPS.findall(out.getvalue()))
                self.assertTrue(json.dumps(run.state(), sort_keys=True) == text, place)
                self.assertGreaterEqual(reference.index(text), printed, place)
            self.assertLess(ended, len(places) / 2)

    def test_a_second_ctrl_c_or_a_kill_ends_the_program_after_saving(self):
        for end, expected in ((KeyboardInterrupt, 130), (SystemExit(143), 143)):
            with mock.patch("os.fsync", side_effect=[None, end, None]):  # the first is a trial
                status, out, err = command(*words(self.flags()))
            self.assertEqual((status, samples(out), err), (expected, [], ""))
            self.assertEqual(steps_in(self.path), 2)
            self.assert_only("model.json")
            self.path.unlink()

    def test_an_error_in_a_step(self):
        train_step = microgpt.train_step

        def failing(model, optimizer, *others):
            loss = train_step(model, optimizer, *others)
            if optimizer.steps_done == 5:
                raise MemoryError
            return loss

        for mode in (DOCUMENTS, WINDOWS):
            with patch("train_step", failing):
                self.assertRaises(MemoryError, self.train, **mode, num_steps=9)
            self.assert_uninterrupted(4, **mode)

    def test_a_closed_pipe_ends_it(self):
        process = self.begin(**WINDOWS, num_steps=9999)
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait()), ("", 1))
        process.stderr.close()
        self.assert_uninterrupted(9, **WINDOWS)

    @unittest.skipIf(os.name == "nt", "Windows has no such signals to send")
    def test_ctrl_c_and_kill(self):
        for mode, number, status, num_samples in (
            (DOCUMENTS, signal.SIGINT, 0, 2),
            (WINDOWS, signal.SIGTERM, 143, 0),
        ):
            process = self.begin(**mode, num_steps=9999)
            process.send_signal(number)
            out, err = the_rest(process)
            self.assertEqual((process.returncode, err), (status, ""))
            self.assertEqual(len(samples(out)), num_samples)
            self.assert_uninterrupted(9 + len(STEPS.findall(out)), **mode)

    @slow
    @unittest.skipIf(os.name == "nt", "Windows has no such signals to send")
    def test_several_runs_with_one_file_and_kills_at_any_moment_leave_it_whole(self):
        flags, rng = {"num_steps": 10**6, "eval_interval": 1, "val_fraction": 0}, random.Random(0)
        for least in range(5):
            killed, also_killed, ended = [self.begin(**flags) for _ in range(3)]
            for process in (killed, also_killed):
                time.sleep(rng.random() / 20)
                process.kill()
                process.communicate()
                self.assertGreater(steps_in(self.path), least)
            ended.send_signal(signal.SIGINT)
            self.assertEqual((the_rest(ended)[1], ended.returncode), ("", 0))
            flags["load"] = self.path

    def test_a_model_that_has_diverged_is_an_error_and_never_in_a_file(self):
        for flags in ({"weight_decay": 1e9}, {"learning_rate": 1e300}, {"learning_rate": 1e100}):
            with self.assertRaisesRegex(ArithmeticError, "--learning_rate"):
                self.train(num_steps=99, eval_interval=1, **flags)
            steps_in(self.path)


class Saving(Trained):
    @unittest.skipIf(sys.platform == "emscripten", "a file in a browser may have any name")
    def test_what_cannot_be_written_is_found_out_before_training(self):
        for path in (self.names / "x", self.folder / "none" / "x", self.folder, "x" * 300, ""):
            self.assertIn(str(path), self.error(**self.flags(save=path)))
        self.error(**self.flags(val_fraction=1))  # nothing but a trial was written by then
        self.assert_only()
        sizes = []
        with mock.patch("os.fsync", lambda file: sizes.append(os.fstat(file.fileno()).st_size)):
            self.train()
        self.assertGreater(sizes[0], max(sizes[1:]))  # where the trial fits, all others do

    def test_a_file_that_holds_something_else_is_not_written_over(self):
        others = [self.folder / name for name in ("bytes", "empty", "json")]
        for path, content in zip(others, (b"\xff\xfe\0", b"", b'{"char": 0}')):
            path.write_bytes(content)
        if os.name != "nt":
            others.append(self.folder / "link")
            others[-1].symlink_to(self.names)
        before = [path.read_bytes() for path in others]
        for path in others:
            self.assertIn(str(path), self.error(**self.flags(save=path)))
        self.assertEqual([path.read_bytes() for path in others], before)
        self.assert_only(*[path.name for path in others])

    def test_where_saving_fails_the_old_file_is_untouched(self):
        self.train()
        before = self.path.read_text()
        for function in ("os.fsync", "os.replace"):
            with mock.patch(function, side_effect=OSError(28, "No space left on device")):
                with self.assertRaisesRegex(ValueError, "model.json.*space"):
                    self.train(num_steps=1)
            self.assertEqual(self.path.read_text(), before)
            self.assert_only("model.json")

    @unittest.skipIf(os.name == "nt", "links need rights there")
    def test_through_a_link_and_with_the_rights_it_had(self):
        link, new, other = (self.folder / name for name in ("link", "new", "model.json.tmp"))
        link.symlink_to(self.path)
        new.touch()
        other.touch()  # is not ours
        self.assertIn(str(link), self.train(save=link))
        self.assertEqual(self.path.stat().st_mode, new.stat().st_mode)
        self.path.chmod(0o600)
        self.train(save=link, num_steps=1)
        self.assertTrue(link.is_symlink())
        self.assertEqual(steps_in(self.path), 1)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assert_only("link", "new", "model.json", "model.json.tmp")


class Loading(Trained):
    JUNK = (None, True, "1", -1, math.nan, [], {})

    def setUp(self):
        super().setUp()
        self.train(n_embd=2, n_head=1, block_size=1)
        self.good = json.loads(self.path.read_text())

    def changed(self, *keys, to):
        """Return the checkpoint as text, with another value in one place."""
        state = part = json.loads(json.dumps(self.good))
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = to
        return json.dumps(state)

    def test_a_damaged_checkpoint_is_an_error(self):
        good, text = self.good, json.dumps(self.good)
        places = [[key] for key in good if key != "flags"]
        places += [["weights", "wte"], ["weights", "wte", 0], ["weights", "wte", 0, 0]]
        places += [["means", 0], ["squares", -1], ["random_state", 0], ["random_state", -1]]
        changes = [(*place, junk) for place in places for junk in self.JUNK]
        changes += [
            ("version", 2), ("more", 1), ("flags", []), ("chars", good["chars"][:-1]),
            ("chars", good["chars"][::-1]), ("weights", {**good["weights"], "more": [[0.5]]}),
            ("weights", "wpe", [[0.5], [0.5]]), ("weights", "wpe", 0, [0.5] * 3),
            ("chars", ""), ("weights", "layer0.mlp_fc1", [[0.5]] * 8), ("means", good["means"][1:]),
            ("squares", good["squares"] + [0.5]), ("squares", 0, -0.5), ("means", 0, 10**400),
            ("random_state", good["random_state"][1:]), ("random_state", -1, 625),
            ("flags", "n_layer", 2), ("flags", "n_layer", 10**9), ("flags", "n_embd", 10**9),
            ("flags", "lr_schedule", "square"), ("flags", "stream", True), ("flags", "n_head", 3),
        ]  # fmt: skip
        bad = ["", "hello", "λ", "[]", "{}", "null", "3", text[:-1], text + "x"]
        for text in bad + [self.changed(*keys, to=value) for *keys, value in changes]:
            self.path.write_text(text)
            gauss = mock.patch("random.Random.gauss", side_effect=[0.0] * 999 + [SystemExit])
            with self.subTest(text), gauss, self.assertRaisesRegex(ValueError, "model.json"):
                microgpt.load(self.path)
        for path in (self.path, self.folder, self.folder / "none"):
            self.assertRegex(self.error(load=path), f"{re.escape(str(path))}(?!.*memory)")

    def test_any_damage_is_an_error_or_leaves_flags_of_the_right_types(self):
        text, rng, loaded = json.dumps(self.good), random.Random(0), 0
        texts = [self.changed("flags", key, to=x) for key in self.good["flags"] for x in self.JUNK]
        for _ in range(100):
            i, new = rng.randrange(len(text)), rng.choice(("", "0", "-", "9e9", "]", '"', "[["))
            texts.append(text[:i] + new + text[i + rng.choice((0, 1, 2, 9, 300)) :])
        for text in texts:
            self.path.write_text(text)
            with self.subTest(text), contextlib.suppress(ValueError):
                flags = microgpt.load(self.path).flags
                loaded += 1
                self.assertIs(type(flags.pop("data") or ""), str)
                for name, flag in flags.items():
                    self.assertIs(type(flag), type(microgpt.DEFAULTS[name]))
        self.assertGreater(loaded, 0)

    def test_a_flag_that_is_unknown_or_missing_is_no_damage(self):
        flags = {"more": [1], **self.good["flags"]}
        del flags["seed"], flags["lr_schedule"]
        self.path.write_text(self.changed("flags", to=flags))
        found = microgpt.load(self.path).flags
        self.assertEqual((found["seed"], found["lr_schedule"]), (42, "linear"))
        self.assertNotIn("more", found)
