import gc
import random
import sys
import unittest

from microgpt import GPT, Adam, Value, mean, train_step
from tests import benchmark


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


class Steps(unittest.TestCase):
    def test_two_steps_of_adam_worked_out_by_hand(self):
        # Kingma & Ba, Algorithm 1, with beta1 0.85, beta2 0.99, learning rates 0.01 and 0.005,
        # gradients 2 and -1:
        # m1 = 0.3, v1 = 0.04; corrected 0.3 / 0.15 = 2 and 0.04 / 0.01 = 4; w = 1 - 0.01 * 2 / 2
        # m2 = 0.255 - 0.15 = 0.105, v2 = 0.0396 + 0.01 = 0.0496; corrected 0.105 / 0.2775 and
        # 0.0496 / 0.0199; w = 0.99 - 0.005 * 0.378378 / 1.578753
        model = Line(1.0)
        optimizer = Adam(model.parameters)
        train_step(model, optimizer, [2.0], 0.01)
        self.assertAlmostEqual(model.w, 0.99, places=9)
        train_step(model, optimizer, [-1.0], 0.005)
        self.assertAlmostEqual(model.w, 0.98880166, places=7)

    def test_epsilon_is_added_to_the_root_so_that_a_gradient_of_zero_moves_nothing(self):
        # m = 0.1 * 2, v = 0.001 * 4; corrected 2 and 4; w = 1 - 0.3 * 2 / (2 + 1)
        p, still = Value(1.0), Value(1.0)
        p.grad = 2.0
        Adam([p, still], beta1=0.9, beta2=0.999, epsilon=1.0).step(0.3)
        self.assertAlmostEqual(p.data, 0.8)
        Adam([still]).step(0.3)
        self.assertEqual(still.data, 1.0)

    def test_a_batch_has_the_mean_loss_and_the_mean_gradient_of_its_examples(self):
        model = GPT(4, 1, 4, 2, 8, random.Random(0))
        batch, losses, gradients = [[3, 0, 1, 3], [3, 2, 3], [3, 1, 1, 1, 2, 0, 3]], [], []
        for tokens in batch:
            for p in model.parameters:
                p.grad = 0.0
            loss = mean(model.losses(tokens))
            loss.backward()
            losses.append(loss.data)
            gradients.append([p.grad for p in model.parameters])
        loss = train_step(model, Adam(model.parameters), batch, 0.01)  # clears what was left
        self.assertAlmostEqual(loss, sum(losses) / 3)
        for p, *found in zip(model.parameters, *gradients):
            self.assertAlmostEqual(p.grad, sum(found) / 3, places=12)

    @unittest.skipUnless(sys.implementation.name == "cpython", "counts references")
    def test_the_graph_of_a_step_is_freed_without_the_garbage_collector(self):
        model = GPT(4, n_embd=4, rng=random.Random(0))
        optimizer = Adam(model.parameters)
        gc.collect()
        gc.disable()
        try:
            before = sum(type(x) is Value for x in gc.get_objects())
            train_step(model, optimizer, [[3, 0, 1, 3], [3, 2, 3]], 0.01)
            self.assertEqual(sum(type(x) is Value for x in gc.get_objects()), before)
        finally:
            gc.enable()


class Training(unittest.TestCase):
    def test_the_programs_of_the_benchmark_have_the_same_losses(self):
        sizes = {"n_layer": 2, "n_embd": 6, "n_head": 3, "block_size": 5}
        for other, batch_size in ("textbook", 0), ("by hand", 0), ("textbook", 1), ("by hand", 3):
            ours, theirs = (
                list(benchmark.losses(program, 5, batch_size=batch_size, **sizes)[0])
                for program in ("microgpt", other)
            )
            self.assertEqual((len(ours), len(theirs)), (5, 5))
            for a, b in zip(ours, theirs):
                self.assertAlmostEqual(a, b, places=9)

    def test_three_names_are_learnt_by_heart(self):
        model = GPT(5, n_embd=8, rng=random.Random(42))
        optimizer = Adam(model.parameters)
        batch = [[4, 0, 1, 1, 2, 4], [4, 3, 1, 4], [4, 2, 3, 2, 4]]
        losses = [train_step(model, optimizer, batch, 0.03) for _ in range(30)]
        self.assertGreater(losses[0], 1.4)
        self.assertLess(losses[-1], 0.5)
