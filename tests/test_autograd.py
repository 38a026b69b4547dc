"""The engine, held against finite differences of the same expressions on plain numbers."""

import copy
import math
import random
import sys
import unittest

from microgpt import Value, dot
from tests.support import central_difference

OPERATIONS = """
a + b | a + 2 | 2 + a | a - b | a - 2 | 2 - a | -a
a * b | a * 2 | 2 * a | a / b | a / 2 | 2 / a | a / a
a ** 2.5 | a ** -0.5 | b ** 3 | b ** 0 | (a - 1.5) ** 2 | (a - 1.5) ** 1
exp(b) | log(a) | relu(a) | relu(b)
product([a, b, 3 * a], [b, a, b]) | product([a, b], [a, b]) | product((a, a), [a, b])
""".strip().replace("\n", " | ").split(" | ")

STEPS = """
a + b * 0.5
a - b
a * b * 0.3
a / (b * b + 1.0)
(b * b + 0.5) ** 0.3
exp(a * 0.1 - b * b * 0.01)
log(a * a + 1.0) * b
relu(a + 0.37) + relu(0.21 - b) * 0.7
product([a, b, a], [b, b, first]) * 0.2
""".strip().split("\n")  # none grows fast, and relu isn't tried where a - a would be its kink


def exp(x):
    return x.exp() if isinstance(x, Value) else math.exp(x)


def log(x):
    return x.log() if isinstance(x, Value) else math.log(x)


def relu(x):
    return x.relu() if isinstance(x, Value) else max(x, 0.0)


def product(a, b):
    if isinstance(a[0], Value):
        return dot(a, b)
    return sum(x * y for x, y in zip(a, b))


def evaluate(expression, **numbers):
    return eval(expression, globals(), numbers)


def random_expression(seed, leaves):
    """Return the last of twelve numbers, each computed from two that are there already."""
    rng, found = random.Random(seed), list(leaves)
    for _ in range(12):
        a, b = rng.choice(found), rng.choice(found)
        found.append(evaluate(rng.choice(STEPS), a=a, b=b, first=found[0]))
    return found[-1] + found[-2] * 0.1


class Gradients(unittest.TestCase):
    def check(self, function, at, step=1e-5):
        """Compare a function of Values with the same function of plain numbers."""
        leaves = [Value(x) for x in at]
        result = function(leaves)
        result.backward()
        self.assertAlmostEqual(result.data, function(at), places=9)
        for i, leaf in enumerate(leaves):
            slope = central_difference(function, at, i, step)
            self.assertAlmostEqual(leaf.grad, slope, delta=1e-5 * max(1.0, abs(slope)))

    def test_each_operation(self):
        for expression in OPERATIONS:
            with self.subTest(expression):
                self.check(lambda xs: evaluate(expression, a=xs[0], b=xs[1]), [1.5, -2.0])

    def test_random_expressions_with_shared_parts(self):
        for seed in range(60):
            with self.subTest(seed):
                rng = random.Random(seed)
                at = [rng.uniform(-2, 2) for _ in range(3)]
                self.check(lambda xs: random_expression(seed, xs), at, 1e-6)

    def test_relu_is_closed_at_zero_and_passes_nan_on(self):
        x = Value(0.0)
        x.relu().backward()
        self.assertEqual(x.grad, 0.0)
        self.assertTrue(math.isnan(Value(math.nan).relu().data))

    def test_an_operation_of_ones_own_is_a_value_with_its_inputs_and_local_gradients(self):
        def tanh(x):
            if not isinstance(x, Value):
                return math.tanh(x)
            result = math.tanh(x.data)
            return Value(result, (x,), (1 - result * result,))

        self.check(lambda xs: tanh(xs[0] * xs[1]) * xs[0], [0.5, 1.5])

    def test_copies_within_a_graph_have_paths_of_their_own(self):
        x = Value(3.0)
        square = x * x
        (copy.copy(square) + square).backward()
        self.assertEqual(x.grad, 12.0)

    def test_dot_needs_vectors_of_the_same_length(self):
        for a, b in ((1, 2), (2, 1)):
            with self.assertRaises(AssertionError):
                dot([Value(1.0)] * a, [Value(1.0)] * b)

    def test_leaves_add_up_their_gradients_and_all_others_start_afresh(self):
        x = Value(3.0)
        square = x * x
        cube = dot([x], [square])  # x^3, with slopes of 27 by x, and of 3 by its square
        for times in (1, 2):
            cube.backward()
            self.assertEqual((x.grad, square.grad, cube.grad), (27.0 * times, 3.0, 1.0))
        (square + x).backward()  # a slope of 7
        self.assertEqual((x.grad, square.grad), (54.0 + 7.0, 1.0))
        x.backward()
        self.assertEqual(x.grad, 61.0 + 1.0)

    def test_a_slip_in_the_name_of_an_attribute_is_an_error(self):
        with self.assertRaises(AttributeError):
            Value(1.0).gard = 0.0

    @unittest.skipIf(sys.platform == "emscripten", "freeing a long chain overflows its stack")
    def test_a_long_chain_does_not_overflow_the_stack(self):
        x = Value(1.0)
        y = x
        for _ in range(10_000):
            y = (y + x) * 1.0
        y.backward()
        self.assertEqual((y.data, x.grad), (10_001.0, 10_001.0))
