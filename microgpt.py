"""microgpt: the algorithm at the heart of ChatGPT, in one file of plain Python.

Run `python microgpt.py`. In less than a minute, it reads a thousand names and makes up its own:
lemai, jaish, vianah. Then read on, from top to bottom. Python and school calculus are all you need.
Chapters 1 to 5 are the whole algorithm, and demo() runs it. The program, after them, has flags and
checkpoints, and its own loops around the same model.

A language model reads a text token by token (here, letter by letter) and gives every possible next
token a probability. A GPT, or "generative pre-trained transformer", computes these probabilities
with the help of thousands or billions of adjustable numbers, its parameters. They start out random.
Training nudges them, name after name, so that the next letter surprises the model less and less.
"""

import math
import random

# %% 1. Data: names become tokens
#
# Our documents, or docs for short, are 32,033 first names, some of them twice. A model works with
# numbers, so every letter gets one, its token: a is 0, b is 1, z is 25. Token 26 is called BOS,
# "beginning of sequence". It opens and closes every name, so that the model can learn where names
# end. Then emma is [26, 4, 12, 12, 0, 26]. That makes five exercises: predict e from BOS, then m
# from BOS and e, and so on. The answer to the last one is BOS: the name is over.


class Tokenizer:
    """Turns names into tokens and back.

    >>> Tokenizer(["emma", "ava"]).encode("ava")  # a, e, m and v are 0 to 3, and BOS is 4
    [4, 0, 3, 0, 4]
    """

    def __init__(self, docs):
        self.chars = sorted(set("".join(docs)))
        self.ids = {char: i for i, char in enumerate(self.chars)}
        self.bos = len(self.chars)
        self.vocab_size = len(self.chars) + 1  # the vocabulary: all characters, and BOS

    def encode(self, doc):
        return [self.bos] + [self.ids[char] for char in doc] + [self.bos]

    def decode(self, tokens):
        return "".join(self.chars[token] for token in tokens if token != self.bos)


# A very simple language model counts bigrams, pairs of neighboring tokens. If 800 pairs begin with
# an s, and 100 of these go on with an h, it says that h follows s with probability 100/800.
# How good is such a prediction? Take the token that really comes, and the probability p it was
# given. Then -log(p), with the natural log, is the loss. It measures surprise: 0 if the model was
# certain (p = 1), 0.69 if p = 1/2, and 4.61 if p = 1/100. Why a log? The probability of a name is
# the product of its tokens' probabilities, and the log turns this product into a sum: losses simply
# add up. It also makes false confidence expensive, as -log(p) has no upper limit.
#
# A model's loss is the mean over many predictions. To compare models, we measure it on names held
# out of the training, since the others can be learned by heart. A blind guess among 27 tokens has a
# loss of log(27) = 3.30. Counting bigrams brings it down to 2.46. Can a GPT do better?


def mean(numbers):
    """Return the mean of some numbers."""
    return sum(numbers) / len(numbers)


def bigram_loss(train_examples, test_examples, vocab_size):
    """Count the bigrams in some tokenized names; return the mean loss on others.

    >>> bigram_loss([[2, 0, 2]], [[2, 0]], vocab_size=3)  # p = (1 + 1) / (1 + 3)
    0.6931471805599453
    """
    counts = [[1] * vocab_size for _ in range(vocab_size)]  # all start at 1, so that no p is 0
    for tokens in train_examples:
        for token, target in zip(tokens, tokens[1:]):
            counts[token][target] += 1
    pairs = [pair for tokens in test_examples for pair in zip(tokens, tokens[1:])]
    return mean([-math.log(counts[token][target] / sum(counts[token])) for token, target in pairs])


# %% 2. Autograd: numbers that remember how they were computed
#
# A bigram model remembers a single token. To count what follows five tokens, we would need a row of
# counts for each of 27**5 = 14 million combinations, and 32,000 names would leave most rows empty.
# So a GPT doesn't look its predictions up. It computes them, with a formula full of parameters. To
# improve a parameter, ask how fast the loss changes as you nudge it. That is its gradient, the
# derivative d(loss)/d(parameter). Move each parameter a bit against its gradient: the loss falls.
#
# Backpropagation finds all gradients in one pass. Every operation knows its local gradients: how
# fast its result changes with each of its inputs. For c = a * b, dc/da is b, and dc/db is a. The
# chain rule does the rest: follow a path from the loss back to a parameter, and multiply the local
# gradients along it. Add up the products of all paths. Take y = x * x at x = 3. Both inputs are x,
# and each has a local gradient of 3. That makes two paths, and a gradient of 3 + 3 = 6. Calculus
# agrees: the derivative of x**2 is 2x. A program that does all this is called autograd.


class Value:
    """A number that remembers its inputs, the Values it was computed from.

    >>> x = Value(3.0)
    >>> y = x * x + 2 * x
    >>> y.backward()  # finds dy/dx, which is 2x + 2
    >>> y, x
    (Value(15, grad=1), Value(3, grad=8))
    """

    __slots__ = ("data", "grad", "inputs", "local_grads", "partners")  # saves memory

    def __init__(self, data, inputs=(), local_grads=(), partners=()):
        self.data = data  # the number itself
        self.grad = 0.0  # d(result)/d(this), after result.backward()
        self.inputs = inputs  # a leaf, such as a parameter, has none
        self.local_grads = local_grads  # d(this)/d(input), for each input; none for dot()
        self.partners = partners  # only for dot(), below: its second vector

    def __add__(self, other):
        if not isinstance(other, Value):  # a plain number
            return Value(self.data + other, (self,), (1.0,))
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        if not isinstance(other, Value):
            return Value(self.data * other, (self,), (other,))
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __truediv__(self, other):
        if not isinstance(other, Value):
            return Value(self.data / other, (self,), (1 / other,))
        ratio = self.data / other.data
        return Value(ratio, (self, other), (1 / other.data, -ratio / other.data))

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def __pow__(self, n): return Value(self.data**n, (self,), (n * self.data ** (n - 1),))
    def log(self): return Value(math.log(self.data), (self,), (1 / self.data,))
    def relu(self): return Value(0.0) if self.data <= 0 else self  # 0 passes no gradient on
    def __neg__(self): return self * -1
    def __sub__(self, other): return self + -other
    def __radd__(self, other): return self + other  # for 2 + x and sum(), as 2 can't add a Value
    def __rsub__(self, other): return -self + other
    def __rmul__(self, other): return self * other
    def __rtruediv__(self, other): return Value(other) / self
    def __repr__(self): return f"Value({self.data:.4g}, grad={self.grad:.4g})"

    def backward(self):
        """Find the gradient of this Value with respect to every Value behind it."""
        # A Value's gradient, a sum over paths, is complete once all Values computed from it have
        # added theirs. So order them, inputs first (topologically), and go through them backward.
        order, found, stack = [], set(), [(self, False)]
        while stack:
            node, is_ready = stack.pop()
            if is_ready:  # all its inputs, except leaves, are in the order
                order.append(node)
            elif node not in found:
                found.add(node)
                stack.append((node, True))  # below its inputs, and so popped after them
                for x in node.inputs + node.partners:
                    if x.inputs and x not in found:
                        x.grad = 0.0  # (gradients of leaves add up instead)
                        stack.append((x, False))
        self.grad = 1.0 if self.inputs else self.grad + 1.0  # d(self)/d(self) is 1
        for node in reversed(order):
            grad = node.grad
            if node.partners:
                for x, partner in zip(node.inputs, node.partners):
                    x.grad += partner.data * grad
                    partner.grad += x.data * grad
            else:
                for x, local_grad in zip(node.inputs, node.local_grads):
                    x.grad += local_grad * grad


def dot(a, b):
    """Return the dot product a[0] * b[0] + a[1] * b[1] + ... as a single Value.

    As products and sums, 16 pairs would be 31 Values, and training would take over five times as
    long. In one Value, each number's local gradient is its partner in the other vector.

    >>> dot([Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)])
    Value(11, grad=0)
    """
    assert len(a) == len(b), "a dot product needs two vectors of the same length"
    total = 0.0
    for x, partner in zip(a, b):
        total += x.data * partner.data
    return Value(total, tuple(a), (), tuple(b))


# %% 3. Model: a token goes in, a score for every possible next token comes out
#
# Let's follow one token of emma through the model, the first m. It is token 12, at position 2,
# counting from 0, after BOS and e. What comes next?
#
#   1. Embedding. The number 12 says nothing about m. So each token has a row of 16 numbers in the
#      matrix wte, and training gives them a meaning. Each position has a row, too, in wpe: without
#      it, our model couldn't tell the order of the earlier tokens. The sum of the two rows is x, a
#      vector (a list of numbers). RMSNorm (root mean square) brings it to a standard size.
#   2. Attention. The m looks back at the tokens so far and gathers what it can use. Four heads
#      do so separately, with 4 of the 16 numbers each. What they find is combined and added to x.
#   3. MLP, or multi-layer perceptron. The m thinks it over. A matrix turns x into 64 numbers, ReLU
#      sets the negative ones to 0, and another turns them into 16. They are added to x, too.
#   4. Output. A last matrix turns x into 27 scores, the logits: one for each possible next token.
#
# Steps 2 and 3 make one layer of a transformer. Both read x, through another RMSNorm, and add to
# it. This x is called the residual stream. Our model has one layer; GPT-3 has 96.


def linear(x, matrix):
    """Multiply a matrix, a list of rows, by a vector: one dot product for each row."""
    x = tuple(x)  # so that dot() needn't copy it
    return [dot(x, row) for row in matrix]


def rmsnorm(x):
    """Rescale x to a mean square of 1, so that numbers neither explode nor fade along the way."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5  # 1e-5 avoids a division by 0
    return [xi * scale for xi in x]


def softmax(logits):
    """Turn scores into probabilities: exp makes them positive, the division makes their sum 1.

    >>> softmax([Value(2.0), Value(1.0), Value(0.0)])
    [Value(0.6652, grad=0), Value(0.2447, grad=0), Value(0.09003, grad=0)]
    """
    largest = max(logit.data for logit in logits)  # we subtract it, as exp(1000) would overflow
    exps = [(logit - largest).exp() for logit in logits]  # exp(-largest) cancels below
    total = sum(exps)
    return [e / total for e in exps]


def cross_entropy(logits, target):
    """Return the loss, -log(softmax(logits)[target]).

    >>> cross_entropy([Value(0.0)] * 27, target=4)  # a blind guess: log(27)
    Value(3.296, grad=0)
    """
    largest = max(logit.data for logit in logits)
    total = sum([(logit - largest).exp() for logit in logits])
    return total.log() - (logits[target] - largest)  # -log(exp(x) / total) = log(total) - x


def attention(query, keys, values):
    """Let a token look back: return a mix of the values of all tokens so far, itself included.

    Each token makes three vectors. Its query says what it is looking for, its key says what it has
    to offer, and its value (a vector, not a Value) is what it hands over. Nobody decides what is
    in them: training does. Where query and key match, their scaled dot product, or score, is large.
    Softmax turns the scores into attention weights, and these make a weighted mean of the values.

    >>> keys, values = [[Value(4.0)], [Value(0.0)]], [[Value(10.0)], [Value(20.0)]]
    >>> attention([Value(1.0)], keys, values)  # scores 4 and 0, attention weights 0.98 and 0.02
    [Value(10.18, grad=0)]
    """
    # Dot products of random vectors of n numbers grow like sqrt(n). Undivided, these scores could
    # give one token all the weight. Then queries and keys would get hardly any gradient.
    scores = [dot(query, key) / math.sqrt(len(query)) for key in keys]
    weights = softmax(scores)
    return [dot(weights, column) for column in zip(*values)]  # zip turns rows into columns


class GPT:
    """A GPT-2, simplified: for instance, RMSNorm for LayerNorm, ReLU for GELU, and no biases."""

    def __init__(self, vocab_size, n_layer=1, n_embd=16, n_head=4, block_size=16, rng=random):
        # Why random? If all began equal, a row's numbers would get equal gradients, and stay equal.
        # Why small? So that all logits start near 0, and the model starts with a blind guess.
        def matrix(rows, columns):
            return [tuple(Value(rng.gauss(0, 0.08)) for _ in range(columns)) for _ in range(rows)]

        if n_embd % n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, not {n_embd} and {n_head}")
        w = self.state_dict = {}  # w is for weights, as parameters in matrices are called
        w["wte"] = matrix(vocab_size, n_embd)  # token embeddings, a row for each token
        w["wpe"] = matrix(block_size, n_embd)  # position embeddings: 16 tokens at most
        w["lm_head"] = matrix(vocab_size, n_embd)  # language model head: x in, logits out
        for i in range(n_layer):
            w[f"layer{i}.attn_wq"] = matrix(n_embd, n_embd)  # makes a token's query,
            w[f"layer{i}.attn_wk"] = matrix(n_embd, n_embd)  # its key,
            w[f"layer{i}.attn_wv"] = matrix(n_embd, n_embd)  # and its value
            w[f"layer{i}.attn_wo"] = matrix(n_embd, n_embd)  # combines what attention has found
            w[f"layer{i}.mlp_fc1"] = matrix(4 * n_embd, n_embd)  # fully connected: 16 in, 64 out
            w[f"layer{i}.mlp_fc2"] = matrix(n_embd, 4 * n_embd)  # and back: 64 in, 16 out
        self.parameters = [p for rows in w.values() for row in rows for p in row]
        self.n_layer, self.block_size, size = n_layer, block_size, n_embd // n_head
        self.heads = [slice(start, start + size) for start in range(0, n_embd, size)]

    def new_cache(self):
        return [([], []) for _ in range(self.n_layer)]  # for each layer, keys and values

    def forward(self, token, cache):
        """Read a token, and return the logits of the next one.

        The KV cache keeps the keys and values of all tokens so far, so that none is read twice.
        Later tokens aren't in it yet, so they can't give the answer away: attention is causal.
        """
        w, position = self.state_dict, len(cache[0][0])  # as many keys as tokens so far
        x = rmsnorm([t + p for t, p in zip(w["wte"][token], w["wpe"][position])])
        for i, (keys, values) in enumerate(cache):
            h = rmsnorm(x)  # nearly a no-op in layer 0; later layers need it
            query = linear(h, w[f"layer{i}.attn_wq"])
            keys.append(linear(h, w[f"layer{i}.attn_wk"]))
            values.append(linear(h, w[f"layer{i}.attn_wv"]))
            found = []
            for head in self.heads:  # each of the four has its own 4 of the 16 numbers
                found += attention(query[head], [k[head] for k in keys], [v[head] for v in values])
            h = linear(found, w[f"layer{i}.attn_wo"])
            # A residual connection: h is added to x, so the layer only has to learn what to change.
            # And + passes gradients on unchanged, while a chain of matrices could shrink them.
            x = [a + b for a, b in zip(x, h)]
            h = linear(rmsnorm(x), w[f"layer{i}.mlp_fc1"])
            h = [hi.relu() for hi in h]  # without it, two matrices could do no more than one
            h = linear(h, w[f"layer{i}.mlp_fc2"])
            x = [a + b for a, b in zip(x, h)]
        return linear(x, w["lm_head"])

    def losses(self, tokens):
        """Return the loss of each prediction in a tokenized name."""
        pairs, cache = zip(tokens[: self.block_size], tokens[1:]), self.new_cache()
        return [cross_entropy(self.forward(token, cache), target) for token, target in pairs]


# %% 4. Training: a thousand small steps
#
# Each step takes a name. Forward: predict its tokens, and take the mean loss. Backward: find the
# gradients. Update: move all parameters against them. How far? Plain gradient descent moves them by
# learning_rate * gradient. But gradients differ a thousandfold: a rate too high for one parameter
# hardly moves another. So Adam (Kingma & Ba, 2015) keeps two running means for each parameter, of
# its gradient and of the gradient's square, and subtracts learning_rate * mean / sqrt(square). If
# the gradient stays the same, mean / sqrt(square) is 1 or -1. If its sign alternates, it is near 0.


class Adam:
    """The optimizer: it keeps the running means and updates the parameters.

    >>> p = Value(5.0)
    >>> p.grad = 0.001
    >>> Adam([p]).step(learning_rate=0.1)
    >>> p  # it has moved by 0.1, although the gradient is small
    Value(4.9, grad=0.001)
    """

    def __init__(self, parameters, beta1=0.85, beta2=0.99, epsilon=1e-8):
        self.parameters, self.beta1, self.beta2, self.epsilon = parameters, beta1, beta2, epsilon
        self.means, self.squares = [0.0] * len(parameters), [0.0] * len(parameters)
        self.steps_done = 0

    def step(self, learning_rate):
        """Update all parameters against their gradients."""
        self.steps_done += 1
        beta1, beta2, means, squares = self.beta1, self.beta2, self.means, self.squares
        # A running mean is beta * its old value + (1 - beta) * the new number. As it starts at 0,
        # it is too small at first. Dividing by 1 - beta**steps fixes that.
        fix1, fix2 = 1 - beta1**self.steps_done, 1 - beta2**self.steps_done
        rate = learning_rate / fix1  # so that every mean is divided by fix1
        for i, p in enumerate(self.parameters):
            means[i] = mean = beta1 * means[i] + (1 - beta1) * p.grad
            squares[i] = square = beta2 * squares[i] + (1 - beta2) * p.grad * p.grad
            p.data -= rate * mean / (math.sqrt(square / fix2) + self.epsilon)


def train_step(model, optimizer, batch, learning_rate):
    """Learn from a batch of tokenized names (here, one name); return their mean loss."""
    for p in model.parameters:
        p.grad = 0.0
    batch_loss = 0.0
    for tokens in batch:
        loss = mean(model.losses(tokens)) / len(batch)  # forward
        loss.backward()  # adds to the gradients so far
        batch_loss += loss.data
    optimizer.step(learning_rate)
    return batch_loss


# %% 5. Sampling: the model writes
#
# Now the parameters stay as they are. Using a trained model is called inference: sample() writes a
# name, and evaluate() measures the loss on other names. demo() puts all five chapters together.


def sample(model, tokenizer, temperature=0.5, rng=random):
    """Write a name: draw a token, let the model read it, draw the next, ...

    At temperature 1, the probabilities are the model's own. Below 1, the likeliest tokens gain;
    above 1, the odds even out.
    """
    token, cache, name = tokenizer.bos, model.new_cache(), []
    for _ in range(model.block_size):
        probs = softmax([logit / temperature for logit in model.forward(token, cache)])
        token = rng.choices(range(len(probs)), weights=[p.data for p in probs])[0]
        if token == tokenizer.bos:
            break  # the name is over
        name.append(token)
    return tokenizer.decode(name)


def evaluate(model, examples):
    """Return the mean loss of all predictions in some tokenized names."""
    return mean([loss.data for tokens in examples for loss in model.losses(tokens)])


def demo(docs, num_steps=1000, **sizes):
    """Train, compare with counting, and write. demo(open("names.txt").read().split()) ends with:

    step 1000 | loss 2.4422
    held-out loss: 2.3808 (bigrams: 2.4602)
    kelon ann lemai jaish vianah karia yrian amilyn elistie bri dian srieme naha aletin ...

    The bigrams were counted in 28,830 names. The model saw only 1,000 of them, and does better: it
    knows the position, and looks back further. (2.44 averages 100 names; 2.38, all predictions.)
    """
    docs, rng = list(docs), random.Random(42)  # the same random numbers in every run
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    model = GPT(tokenizer.vocab_size, rng=rng, **sizes)
    optimizer = Adam(model.parameters)
    examples = [tokenizer.encode(doc)[: model.block_size + 1] for doc in docs]
    cut = len(docs) - max(1, len(docs) // 10)
    training, held_out, losses = examples[:cut], examples[cut:][:200], []
    for step in range(num_steps):
        rate = 0.01 * (1 - step / num_steps)  # smaller and smaller steps, to settle
        losses.append(train_step(model, optimizer, [training[step % len(training)]], rate))
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:4d} | loss {mean(losses[-100:]):.4f}")
    bigrams = bigram_loss(training, held_out, tokenizer.vocab_size)
    print(f"held-out loss: {evaluate(model, held_out):.4f} (bigrams: {bigrams:.4f})")
    print(*[sample(model, tokenizer, rng=rng) for _ in range(20)])
    return model, tokenizer


# %% The algorithm ends here
#
# What separates it from ChatGPT? Size, first of all. GPT-3, an ancestor, has 175 billion parameters
# (ours has 4,192), reads 2,048 tokens of some four letters each, and was trained on 300 billion of
# them. ChatGPT was then trained on conversations, and on what people judged to be good answers. But
# the core is the same: predict the next token, measure the loss, move against the gradients.

import gc
import json
import os
import shutil
import signal
import sys
import time
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path

# %% 6. Other ways to train


class AdamW(Adam):
    """Adam with weight decay: each step also shrinks all parameters (Loshchilov & Hutter, 2019)."""

    weight_decay = 0.0

    def step(self, learning_rate):
        for p in self.parameters:
            p.data *= 1 - learning_rate * self.weight_decay
        super().step(learning_rate)


def learning_rate_at(step, learning_rate, lr_schedule, warmup_steps, num_steps, **other_flags):
    """Return the learning rate of a step. It rises linearly, and then follows a schedule."""
    x = max(0, step - warmup_steps) / max(1, num_steps - warmup_steps)  # from 0 to 1
    falls = {"linear": 1 - x, "cosine": 0.55 + 0.45 * math.cos(math.pi * x), "constant": 1}
    return learning_rate * min(1, (step + 1) / (warmup_steps + 1)) * falls[lr_schedule]


# %% 7. Runs and their checkpoints

FLAGS = {  # name: (group, type, default, least number or choices, meaning)
    "data": ("data", os.path.abspath, None, None, "text file, a document per line (or names.txt)"),
    "stream": ("data", bool, False, None, "treat the file as one text, and draw windows from it"),
    "val_fraction": ("data", float, 0.1, 0, "fraction held out of training"),
    "n_layer": ("model", int, 1, 1, "number of layers"),
    "n_embd": ("model", int, 16, 1, "size of an embedding, a multiple of n_head"),
    "n_head": ("model", int, 4, 1, "attention heads per layer"),
    "block_size": ("model", int, 16, 1, "context in tokens; longer documents are cut"),
    "num_steps": ("training", int, 1000, 0, "total steps, including those of a checkpoint"),
    "batch_size": ("training", int, 1, 1, "documents or windows per step"),
    "learning_rate": ("training", float, 0.01, 0, "learning rate at its peak"),
    "lr_schedule": ("training", str, "linear", ("linear", "cosine", "constant"), "decay schedule"),
    "warmup_steps": ("training", int, 0, 0, "steps in which the learning rate rises first"),
    "weight_decay": ("training", float, 0.0, 0, "how fast parameters shrink, as in AdamW"),
    "seed": ("training", int, 42, 0, "random seed"),
    "eval_interval": ("evaluation", int, 0, 0, "steps between evaluations; 0: only at the end"),
    "num_samples": ("sampling", int, 20, 0, "number of samples"),
    "temperature": ("sampling", float, 0.5, 0, "0: likeliest token; 1: the model's own odds"),
    "top_k": ("sampling", int, 0, 0, "number of likeliest tokens to draw from; 0: all"),
    "prompt": ("sampling", str, "", None, "start of each sample"),
    "max_new_tokens": ("sampling", int, None, 1, "max new tokens per sample; None: block_size"),
    "save": ("files", str, None, None, "checkpoint to write at each evaluation and at the end"),
    "load": ("files", str, None, None, "checkpoint to continue"),
}
DEFAULTS = {flag: entry[2] for flag, entry in FLAGS.items()}
MODEL_FLAGS = [flag for flag in FLAGS if FLAGS[flag][0] == "model"]
SAVED_FLAGS = [flag for flag in FLAGS if FLAGS[flag][0] not in ("sampling", "files")]


def parse(words, /, **given):
    """Return flags from a command line or Python, in their types; ValueError: one is wrong."""

    def fail(message):
        raise ValueError(f"{message} (--help lists all flags)")

    parser = ArgumentParser(usage="microgpt.py ...", allow_abbrev=False, argument_default=SUPPRESS)
    parser.error = fail
    for name, (_, kind, default, limit, meaning) in FLAGS.items():
        how = {"choices": limit} if kind is str and limit else {"type": kind, "metavar": "X"}
        how = {"action": "store_true"} if kind is bool else how
        parser.add_argument(f"--{name}", help=f"{meaning} (default: {default})", **how)
    for name, x in given.items():
        if name not in FLAGS or not (x is None or x is False):  # None, False: not given
            words = [*words, f"--{name}" if x is True else f"--{name}={x}"]
    flags = vars(parser.parse_args(words))
    for name, x in flags.items():  # an x of [] comes from --name=--, up to Python 3.12
        if x == [] or FLAGS[name][1] in (int, float) and not FLAGS[name][3] <= x < math.inf:
            raise ValueError(f"--{name} must be at least {FLAGS[name][3]}, not {x}")
    return flags


class Run:
    """A model in training, with all that its future depends on."""

    def __init__(self, flags, docs, rng):
        self.flags, self.rng, self.losses, self.tokenizer = flags, rng, [], Tokenizer(docs)
        if flags["stream"]:  # one long text needs no BOS
            self.tokenizer.bos, self.tokenizer.vocab_size = None, len(self.tokenizer.chars)
        self.model = GPT(self.tokenizer.vocab_size, *[flags[name] for name in MODEL_FLAGS], rng)
        self.optimizer = AdamW(self.model.parameters)

    def encode(self, flag, docs):
        """Return the tokens of some texts; ValueError names characters that have no token."""
        unknown = set("".join(docs)) - self.tokenizer.ids.keys()
        if unknown:
            n = sum(not unknown.isdisjoint(doc) for doc in docs)
            raise ValueError(f"--{flag}: the model, whose alphabet is fixed, doesn't know "
                             f"{''.join(sorted(unknown))[:50]!r} (in {n} of {len(docs)} texts)")
        return [[x for x in self.tokenizer.encode(doc) if x is not None] for doc in docs]

    def use(self, docs):
        """Split documents: train on one part, and grade on the start of each."""
        data, stream, size = self.encode("data", docs), self.flags["stream"], self.model.block_size
        data, least = (data[0], size + 1) if stream else (data, 1)
        cut = len(data) - int(len(data) * min(1, self.flags["val_fraction"]))
        if cut < least:
            raise ValueError(f"--data leaves {cut} to train on, and {least} are needed: "
                             "try a smaller --val_fraction or --block_size")
        self.training, self.graded = data[:cut], []
        self.optimizer.weight_decay = self.flags["weight_decay"]
        for part in data[:cut], data[cut:]:
            if stream:  # windows, side by side
                part = [part[i : i + size + 1] for i in range(0, min(len(part) - 1, 3200), size)]
            part = [tokens[: size + 1] for tokens in part[:200]]
            while len(part) > 1 and sum(map(len, part)) > 3400:
                part.pop()  # grading should not take long
            self.graded.append(part)

    def batch(self):
        """Return the examples of the next step: documents in turn, or windows from any place."""
        data, size, n = self.training, self.model.block_size, self.flags["batch_size"]
        if self.flags["stream"]:
            starts = [self.rng.randrange(len(data) - size) for _ in range(n)]
            return [data[start : start + size + 1] for start in starts]
        return [data[(self.optimizer.steps_done * n + i) % len(data)] for i in range(n)]

    def grade(self):
        """Return the losses on both parts, as text."""
        parts = [(name, part) for name, part in zip(("train", "val"), self.graded) if part]
        return " | ".join(f"{name} loss {evaluate(self.model, part):.4f}" for name, part in parts)

    def complete(self, prompt):
        """Return a prompt, and what the model writes after it. A full context slides."""
        size, temperature = self.model.block_size, self.flags["temperature"] or 1e-300
        tokens = self.encode("prompt", [prompt])[0][: len(prompt) + 1]  # without the last BOS
        tokens = tokens or [self.tokenizer.ids.get("\n", 0)]  # a stream starts as after a line end
        start, cache, unread = len(tokens), self.model.new_cache(), tokens[-size:]
        for _ in range(self.flags["max_new_tokens"] or size):
            if len(cache[0][0]) == size:  # it is full: read the latest tokens anew
                cache, unread = self.model.new_cache(), tokens[-size:]
            for token in unread:
                logits = self.model.forward(token, cache)
            logits = [logit.data for logit in logits]
            # A temperature of 0 leaves the likeliest token; a top_k of 0 leaves all.
            largest, least = max(logits), sorted(logits)[-self.flags["top_k"] :][0]
            exps = [math.exp((x - largest) / temperature) if x >= least else 0.0 for x in logits]
            unread = self.rng.choices(range(len(exps)), weights=exps)
            if unread[0] == self.tokenizer.bos:
                break
            tokens += unread
        return prompt + self.tokenizer.decode(tokens[start:])

    def state(self):
        """Return a copy of all that a checkpoint holds."""
        matrices, optimizer = self.model.state_dict.items(), self.optimizer
        return {
            "format": "microgpt checkpoint", "version": 1, "step": optimizer.steps_done,
            "flags": {x: self.flags[x] for x in SAVED_FLAGS if self.flags[x] is not None},
            "chars": "".join(self.tokenizer.chars), "random_state": self.rng.getstate()[1],
            "weights": {key: [[p.data for p in row] for row in rows] for key, rows in matrices},
            "means": list(optimizer.means), "squares": list(optimizer.squares),
        }

    def restore(self, state):
        """Go back to an earlier state, or on to a saved one."""
        rows = [row for name in self.model.state_dict for row in state["weights"][name]]
        for p, x in zip(self.model.parameters, [x for row in rows for x in row]):
            p.data = float(x)  # a wrong type changes here, and load() notices
        self.optimizer.means = [float(x) for x in state["means"]]
        self.optimizer.squares = [abs(float(x)) for x in state["squares"]]
        self.optimizer.steps_done = abs(int(state["step"]))
        self.rng.setstate((3, tuple(state["random_state"]), None))


def load(path, **given):
    """Return the run in a checkpoint; given flags override its own. ValueError: it is bad."""
    given = parse([], **given)
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        saved = {name: state["flags"][name] for name in SAVED_FLAGS if name in state["flags"]}
        flags = {**DEFAULTS, **parse([], **saved)}
        n_layer, n_embd, _, block_size = [flags[name] for name in MODEL_FLAGS]
        vocab_size = len(state["chars"]) + (not flags["stream"])
        size = n_embd * (2 * vocab_size + block_size + 12 * n_layer * n_embd)
        if {len(state["means"]), len(state["squares"])} != {size}:
            raise ValueError("its flags don't fit its size")  # they may ask for a huge one
        run = Run(flags, state["chars"], random.Random())
        run.restore(state)
        again = {**run.state(), "flags": state["flags"]}
        if json.dumps(again, sort_keys=True, allow_nan=False) != json.dumps(state, sort_keys=True):
            raise ValueError("something in it has a wrong type, length or range")
    except Exception as error:
        words = str(error) or "out of memory"  # PyPy's f-strings can't take all errors
        raise ValueError(f"cannot load {str(path)!r} as a checkpoint: " + words) from None
    for name in ("stream", "val_fraction", *MODEL_FLAGS):
        if given.get(name, flags[name]) != flags[name]:
            raise ValueError(f"--{name} is {flags[name]} in the checkpoint, and can't be changed")
    if given.get("seed", flags["seed"]) != flags["seed"]:
        run.rng.seed(given["seed"])  # for new draws; the old seed still says what is held out
    run.flags = {**flags, **given, "seed": flags["seed"]}
    return run


def save(state, path, is_trial=False):
    """Write a checkpoint, if there is a path: the file is always whole, the old one or the new."""
    if path is None:
        return
    place = Path(os.path.realpath(path))  # a link stays a link
    temporary = Path(f"{place}.{time.time_ns()}.tmp")
    try:
        with open(temporary, "x", encoding="ascii") as file:
            text = json.dumps(state, sort_keys=True, allow_nan=False)
            print(text * (3 if is_trial else 1), end="", file=file, flush=True)  # room to grow
            os.fsync(file)
        if place.exists():
            if not place.read_text().startswith('{"chars":'):
                raise ValueError("it holds something other than a checkpoint")
            shutil.copymode(place, temporary)
        if not is_trial:
            os.replace(temporary, place)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot save to {path!r}: {error}") from None
    finally:
        if os.path.exists(temporary):
            temporary.unlink()


# %% 8. The program

HERE = Path(globals().get("__file__", "notebook"))
NAMES = HERE.resolve().with_name("names.txt")
NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"


def read(path):
    """Return the text in a file, or in names.txt, which is fetched if it is missing."""
    try:
        if path is None and not NAMES.exists():
            print(f"{NAMES} is missing: fetching {NAMES_URL} (other names, other results)")
            from urllib.request import urlopen  # rarely needed
            NAMES.write_bytes(urlopen(NAMES_URL, timeout=30).read())
        raw = Path(path or NAMES).read_bytes()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        if not text.strip() or "\0" in text:
            raise ValueError("it is empty or not text")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except Exception as error:
        hint = " (it must be UTF-8 text)" if isinstance(error, ValueError) else ""
        raise ValueError(f"--data {path or NAMES}: {str(error) or 'out of memory'}{hint}") from None


def curve(losses, num_bars=56):
    """Return the losses as bars, with the means of the first and the last bar in numbers."""
    n = min(num_bars, len(losses))
    means = [mean(losses[len(losses) * i // n : len(losses) * (i + 1) // n]) for i in range(n)]
    low, span = min(means), max(means) - min(means) or 1.0
    bars = "".join("▁▂▃▄▅▆▇█"[round(7 * (x - low) / span)] for x in means)
    return f"{means[0]:.2f} {bars} {means[-1]:.2f}"


def train(run):
    """Take the steps that are left, until Ctrl-C; report, grade and save meanwhile."""
    flags, losses, num_steps, line = run.flags, run.losses, run.flags["num_steps"], ""
    is_live = "kernel" in type(sys.stdout).__module__ or getattr(sys.stdout, "isatty", bool)()
    width = (shutil.get_terminal_size().columns or 80) - 1 if is_live else 0
    start, state, first = time.perf_counter(), run.state(), run.optimizer.steps_done
    if sys.implementation.name == "cpython":  # PyPy must collect
        gc.disable()  # it would search the graphs for cycles, and they have none
    try:
        for step in range(first + 1, num_steps + 1):
            rate = learning_rate_at(step - 1, **flags)
            loss = train_step(run.model, run.optimizer, run.batch(), rate)
            if not math.isfinite(loss + sum(run.optimizer.means + run.optimizer.squares)):
                raise FloatingPointError("the model has diverged: try a smaller --learning_rate")
            state = run.state()
            losses.append(loss)
            head = f"step {step:4d} / {num_steps:4d} |"
            speed = (step - first) / max(time.perf_counter() - start, 1e-9)  # a coarse clock's 0
            left = "{}:{:02d}".format(*divmod(round((num_steps - step) / speed), 60))
            line = f"{head} loss {mean(losses[-50:]):.4f} | {speed:.1f} steps/s | {left} left"
            if not is_live:
                print(f"{head} loss {loss:.4f}")
            elif step % round(speed / 4 + 1) == 0:  # some four times a second
                print(line[:width].ljust(width), end="\r")
            if flags["eval_interval"] and step % flags["eval_interval"] == 0 and step < num_steps:
                print(f"{head} lr {rate:#.3g} | {run.grade()}".ljust(width))
                save(state, flags["save"])
    except KeyboardInterrupt:
        run.restore(state)  # of the last whole step
    finally:
        gc.enable()
        try:
            save(state, flags["save"])
        except (KeyboardInterrupt, SystemExit):  # a second Ctrl-C, or a kill
            save(state, flags["save"])
            raise
        if is_live and line:
            print("\r" + line[:width].ljust(width))  # over a ^C


def main(**given):
    """Train, grade and write, as in main(num_steps=200); return the run. ValueError: bad input."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    given, docs = parse([], **given), []
    run = load(given["load"], **given) if "load" in given else None
    flags = run.flags if run else {**DEFAULTS, **given}
    stream, size, rng = flags["stream"], flags["block_size"], random.Random(flags["seed"])
    is_done = run is not None and run.optimizer.steps_done >= flags["num_steps"]
    if "data" in given or not is_done:  # else samples are all we need
        text = read(flags["data"])
        docs = [text] if stream else [line.strip() for line in text.split("\n") if line.strip()]
        rng.shuffle(docs)
    run = run or Run(flags, docs, rng)
    run.encode("prompt", [flags["prompt"]])  # it and --save are tried before the training
    save(run.state(), flags["save"], is_trial=True)
    if docs:
        run.use(docs)
        print(f"num chars: {len(text)}" if stream else f"num docs: {len(docs)}")
    if is_done:
        print(f"no steps left: {run.optimizer.steps_done} are done (--num_steps sets the total)")
    vocab_size = run.tokenizer.vocab_size
    print(f"vocab size: {vocab_size}\nnum params: {len(run.model.parameters)}")
    long = [] if stream else [doc for doc in docs if len(doc) >= size]
    if long:
        print(f"{len(long)} of {len(docs)} docs are too long for block_size {size}, and cut there")
    train(run)
    if flags["save"]:
        print("saved", flags["save"])
    if run.losses:
        print("loss curve", curve(run.losses))
    if docs:
        line = run.grade()
        if run.graded[1]:
            examples = [run.training] if stream else run.training
            table = bigram_loss(examples, run.graded[1], vocab_size)
            line += f" | bigram table {table:.4f} | ln({vocab_size}) {math.log(vocab_size):.4f}"
        print(line)
    known = "".join(docs) if stream else {*docs, *[doc[:size] for doc in long]}
    for i in range(1, flags["num_samples"] + 1):
        text = run.complete(flags["prompt"])
        print(f"sample {i:2d}: {text}{'  (in the data)' if text in known else ''}")
    return run


def command():
    """Do main() for the command line: an error is one line on standard error, and status 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it saves, too
    try:
        return main(**parse(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        if isinstance(error, OSError):
            sys.stdout = None  # closed or full: Python must not write to it again at its exit
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
            sys.exit(1)
        words = str(error) or "out of memory: a smaller model, batch or block_size needs less"
        print("microgpt.py: error:", *words.splitlines(), file=sys.stderr)
        sys.exit(2)


# %% Run it

if __name__ == "__main__":  # in a notebook, the arguments belong to the notebook's own program
    run = command() if Path(sys.argv[0]).name == HERE.name else main()
