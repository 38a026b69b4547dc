import contextlib
import io
import math
import random
import re

import microgpt
from microgpt import DEFAULTS, AdamW, Run, Value, bigram_loss, evaluate, learning_rate_at
from tests.support import Folder, call

DOCS = ["ava", "bob", "eve", "abe", "bea"]


def run_on(docs, **flags):
    """Return a run that is ready to train on some documents, and has a small model."""
    run = Run({**DEFAULTS, "n_embd": 4, "val_fraction": 0.0, **flags}, docs, random.Random(0))
    run.use(docs)
    return run


def texts(run, examples):
    return [run.tokenizer.decode(tokens) for tokens in examples]


class Ways(Folder):
    def test_documents_come_in_turn_and_held_out_ones_never(self):
        for batch_size in (1, 2, 7):
            run, taken = run_on(DOCS, batch_size=batch_size, val_fraction=0.4), []
            for run.optimizer.steps_done in range(6):
                taken += texts(run, run.batch())
            self.assertEqual(taken, (DOCS[:3] * 14)[: 6 * batch_size])
            self.assertEqual([texts(run, part) for part in run.graded], [DOCS[:3], DOCS[3:]])

    def test_windows_come_from_all_places_of_the_training_part_alike(self):
        flags = {"stream": True, "block_size": 3, "batch_size": 4, "val_fraction": 0.3}
        run = run_on(["abcdefghij"], **flags)
        self.assertEqual(run.tokenizer.vocab_size, 10)  # without BOS
        drawn = [text for _ in range(1000) for text in texts(run, run.batch())]
        counts = [drawn.count(text) for text in ("abcd", "bcde", "cdef", "defg")]
        self.assertEqual(sum(counts), 4000)
        self.assertGreater(min(counts), 880)  # a standard deviation is 27

    def test_graded_windows_lie_side_by_side(self):
        for val_fraction, train, val in (
            (0.0, ["abc", "cde", "efg", "ghi", "ij"], []),
            (0.1, ["abc", "cde", "efg", "ghi"], []),  # from one token, none can be predicted
            (0.7, ["abc"], ["def", "fgh", "hij"]),  # one to train on is just enough
        ):
            run = run_on(["abcdefghij"], stream=True, block_size=2, val_fraction=val_fraction)
            self.assertEqual([texts(run, part) for part in run.graded], [train, val])

    def test_graded_are_at_most_200_examples_and_3400_tokens_but_at_least_one_example(self):
        for docs, block_size, stream, expected in (
            ([str(i) for i in range(900)], 16, False, 200),
            (["a" * 40] * 200, 100, False, 80),  # 42 tokens each
            (["a" * 9000] * 2, 5000, False, 1),
            (["ab" * 9000], 300, True, 11),
        ):
            run = run_on(docs, block_size=block_size, stream=stream, val_fraction=0.5)
            self.assertEqual([len(part) for part in run.graded], [expected] * 2)
            if expected == 200:  # the first of each part
                half = [f"{i}" for i in range(200)], [f"{i}" for i in range(450, 650)]
                self.assertEqual(tuple(texts(run, part) for part in run.graded), half)

    def test_figures_are_those_of_both_parts_within_the_context(self):
        docs = ["ab", "abcabcabcabc"] * 20
        self.names.write_text("\n".join(docs))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run = call(data=self.names, n_embd=4, block_size=6, num_steps=2, num_samples=0)
        random.Random(42).shuffle(docs)
        examples = [run.tokenizer.encode(doc) for doc in docs]
        train, val = examples[:36], [tokens[:7] for tokens in examples[36:]]
        figures = [evaluate(run.model, part) for part in (train, val)]
        figures += [bigram_loss(train, val, 4), math.log(4)]
        found = re.findall(r"\d\.\d{4}", out.getvalue().splitlines()[-1])
        self.assertEqual(found, [f"{x:.4f}" for x in figures])

    def test_learning_rates_rise_in_equal_parts_and_then_follow_the_schedule(self):
        for lr_schedule, warmup_steps, expected in (
            # 0.1 + 0.9 * (1 + cos(pi * step / 4)) / 2, with cos(pi / 4) = 0.70710678
            ("cosine", 0, [1, 0.8681980515, 0.55, 0.2318019485]),
            ("constant", 1, [0.5, 1, 1]),
            ("linear", 3, [0.25, 0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2]),
            ("cosine", 2, [1 / 3, 2 / 3]),  # a plan may end before it is warm
        ):
            for step, rate in enumerate(expected):
                found = learning_rate_at(step, 2.0, lr_schedule, warmup_steps, len(expected))
                self.assertAlmostEqual(found, 2 * rate, places=9)

    def test_weight_decay_is_decoupled_from_the_gradient(self):
        # Loshchilov & Hutter, Algorithm 2, with gradients 2 and -1: w shrinks by rate * decay first
        # w = (1 - 0.01 * 0.5) * 1 - 0.01 = 0.985
        # w = (1 - 0.005 * 0.5) * 0.985 - 0.005 * 0.378378 / 1.578753 = 0.98133917
        w = Value(1.0)
        optimizer = AdamW([w])
        optimizer.weight_decay = 0.5
        for rate, w.grad, expected in ((0.01, 2.0, 0.985), (0.005, -1.0, 0.98133917)):
            optimizer.step(rate)
            self.assertAlmostEqual(w.data, expected, places=7)

    def test_a_run_is_steps_of_the_lesson(self):
        flags = {"num_steps": 4, "batch_size": 2, "lr_schedule": "cosine", "warmup_steps": 1}
        flags.update(learning_rate=0.05, weight_decay=0.3, block_size=3)
        for docs, stream in ((DOCS, False), (["".join(DOCS)], True)):
            run, twin = (run_on(docs, stream=stream, **flags) for _ in range(2))
            with contextlib.redirect_stdout(io.StringIO()):
                microgpt.train(run)
            twin.optimizer.weight_decay = 0.3
            for step, loss in enumerate(run.losses):
                rate = learning_rate_at(step, 0.05, "cosine", 1, 4)
                expected = microgpt.train_step(twin.model, twin.optimizer, twin.batch(), rate)
                self.assertEqual(loss, expected)
            self.assertEqual(run.state(), twin.state())
