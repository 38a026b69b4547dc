import gc
import math
import random
import sys
import unittest

from microgpt import GPT, Value, draw_window, forward_backward, schedule, train
from tests import benchmark
from tests.support import TRACE, numbers


class Line:
    """A stand-in for a model: one weight w, and the loss slope * w with the slope for tokens."""

    def __init__(self, w=1.0):
        self.parameters = [Value(w)]

    def loss(self, slope):
        return self.parameters[0] * slope

    @property
    def w(self):
        return self.parameters[0].data


class Adam(unittest.TestCase):
    def test_two_steps_worked_out_by_hand(self):
        # Kingma & Ba, Algorithm 1, with beta1 0.85, beta2 0.99, learning rates 0.01 and 0.005,
        # gradients 2 and -1:
        # m1 = 0.3, v1 = 0.04; corrected 0.3 / 0.15 = 2 and 0.04 / 0.01 = 4; w = 1 - 0.01 * 2 / 2
        # m2 = 0.255 - 0.15 = 0.105, v2 = 0.0396 + 0.01 = 0.0496; corrected 0.105 / 0.2775 and
        # 0.0496 / 0.0199; w = 0.99 - 0.005 * 0.378378 / 1.578753
        model = Line()
        training = train(model, [2.0, -1.0].__getitem__, num_steps=2, learning_rate=0.01)
        self.assertEqual(next(training), 2.0)
        self.assertAlmostEqual(model.w, 0.99, places=9)
        self.assertAlmostEqual(next(training), -0.99, places=9)
        self.assertAlmostEqual(model.w, 0.98880166, places=7)

    def test_the_learning_rate_falls_linearly_to_zero(self):
        # a gradient that stays the same makes the corrected means its value and its square: then
        # each step moves by the learning rate
        model, places = Line(0.0), [0.0]
        for _ in train(model, lambda step: 3.0, num_steps=4, learning_rate=0.1):
            places.append(-model.w)
        moves = [b - a for a, b in zip(places, places[1:])]
        for move, rate in zip(moves, (0.1, 0.075, 0.05, 0.025)):
            self.assertAlmostEqual(move, rate, places=7)

    def test_epsilon_keeps_a_gradient_of_zero_from_dividing(self):
        model = Line()
        self.assertEqual(len(list(train(model, lambda step: 0.0, num_steps=3))), 3)
        self.assertEqual(model.w, 1.0)

    def test_epsilon_is_added_to_the_root(self):
        # 1e-8 / (1e-8 + 1e-8) = 1/2
        model = Line()
        next(train(model, lambda step: 1e-8, num_steps=1, learning_rate=0.1))
        self.assertAlmostEqual(model.w, 0.95, places=9)

    def test_no_gradient_is_taken_over_from_before_or_from_the_last_step(self):
        model, seen = Line(), []

        def draw(step):
            seen.append(model.parameters[0].grad)
            return 3.0

        model.loss(1e9).backward()
        list(train(model, draw, num_steps=3))
        self.assertEqual(seen, [0.0, 0.0, 0.0])

    def test_weight_decay_is_decoupled_from_the_gradient(self):
        # Loshchilov & Hutter, Algorithm 2: first the weight is multiplied by 1 - rate * decay, with
        # the rate of the step; the moments know nothing of it. As in the two steps above:
        # w = (1 - 0.01 * 0.5) * 1 - 0.01 = 0.985
        # w = (1 - 0.005 * 0.5) * 0.985 + 0.005 * 0.378378 / 1.578753 * -1 = 0.98133917
        model = Line()
        training = train(model, [2.0, -1.0].__getitem__, num_steps=2, weight_decay=0.5)
        next(training)
        self.assertAlmostEqual(model.w, 0.985, places=9)
        next(training)
        self.assertAlmostEqual(model.w, 0.98133917, places=7)

    def test_a_weight_without_gradient_decays_by_the_rate_of_each_step(self):
        model = Line()
        list(train(model, lambda i: 0.0, num_steps=2, learning_rate=0.1, weight_decay=2.0))
        self.assertAlmostEqual(model.w, (1 - 0.1 * 2) * (1 - 0.05 * 2))


class Schedule(unittest.TestCase):
    def check(self, expected, *arguments):
        found = [schedule(step, *arguments) for step in range(len(expected))]
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b, places=9)

    def test_linear_falls_to_zero(self):
        self.check([1.0, 0.75, 0.5, 0.25, 0.0], 4, "linear")

    def test_cosine_falls_to_a_tenth(self):
        # 0.1 + 0.9 * (1 + cos(pi * step / 4)) / 2, with cos(pi / 4) = 0.70710678
        self.check([1.0, 0.868198052, 0.55, 0.231801948, 0.1], 4, "cosine")

    def test_constant_stays(self):
        self.check([1.0] * 9, 4, "constant")

    def test_warm_up_rises_in_equal_parts_and_the_fall_comes_after_it(self):
        self.check([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0], 8, "linear", 3)
        self.check([0.5, 1.0, 1.0], 3, "constant", 1)
        self.check([1 / 3, 2 / 3, 1.0, 0.55, 0.1], 4, "cosine", 2)

    def test_past_the_planned_end_it_never_goes_below_zero(self):
        self.check([1.0, 0.5, 0.0, 0.0, 0.0], 2, "linear")
        self.check([1.0, 0.55, 0.1, 0.1, 0.1], 2, "cosine")
        self.check([0.2, 0.4, 0.6], 2, "linear", 4)  # planned to end before it is warm
        self.assertEqual(schedule(0, 0), 1.0)

    def test_training_follows_it(self):
        # a gradient that stays the same makes each step as long as the learning rate is
        model, places = Line(0.0), [0.0]
        options = {"learning_rate": 0.1, "lr_schedule": "cosine", "warmup_steps": 2}
        for _ in train(model, lambda i: 3.0, 4, **options):
            places.append(-model.w)
        moves = [b - a for a, b in zip(places, places[1:])]
        for move, part in zip(moves, (1 / 3, 2 / 3, 1.0, 0.55)):
            self.assertAlmostEqual(move, 0.1 * part, places=7)


class Batches(unittest.TestCase):
    def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_examples(self):
        documents = [[3, 0, 1, 3], [3, 2, 3], [3, 1, 1, 1, 2, 0, 3]]
        model, singles, losses = GPT(4, 1, 4, 2, 8, random.Random(0)), [], []
        for tokens in documents:
            losses.append(forward_backward(model, tokens))
            singles.append([p.grad for p in model.parameters])
            for p in model.parameters:
                p.grad = 0.0
        shares = [forward_backward(model, tokens, batch_size=3) for tokens in documents]
        self.assertAlmostEqual(sum(shares), sum(losses) / 3)
        for p, *parts in zip(model.parameters, *singles):
            self.assertAlmostEqual(p.grad, sum(parts) / 3, places=12)

    def test_a_step_takes_the_next_batch_size_examples_and_yields_their_mean_loss(self):
        model, drawn, slopes = Line(), [], [2.0, 4.0, -1.0, -2.0, 0.0, 6.0]

        def draw(i):
            drawn.append(i)
            return slopes[i]

        training = train(model, draw, num_steps=2, batch_size=3)
        self.assertAlmostEqual(next(training), (2 + 4 - 1) / 3)
        self.assertEqual(drawn, [0, 1, 2])
        # the mean gradients are 5/3 and 4/3: m2 = 0.85 * 0.25 + 0.15 * 4/3 = 0.4125, corrected
        # 0.4125 / 0.2775; v2 = 0.99 * 0.01 * 25/9 + 0.01 * 16/9 = 0.0452777778, by 0.0199; so
        # w = 0.99 - 0.005 * 1.486486486 / 1.508398228
        next(training)
        self.assertEqual(drawn, [0, 1, 2, 3, 4, 5])
        self.assertAlmostEqual(model.w, 0.985072632, places=8)


class GoingOn(unittest.TestCase):
    def test_training_that_goes_on_from_its_step_and_moments_is_training_that_never_stopped(self):
        stream = [0, 1, 2, 0, 2, 1, 1, 0, 2]

        def trained(*stops):
            rng, losses, step, moments = random.Random(5), [], 0, None
            model = GPT(3, 1, 4, 2, 4, rng)
            moments = [[0.0] * len(model.parameters) for _ in range(2)]
            for stop in stops:
                training = train(
                    model, lambda i: draw_window(stream, 4, rng, i), 9, batch_size=2,
                    lr_schedule="cosine", warmup_steps=2, weight_decay=0.1,
                    start=len(losses), moments=moments,
                )  # fmt: skip
                losses += [next(training) for _ in range(stop - len(losses))]
            return losses, numbers(model), moments

        whole = trained(9)
        self.assertEqual(len(whole[0]), 9)
        for stops in ((1, 9), (4, 9), (2, 3, 8, 9)):
            self.assertEqual(trained(*stops), whole)


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

    def test_learning_rate_one_goes_on(self):
        model, draw = benchmark.setting()
        losses = list(train(model, draw, num_steps=60, learning_rate=1.0))
        self.assertEqual(len(losses), 60)
        self.assertGreater(max(losses), 100)  # -log of a probability that a float rounds to 0
        self.assertTrue(all(map(math.isfinite, losses)))

    def test_a_loss_that_is_not_finite_ends_training_before_it_reaches_the_weights(self):
        model = GPT(3, rng=random.Random(0))
        model.parameters[0].data = math.inf
        before = numbers(model)
        with self.assertRaisesRegex(FloatingPointError, "smaller learning rate"):
            next(train(model, lambda step: [0, 1]))
        self.assertEqual(numbers(model), before)

    def test_twelve_layers_train(self):
        model = GPT(3, n_layer=12, n_embd=4, n_head=2, rng=random.Random(0))
        first, *_, last = train(model, lambda step: [0, 1, 2, 0, 1], num_steps=15)
        self.assertLess(last, first)

    def test_nothing_happens_before_the_first_loss_is_asked_for(self):
        train(None, None)

    def test_the_collector_is_left_as_it_was(self):
        for enable in (gc.enable, gc.disable):
            enable()
            was = gc.isenabled()
            try:
                next(train(Line(), lambda step: 1.0))
                self.assertEqual(gc.isenabled(), was)
                with self.assertRaises(ZeroDivisionError):
                    next(train(Line(), lambda step: 1 / 0))
                self.assertEqual(gc.isenabled(), was)
                with self.assertRaises(TypeError):
                    next(train(Line(), lambda step: None))
                self.assertEqual(gc.isenabled(), was)
            finally:
                gc.enable()

    def test_the_collector_rests_while_graphs_are_built_except_on_pypy_which_needs_it(self):
        collecting = []

        class Watched(GPT):
            def forward(self, token, cache):
                collecting.append(gc.isenabled())
                return super().forward(token, cache)

        model = Watched(2, n_embd=1, n_head=1, rng=random.Random(0))
        next(train(model, lambda i: [0, 1]))
        self.assertEqual(collecting, [sys.implementation.name == "pypy"])
        self.assertTrue(gc.isenabled())

    @unittest.skipUnless(sys.implementation.name == "cpython", "counts references")
    def test_the_graph_of_a_step_is_gone_when_its_loss_is_yielded(self):
        model, draw = benchmark.setting(n_embd=4, n_head=1)
        training = train(model, draw)
        next(training)
        values = sum(isinstance(x, Value) for x in gc.get_objects())
        for _ in range(3):
            next(training)
        self.assertEqual(sum(isinstance(x, Value) for x in gc.get_objects()), values)
