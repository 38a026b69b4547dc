import math
import random
import unittest

from microgpt import GPT, Value, attention, cross_entropy, linear, mean, rmsnorm, softmax
from tests import by_hand
from tests.support import central_difference, numbers

SHAPES = [  # vocab_size, n_layer, n_embd, n_head, block_size
    (27, 1, 16, 4, 16),
    (5, 2, 6, 3, 4),
    (7, 3, 4, 1, 9),
    (3, 1, 1, 1, 1),
]


def example(shape, seed=0):
    """Return a model with larger weights than fresh ones have, and tokens for it."""
    rng = random.Random(seed)
    model = GPT(*shape, rng)
    for p in model.parameters:
        p.data *= 4
    return model, [rng.randrange(shape[0]) for _ in range(shape[-1] + 1)]


def logits(model, tokens):
    """Return the logits at each position, one token at a time."""
    cache = model.new_cache()
    return [[logit.data for logit in model.forward(token, cache)] for token in tokens]


def values(data):
    return [Value(x) for x in data]


class Pieces(unittest.TestCase):
    def test_linear_is_a_matrix_times_a_vector(self):
        weight = [values([1.0, 2.0]), values([0.0, -1.0]), values([3.0, 0.5])]
        result = linear(values([10.0, 4.0]), weight)
        self.assertEqual([y.data for y in result], [18.0, -4.0, 32.0])

    def test_rmsnorm_divides_by_the_root_of_the_mean_square(self):
        result = rmsnorm(values([3.0, 4.0]))  # mean square 12.5
        for y, expected in zip(result, (3 / math.sqrt(12.5), 4 / math.sqrt(12.5))):
            self.assertAlmostEqual(y.data, expected, places=6)

    def test_rmsnorm_has_the_epsilon_inside_the_root(self):
        self.assertAlmostEqual(rmsnorm(values([1e-3]))[0].data, 1e-3 / math.sqrt(1.1e-5))
        self.assertEqual(rmsnorm(values([0.0, 0.0]))[0].data, 0.0)

    def test_softmax_gives_each_its_share_of_the_exps(self):
        shares = softmax(values([math.log(1.0), math.log(2.0), math.log(5.0)]))
        for share, expected in zip(shares, (0.125, 0.25, 0.625)):
            self.assertAlmostEqual(share.data, expected)

    def test_softmax_and_loss_do_not_overflow_and_never_take_the_log_of_zero(self):
        self.assertEqual([p.data for p in softmax(values([5000.0, -5000.0]))], [1.0, 0.0])
        self.assertEqual(cross_entropy(values([5000.0, -5000.0]), 1).data, 10000.0)
        self.assertEqual(cross_entropy(values([-5000.0]), 0).data, 0.0)

    def test_the_gradients_of_softmax_are_the_slopes_of_its_formula(self):
        at = [0.5, -1.0, 2.0]
        for j in range(3):
            x = values(at)
            softmax(x)[j].backward()
            for i, value in enumerate(x):

                def share(d):
                    return math.exp(d[j]) / sum(map(math.exp, d))

                self.assertAlmostEqual(value.grad, central_difference(share, at, i), places=8)

    def test_the_gradient_of_cross_entropy_is_the_softmax_less_1_for_the_target(self):
        at = [0.5, -1.0, 2.0]
        for target in range(3):
            x = values(at)
            cross_entropy(x, target).backward()
            for i, (value, share) in enumerate(zip(x, softmax(values(at)))):

                def loss(d):
                    return -math.log(math.exp(d[target]) / sum(map(math.exp, d)))

                self.assertAlmostEqual(value.grad, central_difference(loss, at, i), places=8)
                self.assertAlmostEqual(value.grad, share.data - (i == target), places=12)

    def test_attention_mixes_the_values_by_how_well_their_keys_match_the_query(self):
        # scores (2 * 3 + 1 * 4) / sqrt(2) and (0 * 3 + 1 * 4) / sqrt(2): 6 / sqrt(2) apart
        keys = [values([2.0, 1.0]), values([0.0, 1.0])]
        found = attention(values([3.0, 4.0]), keys, [values([10.0, 0.0]), values([20.0, 8.0])])
        second = 1 / (1 + math.exp(6 / math.sqrt(2)))
        for mixed, expected in zip(found, (10 + 10 * second, 8 * second)):
            self.assertAlmostEqual(mixed.data, expected)
        self.assertEqual(len(found), 2)

    def test_cross_entropy_does_not_mind_that_a_list_is_changed_afterwards(self):
        x = values([0.0, 0.0])
        first, result = x[0], cross_entropy(x, 1)
        x[0] = Value(9.0)
        result.backward()
        self.assertEqual((first.grad, x[0].grad), (0.5, 0.0))

    def test_cross_entropy_is_minus_the_log_of_the_probability(self):
        loss = cross_entropy(values([math.log(1.0), math.log(3.0)]), 1)
        self.assertAlmostEqual(loss.data, -math.log(0.75))


class Forward(unittest.TestCase):
    def test_logits_one_token_at_a_time_are_those_of_all_positions_at_once(self):
        for shape in SHAPES:
            with self.subTest(shape):
                model, tokens = example(shape)
                n_layer, n_head = shape[1], shape[3]
                expected = by_hand.forward(numbers(model), tokens[:-1], n_layer, n_head)[0]
                for ours, theirs in zip(logits(model, tokens[:-1]), expected):
                    for a, b in zip(ours, theirs):
                        self.assertAlmostEqual(a, b, places=10)

    def test_a_later_token_changes_no_earlier_logit(self):
        model, tokens = example(SHAPES[1])
        before = logits(model, tokens[:4])
        for i in range(4):
            changed = list(tokens[:4])
            changed[i] = (changed[i] + 1) % 5
            after = logits(model, changed)
            self.assertEqual(after[:i], before[:i])
            self.assertNotEqual(after[i], before[i])
            self.assertNotEqual(after[3], before[3])  # but each changes those after it

    def test_gradients_flow_through_the_keys_and_values_of_earlier_tokens(self):
        model, _ = example(SHAPES[1])
        cache = model.new_cache()
        model.forward(3, cache)
        model.forward(2, cache)[0].backward()
        self.assertTrue(all(p.grad != 0 for p in model.state_dict["wte"][3]))

    def test_two_documents_do_not_see_each_other(self):
        model, tokens = example(SHAPES[1])
        self.assertEqual(logits(model, tokens[:4]), logits(model, tokens[:4]))

    def test_more_tokens_than_the_context_has_room_for_are_an_error(self):
        model, tokens = example(SHAPES[1])
        with self.assertRaises(IndexError):
            logits(model, tokens)

    def test_heads_that_cannot_share_an_embedding_alike_are_an_error(self):
        for n_embd, n_head in ((10, 4), (4, 8)):
            with self.assertRaisesRegex(ValueError, f"{n_embd} and {n_head}$"):
                GPT(27, n_embd=n_embd, n_head=n_head)


class Loss(unittest.TestCase):
    def test_loss_and_every_gradient_are_those_worked_out_by_hand(self):
        for shape in SHAPES:
            with self.subTest(shape):
                model, tokens = example(shape)
                _, n_layer, _, n_head, block_size = shape
                loss, gradients = by_hand.loss_and_gradients(
                    numbers(model), tokens, n_layer, n_head, block_size
                )
                ours = mean(model.losses(tokens))
                ours.backward()
                self.assertAlmostEqual(ours.data, loss, places=10)
                checked = 0
                for name, matrix in model.state_dict.items():
                    for row, expected in zip(matrix, gradients[name]):
                        for value, gradient in zip(row, expected):
                            self.assertAlmostEqual(value.grad, gradient, places=10, msg=name)
                            checked += 1
                self.assertEqual(checked, len(model.parameters))

    def test_the_gradients_by_hand_are_the_slopes_of_the_loss_by_hand(self):
        model, tokens = example(SHAPES[1])
        weights, shape = numbers(model), (2, 3, 4)
        gradients = by_hand.loss_and_gradients(weights, tokens, *shape)[1]
        for name, matrix in weights.items():
            row = tokens[0] if name == "wte" else 0

            def loss(xs):
                changed = {**weights, name: [*matrix[:row], xs, *matrix[row + 1 :]]}
                return by_hand.loss_and_gradients(changed, tokens, *shape)[0]

            slope = central_difference(loss, matrix[row], 1)
            self.assertAlmostEqual(gradients[name][row][1], slope, places=7, msg=name)

    def test_only_block_size_predictions_count(self):
        model, tokens = example(SHAPES[1])
        found, longer = model.losses(tokens), model.losses([*tokens, 1, 2, 3])
        self.assertEqual([loss.data for loss in found], [loss.data for loss in longer])

    def test_the_losses_are_those_of_the_single_predictions(self):
        model, tokens = example(SHAPES[1])
        for loss, logit, target in zip(model.losses(tokens), logits(model, tokens[:4]), tokens[1:]):
            self.assertAlmostEqual(loss.data, -math.log(softmax(values(logit))[target].data))
        self.assertEqual(len(model.losses(tokens)), 4)
        self.assertEqual(len(model.losses(tokens[:3])), 2)

    def test_an_untrained_model_has_the_loss_of_a_guess(self):
        model = GPT(27, rng=random.Random(42))
        loss = mean(model.losses([26, 4, 12, 12, 0, 26]))
        self.assertAlmostEqual(loss.data, math.log(27), delta=0.15)


class Weights(unittest.TestCase):
    def test_there_are_4192_weights_drawn_row_by_row_in_the_named_order(self):
        rng = random.Random(42)
        names = ["wte", "wpe", "lm_head"]
        names += [f"layer0.{x}" for x in ("attn_wq", "attn_wk", "attn_wv", "attn_wo")]
        names += ["layer0.mlp_fc1", "layer0.mlp_fc2"]
        model = GPT(27, rng=random.Random(42))
        self.assertEqual(list(model.state_dict), names)
        self.assertEqual(len(model.parameters), 4192)
        expected = [rng.gauss(0, 0.08) for _ in range(4192)]
        self.assertEqual([p.data for p in model.parameters], expected)

    def test_matrices_are_rows_of_as_many_numbers_as_they_take_in(self):
        model = GPT(27, 2, 8, 2, 5)
        shapes = {name: (len(matrix), len(matrix[0])) for name, matrix in model.state_dict.items()}
        self.assertEqual(shapes["wte"], (27, 8))
        self.assertEqual(shapes["wpe"], (5, 8))
        self.assertEqual(shapes["lm_head"], (27, 8))
        self.assertEqual(shapes["layer1.attn_wo"], (8, 8))
        self.assertEqual(shapes["layer1.mlp_fc1"], (32, 8))
        self.assertEqual(shapes["layer1.mlp_fc2"], (8, 32))
