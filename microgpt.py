"""microgpt: train a GPT on a list of names, then let it invent new ones. One file of plain Python.

    python microgpt.py --num_steps 1000

A GPT ("generative pre-trained transformer") is a function with thousands of numbers in it, its
weights. It reads the start of a text and gives each token, here a character, that may come next a
score, its logit. The loss says how badly it scored what really came; the gradients of the loss say
how to change the weights for the better. Six chapters, each built on those above it, show all of
that. Left out is what only makes it faster or larger: tensors, GPUs, tokens of several characters.
The imports, and each chapter from one `# %%` to the next, are also the cells of a notebook.
"""

import argparse
import gc
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from operator import mul
from pathlib import Path

# %% 1. Data: from text to token ids
#
# A model computes with numbers, so each character gets one, its token id. A document is a line of
# the text, such as a name. One more token, BOS ("beginning of sequence"), stands before and after
# it: from BOS the model predicts the first character, and by predicting BOS it says that the
# document is over. Or the text is one stream, without BOS: training takes random windows of it.


def read_text(path: Path) -> str:
    """Return the text of a file; ValueError if that cannot be read, or is blank."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if "\0" in text or not text.strip():
            raise ValueError("binary" if "\0" in text else "blank")
    except (OSError, ValueError) as error:
        wanted = "give a UTF-8 text; names.txt, a name a line, comes with microgpt.py: copy it"
        raise ValueError(f"cannot read {str(path)!r} ({error}): {wanted}") from None
    return text


def split_documents(text: str) -> list[str]:
    """Return the lines of a text, stripped, without empty ones."""
    return [line.strip() for line in text.split("\n") if line.strip()]


class Tokenizer:
    """Gives each character a token id: 0, 1, 2, ... in sorted order; BOS, if any, comes last."""

    def __init__(self, docs, is_stream=False):
        self.chars = sorted(set().union(*docs))
        self.ids = {char: i for i, char in enumerate(self.chars)}
        self.ends = [] if is_stream else [len(self.chars)]  # what stands at both ends: BOS
        self.vocab_size = len(self.chars) + len(self.ends)

    def encode(self, doc: str) -> list[int]:
        """Return the ids of the characters between the ends; ValueError if one has no id."""
        try:
            return self.ends + [self.ids[char] for char in doc] + self.ends
        except KeyError:
            unknown, known = "".join(sorted({*doc} - {*self.chars})), "".join(self.chars)
            raise ValueError(f"{unknown!r} is not in the alphabet, which is {known!r}") from None

    def decode(self, tokens: list[int]) -> str:
        """Return the characters of the tokens, without BOS."""
        return "".join([self.chars[token] for token in tokens if token not in self.ends])


def split(items: list, val_fraction: float) -> tuple[list, list]:
    """Return what to train on, and the tail that is held out to validate (val) the model with."""
    num_train = len(items) - int(len(items) * val_fraction)
    return items[:num_train], items[num_train:]


def draw_document(documents: list[list[int]], i: int) -> list[int]:
    """Return the tokens of example i: one document after the other, and from the start again."""
    return documents[i % len(documents)]


def draw_window(stream: list[int], block_size: int, rng, i: int) -> list[int]:
    """Return tokens for block_size predictions from a random place in the stream, for any i."""
    start = rng.randrange(len(stream) - block_size)
    return stream[start : start + block_size + 1]


def cut_windows(stream: list[int], block_size: int) -> list[list[int]]:
    """Return the stream as windows; neighbours share a token, so that each is predicted once."""
    return [stream[i : i + block_size + 1] for i in range(0, len(stream) - 1, block_size)]


# %% 2. Autograd: numbers that know what they were computed from
#
# Training asks of each weight: if it grew by a little, how many times that little would the loss
# grow? This is d(loss)/d(weight), its gradient. No single operation knows it, but each knows its
# local gradients, the derivatives of its own result by its own inputs. The chain rule joins them:
# multiply along each path from the loss to the weight, add up the paths, as in (x * x)' = x + x.

serials = count()
sumprod = getattr(math, "sumprod", lambda p, q: sum(map(mul, p, q)))  # since Python 3.12 in math


class Value:
    """A number (data), what it was computed from (sources), its gradient (grad) after backward().

    Values are the nodes of a graph. A source is a pair (inputs, local_grads), sequences such that
    local_grads[i] is d(data)/d(inputs[i]). A value that was not computed, like a weight, is a leaf.
    """

    __slots__ = ("data", "grad", "sources", "serial")  # no others: saves memory

    def __init__(self, data: float, *sources: tuple):
        self.data, self.grad, self.sources = data, 0.0, sources
        self.serial = next(serials)  # larger than those of the inputs, which were there before

    def __repr__(self):
        return f"Value(data={self.data}, grad={self.grad})"

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, ((self, other), (1.0, 1.0)))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, ((self, other), (other.data, self.data)))

    def __truediv__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        ratio = self.data / other.data
        return Value(ratio, ((self, other), (1.0 / other.data, -ratio / other.data)))

    def __pow__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        a, b, power = self.data, other.data, math.pow(self.data, other.data)
        by_a = b * math.pow(a, b - 1) if b else 0.0  # d(a**b)/da = b * a**(b-1)
        by_b = power * math.log(a) if a > 0 else (math.nan if a else 0.0)  # a**b * log(a)
        return Value(power, ((self, other), (by_a, by_b)))

    def exp(self) -> "Value":
        """Return e to the power of this number, which is its own derivative."""
        power = math.exp(self.data)
        return Value(power, ((self,), (power,)))

    def log(self) -> "Value":
        """Return the natural logarithm; ValueError if the number is not above 0."""
        return Value(math.log(self.data), ((self,), (1.0 / self.data,)))

    def relu(self) -> "Value":
        """Return the number, or 0 if it is below."""
        if self.data <= 0:
            return Value(0.0, ((self,), (0.0,)))
        return Value(self.data, ((self,), (1.0,)))  # nan, too, which must not be hidden

    def __neg__(self): return self * -1.0
    def __sub__(self, other): return self + -other
    def __radd__(self, other): return self + other  # for 1 + value: the number is on the left
    def __rsub__(self, other): return -self + other
    def __rmul__(self, other): return self * other
    def __rtruediv__(self, other): return Value(other) / self
    def __rpow__(self, other): return Value(other) ** self
    # for copy and pickle: a copy has a serial of its own
    def __reduce__(self): return Value, (self.data, *self.sources), (None, {"grad": self.grad})

    def backward(self) -> None:
        """Set the grad of every value that this one was computed from to d(this)/d(that value).

        A leaf adds it to the grad that it has, so that the gradients of several calls add up.
        """
        queue, computed, seen = [self], {self.serial: self}, set()
        for node in queue:  # grows while it is read: the inputs, their inputs, but no leaves
            for inputs, _ in node.sources:
                if id(inputs) not in seen:  # nodes of one matrix share a vector: search it once
                    seen.add(id(inputs))
                    for value in inputs:
                        if value.sources and value.serial not in computed:
                            value.grad = 0.0
                            computed[value.serial] = value
                            queue.append(value)
        self.grad = 1.0 if self.sources else self.grad + 1.0
        # Newest first. What was computed from a value is newer than it, so when its turn comes, its
        # grad is complete. It was added up (+=), since each use of the value is a path of its own.
        for serial in sorted(computed, reverse=True):
            grad = computed[serial].grad
            if grad:  # else there is nothing to pass on, as behind a ReLU that gave 0
                for inputs, local_grads in computed[serial].sources:
                    for value, local_grad in zip(inputs, local_grads):
                        value.grad += local_grad * grad


def dot(a, b, b_data=()) -> Value:
    """Return a[0] * b[0] + a[1] * b[1] + ... as one node with 2n inputs, instead of 2n - 1 nodes.

    Nodes cost time: most of the program's speed comes from here. b_data: b's numbers, where known.
    """
    a, b = tuple(a), tuple(b)
    a_data, b_data = [value.data for value in a], b_data or [value.data for value in b]
    if not len(a) == len(b) == len(b_data):
        raise ValueError(f"equal lengths are needed, not {len(a)}, {len(b)} and {len(b_data)}")
    return Value(sumprod(a_data, b_data), (a, b_data), (b, a_data))  # d/da[i] is b[i], and back


# %% 3. Model: a token goes in, and the logits of the token after it come out
#
# Two vectors of n_embd weights, the embeddings of a token and of its position, are added up. Each
# layer adds to the sum: attention, what it finds in the tokens so far; and an MLP (matrix, ReLU,
# matrix), what it makes of that (Vaswani et al., 2017). GPT-2 (Radford et al., 2019) has LayerNorm
# for RMSNorm, the first one moved to the end; GELU for ReLU; biases and scales; wte for lm_head.


def linear(x, weight) -> list[Value]:
    """Return weight @ x: the dot product of each row with x."""
    x = tuple(x)
    x_data = [value.data for value in x]
    return [dot(row, x, x_data) for row in weight]


def rmsnorm(x) -> list[Value]:
    """Return x scaled to a mean square of 1 (Zhang & Sennrich, 2019), to stay in one range."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5  # 1e-5: not to divide by 0
    return [value * scale for value in x]


def logsumexp(logits) -> Value:
    """Return log(exp(logits[0]) + ...) as one node; its gradients are the softmax, see below."""
    logits = tuple(logits)
    largest = max(logit.data for logit in logits)
    exps = [math.exp(logit.data - largest) for logit in logits]  # none above 1: no overflow
    total = sum(exps)  # at least 1: never the log of 0
    return Value(largest + math.log(total), (logits, [e / total for e in exps]))


def softmax(logits) -> list[Value]:
    """Return logits as probabilities: exp makes all positive, and a division makes their sum 1."""
    shift = -logsumexp(logits)  # exp(logit - log(total)) is exp(logit) / total
    return [(logit + shift).exp() for logit in logits]


def cross_entropy(logits, target: int) -> Value:
    """Return -log of the target's probability: 0 if it is sure, log(n) for a guess among n."""
    return logsumexp(logits) - logits[target]


class GPT:
    """A transformer that reads token by token: new_cache(), then forward() for each token.

    weights: matrices (lists of rows) by name; parameters: their numbers. ValueError for bad sizes.
    """

    def __init__(self, vocab_size, n_layer=1, n_embd=16, n_head=4, block_size=16, rng=random):
        if min(n_layer, n_embd, n_head, block_size) < 1 or n_embd % n_head:
            sizes = f"n_layer {n_layer}, n_embd {n_embd}, n_head {n_head}, block_size {block_size}"
            raise ValueError(f"{sizes}: each must be at least 1, and n_embd a multiple of n_head")
        self.n_layer, self.n_embd, self.head_dim = n_layer, n_embd, n_embd // n_head
        self.block_size = block_size  # the context: how many tokens it sees at once

        def matrix(rows, columns=n_embd):
            return [tuple(Value(rng.gauss(0, 0.08)) for _ in range(columns)) for _ in range(rows)]

        # te, pe: token, position embedding; lm: language model; q, k, v, o: query, key, value, out
        self.weights = {"wte": matrix(vocab_size), "wpe": matrix(block_size)}
        self.weights["lm_head"] = matrix(vocab_size)
        for i in range(n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                self.weights[f"layer{i}.{name}"] = matrix(n_embd)
            self.weights[f"layer{i}.mlp_fc1"] = matrix(4 * n_embd)
            self.weights[f"layer{i}.mlp_fc2"] = matrix(n_embd, 4 * n_embd)
        self.parameters = [p for weight in self.weights.values() for row in weight for p in row]

    def new_cache(self) -> list:
        """Return an empty memory: for each layer lists of keys and values, nodes of the graph."""
        return [([], []) for _ in range(self.n_layer)]

    def attention(self, i: int, x, keys: list, values: list) -> list[Value]:
        """Return what layer i gathers for x from the tokens so far, with x as the last of them.

        A query says what a token looks for, a key what it can be found by, a value what it gives.
        Each head uses its part of them. No mask hides later tokens: they are not in the lists yet.
        """
        scale = self.head_dim**-0.5  # sums of n terms spread by sqrt(n): one would win
        query = [q * scale for q in linear(x, self.weights[f"layer{i}.attn_wq"])]
        keys.append(linear(x, self.weights[f"layer{i}.attn_wk"]))
        values.append(linear(x, self.weights[f"layer{i}.attn_wv"]))
        gathered = []
        for start in range(0, self.n_embd, self.head_dim):
            head = slice(start, start + self.head_dim)
            scores = linear(query[head], [key[head] for key in keys])  # query times each key
            rows = zip(*[value[head] for value in values])  # row j: number j of each token's value
            gathered += linear(softmax(scores), rows)  # the mean of each row, weighted
        return linear(gathered, self.weights[f"layer{i}.attn_wo"])

    def forward(self, token: int, cache: list) -> list[Value]:
        """Return the vocab_size logits of what follows this token, and extend the cache by it."""
        position = len(cache[0][0])
        if position == self.block_size:
            raise ValueError(f"the context is full: block_size is {self.block_size} tokens")
        x = [t + p for t, p in zip(self.weights["wte"][token], self.weights["wpe"][position])]
        x = rmsnorm(x)  # from about 0.1 to 1: else what layers add would drown it
        for i, (keys, values) in enumerate(cache):
            x = [a + b for a, b in zip(x, self.attention(i, rmsnorm(x), keys, values))]
            hidden = linear(rmsnorm(x), self.weights[f"layer{i}.mlp_fc1"])
            out = linear([unit.relu() for unit in hidden], self.weights[f"layer{i}.mlp_fc2"])
            x = [a + b for a, b in zip(x, out)]
        return linear(x, self.weights["lm_head"])

    def loss(self, tokens: list[int]) -> Value:
        """Return the mean cross-entropy of the first block_size predictions; needs 2 tokens."""
        cache, pairs = self.new_cache(), list(zip(tokens, tokens[1:]))[: self.block_size]
        losses = [cross_entropy(self.forward(token, cache), target) for token, target in pairs]
        return sum(losses) / len(losses)


# %% 4. Training: a little less loss with every step
#
# A step takes a batch of examples, computes their mean loss and its gradients, and moves each
# weight a little against its gradient. How far is up to the optimizer, Adam (Kingma & Ba, 2015,
# Algorithm 1). It keeps two running means, the moments: of the gradient (mean), and of its square
# (square). A weight moves by -learning rate * mean / sqrt(square): the ratio is near 1 or -1 where
# the gradients agree from step to step, and nearer 0 where not. The learning rate falls on the way,
# so that the weights settle. A warm-up lets it rise first, while the means are still of few steps.

SCHEDULES = {  # the part of the learning rate that is left when `done`, 0 to 1, of the way is over
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.55 + 0.45 * math.cos(math.pi * done),  # half a wave, from 1 to 0.1
    "constant": lambda done: 1.0,
}


def schedule(step: int, num_steps: int, lr_schedule="linear", warmup_steps=0) -> float:
    """Return the factor on the learning rate: it rises to 1 at step warmup_steps, then falls."""
    warmth = min(1.0, (step + 1) / (warmup_steps + 1))
    done = max(0, step - warmup_steps) / max(1, num_steps - warmup_steps)
    return warmth * SCHEDULES[lr_schedule](min(1.0, done))


def forward_backward(model: GPT, tokens: list[int], batch_size=1) -> float:
    """Return what an example adds to the mean loss of its batch; add its gradients to each grad."""
    # Python's search for reference cycles pauses: graphs have none. It saves a tenth of a step.
    pauses = gc.isenabled() and sys.implementation.name == "cpython"  # PyPy needs it
    if pauses:
        gc.disable()
    try:
        loss = model.loss(tokens) / batch_size
        loss.backward()
        return loss.data  # only the number: the graph is let go before the next one is built
    finally:
        if pauses:
            gc.enable()


def train(
    model: GPT, draw, num_steps=1000, batch_size=1, learning_rate=0.01, lr_schedule="linear",
    warmup_steps=0, weight_decay=0.0, betas=(0.85, 0.99), epsilon=1e-8, start=0, moments=None,
):  # fmt: skip
    """Train on the tokens that draw(0), draw(1), ... return, and yield the loss of each step.

    It is a generator: each step is done when its loss is asked for, as by a for loop. betas: the
    part of a running mean that a step keeps. To go on with earlier training, start at the number of
    its steps, with its moments, two lists, which change in place. FloatingPointError, before a
    step's update, if the loss is infinite or not a number.
    """
    (beta1, beta2), parameters, sqrt = betas, model.parameters, math.sqrt
    rest1, rest2 = 1 - beta1, 1 - beta2
    means, squares = moments or [[0.0] * len(parameters), [0.0] * len(parameters)]
    for p in parameters:
        p.grad = 0.0
    for step in range(start, num_steps):
        batch = range(step * batch_size, (step + 1) * batch_size)
        loss = sum(forward_backward(model, draw(i), batch_size) for i in batch)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}: try a smaller learning rate")
        rate = learning_rate * schedule(step, num_steps, lr_schedule, warmup_steps)
        keep = 1 - rate * weight_decay  # if below 1, this is AdamW (Loshchilov & Hutter, 2019)
        # The means start at 0: after t steps, the parts in them add up to 1 - beta**t and not to 1.
        bias1, bias2 = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)
        rate /= bias1  # here once, instead of mean / bias1 for each weight
        for i, p in enumerate(parameters):
            grad = p.grad
            means[i] = mean = beta1 * means[i] + rest1 * grad
            squares[i] = square = beta2 * squares[i] + rest2 * grad * grad
            p.data = keep * p.data - rate * mean / (sqrt(square / bias2) + epsilon)
            p.grad = 0.0
        yield loss


# %% 5. Sampling and evaluation: what has the model learned?
#
# To write, draw a token by the model's logits, feed it back in, and go on until BOS comes or the
# text is long enough. To grade the model, take its loss on text that was held out of the training,
# and compare it with a table of bigrams, pairs of neighbours: all that the last token alone tells.


def sample(
    model: GPT, tokenizer: Tokenizer, rng=random, temperature=0.5, top_k=0, prompt="",
    max_new_tokens=None,
) -> str:  # fmt: skip
    """Return the prompt with up to max_new_tokens (None: block_size) characters that follow it.

    Logits are divided by the temperature: at 1, tokens come with the model's own probabilities; the
    lower it is, the more the likely ones are preferred; at 0, the likeliest always comes. Only the
    top_k likeliest, and their equals, can come (0: all). ValueError for a prompt outside the
    alphabet.
    """
    tokens = tokenizer.encode(prompt)[: len(tokenizer.ends) + len(prompt)]  # without a BOS after it
    tokens = tokens or [tokenizer.ids.get("\n", 0)]  # no BOS: it starts after a line end, or id 0
    cache, start = model.new_cache(), len(tokens)
    for _ in range(model.block_size if max_new_tokens is None else max_new_tokens):
        if len(tokens) > model.block_size:  # the window slides: each token in it has a new position
            cache = model.new_cache()
        for token in tokens[-model.block_size :][len(cache[0][0]) :]:  # what is not in the cache
            logits = [logit.data for logit in model.forward(token, cache)]
        largest, least = max(logits), sorted(logits)[-top_k:][0]  # top_k 0: [-0:] is all
        if temperature == 0:
            token = logits.index(largest)
        else:
            odds = [math.exp((x - largest) / temperature) if x >= least else 0.0 for x in logits]
            token = rng.choices(range(len(odds)), odds)[0]
        if token in tokenizer.ends:
            break
        tokens.append(token)
    return prompt + tokenizer.decode(tokens[start:])


def evaluate(model: GPT, documents: list[list[int]]) -> float:
    """Return the mean loss of all predictions, the first block_size in each list of tokens."""
    sizes = [min(len(tokens) - 1, model.block_size) for tokens in documents]
    losses = [model.loss(tokens).data * size for tokens, size in zip(documents, sizes)]
    return sum(losses) / sum(sizes)


def evaluate_bigrams(train_documents, documents, vocab_size: int) -> float:
    """Return the mean loss of a table that counts in train_documents which token follows which."""
    follows = Counter(pair for tokens in train_documents for pair in zip(tokens, tokens[1:]))
    totals = Counter(token for tokens in train_documents for token in tokens[:-1])
    pairs = [pair for tokens in documents for pair in zip(tokens, tokens[1:])]
    # each pair counts once more than it was seen, so that none is impossible
    losses = [math.log((totals[a] + vocab_size) / (follows[a, b] + 1)) for a, b in pairs]
    return sum(losses) / len(losses)


# %% 6. Running it: arguments, checkpoints, progress, the main program
#
# Nothing above prints, or knows of a command line or of checkpoints. Here it becomes a program, for
# a terminal, a pipe, a file or a notebook. What comes from outside is checked before it is used.


def number(kind, low, below, text):
    """Return an argument's text as a number; ArgumentTypeError if it is not one of those wanted."""
    with suppress(ValueError):
        if low <= kind(text) < below:
            return kind(text)
    ends = f"from {low:,} " + (f"to below {below:,}" if below < math.inf else "up")
    wanted = "whole number" if kind is int else "number"
    raise argparse.ArgumentTypeError(f"a {wanted} {ends} is needed, not {text!r}")


def parse(argv) -> argparse.Namespace:
    """Return the flags, given or by default; ValueError says in one line what is wrong."""

    def fail(message):
        raise ValueError(message)

    whole = partial(number, int, -(10**12), 10**12)
    natural, size = partial(number, int, 0, 10**12), partial(number, int, 1, 10**12)
    amount, rate = partial(number, float, 0, math.inf), partial(number, float, 1e-12, math.inf)
    part = partial(number, float, 0, 1)
    here = Path(globals().get("__file__", "")).parent  # no file in a notebook
    parser = argparse.ArgumentParser("microgpt.py", allow_abbrev=False)
    parser.description, parser.error = "Train a GPT on a text, then let it write.", fail
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    flag = parser.add_argument_group("data").add_argument
    flag("--data", type=Path, default=here / "names.txt", help="text file, a document per line")
    flag("--stream", action="store_true", help="take the file as one text, draw windows of it")
    flag("--val_fraction", type=part, default=0.1, help="part held out, for val losses")
    flag = parser.add_argument_group("model").add_argument
    flag("--n_layer", type=size, default=1, help="layers")
    flag("--n_embd", type=size, default=16, help="size of an embedding, a multiple of n_head")
    flag("--n_head", type=size, default=4, help="attention heads in a layer")
    flag("--block_size", type=size, default=16, help="context in tokens; cuts documents")
    flag = parser.add_argument_group("training").add_argument
    flag("--num_steps", type=natural, default=1000, help="steps, with those of a loaded checkpoint")
    flag("--batch_size", type=size, default=1, help="documents or windows in a step")
    flag("--learning_rate", type=rate, default=0.01, help="learning rate at its highest")
    flag("--lr_schedule", choices=[*SCHEDULES], default="linear", help="how it falls from there")
    flag("--warmup_steps", type=natural, default=0, help="steps in which it rises to there")
    flag("--weight_decay", type=amount, default=0.0, help="pull of the weights to 0, as in AdamW")
    flag("--seed", type=whole, default=42, help="seed of the random numbers")
    flag = parser.add_argument_group("evaluation").add_argument
    flag("--eval_interval", type=natural, default=0, help="steps between val losses; 0: at the end")
    flag = parser.add_argument_group("sampling").add_argument
    flag("--num_samples", type=natural, default=20, help="texts to write")
    flag("--temperature", type=amount, default=0.5, help="0: likeliest token, 1: as the model says")
    flag("--top_k", type=natural, default=0, help="likeliest tokens to draw from; 0: all")
    flag("--prompt", default="", help="start of the texts")
    flag("--max_new_tokens", type=size, help="most tokens after it; None: block_size")
    flag = parser.add_argument_group("files").add_argument
    flag("--save", type=Path, help="checkpoint to write, at each val loss and at the end")
    flag("--load", type=Path, help="checkpoint to go on from; with --data, if not done")
    return parser.parse_args([str(word) for word in argv])


MODEL_FLAGS = ("n_layer", "n_embd", "n_head", "block_size")
SAVED_FLAGS = ("num_steps", "batch_size", "learning_rate", "lr_schedule", "warmup_steps")
SAVED_FLAGS += ("weight_decay", "seed", "val_fraction", "eval_interval", *MODEL_FLAGS)


class Run:
    """A model in training, and all that its future depends on: what a checkpoint holds."""

    def __init__(self, flags: argparse.Namespace, tokenizer: Tokenizer, rng: random.Random):
        self.flags, self.tokenizer, self.rng, self.step = flags, tokenizer, rng, 0
        self.model = GPT(tokenizer.vocab_size, *[getattr(flags, x) for x in MODEL_FLAGS], rng)
        self.moments = [[0.0] * len(self.model.parameters) for _ in range(2)]

    def to_json(self) -> str:
        """Return the text of a checkpoint; FloatingPointError if the training has diverged."""
        matrices = self.model.weights.items()
        parts = {
            "format": "microgpt checkpoint", "version": 1, "step": self.step,
            "flags": {name: getattr(self.flags, name) for name in ("stream", *SAVED_FLAGS)},
            "chars": "".join(self.tokenizer.chars), "random_state": self.rng.getstate()[1],
            "weights": {name: [[p.data for p in row] for row in rows] for name, rows in matrices},
            "means": self.moments[0], "squares": self.moments[1],
        }  # fmt: skip
        example = [*range(self.tokenizer.vocab_size), 0]
        with suppress(ValueError):  # for a number that is not finite
            if math.isfinite(self.model.loss(example).data):
                return json.dumps(parts, allow_nan=False, sort_keys=True)
        raise FloatingPointError("inf or nan in the model: try a smaller learning rate")


def save(path: Path, text: str) -> None:
    """Write a text to a file, whole or not at all; ValueError if it cannot be written.

    It is moved into place when it is complete. With an empty text, only see if it could be.
    """
    temporary = f"microgpt.{time.time_ns()}.tmp"
    try:
        path = Path(os.path.realpath(path))  # a link stays a link
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise OSError("it is not a file that may be written")
        with open(path.parent / temporary, "x", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if text:
            if path.exists():
                shutil.copymode(path, path.parent / temporary)
            os.replace(path.parent / temporary, path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot save {str(path)!r} ({error}): try another path") from None
    finally:
        with suppress(OSError, ValueError):
            os.remove(path.parent / temporary)


def load(path: Path, argv=()) -> Run:
    """Return the run that a checkpoint holds, with flags as in argv; ValueError if it is broken."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != "microgpt checkpoint":
            raise ValueError("it is not a microgpt checkpoint")
        if found.get("version") != 1:
            raise ValueError("it is not of version 1, which this program reads")
        given = ["--stream"] * bool(found["flags"]["stream"])
        given += [f"--{name}={found['flags'][name]}" for name in SAVED_FLAGS]
        saved = parse(given)
        tokenizer = Tokenizer(found["chars"], saved.stream)
        num_rows = 2 * tokenizer.vocab_size + saved.block_size + 12 * saved.n_embd * saved.n_layer
        if saved.n_embd * num_rows != len(found["means"]):  # found out before it takes memory
            raise ValueError("its moments are not as many as its sizes make weights")
        run = Run(saved, tokenizer, random.Random())
        rows = [row for name in run.model.weights for row in found["weights"][name]]
        lists = [x for row in rows for x in row], found["means"], found["squares"]
        for i, p in enumerate(run.model.parameters):
            p.data, run.moments[0][i], run.moments[1][i] = (float(x[i]) for x in lists)
        run.step = number(int, 0, 10**12, found["step"])
        run.rng.setstate((3, tuple(found["random_state"]), None))
        is_in_range = min(run.moments[1]) >= 0 and max(found["random_state"]) < 2**32
        if not is_in_range or run.to_json() != json.dumps(found, sort_keys=True):
            raise ValueError("not all in it has the right type, length and range")
    except Exception as error:  # of any kind: nothing is known of what stands in the file
        wanted = "give one that --save has written"
        raise ValueError(f"cannot load {str(path)!r} ({error}): {wanted}") from None
    run.flags = parse([*given, *argv])
    for name in ("stream", *MODEL_FLAGS):
        asked, known = getattr(run.flags, name), getattr(saved, name)
        if asked != known:
            raise ValueError(f"--{name} {asked} contradicts the checkpoint, which has {known}")
    if run.flags.seed != saved.seed:  # for what comes; the old one shuffles the documents
        run.rng.seed(run.flags.seed)
        run.flags.seed = saved.seed
    return run


@contextmanager
def first_ctrl_c():
    """Give a list that is empty until Ctrl-C is pressed; a second one is a KeyboardInterrupt."""
    pressed, is_main_thread = [], threading.current_thread() is threading.main_thread()

    def note(*_):
        pressed.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = is_main_thread and signal.signal(signal.SIGINT, note)  # other threads don't get it
    try:
        yield pressed
    finally:
        if is_main_thread:
            signal.signal(signal.SIGINT, before)


def is_live() -> bool:
    """Return whether a line of the output can be written over: on a terminal, in a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def put(line: str, live="", stays=True) -> None:
    """Print a line, or live where that is_live(); if it is not to stay, the next goes over it."""
    if is_live():
        columns = shutil.get_terminal_size().columns - 3  # leaves room for a ^C
        print("\r" + (live or line)[:columns].ljust(columns), end="\n" * stays, flush=True)
    else:
        print(line, flush=True)


def follow(run: Run, draw, val_documents: list) -> list[float]:
    """Train on, print and return the losses; evaluate and save on the way, as the flags say.

    The first Ctrl-C ends this when the step under way is done.
    """
    flags, losses, start = run.flags, [], time.perf_counter()
    training = train(
        run.model, draw, flags.num_steps, flags.batch_size, flags.learning_rate, flags.lr_schedule,
        flags.warmup_steps, flags.weight_decay, start=run.step, moments=run.moments,
    )  # fmt: skip
    with first_ctrl_c() as pressed:
        for loss in training:
            run.step += 1
            losses.append(loss)
            is_last = run.step == flags.num_steps or bool(pressed)
            line, recent = f"step {run.step:4d} / {flags.num_steps:4d} |", losses[-50:]
            speed = len(losses) / (time.perf_counter() - start)
            minutes, seconds = divmod(round((flags.num_steps - run.step) / speed), 60)
            live = f"{line} loss {sum(recent) / len(recent):.4f} | {speed:.1f} steps/s"
            put(f"{line} loss {loss:.4f}", f"{live} | {minutes}:{seconds:02d} left", is_last)
            if flags.eval_interval and run.step % flags.eval_interval == 0:
                if val_documents:
                    put(f"{line} val loss {evaluate(run.model, val_documents):.4f}")
                if flags.save:
                    save(flags.save, run.to_json())
            if pressed:
                break
        text = run.to_json()  # if it is not saved, it is still checked
        if flags.save:
            save(flags.save, text)
    return losses


def curve(losses: list[float], width: int) -> str:
    """Return the losses as bars in a line of about width characters, with the ends in numbers."""
    can_draw = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    blocks, width = "▁▂▃▄▅▆▇█" if can_draw else "_.:-=+*#", max(1, min(width - 10, len(losses)))
    cuts = [len(losses) * i // width for i in range(width + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(cuts, cuts[1:])]
    low, high = min(means), max(means)
    bars = "".join(blocks[round(7 * (mean - low) / (high - low or 1.0))] for mean in means)
    return f"{means[0]:.2f} {bars} {means[-1]:.2f}"


def prepare(run: Run, docs: list[str]) -> tuple:
    """Return draw(i), what to train on, and the first 200 of what is held out, as tokens."""
    documents, size = [run.tokenizer.encode(doc) for doc in docs], run.flags.block_size
    if run.flags.stream:
        stream, val_stream = split(documents[0], run.flags.val_fraction)
        if len(stream) <= size:
            raise ValueError(f"{len(stream)} characters to train on: give at least {size + 1}")
        draw = partial(draw_window, stream, size, run.rng)
        return draw, [stream], cut_windows(val_stream, size)[:200]
    documents, val_documents = split(documents, run.flags.val_fraction)
    draw = partial(draw_document, documents)
    return draw, documents, [tokens[: size + 1] for tokens in val_documents[:200]]


def main(argv=()) -> tuple[GPT, Tokenizer]:
    """Train, evaluate and sample as the arguments say; return the model and its tokenizer.

    ValueError for arguments or data that will not do, FloatingPointError if the training diverges.
    """
    flags = parse(argv)
    run = load(flags.load, argv) if flags.load else None
    flags = run.flags if run else flags
    if flags.save and os.path.realpath(flags.save) == os.path.realpath(flags.data):
        raise ValueError(f"--save {flags.save} would overwrite the data: give another path")
    counts, known, draw, val_documents = "", (), None, []
    if not run or run.step < flags.num_steps:
        text = read_text(flags.data)
        docs = [text] if flags.stream else split_documents(text)
        counts = f"num chars: {len(text)}\n" if flags.stream else f"num docs: {len(docs)}\n"
        known = text if flags.stream else set(docs)
        rng = random.Random(flags.seed)
        rng.shuffle(docs)
        run = run or Run(flags, Tokenizer(docs, flags.stream), rng)
        draw, train_documents, val_documents = prepare(run, docs)
    model, tokenizer = run.model, run.tokenizer
    tokenizer.encode(flags.prompt)  # if it is not in the alphabet, now is the time to say so
    if flags.save:
        save(flags.save, "")
    print(f"{counts}vocab size: {tokenizer.vocab_size}")
    print(f"num params: {len(model.parameters)}", flush=True)
    try:
        losses = follow(run, draw, val_documents)
    except BaseException:
        print(end="\n" * is_live())  # what comes next is not for the line that was live
        raise
    if losses:
        put(f"loss curve {curve(losses, min(70, shutil.get_terminal_size().columns - 14))}")
    if val_documents:
        n, val_loss = tokenizer.vocab_size, evaluate(model, val_documents)
        bigrams = evaluate_bigrams(train_documents, val_documents, n)
        yardsticks = f"bigram table {bigrams:.4f} | ln({n}) {math.log(n):.4f}"
        print(f"val loss {val_loss:.4f} | {yardsticks}", flush=True)
    how = flags.temperature, flags.top_k, flags.prompt, flags.max_new_tokens
    for i in range(1, flags.num_samples + 1):
        text = sample(model, tokenizer, run.rng, *how)
        print(f"sample {i:2d}: {text}{'  (in the data)' if text in known else ''}", flush=True)
    return model, tokenizer


def command() -> tuple[GPT, Tokenizer]:
    """Do main() for the command line: an error is one line on standard error, and status 2."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # none if it was closed
    with suppress(AttributeError):  # what a notebook's %run prints to has no need of it
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that lacks a character
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        status = 1
    except (ValueError, FloatingPointError, OSError, MemoryError) as error:
        status, words = 2, str(error) or "out of memory"
        print("microgpt.py: error:", *words.splitlines(), file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # what can't be written must not be tried again at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


if __name__ == "__main__":
    # where another program reads this text, as a notebook does, the arguments are for that program
    is_command = "__file__" in globals() and Path(sys.argv[0]).name == Path(__file__).name
    model, tokenizer = command() if is_command else main()
