import gc
import math
import random
import sys
import unittest

from microgpt import GPT, Adam, Value, mean, train_step
from tests import benchmark
from tests.support import TRACE, numbers


class Line:
    """A stand-in for a model: one parameter w, and the loss slope * w with the slope for tokens."""

    block_size = 16

    def __init__(self, w=1.0):
        self.parameters = [Value(w)]
        self.state_dict = {"w": [self.parameters]}

    def losses(self, slope):
        return [self.parameters[0] * slope]

    @property
    def w(self):
        return self.parameters[0].data


def follow(slopes, rates, w=1.0):
    """Return w after each step of training on these slopes."""
    model, places = Line(w), []
    optimizer = Adam(model.parameters)
    for slope, rate in zip(slopes, rates):
        train_step(model, optimizer, [slope], rate)
        places.append(model.w)
    return places


class Optimizer(unittest.TestCase):
    def test_two_steps_worked_out_by_hand(self):
        # Kingma & Ba, Algorithm 1, with beta1 0.85, beta2 0.99, learning rates 0.01 and 0.005,
        # gradients 2 and -1:
        # m1 = 0.3, v1 = 0.04; corrected 0.3 / 0.15 = 2 and 0.04 / 0.01 = 4; w = 1 - 0.01 * 2 / 2
        # m2 = 0.255 - 0.15 = 0.105, v2 = 0.0396 + 0.01 = 0.0496; corrected 0.105 / 0.2775 and
        # 0.0496 / 0.0199; w = 0.99 - 0.005 * 0.378378 / 1.578753
        first, second = follow([2.0, -1.0], [0.01, 0.005])
        self.assertAlmostEqual(first, 0.99, places=9)
        self.assertAlmostEqual(second, 0.98880166, places=7)

    def test_other_betas_and_another_epsilon(self):
        # m = 0.1 * 2, v = 0.001 * 4; corrected 2 and 4; w = 1 - 0.3 * 2 / (2 + 1)
        p = Value(1.0)
        p.grad = 2.0
        Adam([p], beta1=0.9, beta2=0.999, epsilon=1.0).step(0.3)
        self.assertAlmostEqual(p.data, 0.8)

    def test_epsilon_keeps_a_gradient_of_zero_from_dividing(self):
        self.assertEqual(follow([0.0, 0.0, 0.0], [0.01] * 3), [1.0, 1.0, 1.0])

    def test_epsilon_is_added_to_the_root(self):
        # 1e-8 / (1e-8 + 1e-8) = 1/2
        self.assertAlmostEqual(follow([1e-8], [0.1])[0], 0.95, places=9)

    def test_each_step_takes_its_own_rate(self):
        # a gradient that stays the same makes the corrected means its value and its square: then
        # each step moves by the learning rate
        for place, expected in zip(follow([3.0] * 3, [0.1, 0.07, 0.2], 0.0), (-0.1, -0.17, -0.37)):
            self.assertAlmostEqual(place, expected, places=7)

    def test_it_counts_its_steps(self):
        model = Line()
        optimizer = Adam(model.parameters)
        self.assertEqual(optimizer.steps_done, 0)
        for _ in range(2):
            train_step(model, optimizer, [1.0], 0.1)
        self.assertEqual(optimizer.steps_done, 2)


class Batches(unittest.TestCase):
    def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_examples(self):
        documents = [[3, 0, 1, 3], [3, 2, 3], [3, 1, 1, 1, 2, 0, 3]]
        model, singles, losses = GPT(4, 1, 4, 2, 8, random.Random(0)), [], []
        for tokens in documents:
            loss = mean(model.losses(tokens))
            loss.backward()
            losses.append(loss.data)
            singles.append([p.grad for p in model.parameters])
            for p in model.parameters:
                p.grad = 0.0
        loss = train_step(model, Adam(model.parameters), documents, 0.01)
        self.assertAlmostEqual(loss, sum(losses) / 3)
        for p, *parts in zip(model.parameters, *singles):
            self.assertAlmostEqual(p.grad, sum(parts) / 3, places=12)

    def test_a_step_takes_a_batch_and_returns_the_mean_loss_before_it(self):
        model = Line()
        optimizer = Adam(model.parameters)
        loss = train_step(model, optimizer, [2.0, 4.0, -1.0], 0.01)
        self.assertAlmostEqual(loss, (2 + 4 - 1) / 3)
        # the mean gradients are 5/3 and 4/3: m2 = 0.85 * 0.25 + 0.15 * 4/3 = 0.4125, corrected
        # 0.4125 / 0.2775; v2 = 0.99 * 0.01 * 25/9 + 0.01 * 16/9 = 0.0452777778, by 0.0199; so
        # w = 0.99 - 0.005 * 1.486486486 / 1.508398228
        loss = train_step(model, optimizer, [-2.0, 0.0, 6.0], 0.005)
        self.assertAlmostEqual(loss, 0.99 * (-2 + 0 + 6) / 3)
        self.assertAlmostEqual(model.w, 0.985072632, places=8)


class Training(unittest.TestCase):
    def test_the_losses_of_other_shapes_and_seeds_are_those_of_one_node_an_operation(self):
        for sizes in (
            {"n_layer": 1, "n_embd": 8, "n_head": 2, "block_size": 3, "seed": 1},
            {"n_layer": 3, "n_embd": 6, "n_head": 6, "block_size": 5, "seed": 2},
            {"n_layer": 2, "n_embd": 10, "n_head": 1, "block_size": 20, "seed": 3},
        ):
            with self.subTest(sizes):
                ours, _ = benchmark.losses("microgpt", 6, **sizes)
                theirs, _ = benchmark.losses("textbook", 6, **sizes)
                ours, theirs = list(ours), list(theirs)
                self.assertEqual((len(ours), len(theirs)), (6, 6))
                for a, b in zip(ours, theirs):
                    self.assertAlmostEqual(a, b, places=9)

    def test_training_by_hand_has_the_losses_of_the_trace(self):
        losses, _ = benchmark.losses("by hand")
        for loss, expected in zip((next(losses) for _ in range(100)), TRACE["default"]["losses"]):
            self.assertAlmostEqual(loss, expected, delta=0.00005001)

    def test_no_gradient_is_taken_over_from_before_or_from_the_last_step(self):
        model = Line()
        optimizer = Adam(model.parameters)
        model.losses(1e9)[0].backward()
        for _ in range(3):
            train_step(model, optimizer, [3.0], 0.01)
            self.assertEqual(model.parameters[0].grad, 3.0)  # of this step alone

    def test_three_names_are_learnt_by_heart(self):
        model = GPT(5, n_embd=8, rng=random.Random(42))
        optimizer = Adam(model.parameters)
        batch = [[4, 0, 1, 1, 2, 4], [4, 3, 1, 4], [4, 2, 3, 2, 4]]
        losses = [train_step(model, optimizer, batch, 0.03 * (1 - i / 50)) for i in range(50)]
        self.assertGreater(losses[0], 1.4)
        self.assertLess(losses[-1], 0.4)

    def test_learning_rate_one_goes_on(self):
        model, draw = benchmark.setting()
        losses = list(benchmark.train(model, draw, 60, learning_rate=1.0))
        self.assertEqual(len(losses), 60)
        self.assertGreater(max(losses), 100)  # -log of a probability that a float rounds to 0
        self.assertTrue(all(map(math.isfinite, losses)))

    def test_twelve_layers_train(self):
        model = GPT(3, n_layer=12, n_embd=4, n_head=2, rng=random.Random(0))
        optimizer = Adam(model.parameters)
        losses = [train_step(model, optimizer, [[0, 1, 2, 0, 1]], 0.01) for _ in range(15)]
        self.assertLess(losses[-1], losses[0])

    def test_the_steps_of_two_models_do_not_touch_each_other(self):
        batch, alone, beside = [[2, 0, 1, 2], [2, 1, 1, 0, 2]], [], []
        for rounds, found in ((1, alone), (2, beside)):
            pairs = []
            for _ in range(rounds):
                model = GPT(3, 1, 4, 2, 4, random.Random(5))
                pairs.append((model, Adam(model.parameters)))
            for _ in range(4):
                for model, optimizer in pairs:
                    train_step(model, optimizer, batch, 0.1)
            found += [(numbers(model), memory.means, memory.squares) for model, memory in pairs]
        self.assertEqual(beside, alone * 2)

    @unittest.skipUnless(sys.implementation.name == "cpython", "counts references")
    def test_the_graph_of_a_step_is_gone_after_it_even_without_the_collector(self):
        model, draw = benchmark.setting(n_embd=4, n_head=1)
        optimizer = Adam(model.parameters)
        gc.collect()
        gc.disable()
        try:
            values = sum(type(x) is Value for x in gc.get_objects())
            for step in range(3):
                train_step(model, optimizer, [draw(step), draw(step + 1)], 0.01)
                self.assertEqual(sum(type(x) is Value for x in gc.get_objects()), values)
        finally:
            gc.enable()
