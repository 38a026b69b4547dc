import random
import sys
import unittest
from collections import Counter
from itertools import islice

from microgpt import AdamW, StreamTokenizer, first_windows, linear_decay, plan_rates
from microgpt import random_windows, take_turns, train
from tests.test_training import Line


class Turns(unittest.TestCase):
    def test_examples_are_taken_in_turn_and_from_the_start_again(self):
        batches = take_turns("abcde", 2)
        self.assertEqual(list(islice(batches, 4)), [["a", "b"], ["c", "d"], ["e", "a"], ["b", "c"]])
        self.assertEqual(list(islice(take_turns("ab", 3), 2)), [["a", "b", "a"], ["b", "a", "b"]])

    def test_they_can_begin_anywhere_without_walking_there(self):
        self.assertEqual(next(take_turns("abcde", 2, start=10**12 + 3)), ["d", "e"])


class Streams(unittest.TestCase):
    def test_a_stream_has_no_bos(self):
        tokenizer = StreamTokenizer(["a b\n"])
        self.assertEqual((tokenizer.bos, tokenizer.vocab_size), (None, 4))
        self.assertEqual(tokenizer.encode("ba\n"), [3, 2, 0])
        self.assertEqual(tokenizer.encode(""), [])

    def test_decoding_gives_the_text_back(self):
        tokenizer = StreamTokenizer(["naïve 😀"])
        self.assertEqual(tokenizer.decode(tokenizer.encode("vïa")), "vïa")

    def test_a_character_without_an_id_is_an_error_that_says_which(self):
        with self.assertRaisesRegex(ValueError, "^'c' is not in the alphabet, which is 'ab'$"):
            StreamTokenizer(["ab"]).encode("abc")

    def test_windows_are_drawn_from_all_places_alike_and_are_pieces_of_the_stream(self):
        batches = random_windows(list(range(7)), 3, 4, random.Random(0))
        drawn = Counter(tuple(window) for batch in islice(batches, 1000) for window in batch)
        self.assertEqual(set(drawn), {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)})
        for times in drawn.values():
            self.assertAlmostEqual(times / 4000, 0.25, delta=0.03)  # over 4 standard deviations

    def test_a_stream_as_long_as_a_window_has_that_one(self):
        self.assertEqual(next(random_windows([5, 6, 7], 2, 2, random.Random(0))), [[5, 6, 7]] * 2)


    def test_windows_side_by_side_predict_each_token_but_the_first_once(self):
        self.assertEqual(first_windows([0, 1, 2, 3, 4], 2, 9), [[0, 1, 2], [2, 3, 4]])
        self.assertEqual(first_windows([0, 1, 2, 3], 2, 9), [[0, 1, 2], [2, 3]])
        self.assertEqual(first_windows([0, 1, 2, 3, 4], 1, 2), [[0, 1], [1, 2]])
        self.assertEqual([first_windows(stream, 2, 9) for stream in ([], [0])], [[], []])


class LearningRates(unittest.TestCase):
    def check(self, expected, num_steps, lr_schedule="linear", warmup_steps=0):
        found = list(plan_rates(2.0, lr_schedule, warmup_steps, num_steps))
        self.assertEqual(len(found), num_steps)
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, 2.0 * b, places=9)

    def test_linear_falls_to_zero(self):
        self.check([1.0, 0.75, 0.5, 0.25], 4)

    def test_cosine_falls_to_a_tenth(self):
        # 0.1 + 0.9 * (1 + cos(pi * step / 4)) / 2, with cos(pi / 4) = 0.70710678
        self.check([1.0, 0.8681980515, 0.55, 0.2318019485], 4, "cosine")

    def test_constant_stays(self):
        self.check([1.0] * 9, 9, "constant")

    def test_warm_up_rises_in_equal_parts_and_the_fall_comes_after_it(self):
        self.check([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2], 8, "linear", 3)
        self.check([0.5, 1.0, 1.0], 3, "constant", 1)
        self.check([1 / 3, 2 / 3, 1.0, 0.55], 4, "cosine", 2)

    def test_a_plan_may_end_before_it_is_warm_or_have_no_steps(self):
        self.check([0.2, 0.4], 2, "linear", 4)
        self.check([], 0, "cosine", 4)
        self.check([], 0)

    @unittest.skipIf(sys.maxsize < 2**32, "islice() does not count that far")
    def test_it_is_no_list_of_all_steps(self):
        rates = plan_rates(1.0, "cosine", 10**11, 10**12 - 1)
        self.assertAlmostEqual(next(rates), 1e-11)


class WeightDecay(unittest.TestCase):
    def follow(self, slopes, rates, weight_decay):
        model = Line()
        optimizer = AdamW(model.parameters, weight_decay)
        return [model.w for _ in train(model, optimizer, ([slope] for slope in slopes), rates)]

    def test_it_is_decoupled_from_the_gradient(self):
        # Loshchilov & Hutter, Algorithm 2: first the parameter is multiplied by 1 - rate * decay,
        # with the rate of the step; the running means know nothing of it. As in the two steps of
        # test_training.py:
        # w = (1 - 0.01 * 0.5) * 1 - 0.01 = 0.985
        # w = (1 - 0.005 * 0.5) * 0.985 + 0.005 * 0.378378 / 1.578753 * -1 = 0.98133917
        first, second = self.follow([2.0, -1.0], linear_decay(0.01, 2), 0.5)
        self.assertAlmostEqual(first, 0.985, places=9)
        self.assertAlmostEqual(second, 0.98133917, places=7)

    def test_a_parameter_without_gradient_decays_by_the_rate_of_each_step(self):
        places = self.follow([0.0, 0.0], [0.1, 0.05], 2.0)
        self.assertAlmostEqual(places[-1], (1 - 0.1 * 2) * (1 - 0.05 * 2))

    def test_a_decay_of_0_is_adam(self):
        self.assertAlmostEqual(self.follow([2.0], [0.01], 0.0)[0], 0.99, places=9)
