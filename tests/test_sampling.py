import math
import random
import unittest
from collections import Counter

from microgpt import GPT, Tokenizer, Value, evaluate, evaluate_bigrams, sample

ABC = Tokenizer(["abc"])  # a: 0, b: 1, c: 2, BOS: 3


class Table:
    """A stand-in for a model: the logits depend on the last token only."""

    def __init__(self, rows, block_size=8):
        self.rows, self.block_size = rows, block_size

    def new_cache(self):
        return []

    def forward(self, token, cache):
        cache.append(token)
        return [Value(x) for x in self.rows[token]]


NEVER = -1000.0
CYCLE = Table([[0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [5, 0, 0, 0]])  # a b c BOS, over again


class Sampling(unittest.TestCase):
    def frequencies(self, temperature):
        row = [math.log(0.5), math.log(0.3), math.log(0.2), NEVER]
        model, rng = Table([row] * 4, block_size=1), random.Random(0)
        return Counter(sample(model, ABC, rng, temperature) for _ in range(5000))

    def test_at_temperature_1_tokens_come_as_often_as_the_model_says(self):
        found = self.frequencies(1.0)
        for char, p in zip("abc", (0.5, 0.3, 0.2)):
            self.assertAlmostEqual(found[char] / 5000, p, delta=0.03)  # over 4 standard deviations

    def test_temperature_divides_the_logits(self):
        found = self.frequencies(0.5)  # squares the probabilities: 25 : 9 : 4
        for char, p in zip("abc", (25 / 38, 9 / 38, 4 / 38)):
            self.assertAlmostEqual(found[char] / 5000, p, delta=0.03)

    def test_at_temperature_0_the_likeliest_token_comes(self):
        self.assertEqual(sample(CYCLE, ABC, temperature=0), "abc")

    def test_temperatures_next_to_0_and_infinity_work(self):
        self.assertEqual(sample(CYCLE, ABC, temperature=1e-320), "abc")
        self.assertLessEqual(set(sample(CYCLE, ABC, temperature=1e300)), set("abc"))

    def test_a_document_starts_from_bos_and_ends_before_bos(self):
        self.assertEqual(sample(Table([[0] * 4] * 3 + [[0, 0, 0, 9]]), ABC, temperature=0), "")

    def test_a_document_is_at_most_block_size_characters_long(self):
        endless = Table([[0, 0, 9, NEVER]] * 4, block_size=5)
        self.assertEqual(sample(endless, ABC, temperature=0), "ccccc")

    def test_the_same_random_stream_gives_the_same_documents(self):
        model = GPT(4, rng=random.Random(0))
        first, second = random.Random(7), random.Random(7)
        for _ in range(5):
            self.assertEqual(sample(model, ABC, first), sample(model, ABC, second))

    def test_the_stream_is_used_once_a_token_by_choices(self):
        rng, twin = random.Random(1), random.Random(1)
        text = sample(CYCLE, ABC, rng, temperature=0.1)
        for _ in range(len(text) + 1):
            twin.choices(range(4), weights=[1, 1, 1, 1])
        self.assertEqual((text, rng.getstate()), ("abc", twin.getstate()))


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

    def test_evaluation_leaves_weights_and_gradients_alone(self):
        model = GPT(4, rng=random.Random(0))
        before = [p.data for p in model.parameters]
        evaluate(model, [[3, 0, 3]])
        self.assertEqual([p.data for p in model.parameters], before)
        self.assertEqual({p.grad for p in model.parameters}, {0.0})

    def test_the_bigram_table_counts_every_pair_once_more_than_it_was_seen(self):
        # seen: 3 0, 0 0, 0 3, 3 0, 0 1, 1 3. So p(0|3) = (2 + 1) / (2 + 4), p(1|0) = 2 / (3 + 4)
        # and p(2|1) = 1 / (1 + 4); the fourth token is past the context
        loss = evaluate_bigrams(iter([[3, 0, 0, 3], [3, 0, 1, 3]]), [[3, 0, 1, 2, 3]], 4, 3)
        expected = -(math.log(3 / 6) + math.log(2 / 7) + math.log(1 / 5)) / 3
        self.assertAlmostEqual(loss, expected)
