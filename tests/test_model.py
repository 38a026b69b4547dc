import math
import random
import unittest

from microgpt import GPT, Value, cross_entropy, mean, softmax
from tests import by_hand
from tests.support import numbers

SHAPES = [  # vocab_size, n_layer, n_embd, n_head, block_size
    (27, 1, 16, 4, 6),
    (5, 2, 6, 3, 4),
    (7, 3, 4, 1, 9),
    (3, 1, 1, 1, 1),
]


class Model(unittest.TestCase):
    def check(self, model, n_head, tokens):
        """Compare the loss, and each gradient, with those worked out by hand."""
        shape = model.n_layer, n_head, model.block_size
        loss, by_name = by_hand.loss_and_gradients(numbers(model), tokens, *shape)
        gradients = [x for name in model.state_dict for row in by_name[name] for x in row]
        for p in model.parameters:
            p.grad = 0.0
        ours = mean(model.losses(tokens))
        ours.backward()
        self.assertAlmostEqual(ours.data, loss, places=10)
        self.assertEqual(len(model.parameters), len(gradients))
        for p, gradient in zip(model.parameters, gradients):
            self.assertAlmostEqual(p.grad, gradient, places=10)

    def test_losses_and_gradients_are_those_worked_out_by_hand(self):
        for shape in SHAPES:
            with self.subTest(shape):
                rng = random.Random(0)
                vocab_size, _, _, n_head, block_size = shape
                model = GPT(*shape, rng)
                for p in model.parameters:
                    p.data *= 4  # fresh weights hardly make a head look at one place
                for length in (2, block_size + 3):  # no prediction past the context counts
                    tokens = [rng.randrange(vocab_size) for _ in range(length)]
                    self.check(model, n_head, tokens)

    def test_an_untrained_model_guesses_with_4192_numbers_drawn_in_order(self):
        model, rng = GPT(27, rng=random.Random(42)), random.Random(42)
        expected = [rng.gauss(0, 0.08) for _ in range(4192)]
        self.assertEqual([p.data for p in model.parameters], expected)
        loss = mean(model.losses([26, 4, 12, 12, 0, 26]))
        self.assertAlmostEqual(loss.data, math.log(27), delta=0.15)

    def test_n_embd_must_be_a_multiple_of_n_head(self):
        for n_embd, n_head in ((10, 4), (4, 8)):
            with self.assertRaisesRegex(ValueError, f"{n_embd}.*{n_head}"):
                GPT(27, n_embd=n_embd, n_head=n_head)

    def test_extreme_logits_neither_overflow_nor_take_the_log_of_zero(self):
        logits = [Value(5000.0), Value(-5000.0)]
        self.assertEqual([p.data for p in softmax(logits)], [1.0, 0.0])
        self.assertEqual([cross_entropy(logits, i).data for i in (0, 1)], [0.0, 10000.0])
        self.assertEqual(cross_entropy([Value(-5000.0)], 0).data, 0.0)
