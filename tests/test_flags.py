"""What is given, as flags and as data: what is taken, and what is an error."""

import inspect
import itertools
import math
import os
import random
import unittest
from decimal import Decimal
from pathlib import Path
from unittest import mock

import microgpt
from microgpt import DEFAULTS, FLAGS, parse
from tests.support import ROOT, Folder, command, main

COUNTS = ("num_steps", "warmup_steps", "eval_interval", "num_samples", "top_k", "seed")
SIZES = ("n_layer", "n_embd", "n_head", "block_size", "batch_size", "max_new_tokens")
AMOUNTS = ("temperature", "weight_decay", "learning_rate", "val_fraction")


class Flags(unittest.TestCase):
    def test_help_lists_all_flags_with_their_defaults(self):
        with mock.patch.dict(os.environ, COLUMNS="200"):
            status, out, err = command("--help")
        self.assertEqual((status, err), (0, ""))
        shown = {part.split()[0]: part for part in out.split("\n  --")[1:]}
        self.assertEqual(shown.keys(), DEFAULTS.keys())
        for name, default in DEFAULTS.items():
            self.assertIn(str(default), shown[name])

    def test_the_lesson_has_the_same_defaults(self):
        for function in (microgpt.GPT, microgpt.sample, microgpt.demo):
            for name, parameter in inspect.signature(function).parameters.items():
                if name in DEFAULTS:
                    self.assertEqual(parameter.default, DEFAULTS[name])

    def test_numbers_at_their_bounds_are_taken(self):
        for names, least in ((COUNTS, 0), (SIZES, 1), (AMOUNTS, 0.0), (("seed",), 10**20)):
            for name in names:
                for words in ([f"--{name}={least}"], [f"--{name}", f"{least}"]):
                    found = parse(words)
                    self.assertEqual(found, {name: least})
                    self.assertIs(type(found[name]), type(least))

    def test_bad_values_are_errors_that_name_the_flag(self):
        bad = ("ten", "", -1, math.nan, math.inf, -math.inf, "0x10", "1,5", 1j, [1], b"1", True)
        for names, values in (
            (COUNTS, (*bad, 1.5, Decimal("1.5"))),
            (SIZES, (*bad, 1.5, 0)),
            (AMOUNTS, (*bad, "1e999")),
            (["lr_schedule"], ("square", "", 1, ["linear"])),
            (["stream"], ("yes", "", 1)),
            (["prompt", "data", "save", "load"], (True,)),
            (["num_step"], (None, False, True, 20)),  # there is no such flag
        ):
            for name, value in itertools.product(names, values):
                with self.assertRaisesRegex(ValueError, f"--{name}\\b", msg=value):
                    parse([], **{name: value})
        with self.assertRaisesRegex(ValueError, "--n_embd.* 1.* 0"):
            parse(["--n_embd=0"])

    def test_words_that_are_no_flags_are_errors(self):
        lines = "--steps 3,--num_step 3,three,--num_steps,--num_steps 1 2,--stream x,--prompt -x"
        for line in lines.split(","):
            with self.assertRaises(ValueError, msg=line):
                parse(line.split())
        self.assertEqual(parse(["--prompt=-x"]), {"prompt": "-x"})

    def test_from_python_values_of_other_types_are_taken(self):
        self.assertEqual(parse([], **dict.fromkeys(FLAGS)), {})  # None is as if not given
        self.assertEqual(parse([], stream=False), {})
        given = {"learning_rate": Decimal("0.5"), "weight_decay": 1, "num_steps": Decimal(2)}
        expected = {"learning_rate": 0.5, "weight_decay": 1.0, "num_steps": 2, "prompt": "a"}
        found = parse([], **given, prompt=Path("a"))
        self.assertEqual(found, expected)
        for name, value in found.items():
            self.assertIs(type(value), type(expected[name]))

    def test_any_words_are_flags_or_a_value_error(self):
        flags = [f"--{name}" for name in FLAGS]
        words = ["1", "0", "-1", "0.5", "1e9", "nan", "x", "", "-", "--", "=", "-x", "--x", "\0"]
        words += ["\udcff", "\n", "%s", "%(prog)s", "{}", "٣", "1_0", " 7 ", "9" * 5000]
        outcomes, rng = set(), random.Random(0)
        for _ in range(200):
            line = [rng.choice(flags) + "=" + rng.choice(words)]
            line += [rng.choice(rng.choice((flags, words))) for _ in range(rng.randrange(4))]
            try:
                found = parse(line)
                outcomes.add("flags")
            except ValueError:
                outcomes.add("error")
            else:
                self.assertEqual(parse([], **found), found)
        self.assertEqual(len(outcomes), 2)


class Errors(Folder):
    def check_line(self, status, out, err):
        self.assertEqual((status, out), (2, ""))
        self.assertLess(len(err), 300)
        self.assertRegex(err, r"\Amicrogpt\.py: error: [^\n]+\n\Z")

    def test_on_the_command_line_they_are_one_line_and_status_2(self):
        for name, value in (
            ("num_steps", "x"), ("num_step", 20), ("n_head", 3), ("val_fraction", 1e308),
            ("data", "no\nfile"), ("data", "\udcff"), ("prompt", "\r\n"), ("load", ROOT),
            ("prompt", "".join(map(chr, range(500, 900)))),
        ):  # fmt: skip
            with self.assertRaises(ValueError) as caught:
                main(**{name: value})
            status, out, err = command(f"--{name}={value}")
            self.check_line(status, out, err)
            self.assertIn(" ".join(str(caught.exception).splitlines()), err)
            self.assertIn(str(ROOT) if name == "load" else name, err)
        for error in (MemoryError(), OverflowError("too large"), OSError("no\nspace")):
            with mock.patch.object(microgpt, "load", side_effect=error):
                self.check_line(*command("--load", "x"))

    def test_data_that_is_no_text_or_too_short(self):
        no_utf_8 = "Zoë\n".encode("cp1252"), "anna".encode("utf-16-le")
        for data in (b"", b" \n\t\n", b"\0\1\2", b"\xff\xfe\xfd", b"\xff\xfe", *no_utf_8):
            self.names.write_bytes(data)
            for stream in (False, True):
                self.assertIn(str(self.names), self.error(data=self.names, stream=stream))
        for other in (self.folder / "none", self.folder, self.names / "x", os.devnull):
            self.assertIn(str(other), self.error(data=other))
        self.error(data="")
        self.names.write_text("a" * 18)  # a tenth of it is held out, and a window has 18 tokens
        error = self.error(data=self.names, stream=True, block_size=17)
        self.assertRegex(error, r"\b17\b.*\b18\b")

    def test_any_data_is_trained_on_or_a_value_error(self):
        outcomes, rng = set(), random.Random(0)
        kinds = range(256), range(128), range(32, 127), b"ab\n", b"\n \r\t"
        for size in range(40):
            data = bytes(rng.choices(rng.choice(kinds), k=size))
            self.names.write_bytes(rng.choice((b"", b"", b"\xff\xfe", b"\xef\xbb\xbf")) + data)
            flags = {"stream": rng.random() < 0.5, "block_size": rng.randint(1, 8)}
            try:
                main(data=self.names, num_steps=1, n_embd=2, n_head=1, **flags)
                outcomes.add("trained")
            except ValueError:
                outcomes.add("error")
        self.assertEqual(len(outcomes), 2)
