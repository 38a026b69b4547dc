"""Rebuild a part of microgpt.py yourself, and be told how far you agree.

    python tests/rebuild.py --list
    python tests/rebuild.py softmax      write mine.py: the program without the body of softmax()
    python tests/rebuild.py 3            the same, without the bodies of all parts in chapter 3
    python tests/rebuild.py --check      run mine.py, and compare it with microgpt.py

A check tries small cases and the examples in the docstrings, gradients (a nudge of 0.001 must say
the same), and twenty steps of the default run. Where a result is exactly that of a usual mistake,
it says which. What mine.py prints is left out. The exit status is 0 if everything agrees, 1 if
something differs or is still to be written, and 2 for an error in the words or in mine.py's syntax.
"""

import _thread
import ast
import contextlib
import doctest
import io
import math
import random
import re
import sys
import threading
import traceback
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (ROOT / "microgpt.py").read_text(encoding="utf-8")
BLANK = "raise NotImplementedError('{} is still to be written')"

# The parts, in the order of the file: the last value of each case must be that of microgpt.py.
CASES = {
    "Tokenizer.encode": ["Tokenizer(['emma']).encode('mae')", "Tokenizer(['emma']).encode('')"],
    "Value.__mul__": [
        "a = Value(3.0); b = Value(4.0); (a * b).backward(); [a.grad, b.grad]",
        "a, b = randoms(2); c = a * b * (a * 3); c.backward(); [a, b, c]",
    ],
    "Value.backward": [
        "x = Value(3.0); (x * x).backward(); x.grad",
        "x = Value(1.0); y = x * 2; (y + y * 3 * 5).backward(); (y * 3 * 5 + y).backward(); x.grad",
        "a, b = randoms(2); c = a * b; d = c * a; dot([c, d], [d, d]).backward(); [a, b]",
        "x = Value(2.0); y = x * 3; z = y * y; z.backward(); z.backward(); x.backward(); [x, y, z]",
    ],
    "dot": ["a, b, c = randoms(3); d = dot([a, b, c], [b, b, a]); d.backward(); [a, b, c, d]"],
    "rmsnorm": [
        "rmsnorm([Value(3.0), Value(4.0)])",
        "rmsnorm([Value(0.0), Value(0.001)])",
        "x = randoms(2); y = rmsnorm(x)[0]; y.backward(); [x, y]",
    ],
    "softmax": [
        "softmax([Value(1000.0), Value(0.0)])",
        "a, b = randoms(2); c = softmax([a, b])[0]; c.backward(); [a, b, c]",
    ],
    "attention": [
        "x = Value(1.0); y = Value(0.0); attention([x] * 4, [[x] * 4, [y] * 4], [[y], [x]])",
        "x, y = randoms(3), randoms(3); z = attention(x, [x, y], [x, y]); z[0].backward(); [x, y]",
    ],
    "GPT.forward": [
        "m = GPT(5, 1, 4, 2, 4, rng); c, d = m.new_cache(), m.new_cache(); m.forward(0, c); "
        "m.forward(1, d); m.forward(2, c)[0].data == m.forward(2, d)[0].data",
        "m = GPT(5, 2, 4, 2, 4, rng); c = m.new_cache(); m.forward(4, c); m.forward(0, c)",
    ],
    "Adam.step": [
        "p = Value(5.0); p.grad = 1.0; Adam([p]).step(0.1); p.data",
        "p, q = randoms(2); a = Adam([p, q]); p.grad = 2.0; q.grad = -1e-8; a.step(0.1); "
        "p.grad = -3.0; a.step(0.1); [p, q, a.means, a.squares, a.steps_done]",
    ],
    "train_step": [
        "m = GPT(5, 1, 4, 2, 4, rng); a = Adam(m.parameters); train_step(m, a, [[4, 4]], 0); "
        "g = max(a.means); train_step(m, a, [[4, 4]], 0); max(a.means) / g",
        "m = GPT(5, 1, 4, 2, 4, rng); a = Adam(m.parameters); "
        "[train_step(m, a, [[4, 1], [3, 1, 4]], 0.1) for _ in range(3)]",
    ],
    "sample": [
        "m = GPT(5, 1, 4, 2, 4, rng); t = Tokenizer(['abcd']); "
        "[sample(m, t, temperature, rng) for temperature in (0.1, 1.0) for _ in range(9)]",
    ],
}
# Usual mistakes: a part, what its first case that differs gives then, and a hint.
HINTS = {
    ("Tokenizer.encode", "[3, 2, 0, 1]"): "BOS closes a name, too: it marks where it ends",
    ("Value.__mul__", "[3, 4]"): "these are the other way round: for c = a * b, dc/da is b",
    ("Value.backward", "3"): "x is used twice, and has two paths: add to its grad, with +=",
    ("Value.backward", "32"): "leaves, with no inputs, keep their grads, to add up until cleared",
    ("Value.backward", "96"): "set the grads of all but the leaves to 0 before you start",
    ("rmsnorm", "[Value(0.6), Value(0.8)]"): "this is the sum of the squares: take their mean",
    ("rmsnorm", "[Value(0), Value(1.41421)]"): "add 1e-5 to the mean of the squares: it may be 0",
    ("softmax", "raises OverflowError"): "subtract the largest logit from all before exp",
    ("attention", "[Value(0.0179862)]"): "divide the scores by the square root of the length",
    ("GPT.forward", "True"): "earlier tokens don't count: they should, by their keys and values",
    ("Adam.step", "4.85"): "the running means start at 0, and are too small at first: correct them",
    ("train_step", "2.85"): "the gradients are not cleared: those of all steps so far add up",
}


def functions(tree):
    """Return the functions and methods of a program: its syntax trees by name."""
    found = {}
    for x in tree.body:
        if isinstance(x, ast.FunctionDef):
            found[x.name] = x
        elif isinstance(x, ast.ClassDef):
            found.update({f"{x.name}.{name}": method for name, method in functions(x).items()})
    return found


def load(tree):
    """Run the definitions of a program, and return the module."""
    module = types.ModuleType("microgpt")
    exec(compile(tree, "mine.py", "exec"), vars(module))
    return module


ORIGINAL, MODULE = functions(ast.parse(SOURCE)), load(ast.parse(SOURCE))
KNOWN = {ast.dump(function) for function in ORIGINAL.values()}


def take_out(names):
    """Return microgpt.py without the bodies of some parts, named in the order of the file."""
    lines = SOURCE.split("\n")
    for name in reversed(names):
        function, first = ORIGINAL[name], ORIGINAL[name].body[0]
        start = first.end_lineno if ast.get_docstring(function) else first.lineno - 1
        lines[start : function.end_lineno] = [" " * first.col_offset + BLANK.format(name)]
    return "\n".join(lines)


def chapter(name):
    """Return the number of the chapter that a part is in."""
    lines = SOURCE.split("\n")[: ORIGINAL[name].lineno]
    return re.findall(r"^# %% (\d+)", "\n".join(lines), re.M)[-1]


def write(words, path):
    """Write the program without some parts; ValueError if there is a file already."""
    meanings = {name: {name, name.split(".")[-1], chapter(name)} for name in CASES}
    for word in set(words).difference(*meanings.values()):
        raise ValueError(f"{word!r} is no part or chapter: --list names them all")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(take_out([name for name in CASES if meanings[name] & set(words)]))
    except FileExistsError:
        raise ValueError(f"{path.name} may hold your work: move it away, then ask again") from None
    print(f"{path.name} is microgpt.py with something left for you to write:")
    print(Learner(path).to_write)


class Learner:
    """A learner's program: which parts are still blank, and what differs from microgpt.py."""

    def __init__(self, path):
        text = path.read_text(encoding="utf-8-sig")
        self.lines, self.tree = text.split("\n"), ast.parse(text, path.name)
        self.functions = functions(self.tree)
        ends = {name: x.body[-1] for name, x in self.functions.items()}
        self.blank = [name for name in ends if ast.unparse(ends[name]) == BLANK.format(name)]
        self.to_write = ", ".join(f"{name} (line {ends[name].lineno})" for name in self.blank)
        new = [name for name, x in self.functions.items() if ast.dump(x) not in KNOWN]
        self.own = {name: self.functions[name] for name in new if name not in self.blank}

    def problem(self, error):
        """Say what was raised, and on which line of the learner's own."""
        words = f"raises {type(error).__name__}: {' '.join(str(error)[:200].split())}"
        if isinstance(error, KeyboardInterrupt):
            words = "was stopped: is it endless, or does it walk each path by itself?"
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            own = any(x.lineno <= frame.lineno <= x.end_lineno for x in self.own.values())
            if frame.filename == "mine.py" and (own or frame.name == "<module>"):
                return f"{words}; line {frame.lineno}: {self.lines[frame.lineno - 1].strip()[:99]}"
        return words

    # The stages of a check. Each returns whether all agrees, and what to say under its name.

    def yours(self):
        """Run the definitions. Meanwhile, microgpt.py lends what is blank."""
        lent = functions(ast.increment_lineno(ast.parse(SOURCE), 10_000))  # no lines of mine.py
        for name in self.blank:
            self.functions[name].body = lent[name].body
        self.module = load(self.tree)
        return True, ", ".join(self.own) or "what is written is as in microgpt.py"

    def cases(self):
        """Try small cases of what the learner wrote, with a look at usual mistakes."""
        wrong, num_tried = [], 0
        for part in [name for name in CASES if name in self.own] or CASES:
            ours, theirs = results(MODULE, part), results(self.module, part)
            num_tried += len(ours)
            differing = [case for case in ours if theirs[case] != ours[case]]
            if differing:
                case, told = differing[0], results(self.module, part, self.problem)
                hint = HINTS.get((part, theirs[case])) if part in self.own else None
                words = f"{case}\nwanted  {ours[case]}\nyours   {told[case]}"
                wrong.append((words + f"\nhint    {hint}" if hint else words, hint))
        for words, hint in sorted(wrong, key=lambda x: x[1] is None):  # first those with a hint
            return False, words
        return True, f"{num_tried} of {num_tried} are as in microgpt.py"

    def gradients(self):
        """Nudge a parameter of each matrix: does the loss change as its grad says?"""
        model = self.module.GPT(5, 1, 4, 2, 4, random.Random(7))
        sum(model.losses([4, 0, 1, 3, 2])).backward()
        for name, rows in model.state_dict.items():
            p, losses = rows[3][1], []
            for nudge in (0.001, -0.002, 0.001):
                p.data += nudge
                losses.append(sum(model.losses([4, 0, 1, 3, 2])).data)
            slope = (losses[0] - losses[1]) / 0.002
            if not math.isclose(p.grad, slope, rel_tol=1e-3, abs_tol=1e-6):
                words = f"{p.grad:.5g}, and a nudge of 0.001 says that it should be {slope:.5g}"
                return False, f"the grad of {name}[3][1] is {words}"
        return True, f"{len(model.state_dict)} of {len(model.state_dict)} fit your own formula"

    def losses(self):
        """Compare the losses of twenty steps of the default run."""
        pairs = zip(default_losses(MODULE), default_losses(self.module))
        for i, (ours, theirs) in enumerate(pairs):
            if ours != theirs:
                return False, f"{i} of 20 agree; step {i + 1} should be {ours}, and is {theirs}"
        return True, "20 of 20 agree"


def default_losses(module):
    """Yield the losses of the first twenty steps of the default run, as text."""
    docs, rng = (ROOT / "names.txt").read_text(encoding="utf-8").split(), random.Random(42)
    rng.shuffle(docs)
    tokenizer = module.Tokenizer(docs)
    model = module.GPT(tokenizer.vocab_size, rng=rng)
    optimizer = module.Adam(model.parameters)
    for i, doc in enumerate(docs[:20]):
        rate = 0.01 * (1 - i / 1000)
        yield show(module.train_step(model, optimizer, [tokenizer.encode(doc)], rate))


def show(x):
    """Return a result as text, without the digits in which orders of adding differ."""
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(show, x))}]"
    if hasattr(x, "grad"):
        return f"Value({show(x.data)}, grad={show(x.grad)})".replace(", grad=0)", ")")
    return f"{round(x, 12) + 0.0:.6g}" if isinstance(x, float) else repr(x)


def examples(part):
    """Return the examples in the docstrings of a part, and of its class, as cases."""
    found, thing = [], MODULE
    for name in part.split("."):
        thing, lines = getattr(thing, name), []
        for example in doctest.DocTestParser().get_examples(thing.__doc__ or ""):
            lines.append(example.source.split("  # ")[0].strip())
            found += ["; ".join(lines)] if example.want else []
    return found


def results(module, part, problem=lambda error: f"raises {type(error).__name__}"):
    """Return what each case of a part, and each example in its docstring, gives with a module."""
    found = {}
    for case in CASES[part] + examples(part):
        rng, (before, _, last) = random.Random(case), case.rpartition("; ")
        names = {**vars(module), "rng": rng}
        names["randoms"] = lambda n: [module.Value(rng.gauss(0, 1)) for _ in range(n)]
        try:
            exec(before, names)
            found[case] = show(eval(last, names))
        except (Exception, SystemExit) as error:
            found[case] = problem(error)
    return found


def check(path, seconds=20):
    """Say how far a program agrees with microgpt.py; return the exit status."""
    learner = Learner(path)
    stages = (learner.yours, learner.cases, learner.gradients, learner.losses)
    agrees = not learner.blank
    for stage in stages if learner.own or agrees else stages[:1]:
        timer = threading.Timer(seconds, _thread.interrupt_main)
        timer.start()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # what the learner's program prints
                agreed, words = stage()
        except BaseException as error:
            agreed, words = None, learner.problem(error)
        timer.cancel()
        print(f"{stage.__name__:11s}" + words.replace("\n", "\n" + " " * 11))
        agrees = agrees and agreed
        if agreed is None:
            break
    if learner.blank:
        print(f"to write   {learner.to_write}")
    return 0 if agrees else 1


def main(words, path=Path("mine.py")):
    """Do what the command line says, and return the exit status."""
    try:
        if words == ["--check"]:
            return check(path)
        if words in ([], ["--help"]):
            print(__doc__.strip())
        elif words == ["--list"]:
            print("\n".join(f"{chapter(name)} {name}" for name in CASES))
        else:
            write(words, path)
    except (OSError, SyntaxError, ValueError) as error:
        print("rebuild.py: error:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
