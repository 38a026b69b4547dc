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
        return [([], [])]

    def forward(self, token, cache):
        cache[0][0].append(token)
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

    def test_from_the_k_likeliest_tokens_only(self):
        row = [math.log(0.2), math.log(0.5), math.log(0.3), NEVER]
        model, rng = Table([row] * 4, block_size=1), random.Random(0)

        def found(k):
            return Counter(sample(model, ABC, rng, 1.0, top_k=k) for _ in range(3000))

        self.assertEqual(set(found(1)), {"b"})
        two = found(2)
        self.assertEqual(set(two), {"b", "c"})
        self.assertAlmostEqual(two["b"] / 3000, 5 / 8, delta=0.04)  # 0.5 of 0.8
        for k in (0, 3, 4, 5, 10**12):
            self.assertEqual(set(found(k)), {"a", "b", "c"})

    def test_a_prompt_is_continued_and_stands_in_the_result(self):
        self.assertEqual(sample(CYCLE, ABC, temperature=0, prompt="ab"), "abc")
        self.assertEqual(sample(CYCLE, ABC, temperature=0, prompt="cab"), "cabc")
        self.assertEqual(sample(CYCLE, ABC, temperature=0, prompt="c"), "c")

    def test_a_prompt_outside_the_alphabet_is_an_error_that_names_both(self):
        with self.assertRaisesRegex(ValueError, "'xy' is not in the alphabet, which is 'abc'"):
            sample(CYCLE, ABC, prompt="yaxb")

    def test_as_many_tokens_are_added_as_were_asked_for(self):
        endless = Table([[0, 0, 9, NEVER]] * 4, block_size=5)
        for n in (0, 1, 4, 12):
            text = sample(endless, ABC, temperature=0, prompt="ab", max_new_tokens=n)
            self.assertEqual(text, "ab" + n * "c")
        self.assertEqual(sample(endless, ABC, temperature=0, prompt="a" * 9), "a" * 9 + "ccccc")

    def test_a_stream_starts_from_a_newline_or_else_from_one_of_its_characters(self):
        lines = Tokenizer(["\na\t"], is_stream=True)  # tab: 0, newline: 1, a: 2
        after = Table([[0, 5, 0], [0, 0, 5], [5, 0, 0]], block_size=4)
        self.assertEqual(sample(after, lines, temperature=0), "a\t\na")
        no_newline = Tokenizer(["cba"], is_stream=True)  # a: 0, b: 1, c: 2
        self.assertEqual(sample(after, no_newline, temperature=0), "bcab")
        self.assertEqual(sample(after, no_newline, temperature=0, prompt="b"), "bcabc")

    def test_within_the_context_each_token_is_read_once(self):
        endless, read = Table([[0, 0, 9, NEVER]] * 4, block_size=5), []
        forward = endless.forward
        endless.forward = lambda token, cache: read.append(token) or forward(token, cache)
        sample(endless, ABC, temperature=0, max_new_tokens=5)
        self.assertEqual(read, [3, 2, 2, 2, 2])
        sample(endless, ABC, temperature=0, max_new_tokens=6)
        self.assertEqual(read[5:], [3, 2, 2, 2, 2] + [2] * 5)  # from here on the window slides

    def test_past_the_context_the_window_slides(self):
        # what the model says of the last block_size tokens, read anew each time
        model, rng = GPT(4, 1, 8, 2, block_size=3, rng=random.Random(26)), random.Random(0)
        for p in model.parameters:
            p.data *= 8
        tokenizer = Tokenizer(["abcd"], is_stream=True)
        text = sample(model, tokenizer, rng, temperature=0, prompt="ab", max_new_tokens=20)
        self.assertGreater(len(set(text[5:])), 1)
        for end in range(2, len(text)):
            cache = model.new_cache()
            for token in tokenizer.encode(text[max(0, end - 3) : end]):
                logits = [logit.data for logit in model.forward(token, cache)]
            self.assertEqual(text[end], "abcd"[logits.index(max(logits))])


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
        # and p(2|1) = 1 / (1 + 4)
        loss = evaluate_bigrams([[3, 0, 0, 3], [3, 0, 1, 3]], [[3, 0, 1], [1, 2]], 4)
        expected = -(math.log(3 / 6) + math.log(2 / 7) + math.log(1 / 5)) / 3
        self.assertAlmostEqual(loss, expected)
