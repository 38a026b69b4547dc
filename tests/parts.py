"""The parts of microgpt.py that rebuild.py can take out: calls to compare, and usual mistakes."""

import random
import types

CASES = {  # parts, in the order of the file: calls that must give what they give in microgpt.py
    "Tokenizer.encode": ['Tokenizer(["emma"]).encode("")', 'Tokenizer(["emma"]).encode("mae")'],
    "bigram_loss": ["bigram_loss([[2, 0, 2], [2, 2]], [[2, 0, 1], [1, 1, 2, 2]], 3)",
                    "bigram_loss([rng.choices(range(5), k=99)], [rng.choices(range(5), k=9)], 5)"],
    "Value.__mul__": ["Value(3.0) * Value(4.0)", "2 * (Value(3.0) * 2)",
                      "grads(lambda a, b: a * b, 3, 4)", "grads(lambda a, b: a * b * a, *some(2))"],
    "Value.backward": ["grads(lambda x: x * x, 3)", "grads(lambda x: ((x * 2) * 3) * 4, 1)",
                       "grads(lambda x: (a := x * 2) + (a * 3) * 5, 1)",
                       "grads(lambda x: ((a := x * 2) * 3) * 5 + a, 1)",
                       "grads(lambda a, b: (c := a * b) * (d := c * a) * d, *some(2))",
                       "grads(lambda x, y: dot([x, y], [x, y]), 2, 3)",
                       "y = Value(2.0) * 3; z = y * y; z.backward(); z.backward(); y"],
    "dot": ["dot(vector(1, 2), vector(3, 4))", "grads(lambda a, b: dot([a, b], [a, b]), 3, 4)",
            "grads(lambda a, b, c, d: dot([a, b], [c, d]), *some(4))"],
    "linear": ["linear(vector(5, 6), [vector(1, 2), vector(3, 4)])",
               "linear(vector(*some(3)), [vector(*some(3)), vector(*some(3))])"],
    "rmsnorm": ["rmsnorm(vector(3, 4))", "rmsnorm(vector(0.001, 0.002))", "rmsnorm(vector(0, 0))",
                "rmsnorm(vector(*some(5)))", "grads(lambda a, b: rmsnorm([a, b])[0], *some(2))"],
    "softmax": ["softmax(vector(2, 1, 0))", "softmax(vector(*some(5)))", "softmax(vector(1000, 0))",
                "softmax(vector(-1000, 0))", "grads(lambda a, b: softmax([a, b])[0], *some(2))"],
    "cross_entropy": ["cross_entropy(vector(2, 1, 0), 1)", "cross_entropy(vector(1000, 0), 1)",
                      "grads(lambda a, b, c: cross_entropy([a, b, c], 1), *some(3))"],
    "attention": ["attention(vector(*some(3)), *[[vector(*some(3)) for _ in 'ab'] for _ in 'kv'])",
                  "grads(lambda a, b: attention([a, b], [[b, b], [b, a]], [[a], [b]])[0], 1, 2)"],
    "GPT.forward": [
        "m = model(); cache = m.new_cache(); [m.forward(x, cache) for x in (4, 0, 1)]",
        "m = model(n_layer=2); cache = m.new_cache(); [m.forward(x, cache) for x in (0, 0, 1)]"],
    "GPT.losses": ["model().losses([4, 0, 1, 4])", "model().losses(rng.choices(range(5), k=9))"],
    "Adam.step": ["steps([2, -3])", "steps(some(9), beta1=0.5, beta2=0.6)", "steps([1e-8, 0])"],
    "train_step": [
        "m = model(); a = Adam(m.parameters); [train_step(m, a, [[4, 2]], 0.1) for _ in range(3)]",
        "m = model(); [train_step(m, Adam(m.parameters), [[4, 1], [3, 1, 4]], 1) for _ in 'ab']"],
    "sample": ["[sample(model(), Tokenizer(['abcd']), 1.0, rng) for _ in range(20)]",
               "[sample(model(), Tokenizer(['abcd']), 0.3, rng) for _ in range(20)]"],
    "evaluate": ["evaluate(model(), [[4, 0, 1, 2, 4], [4, 4]])"],
}  # fmt: skip


def helpers(module, seed):
    """Return what the cases call beside a program's names. Docstrings explain it to a learner."""
    rng = random.Random(seed)

    def some(n):
        """some(3) are 3 random numbers, the same for both programs"""
        return [rng.gauss(0, 1) for _ in range(n)]

    def vector(*numbers):
        """vector(1, 2) is [Value(1.0), Value(2.0)]"""
        return [module.Value(float(x)) for x in numbers]

    def grads(function, *numbers):
        """grads(f, 3, 4) are y = f(Value(3.0), Value(4.0)) and its inputs, after y.backward()"""
        y = function(*(inputs := vector(*numbers)))
        y.backward()
        return [y, *inputs]

    def model(n_layer=1):
        """model() is a GPT with 5 tokens (4 is BOS), 4 positions, 2 heads and random parameters"""
        made = module.GPT(5, n_layer, 4, 2, 4, random.Random(7))
        for p in made.parameters:
            p.data *= 5
        return made

    def steps(gradients, **betas):
        """steps([2, -3]) are [two parameters, means, squares, steps_done] of Adam after 2 steps"""
        adam = module.Adam(vector(1, 1), **betas)
        for gradient in gradients:
            adam.parameters[0].grad, adam.parameters[1].grad = gradient, -gradient / 1000
            adam.step(0.1)
        return [[p.data for p in adam.parameters], adam.means, adam.squares, adam.steps_done]

    return locals()


def overwrite(y):
    """Do y.backward() with = in the place of +=."""
    nodes, y.grad = [y], 1.0
    for node in nodes:
        nodes += node.inputs + node.partners
    for node in reversed(dict.fromkeys(reversed(nodes))):  # users first
        slopes = node.local_grads or [x.data for x in node.partners + node.inputs]
        for x, slope in zip(node.inputs + node.partners, slopes):
            x.grad = slope * node.grad


MISTAKES = (  # part, hint; what does the mistake, with the program m, and its right version
    ("Tokenizer.encode", "BOS is missing at the end: it marks where a name ends, too",
     "Tokenizer.encode", lambda m, right, self, doc: right(self, doc)[:-1]),
    ("Value.__mul__", "the local gradients are the other way round: for c = a * b, dc/da is b",
     "Value.__mul__", lambda m, right, a, b: m.Value(right(a, b).data, (a, b), (a.data, b.data))
     if isinstance(b, m.Value) else right(a, b)),
    ("Value.backward", "a number that is used twice has two paths: add to its grad, with +=",
     "Value.backward", lambda m, right, self: overwrite(self)),
    ("rmsnorm", "this is the sum of the squares: divide by len(x) to get their mean",
     "rmsnorm", lambda m, right, x: [xi * (m.dot(x, x) + 1e-5) ** -0.5 for xi in x]),
    ("softmax", "subtract the largest logit from all before exp, or large ones overflow",
     "softmax", lambda m, right, logits: [x.exp() / sum(y.exp() for y in logits) for x in logits]),
    ("attention", "the scores grow with the length of the vectors: divide by its square root",
     "attention", lambda m, right, q, *past: right([x * len(q) ** 0.5 for x in q], *past)),
    ("GPT.forward", "attention gets only the newest key and value: give it all in the cache",
     "attention", lambda m, right, query, keys, values: right(query, keys[-1:], values[-1:])),
    ("GPT.forward", "the ReLU between the two matrices of the MLP is missing",
     "Value.relu", lambda m, right, self: self),
    ("GPT.losses", "each token got an empty cache: all tokens of a name share one",
     "GPT.forward", lambda m, right, self, token, cache: right(self, token, self.new_cache())),
    ("Adam.step", "this climbs: an update goes against the gradient, with a minus",
     "Adam.step", lambda m, right, self, learning_rate: right(self, -learning_rate)),
    ("train_step", "the gradients are not cleared: those of all steps so far add up",
     "train_step", lambda m, right, model, *given: right(
         types.SimpleNamespace(parameters=[], losses=model.losses), *given)),
    ("evaluate", "this is a mean of means: take the mean of all predictions together",
     "evaluate", lambda m, right, model, examples: m.mean([right(model, [x]) for x in examples])),
)  # fmt: skip
