import gc
import math
import random
import sys
import unittest
from itertools import count, cycle, repeat

from microgpt import GPT, Adam, Value, linear_decay, train
from tests import benchmark
from tests.support import TRACE, numbers


class Line:
    """A stand-in for a model: one parameter w, and the loss slope * w with the slope for tokens."""

    def __init__(self, w=1.0):
        self.parameters = [Value(w)]

    def loss(self, slope):
        return self.parameters[0] * slope

    @property
    def w(self):
        return self.parameters[0].data


def follow(model, slopes, rates, **options):
    """Return w after each step of training on these slopes."""
    optimizer = Adam(model.parameters, **options)
    return [model.w for _ in train(model, optimizer, ([slope] for slope in slopes), rates)]


class Optimizer(unittest.TestCase):
    def test_two_steps_worked_out_by_hand(self):
        # Kingma & Ba, Algorithm 1, with beta1 0.85, beta2 0.99, learning rates 0.01 and 0.005,
        # gradients 2 and -1:
        # m1 = 0.3, v1 = 0.04; corrected 0.3 / 0.15 = 2 and 0.04 / 0.01 = 4; w = 1 - 0.01 * 2 / 2
        # m2 = 0.255 - 0.15 = 0.105, v2 = 0.0396 + 0.01 = 0.0496; corrected 0.105 / 0.2775 and
        # 0.0496 / 0.0199; w = 0.99 - 0.005 * 0.378378 / 1.578753
        first, second = follow(Line(), [2.0, -1.0], linear_decay(0.01, 2))
        self.assertAlmostEqual(first, 0.99, places=9)
        self.assertAlmostEqual(second, 0.98880166, places=7)

    def test_other_betas_and_another_epsilon(self):
        # m = 0.1 * 2, v = 0.001 * 4; corrected 2 and 4; w = 1 - 0.3 * 2 / (2 + 1)
        options = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1.0}
        self.assertAlmostEqual(follow(Line(), [2.0], [0.3], **options)[0], 0.8)

    def test_epsilon_keeps_a_gradient_of_zero_from_dividing(self):
        self.assertEqual(follow(Line(), [0.0, 0.0, 0.0], repeat(0.01)), [1.0, 1.0, 1.0])

    def test_epsilon_is_added_to_the_root(self):
        # 1e-8 / (1e-8 + 1e-8) = 1/2
        self.assertAlmostEqual(follow(Line(), [1e-8], [0.1])[0], 0.95, places=9)

    def test_it_counts_its_steps(self):
        model = Line()
        optimizer = Adam(model.parameters)
        self.assertEqual(optimizer.steps_done, 0)
        list(train(model, optimizer, [[1.0], [1.0]], [0.1, 0.1]))
        self.assertEqual(optimizer.steps_done, 2)


class LearningRate(unittest.TestCase):
    def test_linear_decay_falls_in_equal_parts_and_would_be_zero_after_the_last_step(self):
        for rate, expected in zip(linear_decay(0.1, 4), (0.1, 0.075, 0.05, 0.025)):
            self.assertAlmostEqual(rate, expected)
        self.assertEqual(len(list(linear_decay(0.1, 4))), 4)
        self.assertEqual(list(linear_decay(0.1, 0)), [])

    def test_each_step_takes_the_next_rate(self):
        # a gradient that stays the same makes the corrected means its value and its square: then
        # each step moves by the learning rate
        places = follow(Line(0.0), repeat(3.0), [0.1, 0.07, 0.2])
        for place, expected in zip(places, (-0.1, -0.17, -0.37)):
            self.assertAlmostEqual(place, expected, places=7)


class Batches(unittest.TestCase):
    def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_examples(self):
        documents = [[3, 0, 1, 3], [3, 2, 3], [3, 1, 1, 1, 2, 0, 3]]
        model, singles, losses = GPT(4, 1, 4, 2, 8, random.Random(0)), [], []
        for tokens in documents:
            loss = model.loss(tokens)
            loss.backward()
            losses.append(loss.data)
            singles.append([p.grad for p in model.parameters])
            for p in model.parameters:
                p.grad = 0.0
        (loss,) = train(model, Adam(model.parameters), [documents], [0.01])
        self.assertAlmostEqual(loss, sum(losses) / 3)
        for p, *parts in zip(model.parameters, *singles):
            self.assertAlmostEqual(p.grad, sum(parts) / 3, places=12)

    def test_a_step_takes_a_batch_and_yields_its_mean_loss(self):
        model = Line()
        batches = iter([[2.0, 4.0, -1.0], [-2.0, 0.0, 6.0]])
        training = train(model, Adam(model.parameters), batches, linear_decay(0.01, 2))
        self.assertAlmostEqual(next(training), (2 + 4 - 1) / 3)
        # the mean gradients are 5/3 and 4/3: m2 = 0.85 * 0.25 + 0.15 * 4/3 = 0.4125, corrected
        # 0.4125 / 0.2775; v2 = 0.99 * 0.01 * 25/9 + 0.01 * 16/9 = 0.0452777778, by 0.0199; so
        # w = 0.99 - 0.005 * 1.486486486 / 1.508398228
        next(training)
        self.assertAlmostEqual(model.w, 0.985072632, places=8)

    def test_no_batch_is_drawn_ahead_of_its_step(self):
        drawn = []
        model, batches = Line(), (drawn.append(i) or [1.0] for i in count())
        training = train(model, Adam(model.parameters), batches, linear_decay(0.01, 3))
        for expected in ([0], [0, 1], [0, 1, 2]):
            next(training)
            self.assertEqual(drawn, expected)
        self.assertEqual((list(training), drawn), ([], [0, 1, 2]))


class Training(unittest.TestCase):
    def test_the_losses_of_other_shapes_and_seeds_are_those_of_one_node_an_operation(self):
        for sizes in (
            {"n_layer": 1, "n_embd": 8, "n_head": 2, "block_size": 3, "seed": 1},
            {"n_layer": 3, "n_embd": 6, "n_head": 6, "block_size": 5, "seed": 2},
            {"n_layer": 2, "n_embd": 10, "n_head": 1, "block_size": 20, "seed": -3},
        ):
            with self.subTest(sizes):
                ours, _ = benchmark.losses("microgpt", 6, **sizes)
                theirs, _ = benchmark.losses("textbook", 6, **sizes)
                for a, b in zip(ours, theirs):
                    self.assertAlmostEqual(a, b, places=9)

    def test_training_by_hand_has_the_losses_of_the_trace(self):
        losses, _ = benchmark.losses("by hand")
        for loss, expected in zip((next(losses) for _ in range(100)), TRACE["default"]["losses"]):
            self.assertAlmostEqual(loss, expected, delta=0.00005001)

    def test_a_loop_that_was_left_goes_on_with_the_same_optimizer_as_if_it_never_was(self):
        examples = [[2, 0, 1, 2], [2, 1, 1, 0, 2], [2, 0, 2]]

        def trained(*stops):
            model, losses = GPT(3, 1, 4, 2, 4, random.Random(5)), []
            optimizer = Adam(model.parameters)
            batches, rates = cycle([examples[:2], examples[1:]]), linear_decay(0.1, 9)
            for stop in stops:
                for loss in train(model, optimizer, batches, rates):
                    losses.append(loss)
                    if len(losses) == stop:
                        break
            return losses, numbers(model), optimizer.means, optimizer.squares

        whole = trained(9)
        self.assertEqual(len(whole[0]), 9)
        for stops in ((1, 9), (4, 9), (2, 3, 8, 9)):
            self.assertEqual(trained(*stops), whole)

    def test_no_gradient_is_taken_over_from_before_or_from_the_last_step(self):
        model = Line()
        model.loss(1e9).backward()
        for _ in train(model, Adam(model.parameters), repeat([3.0]), linear_decay(0.01, 3)):
            self.assertEqual(model.parameters[0].grad, 3.0)  # of this step alone

    def test_learning_rate_one_goes_on(self):
        model, draw = benchmark.setting()
        losses = list(benchmark.train(model, draw, 60, learning_rate=1.0))
        self.assertEqual(len(losses), 60)
        self.assertGreater(max(losses), 100)  # -log of a probability that a float rounds to 0
        self.assertTrue(all(map(math.isfinite, losses)))

    def test_a_loss_that_is_not_finite_ends_training_before_it_reaches_the_parameters(self):
        model = GPT(3, rng=random.Random(0))
        model.parameters[0].data = math.inf
        before, optimizer = numbers(model), Adam(model.parameters)
        with self.assertRaisesRegex(FloatingPointError, "smaller learning rate"):
            next(train(model, optimizer, [[[0, 1]]], [0.01]))
        self.assertEqual((numbers(model), optimizer.steps_done), (before, 0))

    def test_twelve_layers_train(self):
        model = GPT(3, n_layer=12, n_embd=4, n_head=2, rng=random.Random(0))
        batches, rates = repeat([[0, 1, 2, 0, 1]]), linear_decay(0.01, 15)
        first, *_, last = train(model, Adam(model.parameters), batches, rates)
        self.assertLess(last, first)

    def test_nothing_happens_before_the_first_loss_is_asked_for(self):
        train(None, None, None, None)

    @unittest.skipUnless(sys.implementation.name == "cpython", "counts references")
    def test_the_graph_of_a_step_is_gone_when_its_loss_is_yielded(self):
        model, draw = benchmark.setting(n_embd=4, n_head=1)
        training = benchmark.train(model, draw, 9)
        next(training)
        values = sum(type(x) is Value for x in gc.get_objects())
        for _ in range(3):
            next(training)
        self.assertEqual(sum(type(x) is Value for x in gc.get_objects()), values)
