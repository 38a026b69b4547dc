import contextlib
import io
import math
import random
import unittest
from collections import Counter
from unittest import mock

import microgpt
from microgpt import DEFAULTS, GPT, Run, Tokenizer, Value, bigram_loss, demo, evaluate, mean, sample

NEVER = -1000.0
ABC = Tokenizer(["abc"])  # a, b and c are 0 to 2, and BOS is 3
ENDLESS = [[0, 0, 9000, NEVER]] * 4  # nothing but c
CYCLE = [[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [5, 0, 0, 0]]  # abc and then BOS, when cold


class Table:
    """A stand-in for a model: the logits depend on the last token only."""

    def __init__(self, rows, block_size=8):
        self.rows, self.block_size, self.read = rows, block_size, []

    def new_cache(self):
        return [([], [])]

    def forward(self, token, cache):
        self.read.append(token)
        cache[0][0].append(token)
        return [Value(x) for x in self.rows[token]]


def trained(model=None, docs=("abc",), **flags):
    """Return a run with its own model, or another one in its place."""
    run = Run({**DEFAULTS, "n_embd": 8, **flags}, docs, random.Random(0))
    run.model = model or run.model
    return run


def sharpen(model):
    """Make a fresh model's guesses differ from token to token."""
    for p in model.parameters:
        p.data *= 8


class Sampling(unittest.TestCase):
    def test_letters_come_as_often_as_the_model_and_the_temperature_say(self):
        # a temperature of 0.5, the default, squares the probabilities: 25 : 9 : 4
        model = Table([[math.log(0.5), math.log(0.3), NEVER, math.log(0.2)]] * 4, block_size=1)
        for options, expected in (
            ({"temperature": 1.0}, {"a": 0.5, "b": 0.3, "": 0.2}),
            ({}, {"a": 25 / 38, "b": 9 / 38, "": 4 / 38}),
        ):
            rng = random.Random(0)
            found = Counter(sample(model, ABC, rng=rng, **options) for _ in range(3000))
            self.assertEqual(found.keys(), expected.keys())
            for name, p in expected.items():  # 0.04 is over four standard deviations
                self.assertAlmostEqual(found[name] / 3000, p, delta=0.04)

    def test_a_name_begins_with_bos_and_ends_before_bos(self):
        model = Table(CYCLE)
        self.assertEqual(sample(model, ABC, 0.1, random.Random(0)), "abc")
        self.assertEqual(model.read, [3, 0, 1, 2])  # each once

    def test_a_name_is_as_long_as_the_context_at_most(self):
        for size in (1, 5):
            self.assertEqual(sample(Table(ENDLESS, size), ABC), "c" * size)

    def test_the_same_seed_gives_the_same_names_also_of_the_module_random(self):
        model, rng = GPT(4, rng=random.Random(0)), random.Random(7)
        names = [sample(model, ABC, rng=rng) for _ in range(5)]
        random.seed(7)
        self.assertEqual([sample(model, ABC) for _ in range(5)], names)


class Completing(unittest.TestCase):
    def test_without_a_prompt_it_writes_what_sample_writes(self):
        run = trained(docs=["emma", "olivia", "ava"])
        sharpen(run.model)
        for temperature in (0.5, 1.0):
            run.flags["temperature"] = temperature
            for seed in range(5):
                run.rng.seed(seed)
                name = sample(run.model, run.tokenizer, temperature, random.Random(seed))
                self.assertEqual(run.complete(""), name)

    def test_a_prompt_is_read_after_bos_and_continued(self):
        for prompt, text, read in (("ab", "abc", [3, 0, 1, 2]), ("ac", "ac", [3, 0, 2])):
            run = trained(Table(CYCLE), temperature=0.0)
            self.assertEqual((run.complete(prompt), run.model.read), (text, read))

    def test_at_temperature_0_the_likeliest_token_comes(self):
        for row in ([0.0, 0.1, -5.0], [-7000.0, 0.0, -1e-9], [0.0, 1e9, -1e9]):
            run = trained(Table([row] * 3), stream=True, temperature=0.0)
            self.assertEqual(run.complete("a"), "a" + "b" * 8)

    def test_top_k_draws_from_the_k_likeliest_tokens_and_ties_with_the_last_of_them(self):
        row, tied = [0.0, 1.0, 0.5, NEVER], [0.0, 1.0, 0.5, 0.5]
        for row, k, expected in (
            (row, 1, "b"), (row, 2, "bc"), (row, 3, "abc"), (row, 0, "abc"), (row, 99, "abc"),
            (tied, 2, "bcd"),
        ):
            flags = {"stream": True, "temperature": 1.0, "top_k": k, "max_new_tokens": 200}
            run = trained(Table([row] * 4, block_size=999), ["abcd"], **flags)
            self.assertEqual("".join(sorted(set(run.complete("a")[1:]))), expected)

    def test_max_new_tokens_are_added_or_as_many_as_the_context_has(self):
        for prompt in ("", "ab", "ab" * 9):
            for n, expected in ((1, 1), (12, 12), (None, 5)):
                run = trained(Table(ENDLESS, block_size=5), max_new_tokens=n)
                self.assertEqual(run.complete(prompt), prompt + "c" * expected)

    def test_a_stream_has_no_end_and_starts_as_after_a_line_end(self):
        rows = [[0, 0, 9, 0], [0, 0, 0, 9], [0, 0, 0, 9], [0, 0, 9, 0]]  # \t a, \n b, a b, b a
        for docs, prompt, text in (
            (["\t\nab"], "", "bababab"),
            (["\t\nab"], "\ta", "\tabababab"),
            (["abcd"], "", "cdcdcdc"),  # without line ends: as after the first character
        ):
            run = trained(Table(rows), docs, stream=True, temperature=0.0, max_new_tokens=7)
            self.assertEqual(run.complete(prompt), text)

    def test_past_the_context_the_window_slides(self):
        flags = {"stream": True, "block_size": 3, "temperature": 0.0}
        run = trained(docs=["abcd"], max_new_tokens=12, **flags)
        sharpen(run.model)
        for prompt in ("ab", "abcdabcd"):
            tokens = run.tokenizer.encode(run.complete(prompt))[1:-1]
            self.assertEqual(len(tokens), len(prompt) + 12)
            for end in range(len(prompt), len(tokens)):
                cache = run.model.new_cache()
                for token in tokens[max(0, end - 3) : end]:
                    logits = [logit.data for logit in run.model.forward(token, cache)]
                self.assertEqual(tokens[end], logits.index(max(logits)))


class Evaluation(unittest.TestCase):
    def test_each_prediction_counts_the_same(self):
        model = GPT(4, block_size=3, rng=random.Random(0))
        short, long = [3, 0], [3, 1, 2, 0]
        short_loss, long_loss = (mean(model.losses(tokens)).data for tokens in (short, long))
        self.assertAlmostEqual(evaluate(model, [short, long]), (short_loss + 3 * long_loss) / 4)


class Demo(unittest.TestCase):
    NAMES = ["emma", "ava", "olivia", "mia", "bob", "eve", "noah", "liam", "zoe"]

    def run_it(self, names, num_steps, **sizes):
        """Return the lines that a small one prints, and what it returns."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            result = demo(names, num_steps, **{"n_embd": 4, "n_head": 2, **sizes})
        return out.getvalue().splitlines(), *result

    def test_it_takes_the_names_in_turn_and_prints_the_mean_of_each_100_losses(self):
        steps, train_step = [], microgpt.train_step

        def spy(model, optimizer, batch, learning_rate):
            loss = train_step(model, optimizer, batch, learning_rate)
            steps.append((batch, learning_rate, loss))
            return loss

        with mock.patch.object(microgpt, "train_step", spy):
            lines, _, tokenizer = self.run_it(self.NAMES, 210)
        names = list(self.NAMES)
        random.Random(42).shuffle(names)
        examples = [[tokenizer.encode(name)] for name in names[:8]]
        self.assertEqual([batch for batch, _, _ in steps], (examples * 27)[:210])
        for step, (_, rate, _) in enumerate(steps):
            self.assertAlmostEqual(rate, 0.01 * (1 - step / 210))
        means = [mean([loss for _, _, loss in steps[i : i + 100]]) for i in (0, 100)]
        for line, step, loss in zip(lines, (100, 200), means):
            self.assertRegex(line, rf"{step}.* {loss:.4f}$")
        self.assertEqual(len(lines), 4)

    def test_it_grades_at_most_200_of_the_tenth_that_it_holds_out_and_writes_20_names(self):
        rng = random.Random(0)
        many = ["".join(rng.choices("abc", k=rng.randint(1, 3))) for _ in range(2049)]
        for names, num_train in ((many, 1845), (["abc", "cab"], 1)):
            (grades, written), model, tokenizer = self.run_it(names, 1, block_size=2)
            examples = [tokenizer.encode(name)[:3] for name in names]  # no bigram past the context
            random.Random(42).shuffle(examples)
            training, held_out = examples[:num_train], examples[num_train:][:200]
            for loss in (evaluate(model, held_out), bigram_loss(training, held_out, 4)):
                self.assertIn(f"{loss:.4f}", grades)
            self.assertEqual(len(written.split(" ")), 20)

    def test_it_does_the_same_each_time_and_leaves_what_is_the_callers_alone(self):
        names, state = list(self.NAMES), random.getstate()
        (first, model, _), (second, _, _) = (self.run_it(names, 3, n_layer=2) for _ in range(2))
        self.assertEqual((first, model.n_layer), (second, 2))
        self.assertEqual((names, random.getstate()), (self.NAMES, state))
