"""The PyTorch program of the README, in double precision, against microgpt.py."""

import importlib.util
import json
import random
import re
import shlex
import shutil
import tempfile
import types
import unittest
from pathlib import Path

import microgpt
from tests.exercises import changed
from tests.support import PROGRAM, README, ROOT, start

SECTION = README[README.index("## When you outgrow it") : README.index("## Recipes")]
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
        space = types.SimpleNamespace(flags=microgpt.parse(["--n_layer", 2, "--block_size", 5]))
        space.model = microgpt.GPT(7, 2, 16, 4, 5, random.Random(0))
        for p in space.model.parameters:
            p.data *= 3
        names = {}
        exec(program()[: program().index(TRAINING)], names)
        torch, theirs = names["torch"], names["GPT"](space)
        self.addCleanup(torch.set_default_dtype, torch.float32)
        examples = [[6, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0, 6], [6, 6], [6, 3, 3, 6]]
        for tokens in examples:
            cache = space.model.new_cache()
            for token, row in zip(tokens[:5], theirs.logits(torch.tensor([tokens[:5]]))[0]):
                logits = space.model.forward(token, cache)
                self.almost_equal([logit.data for logit in logits], row.tolist())
        ours = sum(microgpt.forward_backward(space.model, tokens, 4) for tokens in examples)
        loss = theirs(examples)
        loss.backward()
        self.almost_equal([ours], [loss.item()])
        gradients = torch.cat([p.grad.flatten() for p in theirs.parameters()])
        self.almost_equal([p.grad for p in space.model.parameters], gradients.tolist())

    def test_it_goes_on_as_microgpt_would_and_gives_the_checkpoint_back(self):
        plan = ("--batch_size", 2, "--lr_schedule", "cosine", "--warmup_steps", 3)
        plan += ("--weight_decay", 0.1, "--n_layer", 2, "--n_embd", 8, "--n_head", 2)
        few = ("microgpt.py", "--num_samples", 0)
        for kind in ((), ("--stream",)):
            for name in ("here", "there", "shared"):
                self.run_in_folder(*few, *plan, *kind, "--num_steps", 4, "--save", name)
            here = self.run_in_folder(*few, "--load", "here", "--save", "here", "--num_steps", 9)
            there = self.run_in_folder("gpt_torch.py", "there", "names.txt", 9)
            self.assertEqual(re.findall(r"(?m)^step .+", here), there.splitlines())
            self.almost_equal(flat(self.folder / "here"), flat(self.folder / "there"))
            self.assertEqual(microgpt.load(self.folder / "there").step, 9)
            words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
            self.run_in_folder(*words, "shared.py", "shared", "names.txt", 9)
            self.almost_equal(flat(self.folder / "here"), flat(self.folder / "shared"))

    def test_the_commands_work(self):
        self.assertEqual(len(COMMANDS), 4)
        for command in COMMANDS:
            for many, few in (("1500", "6"), ("1000", "4"), ("500", "2")):
                command = command.replace(many, few)
            python, *words = shlex.split(command)
            if python == "torchrun":
                words = ["-m", "torch.distributed.run", *words]
                shutil.copy(self.folder / "shared.py", self.folder / "gpt_torch.py")
            self.run_in_folder(*words)
        self.assertEqual(microgpt.load(self.folder / "names.json").step, 6)


class WithoutPyTorch(unittest.TestCase):
    def test_the_code_is_python_and_its_changes_fit(self):
        for text in (program(), program(DIFFS)):
            compile(text, "gpt_torch.py", "exec")
        self.assertEqual(len(DIFFS), 3)
        needed = re.findall(r"from microgpt import (.+)", MODEL)[0].split(", ")
        self.assertTrue(all(hasattr(microgpt, name) for name in needed))
