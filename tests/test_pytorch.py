"""The PyTorch program of the README, in double precision, against microgpt.py."""

import contextlib
import importlib.util
import io
import json
import os
import random
import re
import shlex
import shutil
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import microgpt
from tests.exercises import changed
from tests.support import PROGRAM, section, start

SECTION = section("When you outgrow it")
MODEL, TRAINING, WAY_BACK = re.findall(r"```python\n(.+?)```", SECTION, re.S)
DIFFS = re.findall(r"```diff\n(.+?)```", SECTION, re.S)
COMMANDS = re.findall(r"^\$ (.+)$", SECTION, re.M)
DOUBLE = "\nimport torch\n", "\nimport torch\ntorch.set_default_dtype(torch.float64)\n"
NAMES = "".join(f"{a}{b}{c * 3}\n" for a in "abcd" for b in "efgh" for c in ("", "i", "jk"))


def program(diffs=()):
    """Return the text of gpt_torch.py, in double precision."""
    text = "\n\n".join((MODEL, TRAINING, WAY_BACK)).replace(*DOUBLE, 1)
    for diff in diffs:
        text = changed(text, diff)
    return text


def flat(checkpoint):
    """Return all weights and moments of a checkpoint's file as one list."""
    found = json.loads(checkpoint.read_text())
    rows = [row for name in sorted(found["weights"]) for row in found["weights"][name]]
    return [x for row in rows for x in row] + found["means"] + found["squares"]


@unittest.skipUnless(importlib.util.find_spec("torch"), "needs PyTorch")
class PyTorch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        shutil.copy(PROGRAM, self.folder)
        (self.folder / "names.txt").write_text(NAMES)
        (self.folder / "gpt_torch.py").write_text(program())
        (self.folder / "shared.py").write_text(program(DIFFS))

    def run_in_folder(self, *words):
        process = start(*words, cwd=self.folder)
        out, err = process.communicate()
        self.assertEqual(process.returncode, 0, err)
        return out

    def almost_equal(self, ours, theirs):
        self.assertEqual(len(ours), len(theirs))
        for a, b in zip(ours, theirs):
            self.assertAlmostEqual(a, b, delta=1e-9)

    def test_it_has_the_logits_the_loss_and_every_gradient(self):
        model = microgpt.GPT(7, 2, 16, 4, 5, random.Random(0))
        for p in model.parameters:
            p.data *= 3
        names = {}
        exec(program()[: program().index(TRAINING)], names)
        torch, theirs = names["torch"], names["GPT"](types.SimpleNamespace(model=model))
        self.addCleanup(torch.set_default_dtype, torch.float32)
        examples = [[6, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0, 6], [6, 6], [6, 3, 3, 6]]
        for tokens in examples:
            cache = model.new_cache()
            for token, row in zip(tokens[:5], theirs.logits(torch.tensor([tokens[:5]]))[0]):
                logits = model.forward(token, cache)
                self.almost_equal([logit.data for logit in logits], row.tolist())
        ours = microgpt.mean([microgpt.mean(model.losses(tokens)) for tokens in examples])
        ours.backward()
        loss = theirs(examples)
        loss.backward()
        self.almost_equal([ours.data], [loss.item()])
        gradients = torch.cat([p.grad.flatten() for p in theirs.parameters()])
        self.almost_equal([p.grad for p in model.parameters], gradients.tolist())

    def here(self, *words):
        """Run microgpt.py in this process and in the folder; return what it prints."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            microgpt.main(**microgpt.parse([str(word) for word in words]))
        return out.getvalue()

    def test_it_goes_on_as_microgpt_would_and_gives_the_checkpoint_back(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        plan = ("--batch_size", 2, "--lr_schedule", "cosine", "--warmup_steps", 3)
        plan += ("--weight_decay", 0.1, "--n_layer", 2, "--n_embd", 8, "--n_head", 2)
        few = ("--num_samples", 0, "--data", "names.txt")
        for kind in ((), ("--stream",)):
            for name in ("here", "there", "shared"):
                self.here(*few, *plan, *kind, "--num_steps", 4, "--save", name)
            torchrun, *words = shlex.split(COMMANDS[-1])
            self.assertEqual((torchrun, words[-3:]), ("torchrun", ["names.json", "names.txt", "1500"]))
            words = ("-m", "torch.distributed.run", *words[:-4], "shared.py", "shared", "names.txt", 9)
            sharing = start(*words, cwd=self.folder)
            here = self.here(*few, "--load", "here", "--save", "here", "--num_steps", 9)
            with contextlib.redirect_stdout(io.StringIO()) as there:
                with mock.patch("sys.argv", ["gpt_torch.py", "there", "names.txt", "9"]):
                    exec(program(), names := {})
            names["torch"].set_default_dtype(names["torch"].float32)
            self.assertEqual(re.findall(r"(?m)^step .+", here), there.getvalue().splitlines())
            self.almost_equal(flat(self.folder / "here"), flat(self.folder / "there"))
            self.assertEqual(microgpt.load(self.folder / "there").optimizer.steps_done, 9)
            err = sharing.communicate()[1]
            self.assertEqual(sharing.returncode, 0, err)
            self.almost_equal(flat(self.folder / "here"), flat(self.folder / "shared"))

    def test_the_commands_work(self):
        self.assertEqual(len(COMMANDS), 4)
        for command in COMMANDS[:-1]:  # the last one is run above
            for many, few in (("1000", "4"), ("500", "2")):
                command = command.replace(many, few)
            python, *words = shlex.split(command)
            self.assertEqual(python, "python")
            self.run_in_folder(*words)
        self.assertEqual(microgpt.load(self.folder / "names.json").optimizer.steps_done, 4)


class WithoutPyTorch(unittest.TestCase):
    def test_the_code_is_python_and_its_changes_fit(self):
        for text in (program(), program(DIFFS)):
            compile(text, "gpt_torch.py", "exec")
        self.assertEqual(len(DIFFS), 3)
        needed = re.findall(r"from microgpt import (.+)", MODEL)[0].split(", ")
        self.assertTrue(all(hasattr(microgpt, name) for name in needed))
