"""Runs of the whole program, which take long: started first (see __init__.py), looked at last."""

import contextlib
import inspect
import io
import re
import tempfile
import unittest
from pathlib import Path

import microgpt
from tests.support import ROOT, TRACE, losses, result, samples
from tests.support import start_deeper_run, start_default_run, start_few_names_run


def first_run(docs, num_steps):
    """Return what the lesson's last function prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        microgpt.first_run(docs, num_steps)
    return out.getvalue()


def as_first_run(out, every):
    """Return what first_run prints, from what the program prints of the same training."""
    lines, found = [], losses(out)
    for i in range(every, len(found) + 1, every):
        lines.append(f"step {i:4d} | loss {sum(found[i - every : i]) / every:.4f}")
    form = r"train loss \S+ \| val loss (\S+) \| bigram table (\S+) \| ln\(27\) (\S+)"
    model, bigrams, guess = re.search(form, out).groups()
    lines.append(f"held-out loss: {model} model, {bigrams} bigrams, {guess} blind guess")
    return [*lines, " ".join(samples(out)) + " "]


class ReferenceFigures(unittest.TestCase):
    def check(self, name, out):
        expected = TRACE[name]
        self.assertIn(f"num docs: {expected['num_docs']}\n", out)
        self.assertIn(f"vocab size: {expected['vocab_size']}\n", out)
        self.assertIn(f"num params: {expected['num_params']}\n", out)
        self.assertEqual(losses(out), expected["losses"])
        self.assertEqual(samples(out), expected["samples"])

    def test_the_deeper_run_prints_the_figures_of_the_trace(self):
        status, out, err = result(start_deeper_run())
        self.assertEqual((status, err), (0, ""))
        self.check("deep", out)

    def test_the_default_run_prints_the_figures_of_the_trace(self):
        status, out, err = result(start_default_run())
        self.assertEqual((status, err), (0, ""))
        self.check("default", out)


class FirstRun(unittest.TestCase):
    DOCS = microgpt.split_docs((ROOT / "names.txt").read_text(encoding="utf-8"))

    def assert_alike(self, ours, theirs):
        """The same lines, but for the last digit of means that were taken of rounded losses."""
        self.assertEqual(len(ours), len(theirs))
        for a, b in zip(ours, theirs):
            if a.startswith("step"):
                self.assertEqual(a[:-6], b[:-6])
                self.assertAlmostEqual(float(a[-6:]), float(b[-6:]), delta=0.00011)
            else:
                self.assertEqual(a, b)

    def test_it_is_the_training_grading_and_sampling_of_the_program(self):
        docs = self.DOCS[:120]  # few to grade, and all letters
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "names").write_text("\n".join(docs))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                microgpt.main(num_steps=20, data=f"{folder}/names")
        self.assert_alike(first_run(docs, 20).splitlines(), as_first_run(out.getvalue(), 2))

    def test_what_it_is_said_to_print_is_what_comes_out_of_a_thousand_steps(self):
        said = inspect.getdoc(microgpt.first_run)
        form = r"(?m)^(step .*|held-out .*|kelon .*?)(?: \.\.\.)?$"
        first, last, grades, names = re.findall(form, said)
        printed = as_first_run(result(start_default_run())[1], 100)
        self.assert_alike([first, last, grades], [printed[0], printed[9], printed[10]])
        self.assertTrue(printed[11].startswith(f"{names} "))
        losses = TRACE["default"]["losses"]
        self.assertAlmostEqual(float(first[-6:]), sum(losses[:100]) / 100, delta=0.0001)
        self.assertEqual(printed[11].split(), TRACE["default"]["samples"])
        model, bigrams, guess = map(float, re.findall(r"\d\.\d+", grades))
        self.assertLess(model, bigrams)
        self.assertLess(bigrams, guess)


class FewNames(unittest.TestCase):
    def test_a_hundred_names_are_learnt_by_heart(self):
        status, out, err = result(start_few_names_run())
        self.assertEqual((status, err), (0, ""))
        form = r"(?:step +(\d+) / 1000 \| lr \S+ \| )?train loss (\S+) \| val loss (\S+)"
        steps, train, val = zip(*re.findall(rf"(?m)^{form}", out))
        self.assertEqual(steps, ("200", "400", "600", "800", ""))
        train, val = [float(loss) for loss in train], [float(loss) for loss in val]
        self.assertEqual(train, sorted(train, reverse=True))
        self.assertLess(min(val), val[-1] - 0.2)
        self.assertLess(train[-1], val[-1] - 1)
