"""Runs of the whole program, which take long: started first (see __init__.py), looked at last."""

import contextlib
import inspect
import io
import re
import unittest

import microgpt
from tests.support import ROOT, TRACE, Folder, losses, main, result, samples
from tests.support import start_deeper_run, start_default_run, start_few_names_run


def as_demo(out):
    """Return what demo() prints, from what the program prints of the same training."""
    lines, found = [], losses(out)
    for i in range(100, len(found) + 1, 100):
        lines.append(f"step {i:4d} | loss {sum(found[i - 100 : i]) / 100:.4f}")
    form = r"(?m)^train loss \S+ \| val loss (\S+) \| bigram table (\S+) "
    lines.append("held-out loss: {} (bigrams: {})".format(*re.search(form, out).groups()))
    return [*lines, " ".join(samples(out))]


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


class Demo(Folder):
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
        docs = (ROOT / "names.txt").read_text(encoding="utf-8").split()[:120]
        self.names.write_text("\n".join(docs))
        sizes = {"n_layer": 2, "n_embd": 4, "n_head": 2}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            model, tokenizer = microgpt.demo(docs, num_steps=200, **sizes)
        self.assertEqual((model.n_layer, tokenizer.vocab_size), (2, 27))
        self.assert_alike(
            out.getvalue().splitlines(), as_demo(main(num_steps=200, data=self.names, **sizes))
        )

    def test_what_it_is_said_to_print_is_what_comes_out_of_a_thousand_steps(self):
        said = inspect.getdoc(microgpt.demo)
        last, grades, names = re.findall(r"(?m)^(step .*|held-out .*|kelon .*?)(?: \.\.\.)?$", said)
        printed = as_demo(result(start_default_run())[1])
        self.assert_alike([last, grades], printed[9:11])
        self.assertTrue(printed[11].startswith(f"{names} "))
        self.assertEqual(printed[11].split(), TRACE["default"]["samples"])
        model, bigrams = map(float, re.findall(r"\d\.\d+", grades))
        self.assertLess(model, bigrams)


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
