"""The program against the figures of the trace, which are those of the textbook's program."""

import contextlib
import inspect
import io
import re
from unittest import mock

import microgpt
from tests.support import README, ROOT, TRACE, Folder, has_processes, losses, main, run, samples
from tests.support import slow


def without_grades():
    """Let a run print its losses and samples sooner."""
    return mock.patch.object(microgpt, "evaluate", lambda *_: 0.0)


def as_demo(out):
    """Return what demo() prints, from what the program prints of the same training."""
    lines, found = [], losses(out)
    for i in range(100, len(found) + 1, 100):
        lines.append(f"step {i:4d} | loss {sum(found[i - 100 : i]) / 100:.4f}")
    form = r"(?m)^train loss \S+ \| val loss (\S+) \| bigram table (\S+) "
    lines.append("held-out loss: {} (bigrams: {})".format(*re.search(form, out).groups()))
    return [*lines, " ".join(samples(out))]


class WholeRuns(Folder):
    def check_trace(self, name, out):
        expected = TRACE[name]
        for what in ("num_docs", "vocab_size", "num_params"):
            self.assertIn(f"\n{what.replace('_', ' ')}: {expected[what]}\n", "\n" + out)
        self.assertEqual(losses(out), expected["losses"])
        self.assertEqual(samples(out), expected["samples"])

    def assert_alike(self, ours, theirs):
        """The same lines, but for the last digit of means that were taken of rounded losses."""
        self.assertEqual(len(ours), len(theirs))
        for a, b in zip(ours, theirs):
            if a.startswith("step"):
                self.assertEqual(a[:-6], b[:-6])
                self.assertAlmostEqual(float(a[-6:]), float(b[-6:]), delta=0.00011)
            else:
                self.assertEqual(a, b)

    def test_the_deeper_run_prints_the_figures_of_the_trace(self):
        with without_grades():
            self.check_trace("deep", main(**TRACE["deep"]["flags"]))

    def test_demo_is_the_training_grading_and_sampling_of_the_program(self):
        docs = (ROOT / "names.txt").read_text(encoding="utf-8").split()[:60]
        self.names.write_text("\n".join(docs))
        sizes = {"n_layer": 2, "n_embd": 4, "n_head": 2}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            microgpt.demo(docs, num_steps=100, **sizes)
        theirs = as_demo(main(num_steps=100, data=self.names, **sizes))
        self.assert_alike(out.getvalue().splitlines(), theirs)

    @slow
    @has_processes
    def test_the_default_run_prints_what_the_trace_the_lesson_and_the_page_say(self):
        status, out, err = run()
        self.assertEqual((status, err), (0, ""))
        self.check_trace("default", out)
        said = inspect.getdoc(microgpt.demo)
        last, grades, names = re.findall(r"(?m)^(step .*|held-out .*|kelon .*?)(?: \.\.\.)?$", said)
        printed = as_demo(out)
        self.assert_alike([last, grades], printed[9:11])
        self.assertTrue(printed[11].startswith(f"{names} "))
        shown = re.search(r"(?s)```text\n(num docs.*?)\.\.\.\n```", README)[1]
        before, live, after = re.split(r"(?m)^step 1000 / 1000 \| loss (.*?) \|.*\n", shown)
        self.assertTrue(out.startswith(before))
        self.assertIn(f"\n{after}", out)
        self.assertAlmostEqual(float(live), sum(losses(out)[-50:]) / 50, delta=0.00011)
