"""microgpt: train a GPT from scratch, then let it invent names. One file of plain Python.

    python microgpt.py --num_steps 1000

A language model gives a probability to every token (here, a character) that could come next. Its
loss measures how surprised it is by the token that really comes. A GPT ("generative pre-trained
transformer") is a language model with many adjustable numbers, its parameters. Training adjusts
them so that the loss falls:

    1. Data       names become tokens; a model that only counts them sets a loss to beat
    2. Autograd   numbers that remember how they were computed, and so can find gradients
    3. Model      the GPT: a token goes in, a score for every possible next token comes out
    4. Training   gradients say which way to nudge each parameter, Adam says how far
    5. Sampling   the model writes names of its own, and beats the one that counts

These five chapters are the whole algorithm, to be read from top to bottom. Then write parts of it
yourself: `python tests/rebuild.py --list` names them. Chapters 6 to 8 make a convenient program of
it. Each `# %%` starts a cell of a notebook.
"""

import math
import random
from collections import Counter
from itertools import count, cycle
from operator import mul

# %% 1. Data: names become tokens
#
# The data is a list of names. To the model each name is a document, made of tokens, and tokens are
# whole numbers: a is 0, b is 1, z is 25. One more token, 26, is BOS ("beginning of sequence"). It
# marks where a document starts, and also where it ends. So "emma" is [26, 4, 12, 12, 0, 26] to the
# model, which is to predict e after BOS, then m, m and a, and then BOS: the name is over.


def split_docs(text: str) -> list[str]:
    """Return the lines of a text, stripped, without the empty ones."""
    return [line.strip() for line in text.split("\n") if line.strip()]


class Tokenizer:
    """Translates documents to tokens and back. Its vocabulary: all characters, then BOS.

    >>> Tokenizer(["emma", "ava"]).encode("ava")  # this vocabulary is a, e, m, v, BOS: 0 to 4
    [4, 0, 3, 0, 4]
    """

    def __init__(self, docs: list[str]):
        self.chars = sorted(set("".join(docs)))
        self.ids = {char: i for i, char in enumerate(self.chars)}
        self.bos = len(self.chars)
        self.vocab_size = len(self.chars) + 1

    def encode(self, doc: str) -> list[int]:
        """Return the tokens of a document; ValueError if a character has no id."""
        unknown = "".join(sorted(set(doc) - self.ids.keys()))
        if unknown:
            alphabet = "".join(self.chars)
            raise ValueError(f"{unknown!r} is not in the alphabet, which is {alphabet!r}")
        return [self.bos] + [self.ids[char] for char in doc] + [self.bos]

    def decode(self, tokens: list[int]) -> str:
        """Return the characters of the tokens, without BOS."""
        return "".join(self.chars[token] for token in tokens if token != self.bos)


# The simplest language model only counts: for every pair of tokens, or bigram, how often does the
# second come right after the first? If 800 tokens came after an s, and 100 of them were an h, this
# bigram model predicts h after s with a probability of about 100/800.
#
# To grade a prediction, take the probability p that it gave to the token that really came. Its loss
# is -log(p), a natural log: 0 if the model was certain (p = 1), 0.69 if p = 1/2, 4.61 if p = 1/100.
# Why a log? The probability of a whole name is the product of those of its tokens; -log turns the
# product into a sum, and makes confident mistakes the most expensive ones. A model's loss is the
# mean over many predictions. To compare models, we take it on names that are held out of the
# training. A blind guess among 27 tokens has a loss of log(27) = 3.30. The bigram model gets 2.46:
# the loss to beat.


def bigram_loss(train_examples: list[list[int]], examples: list[list[int]], vocab_size: int):
    """Count bigrams in some examples (tokenized names); return the mean loss on other examples.

    Each bigram counts once more than it was seen, and so each first token vocab_size times more
    (add-one smoothing). A bigram that is new would otherwise have an infinite loss.

    >>> bigram_loss([[2, 0, 2]], [[2, 0]], vocab_size=3)  # p = (1 + 1) / (1 + 3) = 1/2
    0.6931471805599453
    """
    bigrams = Counter(pair for tokens in train_examples for pair in zip(tokens, tokens[1:]))
    firsts = Counter(token for tokens in train_examples for token in tokens[:-1])
    losses = []
    for tokens in examples:
        for token, target in zip(tokens, tokens[1:]):
            p = (bigrams[token, target] + 1) / (firsts[token] + vocab_size)
            losses.append(-math.log(p))
    return sum(losses) / len(losses)


# %% 2. Autograd: numbers that remember how they were computed
#
# The bigram model looks back one token. To look back five, it would need a row of counts for each
# of 27**5 = 14 million pasts, and nearly all rows would be empty. A GPT instead computes its
# predictions from parameters, which start at random and then learn. For each of them we ask: if we
# nudge it, how much does the loss change per unit of nudge? That is its gradient,
# d(loss)/d(parameter). Moving every parameter a little against its gradient makes the loss fall.
#
# Backpropagation finds all gradients in one pass. Each operation knows its local gradients: how its
# result changes with each of its inputs. For c = a * b, dc/da is b, and dc/db is a. The chain rule
# does the rest: along a path from the loss back to a parameter, multiply the local gradients, and
# then add up all such paths. For y = x * x at x = 3, both inputs are x, each with a local gradient
# of 3: two paths, 3 + 3 = 6. Indeed, the derivative of x**2 is 2x. We need not list the paths. Each
# number waits until everything computed from it has added its part, then passes the sum on, once.


class Value:
    """A number (data) that remembers how it was computed: a node of the computation graph.

    sources are pairs (inputs, local_grads), through which we get from a result to its inputs. x * y
    has one source, ((x, y), (y.data, x.data)). (A dot product, below, will have two.) A leaf, such
    as a parameter, was not computed and has none. y.backward() fills in grad, dy/dx, for every x
    behind y. In leaves, the gradients of several calls add up, until somebody sets them to 0.

    >>> x = Value(3.0)
    >>> y = x * x + 2 * x
    >>> y.backward()
    >>> y.data, x.grad  # x**2 + 2x, and 2x + 2
    (15.0, 8.0)
    """

    __slots__ = ("data", "grad", "sources", "serial")  # saves memory
    serials = count()

    def __init__(self, data, *sources):
        self.data, self.grad, self.sources = data, 0.0, sources
        self.serial = next(Value.serials)  # greater than those of its inputs

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

    def __pow__(self, n):
        if isinstance(n, Value):
            raise TypeError("an exponent must be a plain number, not a Value")
        slope = n * math.pow(self.data, n - 1) if n else 0.0  # x**0 is 1, even at 0
        return Value(math.pow(self.data, n), ((self,), (slope,)))

    def exp(self): return Value(math.exp(self.data), ((self,), (math.exp(self.data),)))
    def log(self): return Value(math.log(self.data), ((self,), (1.0 / self.data,)))
    def relu(self): return Value(max(self.data, 0.0), ((self,), (float(self.data > 0),)))
    def __neg__(self): return self * -1.0
    def __sub__(self, other): return self + -other
    def __radd__(self, other): return self + other  # for 2 + x, Python asks the right operand
    def __rsub__(self, other): return -self + other
    def __rmul__(self, other): return self * other
    def __rtruediv__(self, other): return Value(other) / self

    def topological_order(self):
        """Return this node and all behind it, except leaves: each after all nodes that use it.

        We collect the nodes, and then sort them: a result is newer than its inputs, so newest first
        means users first.
        """
        nodes, queue, searched = {self.serial: self}, [self], set()
        for user in queue:  # the queue grows as we walk it, from a node to its inputs
            for inputs, _ in user.sources:
                if id(inputs) not in searched:  # nodes share vectors: search each only once
                    searched.add(id(inputs))
                    for node in inputs:
                        if node.sources and node.serial not in nodes:
                            nodes[node.serial] = node
                            queue.append(node)
        return [nodes[serial] for serial in sorted(nodes, reverse=True)]

    def backward(self):
        """Fill in the gradients: from this node back to the leaves, by the chain rule."""
        nodes = self.topological_order()
        for node in nodes:
            if node.sources:
                node.grad = 0.0
        self.grad += 1.0  # dy/dy
        for node in nodes:
            grad = node.grad  # complete, as all users of this node had their turn before it
            if grad:
                for inputs, local_grads in node.sources:
                    for x, local_grad in zip(inputs, local_grads):
                        x.grad += local_grad * grad


def dot(a, b, b_data=None):
    """Return the dot product a[0] * b[0] + a[1] * b[1] + ... as a single node.

    (As n products and n - 1 sums it would be 2n - 1 nodes, and training would take about ten times
    as long.) The local gradients for a are the numbers in b, and the other way round: two sources.
    b_data: b's numbers, if known already.

    >>> dot([Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)])
    Value(data=11.0, grad=0.0)
    """
    a, b = tuple(a), tuple(b)
    if len(a) != len(b):
        raise ValueError(f"a dot product needs equal lengths, not {len(a)} and {len(b)}")
    a_data = [x.data for x in a]
    b_data = b_data or [x.data for x in b]
    return Value(sum(map(mul, a_data, b_data)), (a, b_data), (b, a_data))


# %% 3. Model: a token goes in, a score for every possible next token comes out
#
# These scores are called logits; a softmax, below, turns them into probabilities. Say the model has
# read BOS and e, and now reads m, which is token 12, at position 2 (BOS was at 0). What comes next?
#
#   1. The number 12 says nothing about an m. So m has an embedding: row 12 of the matrix wte, which
#      is n_embd = 16 parameters. Training gives them a meaning. Row 2 of wpe, for the position, is
#      added, or a single layer could not tell the order of the earlier tokens. The sum is x.
#   2. Attention fetches information from earlier tokens (communication), and adds it to x.
#   3. The MLP, or multi-layer perceptron, works on this token alone (computation): a matrix makes
#      64 numbers of x, ReLU sets the negative ones to 0, and a second matrix makes 16 of them
#      again. They are added to x, too.
#   4. A last matrix turns x into 27 logits: one for each token that could come next.
#
# Steps 2 and 3 are a layer. A model may have several, one after the other. x, which they all add
# to, is called the residual stream. The parameters, in matrices:
#
#   wte                 vocab_size x n_embd  token embeddings, a row for each token
#   wpe                 block_size x n_embd  position embeddings, a row for each position
#   attn_wq, _wk, _wv   n_embd x n_embd      make a token's query, key and value (see attention)
#   attn_wo             n_embd x n_embd      combines what attention has found
#   mlp_fc1, mlp_fc2    4n x n, then n x 4n  the two matrices of the MLP (n is n_embd)
#   lm_head             vocab_size x n_embd  makes the logits, a row for each token
#
# block_size is the context: how many tokens the model can see. The names come from GPT-2 (Radford
# et al., 2019): w for weights, te for token embedding, fc for fully connected, lm for language
# model. If you know it: here are RMSNorm for LayerNorm, ReLU for GELU, no biases or gains, a norm
# after the embeddings and none before lm_head, and lm_head is not wte.


def linear(x, weight):
    """Multiply a matrix, a list of rows, by a vector x: one dot product, row times x, per row."""
    x = tuple(x)
    x_data = [xi.data for xi in x]
    return [dot(row, x, x_data) for row in weight]


def rmsnorm(x):
    """Rescale x to a mean square of 1, so that its size does not depend on the layers before."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5  # 1e-5 avoids a division by 0
    return [xi * scale for xi in x]


def softmax(logits):
    """Turn scores into probabilities: exp makes them positive, the division makes their sum 1.

    >>> [round(p.data, 2) for p in softmax([Value(2.0), Value(1.0), Value(0.0)])]
    [0.67, 0.24, 0.09]
    """
    # Subtracting the same number from all logits changes nothing: the division cancels it. If that
    # number is the largest logit, no exp can overflow, as exp(1000) would.
    largest = max(logit.data for logit in logits)
    exps = [(logit - largest).exp() for logit in logits]
    total = sum(exps)
    return [e / total for e in exps]


def cross_entropy(logits, target):
    """Return the loss of a prediction, -log(softmax(logits)[target]), as a single node.

    Taken literally, it fails when that probability is so small that it rounds to 0. But
    -log(exp(logit) / total) is log(total) - logit, which is finite if the largest logit is
    subtracted first, as in softmax. The local gradient of log(total) for a logit is
    exp(logit) / total, its probability. For the target there is one more: -1, from - logit.

    >>> cross_entropy([Value(0.0)] * 27, target=4).data  # a blind guess: log(27)
    3.295836866004329
    """
    largest = max(logit.data for logit in logits)
    exps = [math.exp(logit.data - largest) for logit in logits]
    total = sum(exps)
    local_grads = [e / total for e in exps]
    local_grads[target] -= 1.0
    loss = math.log(total) - (logits[target].data - largest)
    return Value(loss, (tuple(logits), local_grads))


def attention(query, keys, values, n_head):
    """Let a token look back: mix the values of all tokens so far, itself included.

    A query says what a token looks for. A key says what a token can be found by. A value is what it
    passes on. (All three are vectors of Values.) Nobody assigns these roles: training shapes the
    matrices that make the vectors. The dot product of a query and a key is large if they match, and
    softmax turns these scores into weights for a mean of the values. This is done n_head times: of
    4 heads, the first takes the first 4 of the 16 numbers in query, key and value, and so on, so
    that each head can look for something different.

    >>> def vector(*numbers): return [Value(number) for number in numbers]
    >>> keys, values = [vector(4.0), vector(0.0)], [vector(10.0), vector(20.0)]
    >>> attention(vector(1.0), keys, values, n_head=1)  # scores 4 and 0, weights 0.982 and 0.018
    [Value(data=10.179862099620916, grad=0.0)]
    """
    head_dim = len(query) // n_head
    mixed = []
    for start in range(0, len(query), head_dim):
        head = slice(start, start + head_dim)
        # The dot product of two random vectors grows like sqrt(their length). If we didn't divide
        # by that, softmax would give one token nearly all the weight where vectors are long. Then
        # nudging a score changes almost nothing, and queries and keys get hardly any gradient.
        scores = [dot(query[head], key[head]) * head_dim**-0.5 for key in keys]
        weights = softmax(scores)  # the attention weights: one for each token so far
        for i in range(start, start + head_dim):
            mixed.append(dot(weights, [value[i] for value in values]))
    return mixed


class GPT:
    """The model: its matrices by name (state_dict), all their numbers in a list (parameters)."""

    def __init__(self, vocab_size, n_layer=1, n_embd=16, n_head=4, block_size=16, rng=random):
        if min(n_layer, n_embd, n_head, block_size) < 1 or n_embd % n_head:
            sizes = f"n_layer {n_layer}, n_embd {n_embd}, n_head {n_head}, block_size {block_size}"
            raise ValueError(f"{sizes}: each must be at least 1, and n_embd a multiple of n_head")
        self.n_layer, self.n_head, self.block_size = n_layer, n_head, block_size

        # Random: if all parameters were equal, the n_embd numbers in x would be equal, too, and
        # stay so for ever. Small: the first predictions should be close to a blind guess.
        def matrix(rows, columns=n_embd):
            return [tuple(Value(rng.gauss(0, 0.08)) for _ in range(columns)) for _ in range(rows)]

        self.state_dict = {"wte": matrix(vocab_size), "wpe": matrix(block_size)}
        self.state_dict["lm_head"] = matrix(vocab_size)
        for i in range(n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                self.state_dict[f"layer{i}.{name}"] = matrix(n_embd)
            self.state_dict[f"layer{i}.mlp_fc1"] = matrix(4 * n_embd)
            self.state_dict[f"layer{i}.mlp_fc2"] = matrix(n_embd, 4 * n_embd)
        self.parameters = [p for rows in self.state_dict.values() for row in rows for p in row]

    def new_cache(self):
        """Return an empty KV cache: for each layer a list of keys and a list of values."""
        return [([], []) for _ in range(self.n_layer)]

    def forward(self, token, cache):
        """Read a token, and return the logits of the next one.

        In each layer, its key and value join the cache, where later tokens find them. So a token
        need not be read again. (Programs that read all at once must hide, or mask, later tokens.)
        """
        position = len(cache[0][0])  # how many tokens were read before
        if position == self.block_size:
            raise ValueError(f"the context is full: block_size is {self.block_size} tokens")
        w = self.state_dict
        x = [t + p for t, p in zip(w["wte"][token], w["wpe"][position])]
        x = rmsnorm(x)  # from about 0.1, in a new model, to about 1
        for i, (keys, values) in enumerate(cache):
            h = rmsnorm(x)
            query = linear(h, w[f"layer{i}.attn_wq"])
            keys.append(linear(h, w[f"layer{i}.attn_wk"]))
            values.append(linear(h, w[f"layer{i}.attn_wv"]))
            h = linear(attention(query, keys, values, self.n_head), w[f"layer{i}.attn_wo"])
            # A residual connection: h is added to x and does not replace it. So a layer only has an
            # update to learn. And the local gradients of + are 1: while matrices can make gradients
            # smaller and smaller, through the + they reach earlier layers undiminished.
            x = [a + b for a, b in zip(x, h)]
            h = linear(rmsnorm(x), w[f"layer{i}.mlp_fc1"])
            h = [hi.relu() for hi in h]  # without it, two matrices would do no more than one
            h = linear(h, w[f"layer{i}.mlp_fc2"])
            x = [a + b for a, b in zip(x, h)]
        return linear(x, w["lm_head"])

    def losses(self, tokens):
        """Return the loss of each prediction in a list of tokens, the first block_size of them."""
        pairs, cache = list(zip(tokens, tokens[1:])), self.new_cache()
        pairs = pairs[: self.block_size]
        return [cross_entropy(self.forward(token, cache), target) for token, target in pairs]

    def loss(self, tokens):
        """Return the mean of these losses."""
        losses = self.losses(tokens)
        return sum(losses) / len(losses)


# %% 4. Training: step by step, the loss falls
#
# A step takes a batch of examples (here, one name), computes its mean loss and the gradients, and
# moves every parameter. How far? Plain gradient descent takes off learning_rate * gradient, with a
# learning rate such as 0.1. But gradients differ a thousandfold from parameter to parameter: what
# is too far for one hardly moves another. So Adam (Kingma & Ba, 2015) keeps two running means for
# each parameter: the mean of its gradient, and the mean of the square of its gradient. It takes off
# learning_rate * mean / sqrt(square). For a gradient that stays the same from step to step, this
# ratio is 1 or -1, whatever its size. For one that keeps changing its sign, and so can't be
# trusted, it is much smaller.


class Adam:
    """The optimizer, with its memory.

    In every step a running mean keeps beta of its old value, and takes in 1 - beta of what is new:
    beta1 = 0.85 looks back some 7 steps, beta2 = 0.99 some 100.
    """

    def __init__(self, parameters, beta1=0.85, beta2=0.99, epsilon=1e-8):
        self.parameters, self.beta1, self.beta2, self.epsilon = parameters, beta1, beta2, epsilon
        self.means, self.squares = [0.0] * len(parameters), [0.0] * len(parameters)
        self.steps_done = 0

    def step(self, learning_rate):
        """Update every parameter by its gradient."""
        self.steps_done += 1
        beta1, beta2, means, squares = self.beta1, self.beta2, self.means, self.squares
        # The running means start at 0, so at first they are too small: after one step, they hold
        # only 1 - beta of the gradient, or of its square. Dividing by 1 - beta**steps corrects it.
        correction1, correction2 = 1 - beta1**self.steps_done, 1 - beta2**self.steps_done
        for i, p in enumerate(self.parameters):
            means[i] = mean = beta1 * means[i] + (1 - beta1) * p.grad
            squares[i] = square = beta2 * squares[i] + (1 - beta2) * p.grad * p.grad
            ratio = (mean / correction1) / (math.sqrt(square / correction2) + self.epsilon)
            p.data -= learning_rate * ratio


def linear_decay(peak, num_steps):
    """Return the learning rates of all steps, an iterator. They fall: the last steps are small."""
    return (peak * (1 - step / num_steps) for step in range(num_steps))


def train(model, optimizer, batches, learning_rates):
    """Yield the loss of each step. This is a generator: it takes a step when asked for a loss.

    >>> names = ["emma", "olivia", "ava"]
    >>> tokenizer = Tokenizer(names)
    >>> model = GPT(tokenizer.vocab_size, n_embd=8, rng=random.Random(42))
    >>> batch = [tokenizer.encode(name) for name in names]
    >>> losses = list(train(model, Adam(model.parameters), cycle([batch]), linear_decay(0.03, 50)))
    >>> losses[0] > 2.0, losses[-1] < 0.4  # three names, learned by heart
    (True, True)
    """
    for learning_rate, batch in zip(learning_rates, batches):
        for p in model.parameters:
            p.grad = 0.0
        batch_loss = 0.0
        for tokens in batch:
            loss = model.loss(tokens) / len(batch)  # forward: builds the graph
            loss.backward()  # adds to the gradients of the batch's other examples
            batch_loss += loss.data
            del loss  # lets go of this graph before the next one is built
        if not math.isfinite(batch_loss):
            raise FloatingPointError(f"the loss is {batch_loss}: try a smaller learning rate")
        optimizer.step(learning_rate)
        yield batch_loss


# %% 5. Sampling: the model writes
#
# To write a name, start with BOS, draw a token by the probabilities that the model predicts, let
# the model read it, and repeat, until BOS is drawn: the name is over. This is inference: parameters
# don't change any more.


def draw(logits, temperature=0.5, top_k=0, rng=random):
    """Draw a token at random, by the softmax of logits / temperature.

    Temperature 1 keeps the model's own probabilities, a lower one makes likely tokens likelier, and
    0 takes the likeliest. With a top_k, only the k likeliest tokens, and ties, are drawn from.

    >>> draw([Value(0.0), Value(5.0), Value(1.0)], temperature=0)
    1
    """
    logits = [logit.data for logit in logits]
    largest, least = max(logits), min(logits)
    if temperature == 0:
        return logits.index(largest)
    if 0 < top_k < len(logits):
        least = sorted(logits)[-top_k]
    exps = [math.exp((x - largest) / temperature) if x >= least else 0.0 for x in logits]
    return rng.choices(range(len(exps)), weights=exps)[0]  # choices() divides by their sum


def sample(model, tokens, max_new_tokens, temperature=0.5, top_k=0, stop=None, rng=random):
    """Return the tokens that the model writes after the given ones (one or more), up to stop."""
    tokens, start = list(tokens), len(tokens)
    cache, unread = model.new_cache(), tokens[-model.block_size :]
    for _ in range(max_new_tokens):
        for token in unread:
            logits = model.forward(token, cache)
        token = draw(logits, temperature, top_k, rng)
        if token == stop:
            break
        tokens.append(token)
        unread = [token]
        if len(tokens) > model.block_size:  # the context is full: read the latest tokens anew
            cache, unread = model.new_cache(), tokens[-model.block_size :]
    return tokens[start:]


def evaluate(model, examples):
    """Return the mean loss of all predictions in some examples."""
    losses = [loss.data for tokens in examples for loss in model.losses(tokens)]
    return sum(losses) / len(losses)


def first_run(docs, num_steps=1000):
    """Chapters 1 to 5 put together: train on names, grade the model on others, and write 20 names.

    The bigrams are those of all 28,830 training names, and the model sees only 1,000 of them. Yet
    it wins, since it knows more than the last token. (36 of the 200 graded names stand in the list
    twice, and are also training names.) The model and its tokenizer are returned.
    first_run(split_docs(open("names.txt").read())) prints:

    step  100 | loss 2.7384
    ...
    step 1000 | loss 2.4422
    held-out loss: 2.3808 model, 2.4602 bigrams, 3.2958 blind guess
    kelon ann lemai jaish vianah karia yrian amilyn elistie bri dian srieme naha ...
    """
    docs, rng = list(docs), random.Random(42)  # the seed fixes all random choices
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    model = GPT(tokenizer.vocab_size, rng=rng)
    examples = [tokenizer.encode(doc)[: model.block_size + 1] for doc in docs]
    num_train = len(docs) - max(1, len(docs) // 10)
    train_examples, held_out = examples[:num_train], examples[num_train:][:200]
    batches = ([tokens] for tokens in cycle(train_examples))
    losses, every = [], max(1, num_steps // 10)
    for loss in train(model, Adam(model.parameters), batches, linear_decay(0.01, num_steps)):
        losses.append(loss)
        if len(losses) % every == 0:
            print(f"step {len(losses):4d} | loss {sum(losses[-every:]) / every:.4f}")
    bigrams = bigram_loss(train_examples, held_out, tokenizer.vocab_size)
    print(f"held-out loss: {evaluate(model, held_out):.4f} model, {bigrams:.4f} bigrams,", end=" ")
    print(f"{math.log(tokenizer.vocab_size):.4f} blind guess")
    for _ in range(20):
        tokens = sample(model, [tokenizer.bos], model.block_size, stop=tokenizer.bos, rng=rng)
        print(tokenizer.decode(tokens), end=" ")
    print()
    return model, tokenizer


# %% The algorithm ends here
#
# You have read all of it. What separates it from ChatGPT? Size, first of all: GPT-3, an ancestor,
# has 175 billion parameters, reads up to 2,048 tokens of some four letters each, and was trained on
# 300 billion of them. Then more training, on conversations and on what people judged to be good
# answers. The core is the same: predict the next token, measure the loss, follow the gradients.
# What follows is plumbing: a workshop around the algorithm, for those who want to change it.

import argparse
import difflib
import gc
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice, repeat
from pathlib import Path
from types import SimpleNamespace

# %% 6. Other ways to train
#
# Batches of several documents, windows of one long text, weight decay, and other learning rates:
# train() of chapter 4 takes each of them as it is.


def take_turns(examples, batch_size, start=0):
    """Yield batches of examples, one after the other, round and round, from number start on.

    >>> next(take_turns(["ava", "bob", "eve"], batch_size=2, start=2))
    ['eve', 'ava']
    """
    for i in count(start, batch_size):
        yield [examples[j % len(examples)] for j in range(i, i + batch_size)]


class StreamTokenizer(Tokenizer):
    """A tokenizer for one long text, a stream: it has no documents, so it needs no BOS."""

    def __init__(self, docs):
        super().__init__(docs)
        self.bos, self.vocab_size = None, len(self.chars)

    def encode(self, doc):
        return super().encode(doc)[1:-1]


def random_windows(stream, block_size, batch_size, rng):
    """Yield batches of windows: block_size + 1 neighboring tokens, each from a random place."""
    while True:
        starts = [rng.randrange(len(stream) - block_size) for _ in range(batch_size)]
        yield [stream[start : start + block_size + 1] for start in starts]


def first_windows(stream, block_size, most):
    """Return the first windows of a stream, side by side, so as to predict each token once.

    >>> first_windows([3, 1, 4, 1, 5, 9], block_size=2, most=200)
    [[3, 1, 4], [4, 1, 5], [5, 9]]
    """
    end = min(len(stream) - 1, most * block_size)
    return [stream[start : start + block_size + 1] for start in range(0, end, block_size)]


class AdamW(Adam):
    """Adam with weight decay: each step also shrinks all parameters (Loshchilov & Hutter, 2019)."""

    def __init__(self, parameters, weight_decay):
        super().__init__(parameters)
        self.weight_decay = weight_decay

    def step(self, learning_rate):
        """Shrink all parameters, then update them."""
        if self.weight_decay:
            for p in self.parameters:
                p.data *= 1 - learning_rate * self.weight_decay
        super().step(learning_rate)


def cosine_decay(peak, num_steps):
    """Return learning rates that fall along half a cosine wave, to a tenth of the peak."""
    waves = (math.cos(math.pi * step / num_steps) for step in range(num_steps))
    return (peak * (0.55 + 0.45 * wave) for wave in waves)


DECAYS = {"linear": linear_decay, "cosine": cosine_decay, "constant": repeat}


def plan_rates(learning_rate, lr_schedule, warmup_steps, num_steps):
    """Return the learning rates of all steps: a warm-up in equal parts, and then a decay."""
    warmup = (learning_rate * ((i + 1) / (warmup_steps + 1)) for i in range(warmup_steps))
    decay = DECAYS[lr_schedule](learning_rate, num_steps - warmup_steps)
    return islice(chain(warmup, decay), num_steps)


# %% 7. Checkpoints
#
# A run is a model in training, plus everything that its future depends on, such as its flags. A
# checkpoint is a run in a file, from which it goes on as if it had never been stopped.

FOLDER = Path(__file__).resolve().parent if "__file__" in globals() else Path()
NAMES = str(FOLDER / "names.txt")
SIZE, COUNT, AMOUNT = (1, 10**12), (0, 10**12), (0.0, 1e308)  # at least the first, below the second
FLAGS = {  # name: (group, type, default, bounds or choices, meaning)
    "data": ("data", str, NAMES, None, "text file, a document per line"),
    "stream": ("data", bool, False, None, "take the file as one text, draw windows of it"),
    "val_fraction": ("data", float, 0.1, (0, 1), "part held out of the training"),
    "n_layer": ("model", int, 1, SIZE, "layers"),
    "n_embd": ("model", int, 16, SIZE, "size of an embedding, a multiple of n_head"),
    "n_head": ("model", int, 4, SIZE, "attention heads in a layer"),
    "block_size": ("model", int, 16, SIZE, "context in tokens; cuts documents"),
    "num_steps": ("training", int, 1000, COUNT, "steps in all, with those of a checkpoint"),
    "batch_size": ("training", int, 1, SIZE, "documents or windows in a step"),
    "learning_rate": ("training", float, 0.01, (1e-12, 1e308), "learning rate at its highest"),
    "lr_schedule": ("training", str, "linear", DECAYS, "how it falls: linear, cosine, constant"),
    "warmup_steps": ("training", int, 0, COUNT, "steps in which it rises first"),
    "weight_decay": ("training", float, 0.0, AMOUNT, "pull of the parameters to 0, as in AdamW"),
    "seed": ("training", int, 42, (-(10**12), 10**12), "seed of the random numbers"),
    "eval_interval": ("evaluation", int, 0, COUNT, "steps between evaluations; 0: at the end"),
    "num_samples": ("sampling", int, 20, COUNT, "texts to write"),
    "temperature": ("sampling", float, 0.5, AMOUNT, "0: likeliest token, 1: as the model says"),
    "top_k": ("sampling", int, 0, COUNT, "likeliest tokens to draw from; 0: all"),
    "prompt": ("sampling", str, "", None, "start of the texts"),
    "max_new_tokens": ("sampling", int, None, SIZE, "most tokens after it; not given: block_size"),
    "save": ("files", str, None, None, "checkpoint to write at each evaluation and at the end"),
    "load": ("files", str, None, None, "checkpoint to continue; reads --data if steps are left"),
}
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
DEFAULTS = {flag: FLAGS[flag][2] for flag in FLAGS}
MODEL_FLAGS = [flag for flag in FLAGS if FLAGS[flag][0] == "model"]
NOT_SAVED = ("data", *[flag for flag in FLAGS if FLAGS[flag][0] in ("sampling", "files")])


def check(flags):
    """Return the flags that are not None, in their types; ValueError names the first bad one.

    >>> check({"num_steps": 20, "learning_rate": 1, "save": None})
    {'num_steps': 20, 'learning_rate': 1.0}
    """
    for name, value in flags.items():
        if name not in FLAGS:
            close = difflib.get_close_matches(name, FLAGS, 1)
            hint = f"did you mean --{close[0]}?" if close else "--help lists them"
            raise ValueError(f"there is no flag {'--' + name!r}: {hint}")
        _, kind, _, bounds, _ = FLAGS[name]
        if kind in (int, float):
            low, high = bounds
            wanted = f"{KINDS[kind]} from {low:,} to below {high:,}"
            is_right = type(value) in (int, kind) and low <= value < high
        else:
            wanted = " or ".join(bounds) if bounds else KINDS[kind]
            is_right = isinstance(value, (str, Path) if kind is str else kind)
            is_right = is_right and (not bounds or value in bounds)
        if value is not None and not is_right:
            raise ValueError(f"--{name}: {wanted} is needed, not {value!r}")
    return {name: FLAGS[name][1](value) for name, value in flags.items() if value is not None}


@contextmanager
def as_value_error(action, path, advice):
    """Turn an error into a ValueError that names the file, the reason, and what would help."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot {action} {str(path)!r} ({reason}): {advice}") from None


class Run:
    """A model in training, with its tokenizer, optimizer, flags, random numbers, and losses."""

    def __init__(self, flags, docs, rng):
        self.flags, self.rng, self.losses = flags, rng, []
        self.tokenizer = (StreamTokenizer if flags["stream"] else Tokenizer)(docs)
        self.model = GPT(self.tokenizer.vocab_size, *[flags[name] for name in MODEL_FLAGS], rng)
        self.optimizer = AdamW(self.model.parameters, flags["weight_decay"])

    def state(self):
        """Return a copy of all that the run's future depends on: what a checkpoint holds."""
        matrices, optimizer = self.model.state_dict.items(), self.optimizer
        parts = {"format": "microgpt checkpoint", "version": 1, "step": optimizer.steps_done}
        parts["flags"] = {name: self.flags[name] for name in FLAGS if name not in NOT_SAVED}
        parts["chars"] = "".join(self.tokenizer.chars)
        parts["random_state"] = self.rng.getstate()[1]
        parts["weights"] = {key: [[p.data for p in row] for row in rows] for key, rows in matrices}
        parts["means"], parts["squares"] = [*optimizer.means], [*optimizer.squares]
        return parts

    def restore(self, state):
        """Set the run to a state, earlier or later, of a run with these flags and characters."""
        model, optimizer = self.model, self.optimizer
        weights = [x for name in model.state_dict for row in state["weights"][name] for x in row]
        for i, p in enumerate(model.parameters):
            p.data = float(weights[i])
            optimizer.means[i] = float(state["means"][i])
            optimizer.squares[i] = float(state["squares"][i])
        optimizer.steps_done = int(state["step"])
        self.rng.setstate((3, tuple(map(int, state["random_state"])), None))

    def check_finite(self):
        """Raise a FloatingPointError if the training has diverged: inf or nan is there, or near.

        With parameters below 1e50 all logits are finite: the largest numbers on the way to them are
        squares, in rmsnorm, of sums of products of two parameters, or some 1e200.
        """
        memory = chain(self.optimizer.means, self.optimizer.squares)
        is_small = all(abs(p.data) < 1e50 for p in self.model.parameters)
        if not (is_small and all(map(math.isfinite, memory))):
            raise FloatingPointError("the model has diverged: try a smaller learning rate")

    def to_json(self):
        """Return the text of a checkpoint; FloatingPointError if the training has diverged."""
        self.check_finite()
        return json.dumps(self.state(), sort_keys=True)


def check_place(path):
    """Raise a ValueError if a checkpoint can't be saved there without harm to something else."""
    with as_value_error("save", path, "try another path"):
        place = os.path.realpath(path)
        if not os.path.isdir(os.path.dirname(place)):
            raise OSError(f"there is no folder {Path(path).parent}")
        with suppress(FileNotFoundError):  # a new file is fine
            os.stat(place)
            if not (os.path.isfile(place) and os.access(place, os.W_OK)):
                raise OSError("it is not a file that may be written")
            with open(place, "rb") as file:
                start = file.read(2**20)
            is_ours = start[:9] == b'{"chars":' and b'"format": "microgpt checkpoint"' in start
            if start and not is_ours:
                raise OSError("it holds something other than a checkpoint")
        tempfile.TemporaryFile(dir=os.path.dirname(place)).close()  # may we write there at all?


def save(path, text):
    """Write a text to a file, whole or not at all; ValueError if it can't be written."""
    with as_value_error("save", path, "try another path"):
        place = Path(os.path.realpath(path))  # a link stays a link
        temporary = place.parent / f"microgpt.{time.time_ns()}.tmp"
        try:
            with open(temporary, "x", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if place.exists():
                shutil.copymode(place, temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        try:
            os.replace(temporary, place)
        except OSError:  # it can't be moved onto a file that is mounted, as into a container
            shutil.copyfile(temporary, place)  # if that fails, the temporary file stays
            temporary.unlink()


def load(path, **given):
    """Return the run in a checkpoint; flags that are given win, where they can be changed.

    ValueError: the file is broken, or a flag is wrong or contradicts it.
    """
    given = check(given)
    with as_value_error("load", path, "give one that --save has written"):
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(found, dict) or found.get("format") != "microgpt checkpoint":
                raise ValueError("it is not a microgpt checkpoint")
            if found.get("version") != 1:
                raise ValueError("it is not of version 1, which this program reads")
            flags = {**DEFAULTS, **check(found["flags"])}
            n_layer, n_embd, _, block_size = (flags[name] for name in MODEL_FLAGS)
            vocab_size = len(found["chars"]) + (not flags["stream"])
            num_params = n_embd * (2 * vocab_size + block_size + 12 * n_embd * n_layer)
            if num_params != len(found["means"]):  # before a model is built that may be huge
                raise ValueError("its flags don't fit its number of parameters")
            run = Run(flags, found["chars"], random.Random())
            run.restore(found)
            in_range = 0 <= found["step"] < 10**12 and max(found["random_state"]) < 2**32
            # nothing in the file is trusted: saving this run must give the same JSON again
            is_same = run.to_json() == json.dumps(found, sort_keys=True)
            if not (in_range and is_same and min(found["squares"]) >= 0):
                raise TypeError  # for which the next lines have the words
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError):
            raise ValueError("something in it has a wrong type, length or range") from None
    for name in ("stream", *MODEL_FLAGS):
        if given.get(name, flags[name]) != flags[name]:
            known = f"contradicts the checkpoint, which has {flags[name]}"
            raise ValueError(f"--{name} {given[name]} {known}")
    if given.get("seed", flags["seed"]) != flags["seed"]:
        run.rng.seed(given["seed"])  # for what comes; the old seed still says what is held out
    run.flags = {**flags, **given, "seed": flags["seed"]}
    run.optimizer.weight_decay = run.flags["weight_decay"]
    return run


# %% 8. The program
#
# A notebook and the command line both call main(): it trains, grades and writes.


def read_text(path):
    """Return the text of a file; ValueError if it cannot be read, or is blank."""
    advice = "give a UTF-8 text; names.txt, a name a line, comes with microgpt.py: copy it"
    with as_value_error("read", path, advice):
        text = Path(path).read_text(encoding="utf-8-sig")
        if "\0" in text or not text.strip():
            raise ValueError("binary" if "\0" in text else "blank")
    return text


def encode(run, flag, text):
    """Return the tokens of a text; ValueError, with its flag, if it has unknown characters."""
    try:
        return run.tokenizer.encode(text)
    except ValueError as error:
        raise ValueError(f"--{flag} {run.flags[flag]!r}: {error}") from None


def prepare(run, docs):
    """Return the batches to come, all training examples, and two lists of examples for grade().

    These are the first 200 documents, or windows side by side, of the training data and of the
    held-out data.
    """
    is_stream, size, batch_size = (run.flags[x] for x in ("stream", "block_size", "batch_size"))
    items = [encode(run, "data", doc) for doc in docs]
    items = items[0] if is_stream else items
    num_train = len(items) - int(len(items) * run.flags["val_fraction"])
    parts = items[:num_train], items[num_train:]
    if is_stream:
        if 0 < num_train <= size:
            raise ValueError(f"--data has {num_train} characters to train on, and needs {size + 1}")
        batches, examples = random_windows(parts[0], size, batch_size, run.rng), [parts[0]]
        graded = [first_windows(part, size, 200) for part in parts]
    else:
        start, examples = run.optimizer.steps_done * batch_size, parts[0]
        batches = take_turns(examples, batch_size, start)
        graded = [[tokens[: size + 1] for tokens in part[:200]] for part in parts]
    return batches, examples, *graded


def grade(model, train_examples, val_examples):
    """Return the mean losses on both lists of examples as text; leave out an empty list's."""
    parts = {"train loss": train_examples, "val loss": val_examples}
    return " | ".join(f"{name} {evaluate(model, parts[name]):.4f}" for name in parts if parts[name])


class Screen:
    """Standard output. On a terminal and in a notebook it is live: lines can be written over."""

    CONTROLS = {i: f"\\x{i:02x}" for i in (*range(9), *range(11, 32), *range(127, 160))}

    def __init__(self):
        is_closed = sys.stdout is None or getattr(sys.stdout, "closed", False)
        self.out, self.transient = io.StringIO() if is_closed else sys.stdout, ""
        self.encoding = getattr(self.out, "encoding", None) or "utf-8"
        in_notebook = "kernel" in type(self.out).__module__
        self.pause = 1.0 if in_notebook else 0.1  # seconds; a notebook keeps all that is drawn
        self.is_live = in_notebook
        with suppress(AttributeError, OSError):  # there is no file descriptor in IDLE or a browser
            self.is_live |= os.isatty(self.out.fileno())

    def show(self, line, transient=False):
        """Print a line. If it is transient, and the screen is live, the next is written over it."""
        line = line.translate(self.CONTROLS)  # a sample must not move the cursor, or the like
        if not self.encoding.lower().startswith("utf"):
            line = line.translate(str.maketrans("▁▂▃▄▅▆▇█", "_.:-=+*#"))
        line = line.encode(self.encoding, "backslashreplace").decode(self.encoding)
        # \r leaves the cursor at the left, so that the next line also covers a ^C
        over = "\r" + line.ljust(len(self.transient)) if self.transient else line
        self.transient = line if transient and self.is_live else ""
        print(over, end="\r" if self.transient else "\n", file=self.out, flush=True)


def screen_width():
    """Return how many characters of a line there is room for."""
    return max(1, (shutil.get_terminal_size().columns or 80) - 1)


def fit(line):
    """Drop the last parts of a line, between |, until it fits on the screen; then cut."""
    while len(line) > screen_width() and " | " in line:
        line = line.rpartition(" | ")[0]
    return line[: screen_width()]


def curve(losses, width):
    """Return the losses as bars in a line of about width characters, with the ends in numbers."""
    blocks, n = "▁▂▃▄▅▆▇█", max(1, min(width - 10, len(losses)))
    parts = [losses[len(losses) * i // n : len(losses) * (i + 1) // n] for i in range(n)]
    means = [sum(part) / len(part) for part in parts]
    low, span = min(means), max(means) - min(means) or 1.0
    bars = "".join(blocks[round(7 * (mean - low) / span)] for mean in means)
    return f"{means[0]:.2f} {bars} {means[-1]:.2f}"


@contextmanager
def catching_signals(screen):
    """Yield a record of the signals to stop: those that were caught, and whether they are held.

    If the first is a Ctrl-C, it only announces the end. The next signal, or a first one of another
    kind, raises KeyboardInterrupt or SystemExit: at once, or at the end of the block if signals are
    held. Those after it are ignored.
    """
    signals = SimpleNamespace(caught=[], are_held=False)

    def end(number):
        return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)

    def catch(number, _):
        """Announce that the training will end, or end the program."""
        signals.caught.append(number)
        if signals.caught == [signal.SIGINT]:
            with suppress(RuntimeError, OSError):  # a line is just being printed, or can't be
                screen.show(fit("stopping after this step | Ctrl-C again: at once"), transient=True)
        elif not signals.are_held:
            signals.are_held = True
            raise end(number)

    names = ["SIGINT", "SIGTERM", "SIGHUP"]  # Ctrl-C, kill, a terminal that was closed
    if sys.implementation.name == "pypy":
        names.remove("SIGHUP")  # whose handler it gives as SIG_DFL even under nohup
    with ExitStack() as afterwards:
        for name in names:
            with suppress(AttributeError, ValueError):  # unknown to Windows, not for a thread
                number = getattr(signal, name)
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    before = signal.signal(number, catch)
                    afterwards.callback(signal.signal, number, before)
        yield signals
    if signals.caught not in ([], [signal.SIGINT]):  # one was held
        raise end(signals.caught[-1])


def train_and_report(run, screen, batches, graded):
    """Train to the planned end, or until a signal; report, grade and save meanwhile.

    Whatever ends the training, the last whole step is saved, unless the model has diverged.
    """
    flags, losses, optimizer = run.flags, run.losses, run.optimizer
    path, num_steps, interval = (flags[x] for x in ("save", "num_steps", "eval_interval"))
    plan = [flags[x] for x in ("learning_rate", "lr_schedule", "warmup_steps", "num_steps")]
    rates = islice(plan_rates(*plan), optimizer.steps_done, None)
    start, next_draw, live, state = time.perf_counter(), 0.0, "", None
    reserve = bytearray(2**22 + 500 * len(optimizer.parameters))  # memory that saving could need
    with catching_signals(screen) as signals:
        try:
            for loss in train(run.model, optimizer, batches, rates):
                state = run.state() if path else None  # after the last whole step
                losses.append(loss)
                step, mean = optimizer.steps_done, sum(losses[-50:]) / len(losses[-50:])
                now = time.perf_counter()
                speed = len(losses) / max(now - start, 1e-9)
                minutes, seconds = divmod(round((num_steps - step) / speed), 60)
                head, left = f"step {step:4d} / {num_steps:4d} |", f"{minutes}:{seconds:02d} left"
                live = fit(f"{head} loss {mean:.4f} | {speed:.1f} steps/s | {left}")
                if not screen.is_live:
                    screen.show(f"{head} loss {loss:.4f}")
                elif now >= next_draw:
                    screen.show(live, transient=True)
                    next_draw = now + screen.pause
                if interval and step % interval == 0 and step < num_steps and not signals.caught:
                    rate = next(islice(plan_rates(*plan), step - 1, None))  # of this step
                    screen.show(f"{head} lr {rate:#.3g} | {grade(run.model, *graded)}")
                    if path:
                        save(path, run.to_json())
                if signals.caught:
                    signals.are_held = True  # now: one could come just before `finally`
                    break
            state = run.state() if path else None  # there may have been no step to take
        finally:
            signals.are_held = True  # let nothing disturb the saving
            reserve.clear()
            if state:
                run.restore(state)  # undoes what was done of the next step
                save(path, run.to_json())
            if screen.is_live and live:
                screen.show(live)
    run.check_finite()  # a model that has diverged is an error, saved or not


def complete(run, prompt):
    """Return a prompt, and what the model writes after it."""
    flags, tokenizer = run.flags, run.tokenizer
    is_stream, limit = flags["stream"], flags["max_new_tokens"] or flags["block_size"]
    tokens = tokenizer.encode(prompt) if is_stream else tokenizer.encode(prompt)[:-1]
    tokens = tokens or [tokenizer.ids.get("\n", 0)]  # a stream starts as if after a line end
    how = flags["temperature"], flags["top_k"], tokenizer.bos, run.rng
    return prompt + tokenizer.decode(sample(run.model, tokens, limit, *how))


def main(*words, **given):
    """Train, grade and write, as in main(num_steps=200, n_embd=32), and return the Run.

    ValueError: a flag, the data or a checkpoint isn't right. FloatingPointError: training diverged.
    """
    if words:
        raise ValueError(f"main() takes flags by name, as in main(num_steps=20), not {words[0]!r}")
    given = check(given)
    if given.get("seed", 0) < 0:
        raise ValueError(f"--seed {given['seed']} would do the same as {-given['seed']}: give that")
    run = load(given["load"], **given) if "load" in given else None
    flags = run.flags if run else {**DEFAULTS, **given}
    is_done = run and run.optimizer.steps_done >= flags["num_steps"]  # then samples are all we need
    text, rng = "" if is_done else read_text(flags["data"]), random.Random(flags["seed"])
    docs = [text] if flags["stream"] else split_docs(text)
    rng.shuffle(docs)
    run = run or Run(flags, docs, rng)
    batches, examples, *graded = prepare(run, docs)
    encode(run, "prompt", flags["prompt"])  # an error in it is found before the training
    if flags["save"] is not None:
        check_place(flags["save"])
    screen, vocab_size = Screen(), run.tokenizer.vocab_size
    if text:
        screen.show(f"num chars: {len(text)}" if flags["stream"] else f"num docs: {len(docs)}")
    screen.show(f"vocab size: {vocab_size}")
    screen.show(f"num params: {len(run.model.parameters)}")
    with ExitStack() as afterwards:
        if gc.isenabled() and sys.implementation.name == "cpython":  # PyPy needs its collector
            gc.disable()  # it would search the graphs for reference cycles, and they have none
            afterwards.callback(gc.enable)
        train_and_report(run, screen, batches, graded)
        if run.losses:
            screen.show(f"loss curve {curve(run.losses, min(70, screen_width() - 13))}")
        if text:
            grades = grade(run.model, *graded)
            if graded[1]:
                table, guess = bigram_loss(examples, graded[1], vocab_size), math.log(vocab_size)
                grades += f" | bigram table {table:.4f} | ln({vocab_size}) {guess:.4f}"
            screen.show(grades)
        if flags["save"]:
            screen.show(f"saved {flags['save']}")
        for i in range(1, flags["num_samples"] + 1):
            written = complete(run, flags["prompt"])
            is_copy = written in (text if flags["stream"] else docs)
            screen.show(f"sample {i:2d}: {written}{'  (in the data)' if is_copy else ''}")
    return run


def parse(words):
    """Return the flags on a command line, by name, as main() takes them; or a ValueError.

    >>> parse(["--num_steps", "20", "--stream"])
    {'num_steps': 20, 'stream': True}
    """
    parser = argparse.ArgumentParser("microgpt.py", allow_abbrev=False, exit_on_error=False)
    parser.description = "Train a GPT on a text, then let it write."
    parser.print_help = lambda: Screen().show(parser.format_help().rstrip())
    titles = dict.fromkeys(row[0] for row in FLAGS.values())
    groups = {title: parser.add_argument_group(title) for title in titles}
    for name, (title, kind, default, _, meaning) in FLAGS.items():
        how = {"action": "store_true"} if kind is bool else {"metavar": kind.__name__}
        meaning = f"{meaning} (default: {default})".replace("%", "%%")
        groups[title].add_argument(f"--{name}", default=argparse.SUPPRESS, help=meaning, **how)
    try:
        known, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        values = [b for a, b in zip(words, words[1:]) if a == error.argument_name and b[:1] == "-"]
        hint = f": is {error.argument_name}={values[0]} meant?" if values else ""
        raise ValueError(f"{error}{hint}") from None
    if others:
        if others[0].startswith("--"):
            check({others[0][2:].partition("=")[0]: None})
        raise ValueError(f"{others[0]!r} is not expected here: --help lists all flags")
    flags = vars(known)
    for name, text in flags.items():
        flags[name] = "--" if text == [] else text  # up to 3.12, argparse makes [] of --name=--
        with suppress(ValueError):  # if it is no number, check() will say what is wanted
            flags[name] = FLAGS[name][1](flags[name])
    return flags


def command():
    """Do main() for the command line: an error is one line on standard error, and status 2."""
    try:
        return main(**parse(sys.argv[1:]))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more must not disturb the exit
        status, words = 130, ""
    except BrokenPipeError:  # the reader, such as head, has seen enough
        status, words = 1, ""
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        words = str(error) or "out of memory: a smaller model, batch or block_size needs less"
        status, words = 2, " ".join(["microgpt.py: error:", *words.splitlines()]) + "\n"
    for descriptor, stream, text in (1, sys.stdout, ""), (2, sys.stderr, words):
        try:
            print(text, end="", file=stream or io.StringIO(), flush=True)
        except OSError:  # what can't be written must not be tried again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    sys.exit(status)


# %% Run it

if __name__ == "__main__":
    # in a notebook, the arguments belong to the notebook's own program
    is_command = "__file__" in globals() and Path(sys.argv[0]).name == Path(__file__).name
    run = command() if is_command else main()
