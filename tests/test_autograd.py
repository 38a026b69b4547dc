import copy
import gc
import math
import pickle
import random
import sys
import unittest

from microgpt import Value, dot
from tests.support import central_difference

# name, function of two numbers or Values, and where to try it
OPERATIONS = [
    ("a + b", lambda a, b: a + b, (1.5, -2.0)),
    ("a - b", lambda a, b: a - b, (1.5, -2.0)),
    ("a * b", lambda a, b: a * b, (1.5, -2.0)),
    ("a / b", lambda a, b: a / b, (1.5, -2.0)),
    ("-a", lambda a, b: -a, (1.5, -2.0)),
    ("a + 2", lambda a, b: a + 2, (1.5, -2.0)),
    ("2 + a", lambda a, b: 2 + a, (1.5, -2.0)),
    ("a - 2", lambda a, b: a - 2, (1.5, -2.0)),
    ("2 - a", lambda a, b: 2 - a, (1.5, -2.0)),
    ("a * 2", lambda a, b: a * 2, (1.5, -2.0)),
    ("2 * a", lambda a, b: 2 * a, (1.5, -2.0)),
    ("a / 2", lambda a, b: a / 2, (1.5, -2.0)),
    ("2 / a", lambda a, b: 2 / a, (1.5, -2.0)),
    ("a / a", lambda a, b: a / a, (1.5, -2.0)),
    ("a ** 2.5", lambda a, b: a**2.5, (0.5, 2.0)),
    ("a ** 3", lambda a, b: a**3, (-1.5, -2.0)),
    ("a ** -0.5", lambda a, b: a**-0.5, (1.5, -2.0)),
    ("a ** 0", lambda a, b: a**0, (1.5, -2.0)),
    ("a * a + a * b", lambda a, b: a * a + a * b, (1.5, -2.0)),
    ("(a * b - a) ** 2 / (a + b)", lambda a, b: (a * b - a) ** 2 / (a + b), (1.5, -2.0)),
]


def leaves(*data):
    return [Value(x) for x in data]


def random_expression(rng, leaf, steps):
    """Return the last of `steps` values, each computed from two that are there already."""
    values = list(leaf)
    for _ in range(steps):
        a, b = rng.choice(values), rng.choice(values)
        values.append(
            rng.choice(
                [
                    lambda: a + b * 0.5,
                    lambda: a - b,
                    lambda: a * b * 0.3,
                    lambda: a / (b * b + 1.0),
                    lambda: (b * b + 0.5) ** 0.3,
                    lambda: exp(a * 0.1 - b * b * 0.01),
                    lambda: log(a * a + 1.0) * b,
                    lambda: relu(a + 0.37) + relu(0.21 - b) * 0.7,  # no kink at the 0 of a - a
                    lambda: product([a, b, a], [b, b, values[0]]) * 0.2,
                ]
            )()
        )
    return values[-1] + values[-2] * 0.1


def exp(x):
    return x.exp() if isinstance(x, Value) else math.exp(x)


def log(x):
    return x.log() if isinstance(x, Value) else math.log(x)


def relu(x):
    return x.relu() if isinstance(x, Value) else max(x, 0.0)


def product(a, b):
    if all(isinstance(x, Value) for x in a + b):
        return dot(a, b)
    return sum(x * y for x, y in zip(a, b))


class Derivatives(unittest.TestCase):
    def test_each_operation_has_the_result_and_the_slopes_of_plain_numbers(self):
        for name, function, at in OPERATIONS:
            with self.subTest(name):
                a, b = leaves(*at)
                result = function(a, b)
                result.backward()
                self.assertAlmostEqual(result.data, function(*at), places=12)
                for i, leaf in enumerate((a, b)):
                    slope = central_difference(lambda xs: function(*xs), at, i)
                    self.assertAlmostEqual(leaf.grad, slope, places=6)

    def test_exp_log_and_relu_have_the_slopes_of_plain_numbers(self):
        for function, points in ((exp, (-2.0, 0.3)), (log, (0.2, 3.0)), (relu, (-1.0, 2.0))):
            for at in points:
                with self.subTest(function.__name__, at=at):
                    x = Value(at)
                    result = function(x)
                    result.backward()
                    self.assertEqual(result.data, function(at))
                    slope = central_difference(lambda xs: function(*xs), [at], 0)
                    self.assertAlmostEqual(x.grad, slope, places=8)

    def test_relu_does_not_hide_what_is_no_number(self):
        self.assertTrue(math.isnan(Value(math.nan).relu().data))

    def test_relu_at_zero_is_closed(self):
        x = Value(0.0)
        y = x.relu()
        y.backward()
        self.assertEqual((y.data, x.grad), (0.0, 0.0))

    def test_division_is_exact(self):
        self.assertEqual((Value(49.0) / Value(49.0)).data, 1.0)
        self.assertEqual((1 / Value(3.0)).data, 1 / 3)

    def test_an_expression_derived_by_hand(self):
        # f = a b + b^3, so df/da = b = 3 and df/db = a + 3 b^2 = 2 + 27 = 29
        a, b = leaves(2.0, 3.0)
        f = a * b + b**3
        f.backward()
        self.assertEqual((f.data, a.grad, b.grad), (33.0, 3.0, 29.0))

    def test_a_power_has_its_slopes_at_the_edges_of_where_it_is_defined(self):
        edges = ((0.0, 2, 0.0), (0.0, 1, 1.0), (-2.0, 3, 12.0))
        for base, exponent, by_base in edges:
            with self.subTest(base=base, exponent=exponent):
                x = Value(base)
                (x**exponent).backward()
                self.assertEqual(x.grad, by_base)

    def test_an_exponent_that_is_a_value_is_an_error(self):
        with self.assertRaises(TypeError):
            Value(2.0) ** Value(3.0)
        with self.assertRaises(TypeError):
            2 ** Value(3.0)

    def test_what_has_no_result_is_an_error(self):
        with self.assertRaises(ValueError):
            Value(0.0).log()
        with self.assertRaises(ZeroDivisionError):
            Value(1.0) / 0

    def test_dot_is_the_sum_of_products_and_so_are_its_slopes(self):
        a, b = leaves(1.0, 2.0, 3.0), leaves(-1.0, 0.5, 4.0)
        result = dot(a, b)
        result.backward()
        self.assertEqual(result.data, 12.0)
        self.assertEqual([x.grad for x in a], [-1.0, 0.5, 4.0])
        self.assertEqual([x.grad for x in b], [1.0, 2.0, 3.0])

    def test_dot_of_a_vector_with_itself_has_slopes_of_twice_the_vector(self):
        a = leaves(1.0, -2.0)
        dot(a, a).backward()
        self.assertEqual([x.grad for x in a], [2.0, -4.0])

    def test_dot_takes_any_sequences_and_the_same_value_twice(self):
        x, y = leaves(3.0, 5.0)
        dot((x, x), [x, y]).backward()  # x^2 + x y
        self.assertEqual((x.grad, y.grad), (11.0, 3.0))
        self.assertEqual(dot([], []).data, 0)

    def test_dot_does_not_mind_that_a_list_is_changed_afterwards(self):
        a, b, x = leaves(1.0, 2.0), leaves(3.0, 4.0), Value(9.0)
        (first, _), (third, _), result = a, b, dot(a, b)
        a[0] = b[0] = x
        result.backward()
        self.assertEqual((first.grad, third.grad, x.grad), (3.0, 1.0, 0.0))

    def test_dot_of_different_lengths_is_an_error(self):
        for a, b in ((1, 2), (2, 1), (0, 1)):
            with self.assertRaises(AssertionError):
                dot(leaves(*[1.0] * a), leaves(*[1.0] * b))


class Graphs(unittest.TestCase):
    def test_random_graphs_with_shared_parts_have_the_slopes_of_plain_numbers(self):
        for seed in range(150):
            at = [random.Random(seed).uniform(-2, 2) for _ in range(3)]
            leaf = leaves(*at)
            root = random_expression(random.Random(seed), leaf, 12)
            root.backward()

            def function(xs):
                return random_expression(random.Random(seed), xs, 12)

            self.assertAlmostEqual(root.data, function(at), places=9)
            for i, x in enumerate(leaf):
                slope = central_difference(function, at, i, 1e-6)
                self.assertAlmostEqual(x.grad, slope, delta=1e-5 * max(1.0, abs(slope)), msg=seed)

    def test_a_number_passes_its_gradient_on_only_when_it_is_complete(self):
        # y is used early and late: a sort that opens it too soon loses the late part
        x = Value(2.0)
        y = x * 3.0
        late = (y + 1.0) * 2.0
        (late * y).backward()  # 2 (3x + 1) 3x = 18 x^2 + 6 x
        self.assertEqual(x.grad, 36 * 2.0 + 6)

    def test_two_roots_one_after_the_other_add_up_in_a_leaf(self):
        x = Value(3.0)
        shared = x * x
        first, second = shared * 2.0, shared + x
        first.backward()
        self.assertEqual((x.grad, shared.grad), (12.0, 2.0))
        second.backward()
        self.assertEqual((x.grad, shared.grad), (12.0 + 7.0, 1.0))

    def test_the_same_root_twice_adds_up_in_a_leaf_and_starts_afresh_inside(self):
        x = Value(3.0)
        inner = x * x
        root = inner * 2.0 + inner.relu()
        for times in (1, 2):
            root.backward()
            self.assertEqual((x.grad, inner.grad, root.grad), (18.0 * times, 3.0, 1.0))
        x.grad = 0.0
        root.backward()
        self.assertEqual(x.grad, 18.0)

    def test_a_part_of_the_graph_that_gets_nothing_is_cleared_too(self):
        x = Value(-1.0)
        inner = x * 2.0
        (inner * 5.0).backward()
        self.assertEqual(inner.grad, 5.0)
        (inner * 0.0).backward()
        self.assertEqual(inner.grad, 0.0)

    def test_what_only_a_dot_product_reaches_is_cleared_too(self):
        a, b = (x * 2.0 for x in leaves(3.0, 5.0))
        for _ in range(2):
            dot([a], [b]).backward()
            self.assertEqual((a.grad, b.grad), (10.0, 6.0))

    def test_an_operation_of_ones_own_has_its_slope_in_a_bigger_expression(self):
        def tanh(x):
            if not isinstance(x, Value):
                return math.tanh(x)
            return Value(math.tanh(x.data), (x,), (1 - math.tanh(x.data) ** 2,))

        def function(xs):
            return tanh(xs[0] * xs[1]) * xs[0] + product([tanh(xs[1]), xs[0]], [xs[1], xs[0]])

        at = [0.4, -1.3]
        x = leaves(*at)
        function(x).backward()
        for i in range(2):
            slope = central_difference(function, at, i)
            self.assertAlmostEqual(x[i].grad, slope, places=8)

    def test_a_copy_of_an_inner_node_is_a_second_way_to_its_inputs(self):
        for name, square in (("product", lambda x: x * x), ("dot", lambda x: dot([x], [x]))):
            for is_searched in (False, True):
                with self.subTest(name, is_searched=is_searched):
                    x = Value(3.0)
                    y = square(x)
                    if is_searched:  # the copy then has what an earlier search has left in y
                        y.backward()
                        x.grad = 0.0
                    z = copy.copy(y)
                    (y + z).backward()
                    self.assertEqual((y.grad, z.grad, x.grad), (1.0, 1.0, 12.0))

    def test_a_graph_that_was_stored_goes_on_among_new_nodes(self):
        x = Value(3.0)
        y = x * x + dot([x, x], [x, Value(2.0)])  # 2 x^2 + 2 x
        for _ in range(2):  # the second time, with what a search has left in the nodes
            stored = pickle.dumps((x, y))
            (x1, y1), (x2, y2) = pickle.loads(stored), pickle.loads(stored)
            old = x1.grad, x2.grad, x.grad
            (y1 * y2 + y1 * x2 + y).backward()
            # at 3 the y are 24, and their slopes 14
            slopes = 14.0 * (24.0 + 3.0), 14.0 * 24.0 + 24.0, 14.0
            for leaf, before, slope in zip((x1, x2, x), old, slopes):
                self.assertEqual(leaf.grad - before, slope)

    def test_a_leaf_is_a_root_with_gradient_one(self):
        x = Value(3.0)
        x.backward()
        x.backward()
        self.assertEqual(x.grad, 2.0)

    @unittest.skipIf(sys.platform == "emscripten", "freeing so long a chain overflows the stack")
    def test_a_chain_of_100000_nodes(self):
        x = Value(1.0)
        y = x
        for _ in range(50_000):
            y = (y + x) * 1.0
        y.backward()
        self.assertEqual((y.data, x.grad), (50_001.0, 50_001.0))
        del y  # must not recurse either

    @unittest.skipUnless(sys.implementation.name == "cpython", "counts references")
    def test_a_graph_leaves_nothing_behind_for_the_collector(self):
        gc.collect()
        gc.disable()
        try:
            before = sum(type(x) is Value for x in gc.get_objects())
            leaf = leaves(*[0.1 * i for i in range(10)])
            random_expression(random.Random(0), leaf, 50).backward()
            after = sum(type(x) is Value for x in gc.get_objects())
            self.assertEqual(after - before, 10)
            self.assertEqual(gc.collect(), 0)
        finally:
            gc.enable()

    def test_a_slip_in_the_name_of_an_attribute_is_an_error(self):
        with self.assertRaises(AttributeError):
            Value(1.0).gard = 0.0

    def test_a_value_shows_its_number_and_its_gradient(self):
        x = Value(2.0)
        (x * 3).backward()
        self.assertEqual(repr(x), "Value(2, grad=3)")
