import contextlib
import io
import math
import random
import unittest
from collections import Counter

from microgpt import GPT, Value, bigram_loss, draw, evaluate, first_run, sample

NEVER = -1000.0


class Table:
    """A stand-in for a model: the logits depend on the last token only."""

    def __init__(self, rows, block_size=8):
        self.rows, self.block_size = rows, block_size

    def new_cache(self):
        return [([], [])]

    def forward(self, token, cache):
        cache[0][0].append(token)
        return [Value(x) for x in self.rows[token]]


CYCLE = Table([[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [5, 0, 0, 0]])  # 0 1 2 3, over again


def likeliest(model, tokens, max_new_tokens=8, stop=3):
    return sample(model, tokens, max_new_tokens, temperature=0, stop=stop)


class Drawing(unittest.TestCase):
    ROW = [math.log(0.5), math.log(0.3), math.log(0.2), NEVER]

    def frequencies(self, row, **options):
        rng, logits = random.Random(0), [Value(x) for x in row]
        return Counter(draw(logits, rng=rng, **options) for _ in range(5000))

    def test_at_temperature_1_tokens_come_as_often_as_the_model_says(self):
        found = self.frequencies(self.ROW, temperature=1.0)
        for token, p in enumerate((0.5, 0.3, 0.2)):
            self.assertAlmostEqual(found[token] / 5000, p, delta=0.03)  # over 4 standard deviations

    def test_temperature_divides_the_logits(self):
        found = self.frequencies(self.ROW)  # 0.5 squares the probabilities: 25 : 9 : 4
        for token, p in enumerate((25 / 38, 9 / 38, 4 / 38)):
            self.assertAlmostEqual(found[token] / 5000, p, delta=0.03)

    def test_at_temperature_0_the_likeliest_token_comes(self):
        self.assertEqual(self.frequencies([0.0, 0.1, -5.0], temperature=0), {1: 5000})

    def test_temperatures_next_to_0_and_infinity_work(self):
        self.assertEqual(self.frequencies([0.0, 0.1, -5.0], temperature=1e-320), {1: 5000})
        self.assertEqual(set(self.frequencies([0.0, 0.1, -5.0], temperature=1e300)), {0, 1, 2})

    def test_from_the_k_likeliest_tokens_only(self):
        row = [math.log(0.2), math.log(0.5), math.log(0.3), NEVER]
        self.assertEqual(set(self.frequencies(row, temperature=1.0, top_k=1)), {1})
        two = self.frequencies(row, temperature=1.0, top_k=2)
        self.assertEqual(set(two), {1, 2})
        self.assertAlmostEqual(two[1] / 5000, 5 / 8, delta=0.03)  # 0.5 of 0.8
        for k in (0, 3, 4, 5, 10**12):
            self.assertEqual(set(self.frequencies(row, temperature=1.0, top_k=k)), {0, 1, 2})

    def test_ties_with_the_last_of_the_k_likeliest_are_drawn_from_too(self):
        found = self.frequencies([0.0, 2.0, 1.0, 1.0, 0.5], temperature=1.0, top_k=2)
        self.assertEqual(set(found), {1, 2, 3})

    def test_logits_far_from_0_do_not_overflow(self):
        self.assertEqual(self.frequencies([5000.0, 5.0], temperature=1.0), {0: 5000})
        self.assertEqual(set(self.frequencies([-5000.0, -5000.0], temperature=1.0)), {0, 1})


class Sampling(unittest.TestCase):
    def test_it_stops_before_the_stop_token(self):
        self.assertEqual(likeliest(CYCLE, [3]), [0, 1, 2])
        self.assertEqual(likeliest(Table([[0, 0, 0, 9]] * 4), [3]), [])

    def test_the_given_tokens_are_continued_and_not_changed(self):
        tokens = [3, 0, 1]
        self.assertEqual(likeliest(CYCLE, tokens), [2])
        self.assertEqual(tokens, [3, 0, 1])
        self.assertEqual(likeliest(CYCLE, [3, 2]), [])

    def test_as_many_tokens_are_added_as_were_asked_for(self):
        endless = Table([[0, 0, 9, NEVER]] * 4, block_size=5)
        for n in (0, 1, 4, 12):
            self.assertEqual(likeliest(endless, [3, 0, 1], n), [2] * n)
        self.assertEqual(likeliest(endless, [3] + [0] * 9, 5), [2] * 5)

    def test_without_a_stop_token_nothing_ends_it(self):
        self.assertEqual(likeliest(CYCLE, [3], 9, stop=None), [0, 1, 2, 3, 0, 1, 2, 3, 0])

    def test_the_same_random_stream_gives_the_same_tokens(self):
        model = GPT(4, rng=random.Random(0))
        first, second = random.Random(7), random.Random(7)
        for _ in range(5):
            self.assertEqual(
                sample(model, [3], 16, stop=3, rng=first), sample(model, [3], 16, stop=3, rng=second)
            )

    def test_the_stream_is_used_once_a_token_by_choices(self):
        rng, twin = random.Random(1), random.Random(1)
        tokens = sample(CYCLE, [3], 8, temperature=0.1, stop=3, rng=rng)
        for _ in range(4):
            twin.choices(range(4), weights=[1, 1, 1, 1])
        self.assertEqual((tokens, rng.getstate()), ([0, 1, 2], twin.getstate()))

    def test_temperature_and_top_k_are_handed_on(self):
        model = Table([[1.0, 0.9, 0.0, NEVER]] * 4, block_size=1)
        hot = sample(model, [3], 500, temperature=100.0, rng=random.Random(0))
        self.assertEqual(set(hot), {0, 1, 2})
        best_two = sample(model, [3], 500, temperature=100.0, top_k=2, rng=random.Random(0))
        self.assertEqual(set(best_two), {0, 1})

    def test_within_the_context_each_token_is_read_once(self):
        endless, read = Table([[0, 0, 9, NEVER]] * 4, block_size=5), []
        forward = endless.forward
        endless.forward = lambda token, cache: read.append(token) or forward(token, cache)
        likeliest(endless, [3], 5)
        self.assertEqual(read, [3, 2, 2, 2, 2])
        likeliest(endless, [3], 6)
        self.assertEqual(read[5:], [3, 2, 2, 2, 2] + [2] * 5)  # from here on the window slides

    def test_past_the_context_the_window_slides(self):
        # what the model says of the last block_size tokens, read anew each time
        model = GPT(4, 1, 8, 2, block_size=3, rng=random.Random(26))
        for p in model.parameters:
            p.data *= 8
        tokens = [0, 1] + likeliest(model, [0, 1], 20, stop=None)
        self.assertEqual(likeliest(model, tokens[:9], 13, stop=None), tokens[9:])  # a long prompt
        self.assertGreater(len(set(tokens[5:])), 1)
        for end in range(2, len(tokens)):
            cache = model.new_cache()
            for token in tokens[max(0, end - 3) : end]:
                logits = [logit.data for logit in model.forward(token, cache)]
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
        expected = (model.loss(short).data + 3 * model.loss(long).data) / 4
        self.assertAlmostEqual(evaluate(model, [short, long]), expected)

    def test_evaluation_leaves_parameters_and_gradients_alone(self):
        model = GPT(4, rng=random.Random(0))
        before = [p.data for p in model.parameters]
        evaluate(model, [[3, 0, 3]])
        self.assertEqual([p.data for p in model.parameters], before)
        self.assertEqual({p.grad for p in model.parameters}, {0.0})


class FirstRun(unittest.TestCase):
    """Its figures on names.txt are tested in test_whole_runs.py."""

    def run_it(self, docs, num_steps):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            first_run(docs, num_steps)
        return out.getvalue()

    def test_it_goes_round_where_there_are_fewer_documents_than_steps(self):
        for num_steps in 30, 39:  # a line for every 3
            lines = self.run_it(["emma", "ava", "olivia"], num_steps).splitlines()
            heads = [f"step {step:4d} | " for step in range(3, num_steps + 1, 3)]
            self.assertEqual([line[:12] for line in lines[:-2]], heads)

    def test_it_leaves_the_callers_list_and_random_numbers_alone(self):
        docs = ["emma", "ava", "olivia", "mia"]
        random.seed(5)
        self.run_it(docs, 1)
        self.assertEqual((docs, random.random()), (["emma", "ava", "olivia", "mia"], 0.6229016948897019))

    def test_a_tenth_is_held_out_at_least_one_and_at_most_200_are_graded_cut_to_the_context(self):
        rng = random.Random(0)
        many = ["".join(rng.choices("abc", k=rng.choice((1, 2, 2, 20)))) for _ in range(2040)]
        for docs, num_train in ((many, 1836), (["abba", "ac", "cab"], 2)):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                model, tokenizer = first_run(docs, 1)
            random.Random(42).shuffle(docs)
            cut = [tokenizer.encode(doc)[:17] for doc in docs]
            bigrams = bigram_loss(cut[:num_train], cut[num_train:][:200], 4)
            self.assertIn(f" model, {bigrams:.4f} bigrams, {math.log(4):.4f} blind guess", out.getvalue())
            self.assertRegex(out.getvalue(), r"\Astep    1 \| loss (?s:.+) \n\Z")
            self.assertEqual((tokenizer.chars, model.block_size), (["a", "b", "c"], 16))

    def test_it_does_the_same_every_time(self):
        docs = ["emma", "ava", "olivia", "mia"] * 5
        self.assertEqual(self.run_it(docs, 3), self.run_it(docs, 3))
