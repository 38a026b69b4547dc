"""How fast is microgpt.py? Run `python tests/benchmark.py`; it takes about five minutes.

Three programs train the same model on the same names, each in a process of its own, in turn, round
after round: microgpt.py; the textbook's way, with a node for each + and * and a recursive sort;
and every derivative by hand (by_hand.py). What counts are the ratios between the fastest rounds:
what else the machine does can only make a round slower. On CPython, where what is no longer needed
is freed at once, it also prints what a step spends its time on.
"""

import argparse
import gc
import importlib.util
import math
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import microgpt  # noqa: E402
from tests import by_hand  # noqa: E402
from tests.support import numbers  # noqa: E402


class Node:
    """The textbook's scalar: one node for each operation, derivatives by a recursive sort."""

    __slots__ = ("data", "grad", "children", "local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = 0
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other):
        other = other if isinstance(other, Node) else Node(other)
        return Node(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, Node) else Node(other)
        return Node(self.data * other.data, (self, other), (other.data, self.data))

    def exp(self):
        result = math.exp(self.data)
        return Node(result, (self,), (result,))

    def __pow__(self, n): return Node(self.data**n, (self,), (n * self.data ** (n - 1),))
    def log(self): return Node(math.log(self.data), (self,), (1 / self.data,))
    def relu(self): return Node(max(0, self.data), (self,), (float(self.data > 0),))
    def __neg__(self): return self * -1
    def __sub__(self, other): return self + (-other)
    def __truediv__(self, other): return self * other**-1
    def __radd__(self, other): return self + other
    def __rmul__(self, other): return self * other

    def backward(self):
        order, visited = [], set()

        def visit(node):
            if node not in visited:
                visited.add(node)
                for child in node.children:
                    visit(child)
                order.append(node)

        visit(self)
        self.grad = 1
        for node in reversed(order):
            for child, local_grad in zip(node.children, node.local_grads):
                child.grad += local_grad * node.grad


def textbook():
    """Return a second copy of the module microgpt, on Nodes and with the textbook's formulas."""
    spec = importlib.util.spec_from_file_location("textbook", microgpt.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b))

    def linear(x, matrix):
        return [dot(row, x) for row in matrix]

    def softmax(logits):
        largest = max(logit.data for logit in logits)
        exps = [(logit - largest).exp() for logit in logits]
        total = sum(exps)
        return [e / total for e in exps]

    def rmsnorm(x):
        scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    def cross_entropy(logits, target):
        return -softmax(logits)[target].log()

    module.Value, module.dot, module.linear, module.softmax = Node, dot, linear, softmax
    module.rmsnorm, module.cross_entropy = rmsnorm, cross_entropy
    return module


def train_textbook(model, draw, num_steps, learning_rate=0.01):
    """Yield the loss of each step: forward, backward, Adam, as the textbook writes them."""
    parameters = model.parameters
    m, v = [0.0] * len(parameters), [0.0] * len(parameters)
    for step in range(num_steps):
        found = model.losses(draw(step))
        loss = sum(found) / len(found)
        loss.backward()
        rate = learning_rate * (1 - step / num_steps)
        for i, p in enumerate(parameters):
            m[i] = 0.85 * m[i] + 0.15 * p.grad
            v[i] = 0.99 * v[i] + 0.01 * p.grad**2
            m_hat = m[i] / (1 - 0.85 ** (step + 1))
            v_hat = v[i] / (1 - 0.99 ** (step + 1))
            p.data -= rate * m_hat / (v_hat**0.5 + 1e-8)
            p.grad = 0
        yield loss.data


def setting(module=microgpt, n_layer=1, n_embd=16, n_head=4, block_size=16, seed=42):
    """Return a model of the module, and draw(step), as the command line makes them."""
    rng = random.Random(seed)
    docs = (ROOT / "names.txt").read_text(encoding="utf-8").split()
    rng.shuffle(docs)
    tokenizer = microgpt.Tokenizer(docs)
    model = module.GPT(tokenizer.vocab_size, n_layer, n_embd, n_head, block_size, rng)
    return model, lambda step: tokenizer.encode(docs[step % len(docs)])


def train(model, draw, num_steps, learning_rate=0.01):
    """Yield the loss of each step of microgpt.py, one name a step."""
    optimizer = microgpt.Adam(model.parameters)
    for step in range(num_steps):
        rate = learning_rate * (1 - step / num_steps)
        yield microgpt.train_step(model, optimizer, [draw(step)], rate)


def losses(program, num_steps=1000, **sizes):
    """Return the generator of losses, and draw(step), of a program by its name."""
    if program == "textbook":
        model, draw = setting(textbook(), **sizes)
        return train_textbook(model, draw, num_steps), draw
    model, draw = setting(**sizes)
    if program == "by hand":
        shape = model.n_layer, len(model.heads), model.block_size
        return by_hand.train(numbers(model), draw, num_steps, *shape), draw
    return train(model, draw, num_steps), draw


def measure(program, steps, n_embd, n_layer):
    """Print the seconds for a token, and for a multiply-add, of steps of a program."""
    generator, draw = losses(program, n_embd=n_embd, n_layer=n_layer)
    if program == "microgpt" and sys.implementation.name == "cpython":
        gc.disable()  # as the program does
    is_slow = program == "textbook" or sys.implementation.name == "cpython"
    warm_up = min(steps, 5) if is_slow else 2 * steps
    for _ in range(warm_up):
        next(generator)
    start = time.perf_counter()
    for _ in range(steps):
        next(generator)
    seconds = time.perf_counter() - start
    lengths = [min(len(draw(step)) - 1, 16) for step in range(warm_up, warm_up + steps)]
    in_layers = sum(12 * n_embd**2 + n_embd * (n + 1) for n in lengths for _ in range(n))
    print(seconds / sum(lengths), seconds / (n_layer * in_layers + 27 * n_embd * sum(lengths)))


def child(*words):
    """Run measure() in a new process and return the numbers that it printed."""
    command = [sys.executable, __file__, "--measure", *map(str, words)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in printed.split()]


def parts(steps):
    """Return the seconds that steps of microgpt.py spend on each of their parts."""
    model, draw = setting()
    optimizer = microgpt.Adam(model.parameters)
    clock = time.perf_counter
    forward = backward = adam = freeing = 0.0
    gc.disable()  # as the program does
    for step in range(steps):
        start = clock()
        for p in model.parameters:
            p.grad = 0.0
        cleared = clock()
        loss = microgpt.mean(model.losses(draw(step)))
        computed = clock()
        loss.backward()
        differentiated = clock()
        optimizer.step(0.01 * (1 - step / steps))
        updated = clock()
        del loss
        freeing += clock() - updated
        forward += computed - cleared
        backward += differentiated - computed
        adam += cleared - start + updated - differentiated
    gc.enable()
    rest = {"the backward pass": backward, "Adam": adam, "freeing the graph": freeing}
    return {"the forward pass": forward, **rest}


def peak_memory(num_steps):
    """Return the peak memory, in MB, of the program when it trains for num_steps."""
    code = "import resource, microgpt; microgpt.evaluate = lambda *_: 0.0; "
    code += f"microgpt.main(num_steps={num_steps}); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def first_loss():
    """Return how many seconds after the start the first loss is on the screen."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "microgpt.py"), "--num_steps", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("step"):
            pass
        process.kill()
        return time.perf_counter() - start


def main():
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a glance: figures mean little")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        program, *sizes = args.measure
        measure(program, *map(int, sizes))
        return
    rounds, shrink = (1, 40) if args.quick else (7, 1)
    print(f"{platform.python_implementation()} {platform.python_version()}, {rounds} rounds")
    # enough steps for the garbage of earlier steps to have its part in the cost of later ones
    programs = {"microgpt": 120 // shrink, "textbook": 40 // shrink, "by hand": 120 // shrink}
    costs = {program: [] for program in programs}
    for _ in range(rounds):
        for program, steps in programs.items():
            costs[program].append(child(program, steps, 16, 1)[0])
    ours, textbooks, by_hands = (min(costs[program]) for program in programs)
    print(f"{textbooks / ours:.1f} times as fast as with one node an operation")
    print(f"{ours / by_hands:.2f} times the cost of derivatives by hand")
    if sys.implementation.name == "cpython":
        seconds = parts(400 // shrink)
        shares = {name: round(100 * x / sum(seconds.values())) for name, x in seconds.items()}
        print("a step is " + ", ".join(f"{share}% {name}" for name, share in shares.items()))
    sizes = [(16, 1), (32, 1), (64, 1), (16, 2), (16, 4)]
    growth = {size: [] for size in sizes}
    for _ in range(rounds):
        for n_embd, n_layer in sizes:
            growth[n_embd, n_layer].append(child("microgpt", 20 // shrink + 1, n_embd, n_layer)[1])
    for (n_embd, n_layer), found in growth.items():
        ratio = min(found) / min(growth[16, 1])
        print(f"n_embd {n_embd}, n_layer {n_layer}: {ratio:.2f} times the cost of a multiply-add")
    few, many = 100 // shrink, 1200 // shrink
    print(f"peak memory {peak_memory(few):.0f} MB after {few} steps", end=", ")
    print(f"{peak_memory(many):.0f} MB after {many}")
    print(f"first loss on the screen after {first_loss():.2f} seconds")


if __name__ == "__main__":
    main()
