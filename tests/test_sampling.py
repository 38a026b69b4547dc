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


def cycle():
    """Return a model that writes abc and then BOS, over and over again, when it is cold."""
    return Table([[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [5, 0, 0, 0]])


def endless(block_size=5):
    """Return a model that only writes c."""
    return Table([[0, 0, 9000, NEVER]] * 4, block_size)


def trained(model=None, rng=None, docs=("abc",), **flags):
    """Return a run with its own model, or another one in its place."""
    run = Run({**DEFAULTS, "n_embd": 8, **flags}, docs, random.Random(0))
    run.model, run.rng = model or run.model, rng or run.rng
    return run


class Sampling(unittest.TestCase):
    """The lesson's sample()."""

    def frequencies(self, row, **options):
        """Return how often each letter comes as the first, out of 5000 times."""
        rng, model = random.Random(0), Table([row] * 4, block_size=1)
        return Counter(sample(model, ABC, rng=rng, **options) for _ in range(5000))

    def test_at_temperature_1_letters_come_as_often_as_the_model_says(self):
        row = [math.log(0.5), math.log(0.3), NEVER, math.log(0.2)]
        found = self.frequencies(row, temperature=1.0)
        for name, p in (("a", 0.5), ("b", 0.3), ("", 0.2)):
            self.assertAlmostEqual(found[name] / 5000, p, delta=0.03)  # over 4 standard deviations

    def test_temperature_divides_the_logits(self):
        row = [math.log(0.5), math.log(0.3), math.log(0.2), NEVER]
        found = self.frequencies(row)  # 0.5 squares the probabilities: 25 : 9 : 4
        for name, p in (("a", 25 / 38), ("b", 9 / 38), ("c", 4 / 38)):
            self.assertAlmostEqual(found[name] / 5000, p, delta=0.03)

    def test_logits_far_from_0_do_not_overflow(self):
        self.assertEqual(self.frequencies([5000.0, 5.0, 0.0, 0.0], temperature=1.0), {"a": 5000})
        low = [-9000.0, -9000.0, -90000.0, -90000.0]
        self.assertEqual(set(self.frequencies(low, temperature=1.0)), {"a", "b"})

    def test_it_begins_with_bos_and_ends_before_bos(self):
        model = cycle()
        self.assertEqual(sample(model, ABC, 0.1, random.Random(0)), "abc")
        self.assertEqual(model.read, [3, 0, 1, 2])  # each once
        self.assertEqual(sample(Table([[0, 0, 0, 9000]] * 4), ABC), "")

    def test_a_name_is_as_long_as_the_context_at_most(self):
        for size in (1, 5):
            self.assertEqual(sample(endless(size), ABC), "c" * size)

    def test_the_same_random_stream_gives_the_same_names_and_the_global_one_is_the_default(self):
        model, found = GPT(4, rng=random.Random(0)), []
        for _ in range(2):
            rng = random.Random(7)
            found.append([sample(model, ABC, rng=rng) for _ in range(5)])
            random.seed(7)
            found.append([sample(model, ABC) for _ in range(5)])
        self.assertEqual(found, found[:1] * 4)

    def test_the_stream_is_used_once_a_token_by_choices(self):
        rng, twin = random.Random(1), random.Random(1)
        name = sample(cycle(), ABC, 0.1, rng)
        for _ in range(4):
            twin.choices(range(4), weights=[1, 1, 1, 1])
        self.assertEqual((name, rng.getstate()), ("abc", twin.getstate()))

    def test_it_changes_no_parameter(self):
        model = GPT(4, rng=random.Random(0))
        before = [p.data for p in model.parameters]
        sample(model, ABC)
        self.assertEqual([p.data for p in model.parameters], before)


class Drawing(unittest.TestCase):
    """How the program draws, with temperature and top_k."""

    def frequencies(self, row, **flags):
        """Return how often each token comes, out of 5000."""
        flags = {"max_new_tokens": 5000, "stream": True, **flags}
        run = trained(Table([row] * 4), docs=["abcd"[: len(row)]], **flags)
        return Counter(run.complete("a")[1:])

    def test_at_temperature_1_tokens_come_as_often_as_the_model_says(self):
        row = [math.log(0.5), math.log(0.3), math.log(0.2), NEVER]
        found = self.frequencies(row, temperature=1.0)
        for token, p in zip("abc", (0.5, 0.3, 0.2)):
            self.assertAlmostEqual(found[token] / 5000, p, delta=0.03)

    def test_temperature_divides_the_logits(self):
        found = self.frequencies([math.log(0.5), math.log(0.3), math.log(0.2), NEVER])
        for token, p in zip("abc", (25 / 38, 9 / 38, 4 / 38)):
            self.assertAlmostEqual(found[token] / 5000, p, delta=0.03)

    def test_at_temperature_0_and_next_to_it_the_likeliest_token_comes(self):
        for temperature in (0.0, 5e-324, 1e-310):
            for row in ([0.0, 0.1, -5.0], [-7000.0, 0.0, -1e-9], [0.0, 1e9, -1e9]):
                self.assertEqual(self.frequencies(row, temperature=temperature), {"b": 5000})

    def test_at_a_temperature_next_to_infinity_all_come(self):
        self.assertEqual(set(self.frequencies([0.0, 0.1, -5.0], temperature=1e308)), set("abc"))

    def test_from_the_k_likeliest_tokens_only(self):
        row = [math.log(0.2), math.log(0.5), math.log(0.3), NEVER]
        self.assertEqual(set(self.frequencies(row, temperature=1.0, top_k=1)), {"b"})
        two = self.frequencies(row, temperature=1.0, top_k=2)
        self.assertEqual(set(two), {"b", "c"})
        self.assertAlmostEqual(two["b"] / 5000, 5 / 8, delta=0.03)  # 0.5 of 0.8
        for k in (0, 3, 4, 5, 10**12):
            self.assertEqual(set(self.frequencies(row, temperature=1.0, top_k=k)), set("abc"))

    def test_ties_with_the_last_of_the_k_likeliest_are_drawn_from_too(self):
        found = self.frequencies([0.5, 2.0, 1.0, 1.0], temperature=1.0, top_k=2)
        self.assertEqual(set(found), set("bcd"))

    def test_logits_far_from_0_do_not_overflow(self):
        self.assertEqual(self.frequencies([5000.0, 5.0], temperature=1.0), {"a": 5000})
        self.assertEqual(set(self.frequencies([-5000.0, -5000.0], temperature=1.0)), set("ab"))


class Completing(unittest.TestCase):
    """How the program writes texts, with prompts, and past the context."""

    def test_without_a_prompt_it_writes_what_the_lesson_writes(self):
        run = trained(docs=["emma", "olivia", "ava"])
        for p in run.model.parameters:
            p.data *= 4
        for temperature in (0.5, 1.0):
            run.flags["temperature"] = temperature
            for seed in range(10):
                run.rng.seed(seed)
                name = sample(run.model, run.tokenizer, temperature, random.Random(seed))
                self.assertEqual(run.complete(""), name)

    def test_a_prompt_is_read_after_bos_and_continued(self):
        for prompt, text, read in (
            ("", "abc", [3, 0, 1, 2]),
            ("ab", "abc", [3, 0, 1, 2]),
            ("ac", "ac", [3, 0, 2]),
        ):
            run = trained(cycle(), temperature=0.0)
            self.assertEqual((run.complete(prompt), run.model.read), (text, read))

    def test_a_prompt_with_an_unknown_character_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "--prompt.*'xz'"):
            trained().complete("axbz")

    def test_as_many_tokens_are_added_as_were_asked_for_or_as_the_context_has(self):
        for prompt in ("", "ab", "ab" * 9):
            for n in (1, 4, 12):
                run = trained(endless(), max_new_tokens=n)
                self.assertEqual(run.complete(prompt), prompt + "c" * n)
            self.assertEqual(trained(endless()).complete(prompt), prompt + "c" * 5)

    def test_a_stream_has_no_end_and_starts_as_after_a_line_end(self):
        rows = [[0, 0, 9, 0], [0, 0, 0, 9], [0, 0, 0, 9], [0, 0, 9, 0]]  # \t a, \n b, a b, b a
        flags = {"docs": ["\t\nab"], "stream": True, "temperature": 0.0, "max_new_tokens": 7}
        run = trained(Table(rows), **flags)
        self.assertEqual((run.complete(""), run.model.read[0]), ("bababab", 1))
        run = trained(Table(rows), **flags)
        self.assertEqual((run.complete("\ta"), run.model.read[:2]), ("\tabababab", [0, 2]))
        run = trained(cycle(), **{**flags, "docs": ["abcd"]})  # has no line end
        self.assertEqual((run.complete(""), run.model.read[0]), ("bcdabcd", 0))

    def test_the_same_random_stream_gives_the_same_texts(self):
        first, second = trained(rng=random.Random(7)), trained(rng=random.Random(7))
        texts = [first.complete("a") for _ in range(5)]
        self.assertEqual(texts, [second.complete("a") for _ in range(5)])
        self.assertGreater(len(set(texts)), 1)

    def test_the_stream_is_used_once_a_token_by_choices(self):
        for flags in ({"temperature": 0.1}, {"temperature": 0.0}, {"temperature": 0.1, "top_k": 1}):
            rng, twin = random.Random(1), random.Random(1)
            self.assertEqual(trained(cycle(), rng, **flags).complete(""), "abc")
            for _ in range(4):
                twin.choices(range(4), weights=[1, 1, 1, 1])
            self.assertEqual(rng.getstate(), twin.getstate())

    def test_within_the_context_each_token_is_read_once(self):
        run = trained(endless(), max_new_tokens=5)
        run.complete("")
        self.assertEqual(run.model.read, [3, 2, 2, 2, 2])
        run = trained(endless(), max_new_tokens=6)
        run.complete("")  # the last of them needs room, and the five latest are read anew
        self.assertEqual(run.model.read, [3, 2, 2, 2, 2] + [2] * 5)

    def test_past_the_context_the_window_slides(self):
        # what the model says of the last block_size tokens, read anew each time
        docs, flags = ["abcd"], {"stream": True, "block_size": 3, "temperature": 0.0}
        run = trained(docs=docs, max_new_tokens=20, **flags)
        for p in run.model.parameters:
            p.data *= 8
        text = run.complete("ab")
        self.assertEqual(len(text), 22)
        self.assertGreater(len(set(text[5:])), 1)
        run.flags["max_new_tokens"] = 13
        self.assertEqual(run.complete(text[:9]), text)  # a long prompt
        tokens = [run.tokenizer.ids[char] for char in text]
        for end in range(2, len(tokens)):
            cache = run.model.new_cache()
            for token in tokens[max(0, end - 3) : end]:
                logits = [logit.data for logit in run.model.forward(token, cache)]
            self.assertEqual(tokens[end], logits.index(max(logits)))


class Evaluation(unittest.TestCase):
    def test_a_model_that_has_no_preference_has_the_loss_of_a_guess(self):
        model = GPT(4, rng=random.Random(0))
        for p in model.parameters:
            p.data = 0.0
        self.assertAlmostEqual(evaluate(model, [[3, 0, 3], [3, 1, 2, 3]]), math.log(4))

    def test_each_prediction_counts_the_same_and_none_past_the_context(self):
        model = GPT(4, block_size=3, rng=random.Random(0))
        short, long = [3, 0], [3, 1, 2, 0, 1, 1, 3]
        short_loss, long_loss = (mean(model.losses(tokens)).data for tokens in (short, long))
        expected = (short_loss + 3 * long_loss) / 4
        self.assertAlmostEqual(evaluate(model, [short, long]), expected)

    def test_evaluation_leaves_parameters_and_gradients_alone(self):
        model = GPT(4, rng=random.Random(0))
        before = [p.data for p in model.parameters]
        evaluate(model, [[3, 0, 3]])
        self.assertEqual([p.data for p in model.parameters], before)
        self.assertEqual({p.grad for p in model.parameters}, {0.0})


class Demo(unittest.TestCase):
    """Its figures on names.txt are tested in test_whole_runs.py."""

    NAMES = ["emma", "ava", "olivia", "mia", "bob", "eve", "noah", "liam", "zoe"]
    SMALL = {"n_embd": 4, "n_head": 2}

    def run_it(self, *arguments, **sizes):
        """Return the lines that it prints, and what it returns."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            result = demo(*arguments, **sizes)
        return out.getvalue().split("\n"), *result

    def test_it_works_with_2_to_9_names(self):
        for n in range(2, 10):
            lines, model, tokenizer = self.run_it(self.NAMES[:n], 12, **self.SMALL)
            self.assertEqual(len(lines), 3)  # the losses, the names, and nothing after a line end
            vocab_size = len(set("".join(self.NAMES[:n]))) + 1
            self.assertEqual(tokenizer.vocab_size, vocab_size)
            self.assertEqual(len(model.state_dict["lm_head"]), vocab_size)

    def test_it_leaves_the_callers_list_and_random_numbers_alone(self):
        names = list(self.NAMES)
        random.seed(5)
        before = random.getstate()
        self.run_it(names, 1, **self.SMALL)
        self.assertEqual((names, random.getstate()), (self.NAMES, before))

    def test_it_takes_any_number_of_steps_and_any_sizes(self):
        lines, model, _ = self.run_it(self.NAMES, num_steps=1, n_embd=32, n_layer=2)
        self.assertEqual((len(lines), model.n_layer, len(model.state_dict["wte"][0])), (3, 2, 32))

    def test_it_does_the_same_every_time(self):
        first, second = (self.run_it(self.NAMES, 3, **self.SMALL) for _ in range(2))
        self.assertEqual(first[0], second[0])
        first, second = ([p.data for p in model.parameters] for _, model, _ in (first, second))
        self.assertEqual(first, second)

    def test_it_takes_the_names_in_turn_and_prints_the_mean_of_each_100_losses(self):
        steps, train_step = [], microgpt.train_step

        def spy(model, optimizer, batch, learning_rate):
            loss = train_step(model, optimizer, batch, learning_rate)
            steps.append((batch, learning_rate, loss))
            return loss

        with mock.patch.object(microgpt, "train_step", spy):
            lines, _, tokenizer = self.run_it(self.NAMES, 250, **self.SMALL)
        names = list(self.NAMES)
        random.Random(42).shuffle(names)
        examples = [[tokenizer.encode(name)] for name in names[:8]]
        self.assertEqual([batch for batch, _, _ in steps], (examples * 40)[:250])
        for step, (_, rate, _) in enumerate(steps):
            self.assertAlmostEqual(rate, 0.01 * (1 - step / 250))
        means = [mean([loss for _, _, loss in steps[i : i + 100]]) for i in (0, 100)]
        heads = [f"step {step:4d} | loss {x:.4f}" for step, x in zip((100, 200), means)]
        self.assertEqual(lines[:-3], heads)

    def test_a_tenth_is_held_out_at_least_one_and_at_most_200_are_graded(self):
        rng = random.Random(0)
        many = ["".join(rng.choices("abc", k=rng.randint(1, 3))) for _ in range(2049)]
        for names, num_train in ((many, 1845), (["abba", "ac", "cab"], 2)):
            lines, model, tokenizer = self.run_it(names, 1, **self.SMALL)
            names = list(names)
            random.Random(42).shuffle(names)
            examples = [tokenizer.encode(name) for name in names]
            held_out = examples[num_train:][:200]
            bigrams = bigram_loss(examples[:num_train], held_out, 4)
            self.assertIn(f"{evaluate(model, held_out):.4f} (bigrams: {bigrams:.4f})", lines[0])

    def test_it_writes_20_names(self):
        with mock.patch.object(microgpt, "sample", lambda *_, **how: "mia"):
            lines, _, _ = self.run_it(self.NAMES, 1, **self.SMALL)
        self.assertEqual(lines[-2].split(), ["mia"] * 20)
