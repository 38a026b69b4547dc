"""microgpt: train a GPT on a list of names, then let it invent new ones. One file of plain Python.

    python microgpt.py --num_steps 1000

A GPT ("generative pre-trained transformer") is a function with thousands of numbers in it, its
weights. It reads the start of a text and gives each token that may come next a score, its logit.
The loss says how badly it scored what really came; the gradients of the loss say how to change the
weights for the better. Six chapters, each built on those above it, show all of that. Left out is
what the idea can do without: tensors, GPUs, subword tokens, dropout. Each chapter, from one `# %%`
to the next, is also a cell of a notebook.
"""

import argparse
import gc
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import count
from operator import attrgetter, mul
from pathlib import Path

# %% 1. Data: from text to token ids
#
# A model computes with numbers, so each character of the text gets one, its token id. One more
# token, BOS ("beginning of sequence"), stands at both ends of a document: from it the model
# predicts the first character, and by predicting it again it says that the document is over.


def read_documents(path: Path) -> list[str]:
    """Return the lines of a text, stripped, without empty ones; ValueError if there are none."""
    wanted = "give a UTF-8 text, one document per line; names.txt comes with microgpt.py: copy it"
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot read {str(path)!r} ({error}): {wanted}") from None
    docs = [line.strip() for line in lines if line.strip()]
    if not docs:
        raise ValueError(f"{str(path)!r} is empty: {wanted}")
    return docs


def split(docs: list, val_fraction: float) -> tuple[list, list]:
    """Return the documents to train on, and the tail held out to validate (val) the model with."""
    num_train = len(docs) - int(len(docs) * val_fraction)
    return docs[:num_train], docs[num_train:]


class Tokenizer:
    """Turns characters into token ids and back: 0, 1, 2, ... in sorted order, and BOS last."""

    def __init__(self, docs: list[str]):
        self.chars = sorted(set().union(*docs))
        self.ids = {char: i for i, char in enumerate(self.chars)}
        self.bos, self.vocab_size = len(self.chars), len(self.chars) + 1

    def encode(self, doc: str) -> list[int]:
        """Return BOS, the ids of the characters, BOS."""
        return [self.bos, *[self.ids[char] for char in doc], self.bos]

    def decode(self, tokens: list[int]) -> str:
        """Return the characters of the tokens; there must be no BOS among them."""
        return "".join([self.chars[token] for token in tokens])


def draw_in_turn(docs: list[str], tokenizer: Tokenizer, step: int) -> list[int]:
    """Return the tokens of a step's document: one after the other, and round again."""
    return tokenizer.encode(docs[step % len(docs)])


# %% 2. Autograd: numbers that know what they were computed from
#
# Training asks of each weight: if it grew by a little, how many times that little would the loss
# grow? This is d(loss)/d(weight), the gradient of the weight. No operation on the way from there to
# the loss knows it, but each knows its local gradients, the partial derivatives of its result. The
# chain rule joins them: multiply along every path from the loss to the weight, and add the paths.

serials = count()
sumprod = getattr(math, "sumprod", lambda p, q: sum(map(mul, p, q)))  # in math since Python 3.12


class Value:
    """A number (data), what it was computed from (edges), its gradient (grad) after backward().

    Values are the nodes of a graph. An edge is a pair (inputs, local_grads), two sequences in which
    local_grads[i] is d(data)/d(inputs[i]). A value that is given, like a weight, has none: a leaf.
    """

    __slots__ = ("data", "grad", "edges", "serial")

    def __init__(self, data: float, *edges: tuple):
        self.data, self.grad, self.edges = data, 0.0, edges
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
        by_a = b * math.pow(a, b - 1) if b else 0.0
        by_b = power * math.log(a) if a > 0 else (math.nan if a else 0.0)  # nan: not defined
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
        if self.data > 0:
            return Value(self.data, ((self,), (1.0,)))
        return Value(0.0, ((self,), (0.0,)))

    def __neg__(self): return self * -1.0
    def __sub__(self, other): return self + -other
    def __radd__(self, other): return self + other
    def __rsub__(self, other): return -self + other
    def __rmul__(self, other): return self * other
    def __rtruediv__(self, other): return Value(other) / self
    def __rpow__(self, other): return Value(other) ** self

    def backward(self) -> None:
        """Set the grad of every value that this one was computed from to d(this)/d(that value).

        A leaf adds it to the grad it has, so that the gradients of several calls add up.
        """
        computed, found, seen = [self], {self}, set()
        for node in computed:  # grows on the way, to all the computed values behind this one
            for inputs, _ in node.edges:
                if id(inputs) not in seen:  # many nodes share a tuple of inputs: search it once
                    seen.add(id(inputs))
                    for value in inputs:
                        if value.edges and value not in found:
                            value.grad = 0.0
                            found.add(value)
                            computed.append(value)
        self.grad = 1.0 if self.edges else self.grad + 1.0
        # Newest first. What was computed from a value is newer than it, so when its turn comes, its
        # grad is complete. It was added up (+=), since each use of the value is a path of its own.
        for node in sorted(computed, key=attrgetter("serial"), reverse=True):
            grad = node.grad
            if grad:  # else there is nothing to pass on, as behind a ReLU that gave 0
                for inputs, local_grads in node.edges:
                    for value, local_grad in zip(inputs, local_grads):
                        value.grad += local_grad * grad


def dot(a, b, b_data=()) -> Value:
    """Return a[0] * b[0] + a[1] * b[1] + ... as one node with 2n inputs, instead of 2n - 1 nodes.

    Nodes cost time: most of the program's speed comes from here. b_data: b's numbers, if known.
    """
    a, b = tuple(a), tuple(b)
    if len(a) != len(b):
        raise ValueError(f"a dot product needs equal lengths, not {len(a)} and {len(b)}")
    a_data = [value.data for value in a]
    b_data = b_data or [value.data for value in b]
    return Value(sumprod(a_data, b_data), (a, b_data), (b, a_data))


# %% 3. Model: a token goes in, and the logits of the token after it come out
#
# The vectors of n_embd numbers that stand for a token and for its position, its embeddings, are
# added up. In each layer attention adds to this what it finds in the tokens so far, and an MLP (a
# "multi-layer perceptron") adds what it makes of that (Vaswani et al., 2017). Unlike GPT-2 (Radford
# et al., 2019): RMSNorm for LayerNorm, and at the start, not the end; ReLU for GELU; no biases; a
# matrix of its own, lm_head, for the logits.


def linear(x, weight) -> list[Value]:
    """Return weight @ x: the dot product of each row with x."""
    x = tuple(x)
    x_data = [value.data for value in x]
    return [dot(row, x, x_data) for row in weight]


def rmsnorm(x) -> list[Value]:
    """Return x scaled to a mean square of 1 (Zhang & Sennrich, 2019), so that no layer blows up."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5  # 1e-5: not to divide by 0
    return [value * scale for value in x]


def logsumexp(logits) -> Value:
    """Return log(exp(logits[0]) + exp(logits[1]) + ...) as a node; its gradient is the softmax."""
    logits = tuple(logits)
    largest = max(logit.data for logit in logits)
    exps = [math.exp(logit.data - largest) for logit in logits]  # none above 1: no overflow
    total = sum(exps)  # at least 1: never the log of 0
    return Value(largest + math.log(total), (logits, [e / total for e in exps]))


def softmax(logits) -> list[Value]:
    """Return the probabilities that logits stand for: exp of each, over the sum of them all."""
    shift = -logsumexp(logits)
    return [(logit + shift).exp() for logit in logits]


def cross_entropy(logits, target: int) -> Value:
    """Return -log of the target's probability: 0 at probability 1, log(vocab_size) for a guess."""
    return logsumexp(logits) - logits[target]


class GPT:
    """A transformer that reads token by token: new_cache(), then forward() for each token.

    weights: matrices by name, as lists of rows. ValueError if the sizes do not go together.
    """

    def __init__(self, vocab_size, n_layer=1, n_embd=16, n_head=4, block_size=16, rng=random):
        if min(n_layer, n_embd, n_head, block_size) < 1 or n_embd % n_head:
            sizes = f"n_layer {n_layer}, n_embd {n_embd}, n_head {n_head}, block_size {block_size}"
            raise ValueError(f"{sizes}: each must be at least 1, and n_embd a multiple of n_head")
        self.n_layer, self.n_embd, self.head_dim = n_layer, n_embd, n_embd // n_head
        self.block_size = block_size  # the context: how many tokens it can look back on
        n, n_mlp = n_embd, 4 * n_embd
        # w: weights; te, pe: token and position embedding; lm: language model; fc: fully connected
        shapes = {"wte": (vocab_size, n), "wpe": (block_size, n), "lm_head": (vocab_size, n)}
        for i in range(n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                shapes[f"layer{i}.{name}"] = (n, n)
            shapes |= {f"layer{i}.mlp_fc1": (n_mlp, n), f"layer{i}.mlp_fc2": (n, n_mlp)}
        self.weights = {
            name: [tuple(Value(rng.gauss(0, 0.08)) for _ in range(columns)) for _ in range(rows)]
            for name, (rows, columns) in shapes.items()
        }
        self.parameters = [p for matrix in self.weights.values() for row in matrix for p in row]

    def new_cache(self) -> list:
        """Return an empty memory for a document: for each layer a list of keys, one of values."""
        return [([], []) for _ in range(self.n_layer)]

    def attention(self, i: int, x, keys: list, values: list) -> list[Value]:
        """Return what layer i gathers for x from the tokens so far, with x as the last of them.

        A query says what a token looks for, a key what it can be found by, a value what it gives.
        Each head has its part of them. No mask is needed: later tokens are not in the lists yet.
        """
        scale = Value(self.head_dim**-0.5)  # else the scores would grow with head_dim
        query = [q * scale for q in linear(x, self.weights[f"layer{i}.attn_wq"])]
        keys.append(linear(x, self.weights[f"layer{i}.attn_wk"]))
        values.append(linear(x, self.weights[f"layer{i}.attn_wv"]))
        gathered = []
        for start in range(0, self.n_embd, self.head_dim):
            head = slice(start, start + self.head_dim)
            scores = linear(query[head], [key[head] for key in keys])  # one for each token
            columns = zip(*[value[head] for value in values])
            gathered += linear(softmax(scores), columns)  # the mean of the values, so weighted
        return linear(gathered, self.weights[f"layer{i}.attn_wo"])

    def forward(self, token: int, cache: list) -> list[Value]:
        """Return the vocab_size logits of what follows this token, and extend the cache by it."""
        position = len(cache[0][0])
        if position == self.block_size:
            raise ValueError(f"the context is full: block_size is {self.block_size} tokens")
        x = [t + p for t, p in zip(self.weights["wte"][token], self.weights["wpe"][position])]
        x = rmsnorm(x)  # the sum that all layers add to starts at scale 1
        for i, (keys, values) in enumerate(cache):
            x = [a + b for a, b in zip(x, self.attention(i, rmsnorm(x), keys, values))]
            hidden = linear(rmsnorm(x), self.weights[f"layer{i}.mlp_fc1"])
            out = linear([unit.relu() for unit in hidden], self.weights[f"layer{i}.mlp_fc2"])
            x = [a + b for a, b in zip(x, out)]
        return linear(x, self.weights["lm_head"])

    def loss(self, tokens: list[int]) -> Value:
        """Return the mean cross-entropy of the first block_size predictions of a next token."""
        cache, pairs = self.new_cache(), list(zip(tokens, tokens[1:]))[: self.block_size]
        losses = [cross_entropy(self.forward(token, cache), target) for token, target in pairs]
        return sum(losses) / len(losses)


# %% 4. Training: a little less loss with every step
#
# A step takes a document, computes its loss and the gradients, and moves each weight a little
# against its gradient. How far is up to the optimizer, Adam (Kingma & Ba, 2015, Algorithm 1): by
# the learning rate times mean / sqrt(square), of running means of the gradient and of its square.
# Where the gradients agree from step to step, that ratio is near 1 or -1; if not, it is nearer 0.


@contextmanager
def without_cycle_search():
    """Pause Python's search for reference cycles: graphs have none. Saves a tenth of a step."""
    pause = gc.isenabled() and sys.implementation.name == "cpython"  # PyPy frees nothing without
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


@without_cycle_search()
def forward_backward(model: GPT, tokens: list[int]) -> float:
    """Return the loss of the tokens, and add its gradients to the grad of the weights."""
    loss = model.loss(tokens)
    loss.backward()
    return loss.data  # only the number: the graph is let go before the next one is built


def train(model: GPT, draw, num_steps=1000, learning_rate=0.01, betas=(0.85, 0.99), epsilon=1e-8):
    """Train on the tokens that draw(step) returns, step by step, and yield the loss of each.

    The learning rate falls linearly. Raises FloatingPointError, before the step's update, if the
    loss is infinite or not a number.
    """
    (beta1, beta2), sqrt = betas, math.sqrt
    rest1, rest2 = 1 - beta1, 1 - beta2
    parameters = model.parameters
    means, squares = [0.0] * len(parameters), [0.0] * len(parameters)
    for p in parameters:
        p.grad = 0.0
    for step in range(num_steps):
        loss = forward_backward(model, draw(step))
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}: try a smaller learning rate")
        # The running means start at 0, so the first ones are too small; this makes up for it.
        bias1, bias2 = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)
        rate = learning_rate * (1 - step / num_steps) / bias1
        for i, p in enumerate(parameters):
            grad = p.grad
            means[i] = mean = beta1 * means[i] + rest1 * grad
            squares[i] = square = beta2 * squares[i] + rest2 * grad * grad
            p.data -= rate * mean / (sqrt(square / bias2) + epsilon)
            p.grad = 0.0
        yield loss


# %% 5. Sampling and evaluation: what has the model learned?
#
# To write a document, draw a token by the model's logits, feed it back in, and go on until BOS
# comes. To grade the model, take its loss on documents that were held out of the training.


@without_cycle_search()
def sample(model: GPT, tokenizer: Tokenizer, rng=random, temperature=0.5) -> str:
    """Return a new document of at most block_size characters.

    Logits are divided by the temperature: at 1, tokens come with the model's own probabilities; the
    lower it is, the more the likely ones are preferred; at 0, the likeliest always comes.
    """
    cache, token, tokens = model.new_cache(), tokenizer.bos, []
    while len(tokens) < model.block_size:
        logits = [logit.data for logit in model.forward(token, cache)]
        largest = max(logits)
        if temperature == 0:
            token = logits.index(largest)
        else:
            odds = [math.exp((logit - largest) / temperature) for logit in logits]
            token = rng.choices(range(len(logits)), odds)[0]
        if token == tokenizer.bos:
            break
        tokens.append(token)
    return tokenizer.decode(tokens)


@without_cycle_search()
def evaluate(model: GPT, documents: list[list[int]]) -> float:
    """Return the mean loss of a prediction, over the first block_size of each list of tokens."""
    sizes = [min(len(tokens) - 1, model.block_size) for tokens in documents]
    losses = [model.loss(tokens).data * size for tokens, size in zip(documents, sizes)]
    return sum(losses) / sum(sizes)


def evaluate_bigrams(train_documents, documents, vocab_size: int, block_size: int) -> float:
    """Return that of a table that has counted in train_documents which token follows which."""
    follows = Counter(pair for tokens in train_documents for pair in zip(tokens, tokens[1:]))
    totals = Counter()
    for (first, _), times in follows.items():
        totals[first] += times
    pairs = [pair for tokens in documents for pair in list(zip(tokens, tokens[1:]))[:block_size]]
    # each pair counts once more than it was seen, so that none is impossible
    losses = [math.log((totals[a] + vocab_size) / (follows[a, b] + 1)) for a, b in pairs]
    return sum(losses) / len(losses)


# %% 6. Running it: arguments, progress, the main program
#
# Nothing above prints, or knows of a command line. Here it becomes a program, for a terminal, a
# pipe, a file or a notebook.


class Parser(argparse.ArgumentParser):
    """Raises ValueError for a bad argument, where argparse alone would end the program."""

    def error(self, message):
        raise ValueError(message)


def number(kind, accepts, wanted: str, text: str):
    """Return an argument's text as a number; ArgumentTypeError if it is not what is wanted."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not accepts(value):
        raise argparse.ArgumentTypeError(f"{wanted} is needed, not {text!r}")
    return value


def parse(argv) -> argparse.Namespace:
    """Return the arguments by name; ValueError says in one line what is wrong with one."""
    whole = partial(number, int, lambda n: n == n, "a whole number")
    amount = partial(number, int, lambda n: n >= 0, "a whole number from 0 up")
    size = partial(number, int, lambda n: n >= 1, "a whole number from 1 up")
    scale = partial(number, float, lambda x: 0 <= x < math.inf, "a number from 0 up")
    rate = partial(number, float, lambda x: 0 < x < math.inf, "a number above 0")
    part = partial(number, float, lambda x: 0 <= x < 1, "a number from 0 up to, but not, 1")
    here = Path(__file__).parent if "__file__" in globals() else Path()
    groups = {
        "data": [
            ("data", Path, here / "names.txt", "text file, one document per line"),
            ("val_fraction", part, 0.1, "part of the documents to hold out for the val loss"),
        ],
        "model": [
            ("n_layer", size, 1, "number of layers"),
            ("n_embd", size, 16, "size of an embedding, a multiple of n_head"),
            ("n_head", size, 4, "number of attention heads in a layer"),
            ("block_size", size, 16, "longest context, in tokens"),
        ],
        "training": [
            ("num_steps", amount, 1000, "number of steps, each on one document"),
            ("learning_rate", rate, 0.01, "learning rate of the first step, then falling to 0"),
            ("seed", whole, 42, "seed of the random numbers"),
        ],
        "sampling": [
            ("num_samples", amount, 20, "number of documents to write"),
            ("temperature", scale, 0.5, "how bold: 1 is as the model says, 0 always the likeliest"),
        ],
    }
    parser = Parser(prog="microgpt.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    for title, flags in groups.items():
        group = parser.add_argument_group(title)
        for name, kind, default, text in flags:
            metavar, text = "PATH" if kind is Path else "N", f"{text} (default: %(default)s)"
            group.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=text)
    return parser.parse_args(argv)


def curve(losses: list[float], width: int) -> str:
    """Return the losses as bars in a line of about width characters, with the ends in numbers."""
    blocks, width = "▁▂▃▄▅▆▇█", max(1, min(width - 10, len(losses)))
    try:
        blocks.encode(sys.stdout.encoding or "utf-8")
    except UnicodeError:
        blocks = "_.:-=+*#"
    cuts = [len(losses) * i // width for i in range(width + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(cuts, cuts[1:])]
    low, high = min(means), max(means)
    bars = "".join(blocks[round(7 * (mean - low) / (high - low or 1.0))] for mean in means)
    return f"{means[0]:.2f} {bars} {means[-1]:.2f}"


def show(training, num_steps: int) -> list[float]:
    """Print the losses as they come, a line each; on a terminal or in a notebook, rewrite one line.

    The first Ctrl-C ends this when the step under way is done; a second is a KeyboardInterrupt.
    """
    losses, interrupts, shown, start = [], [], 0.0, time.perf_counter()
    rewrite = sys.stdout.isatty() or "ipykernel" in sys.modules
    is_main_thread = threading.current_thread() is threading.main_thread()  # Ctrl-C goes there

    def on_ctrl_c(*_):
        interrupts.append(True)
        signal.signal(signal.SIGINT, before)

    before = is_main_thread and signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        for step, loss in enumerate(training, 1):
            losses.append(loss)
            line, now = f"step {step:4d} / {num_steps:4d} | loss", time.perf_counter()
            if not rewrite:
                print(f"{line} {loss:.4f}", flush=True)
            elif now - shown > 0.1 or step == num_steps or interrupts:
                shown, speed, recent = now, step / (now - start), losses[-50:]
                minutes, seconds = divmod(round((num_steps - step) / speed), 60)
                line += f" {sum(recent) / len(recent):.4f} | {speed:.1f} steps/s"
                line += f" | {minutes}:{seconds:02d} left"
                columns = shutil.get_terminal_size().columns - 3  # leaves room for a ^C
                print("\r" + line[:columns].ljust(columns), end="", flush=True)
            if interrupts:
                break
    finally:
        if is_main_thread:
            signal.signal(signal.SIGINT, before)
        print(end="\n" if shown else "")
    return losses


def main(argv=()) -> tuple[GPT, Tokenizer]:
    """Train, evaluate and sample as the arguments say; return the model and its tokenizer.

    ValueError for arguments or data that will not do, FloatingPointError if the training diverges.
    """
    args = parse(argv)
    rng = random.Random(args.seed)
    docs = read_documents(args.data)
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    sizes = args.n_layer, args.n_embd, args.n_head, args.block_size
    model = GPT(tokenizer.vocab_size, *sizes, rng)
    print(f"num docs: {len(docs)}\nvocab size: {tokenizer.vocab_size}")
    print(f"num params: {len(model.parameters)}", flush=True)

    train_docs, val_docs = split(docs, args.val_fraction)
    draw = partial(draw_in_turn, train_docs, tokenizer)
    losses = show(train(model, draw, args.num_steps, args.learning_rate), args.num_steps)
    if losses:
        print("loss curve", curve(losses, min(70, shutil.get_terminal_size().columns - 12)))
    if val_docs:
        tests = [tokenizer.encode(doc) for doc in val_docs[:200]]
        counted = (tokenizer.encode(doc) for doc in train_docs)
        bigrams = evaluate_bigrams(counted, tests, tokenizer.vocab_size, model.block_size)
        guess = f"ln({tokenizer.vocab_size}) {math.log(tokenizer.vocab_size):.4f}"
        print(f"val loss {evaluate(model, tests):.4f} | bigram table {bigrams:.4f} | {guess}")
    known = set(docs)
    for i in range(1, args.num_samples + 1):
        text = sample(model, tokenizer, rng, args.temperature)
        print(f"sample {i:2d}: {text}{'  (in the data)' if text in known else ''}", flush=True)
    return model, tokenizer


def command() -> tuple[GPT, Tokenizer]:
    """Do main() for the command line: an error is one line on standard error, and status 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that lacks a character
    try:
        results = main(sys.argv[1:])
        sys.stdout.flush()
        return results
    except (ValueError, FloatingPointError) as error:
        print(f"microgpt.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    # where another program reads this text, as a notebook does, the arguments are for that program
    is_command = "__file__" in globals() and Path(sys.argv[0]).name == Path(__file__).name
    model, tokenizer = command() if is_command else main()
