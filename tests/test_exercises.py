"""The changes of exercises.md, and their losses of step 5. exercises.py compares all figures."""

import random
from unittest import mock

from tests import exercises
from tests.support import ROOT, Folder, slow, start

DIFF = ' for x in xs:\n-    y = w[f"a{x}.b"] / 2\n+    y = w[f"a{x}.b"] / x\n'
OLD, NEW = 'for x in xs:\n    y = w[f"a{x}.b"] / 2\n', 'for x in xs:\n    y = w[f"a{x}.b"] / x\n'
RENAMED = OLD.replace("x}", "item}").replace("x in", "item in")


class Exercises(Folder):
    def test_each_changed_program_has_the_loss_of_step_5_that_is_shown(self):
        docs, rng = (ROOT / "names.txt").read_text(encoding="utf-8").split(), random.Random(42)
        rng.shuffle(docs)
        self.names.write_text("\n".join(docs[:100]), encoding="utf-8")  # five steps see no others
        state, rows = rng.getstate(), {}
        for row in exercises.rows():
            rows.setdefault(tuple(row.diffs), row)
        with mock.patch("random.Random.shuffle", lambda rng, docs: rng.setstate(state)):
            for row in rows.values():
                with self.subTest(row.number, command=row.command):
                    out = exercises.output(row, is_quick=True, data=self.names)
                    self.assertEqual([*exercises.wrong(row.cells, out, is_quick=True)], [])

    def test_no_exercise_and_no_row_is_overlooked(self):
        self.assertEqual(len(exercises.TEXTS), exercises.PAGE.count("<details><summary>"))
        self.assertEqual(len([*exercises.rows()]), exercises.PAGE.count("\n| `"))

    def test_a_change_fits_whatever_comments_say_and_variables_are_called(self):
        commented = OLD.replace(":\n", ":  # all\n\n    # half\n").rstrip() + "  # y\n"
        renamed = NEW.replace("x}", "item}").replace("x in", "item in").replace("/ x", "/ item")
        self.assertEqual(exercises.changed(OLD, DIFF), NEW)
        self.assertEqual(exercises.changed(commented, DIFF), NEW)
        self.assertEqual(exercises.changed(RENAMED, DIFF), renamed)
        self.assertEqual(exercises.changed(RENAMED + OLD, DIFF), RENAMED + NEW)  # an exact place
        self.assertEqual(exercises.changed(OLD + "z = 1\n", DIFF + "@@\n-z = 1\n"), NEW + "\n")

    def test_a_change_whose_place_is_gone_or_there_twice_is_refused(self):
        others = OLD.replace(".b", ".c"), OLD.replace("for x", "for z"), OLD.replace("xs", "w")
        for source in ("", *others, OLD + OLD, RENAMED + RENAMED):
            self.assertRaises(ValueError, exercises.changed, source, DIFF)

    def test_a_figure_that_differs_is_noticed(self):
        failed = "step    5 / 9 | loss 12.5\nthe model has diverged\n"
        whole = "step    5 / 9 | loss 12.5\ntrain loss 1.2 | val loss 1.3 | ...\nsample  1: ann\n"
        for out, column, right, wrong in (
            (whole, "step 5", "12.5", "1.2"), (whole, "step 5", ">12", ">13"),
            (whole, "train loss", "1.2", "1.3"), (whole, "val loss", "1.3", "diverged"),
            (whole, "sample 1", "ann", "anna"), (failed, "val loss", "diverged", ">1"),
        ):  # fmt: skip
            self.assertEqual([*exercises.wrong({column: right}, out, is_quick=False)], [])
            self.assertEqual(len([*exercises.wrong({column: wrong}, out, is_quick=False)]), 1)

    @slow
    def test_all_commands_have_the_losses_of_step_5_that_are_shown(self):
        process = start("tests/exercises.py", "--quick")
        self.assertEqual((process.communicate()[1], process.returncode), ("", 0))
