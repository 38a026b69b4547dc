"""How fast is microgpt.py? Run `python tests/benchmark.py`; it takes one to four minutes.

Three programs train the same model on the same names, each in a process of its own, in turn, round
after round: microgpt.py; the textbook's way, with a node for each + and * and a recursive sort;
and every derivative by hand (by_hand.py). What counts are the ratios between the fastest rounds:
what else the machine does can only make a round slower. On CPython, where what is no longer needed
is freed at once, it also prints what a step spends its time on.
"""

import argparse
import gc
import importlib.util
import json
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


SIZES = {"n_embd": 16, "block_size": 16, "n_layer": 1, "batch_size": 1}


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

    def cross_entropy(logits, target):
        return -module.softmax(logits)[target].log()

    module.Value, module.dot, module.cross_entropy = Node, dot, cross_entropy
    return module


def train_textbook(model, draw, num_steps, learning_rate=0.01):
    """Yield the loss of each step: forward, backward, Adam, as the textbook writes them."""
    parameters = model.parameters
    m, v = [0.0] * len(parameters), [0.0] * len(parameters)
    for step in range(num_steps):
        [tokens] = draw(step)
        found = model.losses(tokens)
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


def setting(module=microgpt, n_layer=1, n_embd=16, n_head=4, block_size=16, batch_size=0):
    """Return a model of the module, and draw(step): a batch of windows or, at 0, one name."""
    rng = random.Random(42)
    docs = (ROOT / "names.txt").read_text(encoding="utf-8").split()
    rng.shuffle(docs)
    tokenizer = microgpt.Tokenizer(docs)
    model = module.GPT(tokenizer.vocab_size, n_layer, n_embd, n_head, block_size, rng)
    text = tokenizer.encode("".join(docs)) if batch_size else None

    def draw(step):
        if text is None:
            return [tokenizer.encode(docs[step % len(docs)])]
        starts = range(step * batch_size, (step + 1) * batch_size)
        return [text[i * block_size : (i + 1) * block_size + 1] for i in starts]

    return model, draw


def train(model, draw, num_steps, learning_rate=0.01):
    """Yield the loss of each step of microgpt.py."""
    optimizer = microgpt.Adam(model.parameters)
    for step in range(num_steps):
        rate = learning_rate * (1 - step / num_steps)
        yield microgpt.train_step(model, optimizer, draw(step), rate)


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


def measure(program, steps, **sizes):
    """Print the seconds that steps of a program take, divided by the number of predictions."""
    generator, draw = losses(program, **sizes)
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
    examples = [tokens for step in range(warm_up, warm_up + steps) for tokens in draw(step)]
    limit = sizes.get("block_size", 16)
    print(seconds / sum(min(len(tokens) - 1, limit) for tokens in examples))


def child(program, steps, **sizes):
    """Run measure() in a new process and return the number that it printed."""
    command = [sys.executable, __file__, "--measure", json.dumps([program, steps, sizes])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def step_cost(program, steps, name, size):
    """Return the seconds for a step on full windows, with one of the sizes changed."""
    sizes = {**SIZES, name: size}
    return child(program, steps, **sizes) * sizes["block_size"] * sizes["batch_size"]


def parts(steps):
    """Return the seconds that steps of microgpt.py spend on each of their parts."""
    model, draw = setting()
    optimizer = microgpt.Adam(model.parameters)
    spent = [0.0] * 4
    gc.disable()  # as the program does
    for step in range(steps):
        clock = [time.perf_counter()]
        loss = microgpt.mean(model.losses(*draw(step)))
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        optimizer.step(0.01 * (1 - step / steps))
        for p in model.parameters:
            p.grad = 0.0
        clock.append(time.perf_counter())
        del loss
        clock.append(time.perf_counter())
        spent = [x + end - start for x, start, end in zip(spent, clock, clock[1:])]
    gc.enable()
    return dict(zip(("the forward pass", "the backward pass", "Adam", "freeing the graph"), spent))


def peak_memory(num_steps):
    """Return the peak memory, in MB, of the program when it trains for num_steps."""
    code = "import resource, microgpt; microgpt.evaluate = lambda *_: 0.0; "
    code += f"microgpt.main(num_steps={num_steps}); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main():
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a glance: figures mean little")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        program, steps, sizes = args.measure
        measure(program, steps, **sizes)
        return
    rounds, shrink = (1, 40) if args.quick else (7, 1)
    print(f"{platform.python_implementation()} {platform.python_version()}, {rounds} rounds")
    # enough steps for the garbage of earlier steps to have its part in the cost of later ones
    programs = {"microgpt": 120 // shrink, "textbook": 40 // shrink, "by hand": 120 // shrink}
    costs = {program: [] for program in programs}
    for _ in range(rounds):
        for program, steps in programs.items():
            costs[program].append(child(program, steps))
    ours, textbooks, by_hands = (min(costs[program]) for program in programs)
    print(f"{textbooks / ours:.1f} times as fast as with one node an operation")
    print(f"{ours / by_hands:.2f} times the cost of derivatives by hand")
    if sys.implementation.name == "cpython":
        seconds = parts(400 // shrink)
        shares = {name: round(100 * x / sum(seconds.values())) for name, x in seconds.items()}
        print("a step is " + ", ".join(f"{share}% {name}" for name, share in shares.items()))
    growth = [(name, size * times) for name, size in SIZES.items() for times in (1, 2, 4)]
    pair = "microgpt", "by hand"
    costs = {(program, *size): [] for size in growth for program in pair}
    for _ in range(3 if rounds > 3 else 1):
        for program, name, size in costs:
            costs[program, name, size].append(step_cost(program, 10 // shrink + 2, name, size))
    for name, size in growth:
        first = SIZES[name]
        ours, by_hands = (min(costs[x, name, size]) / min(costs[x, name, first]) for x in pair)
        print(f"{name} {size}: a step takes {ours:.2f} times as long, by hand {by_hands:.2f} times")
    few, many = 100 // shrink, 1200 // shrink
    print(f"peak memory {peak_memory(few):.0f} MB after {few} steps", end=", ")
    print(f"{peak_memory(many):.0f} MB after {many}")


if __name__ == "__main__":
    main()
