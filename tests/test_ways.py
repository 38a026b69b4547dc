import contextlib
import io
import random
import unittest
from collections import Counter

import microgpt
from microgpt import DEFAULTS, Adam, Run, learning_rate_at, train_step
from tests.support import numbers
from tests.test_training import Line

DOCS = ["ava", "bob", "eve", "abe", "bea"]


def run_on(docs, seed=0, **flags):
    """Return a run that is ready to train on some documents, and has a small model."""
    run = Run({**DEFAULTS, "n_embd": 4, "val_fraction": 0.0, **flags}, docs, random.Random(seed))
    run.use(docs)
    return run


def train(run):
    """Train it, quietly."""
    with contextlib.redirect_stdout(io.StringIO()):
        microgpt.train(run)


def texts(run, batch):
    return [run.tokenizer.decode(tokens) for tokens in batch]


class Turns(unittest.TestCase):
    def test_documents_are_taken_in_turn_and_from_the_start_again(self):
        for batch_size in (1, 2, 7):
            run, taken = run_on(DOCS, batch_size=batch_size), []
            for run.optimizer.steps_done in range(6):
                batch = texts(run, run.batch())
                self.assertEqual(len(batch), batch_size)
                taken += batch
            self.assertEqual(taken, (DOCS * 9)[: 6 * batch_size])

    def test_they_go_on_where_the_steps_that_were_done_have_ended(self):
        run = run_on(DOCS, batch_size=2)
        run.optimizer.steps_done = 10**12 + 4  # 8 documents more than a multiple of 5
        self.assertEqual(texts(run, run.batch()), ["abe", "bea"])

    def test_what_is_held_out_is_not_trained_on(self):
        run = run_on(DOCS, batch_size=9, val_fraction=0.4)
        self.assertEqual(set(texts(run, run.batch())), set(DOCS[:3]))
        self.assertEqual([texts(run, part) for part in run.graded], [DOCS[:3], DOCS[3:]])


class Streams(unittest.TestCase):
    def test_a_stream_has_no_bos(self):
        run = Run({**DEFAULTS, "n_embd": 4, "stream": True}, ["a b\n"], random.Random(0))
        self.assertEqual((run.tokenizer.bos, run.tokenizer.vocab_size), (None, 4))
        self.assertEqual(run.encode("data", ["ba\n", ""]), [[3, 2, 0], []])
        self.assertEqual(len(run.model.state_dict["lm_head"]), 4)

    def test_decoding_gives_the_text_back(self):
        run = Run({**DEFAULTS, "n_embd": 4, "stream": True}, ["naïve 😀"], random.Random(0))
        self.assertEqual(texts(run, run.encode("data", ["vïa 😀"])), ["vïa 😀"])

    def test_windows_are_drawn_from_all_places_alike_and_are_pieces_of_the_stream(self):
        run = run_on(["abcdefg"], stream=True, block_size=3, batch_size=4)
        drawn = Counter(text for _ in range(1000) for text in texts(run, run.batch()))
        self.assertEqual(set(drawn), {"abcd", "bcde", "cdef", "defg"})
        for times in drawn.values():
            self.assertAlmostEqual(times / 4000, 0.25, delta=0.03)  # over 4 standard deviations

    def test_windows_are_drawn_from_the_training_part_only(self):
        run = run_on(["abcdefghij"], stream=True, block_size=3, batch_size=200, val_fraction=0.5)
        self.assertEqual(set(texts(run, run.batch())), {"abcd", "bcde"})

    def test_a_stream_as_long_as_a_window_has_that_one_and_a_shorter_one_has_none(self):
        run = run_on(["abc"], stream=True, block_size=2, batch_size=2)
        self.assertEqual(texts(run, run.batch()), ["abc"] * 2)
        with self.assertRaisesRegex(ValueError, "--data"):
            run_on(["abc"], stream=True, block_size=3)


class Graded(unittest.TestCase):
    def test_windows_side_by_side_predict_each_token_but_the_first_once(self):
        text = "abcdefghij"
        for val_fraction, train, val in (
            (0.0, ["abc", "cde", "efg", "ghi", "ij"], []),
            (0.1, ["abc", "cde", "efg", "ghi"], []),  # from one token, none can be predicted
            (0.5, ["abc", "cde"], ["fgh", "hij"]),
        ):
            run = run_on([text], stream=True, block_size=2, val_fraction=val_fraction)
            self.assertEqual([texts(run, part) for part in run.graded], [train, val])

    def test_documents_are_cut_to_the_context(self):
        run = run_on(["abcdefgh", "abc"], block_size=4)
        bos = run.tokenizer.bos
        self.assertEqual(run.graded[0], [[bos, 0, 1, 2, 3], [bos, 0, 1, 2, bos]])

    def test_at_most_200_examples_and_3400_tokens_are_graded_but_at_least_one_example(self):
        for docs, block_size, num_graded in (
            (["ab"] * 900, 16, 200),
            (["a" * 40] * 100, 100, 80),  # 42 tokens each
            (["a" * 9000] * 5, 5000, 1),
        ):
            run = run_on(docs, block_size=block_size, val_fraction=0.5)
            most = min(num_graded, len(docs) - len(docs) // 2), min(num_graded, len(docs) // 2)
            self.assertEqual(tuple(map(len, run.graded)), most)
        run = run_on(["ab" * 9000], stream=True, val_fraction=0.5)
        self.assertEqual(list(map(len, run.graded)), [200, 200])
        run = run_on(["ab" * 9000], stream=True, val_fraction=0.5, block_size=300)
        self.assertEqual(list(map(len, run.graded)), [11, 11])


class LearningRates(unittest.TestCase):
    def check(self, expected, lr_schedule="linear", warmup_steps=0):
        how = {"lr_schedule": lr_schedule, "warmup_steps": warmup_steps, "num_steps": len(expected)}
        flags = {**DEFAULTS, **how, "learning_rate": 2.0}
        for step, rate in enumerate(expected):
            self.assertAlmostEqual(learning_rate_at(step, **flags), 2.0 * rate, places=9)

    def test_linear_falls_to_zero(self):
        self.check([1.0, 0.75, 0.5, 0.25])

    def test_cosine_falls_to_a_tenth(self):
        # 0.1 + 0.9 * (1 + cos(pi * step / 4)) / 2, with cos(pi / 4) = 0.70710678
        self.check([1.0, 0.8681980515, 0.55, 0.2318019485], "cosine")

    def test_constant_stays(self):
        self.check([1.0] * 9, "constant")

    def test_warm_up_rises_in_equal_parts_and_the_fall_comes_after_it(self):
        self.check([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2], "linear", 3)
        self.check([0.5, 1.0, 1.0], "constant", 1)
        self.check([1 / 3, 2 / 3, 1.0, 0.55], "cosine", 2)

    def test_a_plan_may_end_before_it_is_warm(self):
        for schedule in ("linear", "cosine", "constant"):
            self.check([0.2, 0.4], schedule, 4)
            self.check([1 / 3, 2 / 3], schedule, 2)


class WeightDecay(unittest.TestCase):
    def trained(self, slopes, **flags):
        """Return where the one parameter is after a step for each of these slopes."""
        run = run_on(DOCS, num_steps=len(slopes), **flags)
        run.model, run.training = Line(), slopes
        run.optimizer = type(run.optimizer)(run.model.parameters)
        train(run)
        return run.model.w

    def test_it_is_decoupled_from_the_gradient(self):
        # Loshchilov & Hutter, Algorithm 2: first the parameter is multiplied by 1 - rate * decay,
        # with the rate of the step; the running means know nothing of it. As in the two steps of
        # test_training.py:
        # w = (1 - 0.01 * 0.5) * 1 - 0.01 = 0.985
        # w = (1 - 0.005 * 0.5) * 0.985 + 0.005 * 0.378378 / 1.578753 * -1 = 0.98133917
        flags = {"learning_rate": 0.01, "weight_decay": 0.5}
        self.assertAlmostEqual(self.trained([2.0], **flags), 0.985, places=9)
        self.assertAlmostEqual(self.trained([2.0, -1.0], **flags), 0.98133917, places=7)

    def test_a_parameter_without_gradient_decays_by_the_rate_of_each_step(self):
        found = self.trained([0.0, 0.0], learning_rate=0.1, weight_decay=2.0)
        self.assertAlmostEqual(found, (1 - 0.1 * 2) * (1 - 0.05 * 2))

    def test_without_it_nothing_decays(self):
        self.assertEqual(self.trained([0.0, 0.0], learning_rate=0.1), 1.0)


class Shrinking(Adam):
    """Adam, after a weight decay of 0.3."""

    def step(self, learning_rate):
        for p in self.parameters:
            p.data *= 1 - learning_rate * 0.3
        super().step(learning_rate)


class Runs(unittest.TestCase):
    FLAGS = {
        "n_head": 2,
        "num_steps": 4,
        "batch_size": 2,
        "learning_rate": 0.05,
        "lr_schedule": "cosine",
        "warmup_steps": 1,
        "weight_decay": 0.3,
        "block_size": 3,
    }

    def test_a_run_is_steps_of_the_lesson_on_its_batches_with_its_rates_and_its_decay(self):
        for stream in (False, True):
            docs = ["".join(DOCS)] if stream else DOCS
            run, twin = (run_on(docs, stream=stream, **self.FLAGS) for _ in range(2))
            train(run)
            optimizer, losses = Shrinking(twin.model.parameters), []
            for twin.optimizer.steps_done in range(4):  # which says whose turn it is
                rate = learning_rate_at(twin.optimizer.steps_done, 0.05, "cosine", 1, 4)
                losses.append(train_step(twin.model, optimizer, twin.batch(), rate))
            self.assertEqual((run.losses, numbers(run.model)), (losses, numbers(twin.model)))
            self.assertEqual(run.rng.getstate(), twin.rng.getstate())

    def test_a_run_with_default_flags_takes_the_steps_of_adam(self):
        run, twin = (run_on(DOCS, num_steps=5) for _ in range(2))
        train(run)
        optimizer = Adam(twin.model.parameters)
        for step, tokens in enumerate(twin.training):
            train_step(twin.model, optimizer, [tokens], 0.01 * (1 - step / 5))
        self.assertEqual(numbers(run.model), numbers(twin.model))
        self.assertEqual(run.optimizer.squares, optimizer.squares)
