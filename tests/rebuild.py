"""Rebuild a part of microgpt.py yourself, and be told how far you agree.

    python tests/rebuild.py --list
    python tests/rebuild.py softmax      write try.py: the program without the body of softmax()
    python tests/rebuild.py --check      run try.py, and compare it with microgpt.py

A check goes through the examples in the docstrings, small cases, gradients (a nudge of 0.001 must
say the same), the first twenty steps of the default run, and the speed. Where the results are
exactly those of a usual mistake, or an error tells it, it says which. The exit status is 0 if
everything agrees, 1 if something differs or is still to be written, and 2 for a mistake on the
command line.
"""

import argparse
import ast
import difflib
import doctest
import faulthandler
import functools
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tokenize
import traceback
import types
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.parts import CASES, ERRORS, MISTAKES, PARTS, WORDS  # noqa: E402

PROGRAM = ROOT / "microgpt.py"
SOURCE = PROGRAM.read_text(encoding="utf-8")
LESSON = SOURCE.split("# %% The algorithm ends here")[0]
TAKEN = "# Taken out, to be written by you: "
PATIENCE = 10  # seconds for an example, a case or a step: those of microgpt.py take far less


# Taking out


lines_of = functools.lru_cache(maxsize=9)(lambda source: source.split("\n"))
tree = functools.lru_cache(maxsize=9)(ast.parse)


@functools.lru_cache(maxsize=9)
def functions(source):
    """Return the functions and methods of a program: its syntax trees by name."""
    found = {}
    for node in tree(source).body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.FunctionDef):
                found[part.name if part is node else f"{node.name}.{part.name}"] = part
    return found


def body(function):
    """Return the statements of a function, without its docstring."""
    return function.body[ast.get_docstring(function) is not None :]


@functools.lru_cache(maxsize=1000)
def shape(function):
    """Return the arguments, with decorators, and the statements of a function, without layout."""
    how = [function.args, *function.decorator_list]
    return [[*map(ast.dump, how)], [*map(ast.dump, body(function))]]


def text(source, function):
    """Return the lines of a function in a program."""
    return lines_of(source)[function.lineno - 1 : function.end_lineno]


def placeholder(name):
    """Return what stands in the place of a body, as two lines without their indent."""
    return [f"# {PARTS[name]}", f'raise NotImplementedError("{name} is still to be written")']


def is_blank(name, function):
    """Return whether a function is as take_out() leaves it."""
    statements = body(function)
    if len(statements) != 1 or not isinstance(statements[0], ast.Raise):
        return False
    return ast.dump(statements[0]) == ast.dump(ast.parse(placeholder(name)[1]).body[0])


def take_out(names):
    """Return microgpt.py without the bodies of some parts; what they are to do stands there."""
    lines, found = SOURCE.rstrip("\n").split("\n"), functions(SOURCE)
    for name in sorted(names, key=lambda name: -found[name].lineno):  # from the last to the first
        first, statements = found[name].body[0], body(found[name])
        start = statements[0].lineno - 1 if first is statements[0] else first.end_lineno
        indent = " " * statements[0].col_offset
        lines[start : found[name].end_lineno] = [indent + line for line in placeholder(name)]
    return "\n".join([*lines, "", TAKEN + ", ".join(names), ""])


def chapters():
    """Return the parts of each chapter, by its title."""
    found, lines = functions(SOURCE), LESSON.split("\n")
    starts = [i for i, line in enumerate(lines) if re.match(r"# %% \d", line)]
    return {
        lines[start][5:]: [name for name in PARTS if start < found[name].lineno < end]
        for start, end in zip(starts, [*starts[1:], len(lines)])
    }


def parts_of(word):
    """Return the parts that a word on the command line means; ValueError if it means none."""
    for title, names in chapters().items():
        if word == title[0]:
            return names
    short = {name: name.split(".")[-1] for name in PARTS}
    found = [name for name in PARTS if word in (name, short[name])]
    if not found:
        close = difflib.get_close_matches(word, [*short, *short.values()], 1)
        hint = f"did you mean {close[0]}?" if close else "--list names all"
        raise ValueError(f"there is no part {word!r}: {hint}")
    return found


def read(path):
    """Return the text of a Python file; SyntaxError or ValueError if it isn't one."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}: PART writes one, --list names the parts")
    with tokenize.open(path) as file:
        return file.read()


def write(names, path):
    """Write the program without some parts to a file; ValueError if it holds a learner's work."""
    names = [name for name in PARTS if name in names]
    if path.is_file():
        with suppress(SyntaxError, ValueError):
            before = read(path)
            taken = before.rpartition(TAKEN)[2].strip().split(", ")
            if PARTS.keys() >= {*taken} and before == take_out(taken):
                path.unlink()  # nothing has been written into it
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(take_out(names))
    except FileExistsError:
        holds = "holds your work" if path.is_file() else "is not a file"
        raise ValueError(f"{path} {holds}: move it away first, then ask again") from None
    there = functions(take_out(names))
    places = [f"{name} (line {body(there[name])[0].lineno})" for name in names]
    print(f"{path} is microgpt.py with something left for you to write:")
    print(", ".join(places))


# A program, and what it gives


class Program:
    """A program's text, and how its parts differ from those of microgpt.py."""

    def __init__(self, source, path):
        self.source, self.path, self.functions = source, str(path), functions(source)
        here, original = self.functions, functions(SOURCE)
        taken = source.rpartition(TAKEN)[2].split("\n")[0].split(", ")
        differ = [
            name
            for name, function in original.items()
            if name in here
            and text(source, here[name]) != text(SOURCE, function)  # saves time
            and shape(here[name]) != shape(function)
        ]
        self.missing = [name for name in PARTS if name not in here]
        self.blank = [name for name in PARTS if name in here and is_blank(name, here[name])]
        self.own = [name for name in PARTS if name in (*taken, *differ) and name not in self.blank]
        self.others = [name for name in differ if name not in PARTS]
        self.new = [name for name in here if name not in original]

    def is_own(self, line):
        """Return whether a line is in a function that the learner has written."""
        own = [self.functions[name] for name in (*self.own, *self.others, *self.new)]
        return any(function.lineno <= line <= function.end_lineno for function in own)


def load(source, path):
    """Run the definitions of a program, and return the module."""
    module = types.ModuleType(f"loaded {Path(path).stem}")  # doctest looks for namesakes
    module.__file__ = str(path)
    exec(compile(tree(source), str(path), "exec"), vars(module))
    return module


@functools.lru_cache(maxsize=None)
def original():
    """Return microgpt.py as a module."""
    return load(SOURCE, PROGRAM)


def lend(module, names):
    """Give a module the bodies of microgpt.py for the parts that are still to be written."""
    for name in names:
        *owner, last = name.split(".")
        target, source = (getattr(x, owner[0]) if owner else x for x in (module, original()))
        there = getattr(source, last)
        copy = types.FunctionType(there.__code__, vars(module), last, there.__defaults__)
        setattr(target, last, copy)


class Problem:
    """An error that a program raised, and the line that it came from: the learner's, if any."""

    def __init__(self, error, learner=None):
        self.kind, self.place = type(error).__name__, ""
        self.words = " ".join(str(error)[:200].split())
        frames = traceback.extract_tb(error.__traceback__) if learner else ()
        frames = [frame for frame in frames if frame.filename == learner.path]
        own = [frame for frame in frames if learner.is_own(frame.lineno)]
        for frame in (own or frames)[-1:]:  # the innermost
            where = f"line {frame.lineno}" if own else f"line {frame.lineno}, which isn't yours"
            self.place = f"; {where}: {frame.line}"

    def __str__(self):
        return f"{self.kind}{self.words and ': '}{self.words}{self.place}"


class Share(float):
    """How often something came out of 1000 draws, which depends a little on how one draws."""


class Result:
    """What a call gave: its single items by their place in it, such as [0][2]; or a Problem."""

    def __init__(self, value):
        self.value, self.leaves = value, dict(self.find_leaves(value, ""))
        self.problem = value if isinstance(value, Problem) else None

    def find_leaves(self, value, place):
        """Yield the items of nested lists, each with its place."""
        if isinstance(value, (list, tuple)) and value:
            for i, item in enumerate(value):
                yield from self.find_leaves(item, f"{place}[{i}]")
        else:
            yield place, value

    def __str__(self):
        words = show(self.value)
        return words if len(words) < 70 else words[:66] + " ..."


def agree(a, b):
    """Return whether two items are the same, but for rounding; b is the one that is wanted."""
    if isinstance(b, Problem):
        return isinstance(a, Problem) and a.kind == b.kind
    if hasattr(b, "data"):
        return hasattr(a, "data") and agree(a.data, b.data)
    if isinstance(b, float) and isinstance(a, (int, float)):
        margin = 0.07 if type(b) is Share else 1e-12
        return (a != a and b != b) or math.isclose(a, b, rel_tol=1e-6, abs_tol=margin)
    return type(a) is type(b) and a == b


def show(value, other=None):
    """Return a result as text, with as many digits as tell it from another."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, types.GeneratorType):
        return "a generator"
    if isinstance(value, Problem):
        return value.kind
    if hasattr(value, "data"):
        return f"Value({show(value.data, getattr(other, 'data', None))})"
    if isinstance(value, float):
        other = other if isinstance(other, float) else math.inf
        digits = next((n for n in (5, 8, 11) if f"{value:.{n}g}" != f"{other:.{n}g}"), 17)
        words = f"{value:.{digits}g}"
        return words if re.search("[^-0-9]", words) else words + ".0"
    return repr(value)[:200]


def difference(case, theirs, ours):
    """Return how a result differs from that of microgpt.py, as a sentence; "" if it doesn't."""
    if theirs.problem or ours.problem:
        if theirs.problem and ours.problem and agree(theirs.problem, ours.problem):
            return ""
        wanted = f"should {'raise' if ours.problem else 'be'} {ours}"
        given = f"raises {theirs.problem}" if theirs.problem else f"is {theirs}"
        return f"{case} {wanted}, and {given}"
    if theirs.leaves.keys() != ours.leaves.keys():
        question = ": is there a return?" if theirs.value is None else ""
        return f"{case} should be {ours}, and is {theirs}{question}"
    for place, b in ours.leaves.items():
        a = theirs.leaves[place]
        if not agree(a, b):
            return f"{case}{place} should be {show(b, a)}, and is {show(a, b)}"
    return ""


# The small cases, and usual mistakes


def helpers(module):
    """Return what the cases call besides the names of a module; WORDS explains it."""

    def vector(*numbers):
        return [module.Value(float(x)) for x in numbers]

    def vectors(*texts):
        return [vector(*text) for text in texts]

    def grads(function, *numbers, calls=1):
        xs = vector(*numbers)
        y = function(*xs)
        for _ in range(calls):
            y.backward()
        return [x.grad for x in xs]

    def grad_between(first, second, number):
        middle = first(module.Value(number))
        second(middle).backward()
        return middle.grad

    def order_of(function):
        y = function(module.Value(1.0))
        given, wanted = y.topological_order(), {y.serial: y}
        if not isinstance(given, list):
            return "no list"
        for user in (queue := [y]):
            for x in (x for inputs, _ in user.sources for x in inputs if x.sources):
                queue += [] if x.serial in wanted else [wanted.setdefault(x.serial, x)]
        places = {node.serial: i for i, node in enumerate(given)}
        if any(not node.sources for node in given):
            return "with leaves"
        if sorted(node.serial for node in given) != sorted(wanted):
            return "not every node once"
        inputs = ((u, x.serial) for u, node in wanted.items() for xs, _ in node.sources for x in xs)
        pairs = [(places[u], places[x]) for u, x in inputs if x in wanted]
        return "users first" if all(u < x for u, x in pairs) else "an input before its user"

    def model(n_layer=1, block_size=4, size=1):
        made = module.GPT(5, n_layer, 4, 2, block_size, random.Random(7))
        for p in made.parameters:
            p.data *= size
        return made

    def fixed(loss):
        how = {"loss": lambda _: module.Value(loss), "losses": lambda _: [module.Value(loss)]}
        return types.SimpleNamespace(parameters=[], **how)

    def logits(made, tokens):
        cache = made.new_cache()
        return [made.forward(token, cache) for token in tokens]

    def grads_of_parameters(made, tokens):
        made.loss(tokens).backward()
        return [p.grad for p in made.parameters]

    def after_steps(optimizer, learning_rates, gradients, **how):
        parameters = vector(1, 1)
        adam = optimizer(parameters, **how)
        for learning_rate, gradient in zip(learning_rates, gradients):
            parameters[0].grad, parameters[1].grad = gradient, -gradient / 1000
            adam.step(learning_rate)
        return [p.data for p in parameters], adam

    def memory_after_steps(*given):
        adam = after_steps(*given)[1]
        return [adam.means, adam.squares, adam.steps_done, [p.grad for p in adam.parameters]]

    def parameters_after_steps(*given, **how):
        return after_steps(*given, **how)[0]

    def losses_of(train, made, batch):
        for p in made.parameters:
            p.grad = 1.0  # left by somebody
        rates = module.linear_decay(0.05, 3)
        return list(train(made, module.Adam(made.parameters), cycle([batch]), rates))

    def batches_taken(train, made):
        batches, rates = count(), module.linear_decay(0.05, 3)
        optimizer = module.Adam(made.parameters)
        given = list(train(made, optimizer, ([[4, 0, 1]] for _ in batches), rates))
        return next(batches), len(given)

    def steps_until_the_first_loss_of(train, made):
        optimizer = module.Adam(made.parameters)
        with suppress(FloatingPointError):
            next(iter(train(made, optimizer, cycle([[[4, 0, 1]]]), module.linear_decay(0.05, 3))))
        return optimizer.steps_done

    def shares(draw, scores, **how):
        rng = random.Random(1)
        drawn = [draw(scores, rng=rng, **how) for _ in range(1000)]
        return [Share(drawn.count(i) / len(drawn)) for i in range(len(scores))]

    def same_twice(function, *given):
        first, second = (
            [function(*given, rng=rng) for _ in range(9)] for rng in map(random.Random, (1, 1))
        )
        return first == second

    def is_left_alone(function, given):
        before = [*given]
        function(given)
        return before == given

    return {**vars(module), **locals()}


def results(module, part, learner=None):
    """Return what the cases of a part give with a module, in groups: a Result by case."""
    names, groups = helpers(module), []
    for group in re.split(r"\n\s*\n", CASES[part].strip()):
        groups.append({})
        for case in map(str.strip, group.split("\n")):
            wait()
            try:
                groups[-1][case] = Result(eval(case, names))
            except MemoryError:
                raise  # the others would only repeat it
            except BaseException as error:
                groups[-1][case] = Result(Problem(error, learner))
    return groups


@functools.lru_cache(maxsize=None)
def reference(part, *edits):
    """Return what the cases of a part give with microgpt.py, or with edits to it: old, new, ..."""
    lesson = LESSON
    for old, new in zip(edits[::2], edits[1::2]):
        lesson = lesson.replace(old, new)
    return results(load(lesson, PROGRAM) if edits else original(), part)


UNDEFINED = {"ValueError", "ZeroDivisionError"}  # what 1 / 0, 0 ** -1 and log(0) raise


def same(theirs, others, is_strict=True):
    """Return whether two groups of results are the same; strictly, errors have the same words.

    If not, they may differ, as how 1 / 0 fails depends on its form.
    """
    for a, b in zip(theirs.values(), others.values()):
        if a.problem and b.problem:
            kinds = {a.problem.kind, b.problem.kind}
            if is_strict and (len(kinds) > 1 or a.problem.words != b.problem.words):
                return False
            if len(kinds) > 1 and kinds != UNDEFINED:
                return False
        elif a.leaves.keys() != b.leaves.keys():
            return False
        elif not all(agree(a.leaves[place], b.leaves[place]) for place in b.leaves):
            return False
    return True


def hint(part, groups):
    """Return the mistake with which microgpt.py gives the same, or what an error means; or ""."""
    fails_always = all(result.problem for group in groups for result in group.values())
    pairs = [*zip(groups, reference(part))]
    is_right = [not any(map(difference, a, a.values(), b.values())) for a, b in pairs]
    first = is_right.index(False)
    for *edits, words in MISTAKES[part]:
        others = reference(part, *edits)
        if same(groups[first], others[first], fails_always) and all(
            same(pairs[i][1], others[i], is_strict=False) for i in range(len(pairs)) if is_right[i]
        ):  # what is right, this mistake leaves right
            return words
    cases = [(*item, b[item[0]]) for a, b in pairs for item in a.items()]
    cases = [(case, theirs) for case, theirs, ours in cases if difference(case, theirs, ours)]
    for problem in (theirs.problem for _, theirs in cases if theirs.problem):
        for form, words in ERRORS:
            if re.match(form, f"{problem.kind}: {problem.words}"):
                return words
    if all(case.startswith("grads(") and not any(x.leaves.values()) for case, x in cases):
        return "no gradient gets through: is it a Value made of a plain number, without sources?"
    return ""


# The check


class Checker(doctest.OutputChecker):
    """Compares numbers as agree() does: another order of adding changes the last digits."""

    NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")

    def check_output(self, want, got, optionflags):
        figures = [list(map(float, self.NUMBER.findall(text))) for text in (want, got)]
        texts = [self.NUMBER.sub("", text) for text in (want, got)]
        return texts[0] == texts[1] and all(map(agree, figures[1], figures[0]))


class Examples(doctest.DocTestRunner):
    """Runs examples, and keeps a sentence on the first that fails."""

    def __init__(self, learner):
        super().__init__(Checker(), verbose=False)
        self.learner, self.first, self.num_tried, self.has_raised = learner, "", 0, False

    def report_start(self, out, test, example):
        wait(2)
        self.num_tried += bool(example.want)

    def report_failure(self, out, test, example, got):
        given, wanted = (" ".join(text[:200].split()) or "nothing" for text in (got, example.want))
        words = f"{self.call(example)} should give {wanted}, and gives {given}"
        self.first = self.first or words

    def report_unexpected_exception(self, out, test, example, exc_info):
        problem = Problem(exc_info[1], self.learner)
        self.first = self.first or f"{self.call(example)} raises {problem}"
        self.has_raised = True

    def call(self, example):
        """Return what is called, without a comment."""
        return re.sub(r"\s+#.*", "", example.source.strip())


class Printed:
    """Shows the first lines of what the learner's program prints, and drops the others."""

    def __init__(self):
        self.count, self.out = 0, sys.stdout  # not that of an example

    def __call__(self, *things, sep=" ", **others):
        self.count += 1
        words = (" " if sep is None else sep).join(map(str, things)) if self.count < 6 else "..."
        if self.count <= 6:
            print(f"{'printed':11s}{words}", file=self.out, flush=True)


class Watch:
    """How long to wait before ending the process, and the file to write to where it was."""

    patience, file = PATIENCE, sys.__stderr__


def wait(times=1):
    """Give the next example, case or step its time."""
    faulthandler.dump_traceback_later(times * Watch.patience, exit=True, file=Watch.file)


def say(stage, words):
    """Print a line of the report."""
    print(f"{stage:11s}{words}", flush=True)


class Check:
    """The stages of a check: each says what it finds, and returns whether all agrees."""

    def __init__(self, learner):
        self.learner, self.has_raised = learner, False
        wait()
        self.module = load(learner.source, learner.path)
        self.module.print = Printed()  # what the learner prints isn't part of the results
        lend(self.module, learner.blank)

    def examples(self):
        """Try the examples in the docstrings of microgpt.py: those of what the learner wrote."""
        names = [name for part in self.learner.own for name in (part, part.split(".")[0])]
        runner = Examples(self.learner)
        for test in doctest.DocTestFinder().find(original(), "", globs=vars(self.module)):
            if test.name.lstrip(".") in names or not names:
                runner.run(test, out=str, clear_globs=False)
        self.has_raised = runner.has_raised
        if runner.first or runner.num_tried:
            n = runner.num_tried
            say("examples", runner.first or f"{n} of {n} give what they show")
        return not runner.first

    def cases(self):
        """Try small cases: first those of what the learner wrote, with a look at usual mistakes."""
        own, wrong, num_tried = self.learner.own or [*PARTS], [], 0
        for part in sorted(PARTS, key=lambda part: part not in own):
            if wrong and part not in own:
                break  # it may only be wrong because another part is
            groups = results(self.module, part, self.learner)
            num_tried += sum(map(len, groups)) if part in own else 0
            for theirs, ours in zip(groups, reference(part)):
                for case in ours:
                    words = difference(case, theirs[case], ours[case])
                    wrong += [(part, groups, case, theirs[case], words)] if words else []
        if not wrong:
            say("cases", f"{num_tried} of {num_tried} are as in microgpt.py")
            return True
        groups_of = {part: groups for part, groups, *_ in wrong}
        hints = {part: hint(part, groups_of[part]) if part in own else "" for part in groups_of}
        part, _, case, result, words = next((x for x in wrong if hints[x[0]]), wrong[0])
        if not (self.has_raised and result.problem):  # it was in an example, too
            say("cases", words)
            used = [WORDS[name] for name in WORDS if f"{name}(" in case]
            if used:
                say("where", "; ".join(used))
        if hints[part]:
            say("hint", hints[part])
        self.has_raised |= bool(result.problem)
        return False

    def gradients(self):
        """Nudge two parameters of each matrix by 0.001: does the loss change as their grads say?"""
        tokens, models = [26, 4, 12, 12, 0, 26], []
        for module in (original(), self.module):
            models.append(module.GPT(27, n_embd=8, n_head=2, rng=random.Random(42)))
            wait()
            models[-1].loss(tokens).backward()
        num_tried = 0
        for name, rows in models[0].state_dict.items():
            places = [(i, j) for i in range(len(rows)) for j in range(len(rows[i]))]
            for i, j in sorted(places, key=lambda place: -abs(rows[place[0]][place[1]].grad))[:2]:
                p, losses = models[1].state_dict[name][i][j], []
                for nudge in (0.001, -0.002, 0.001):
                    wait()
                    p.data += nudge
                    losses.append(models[1].loss(tokens).data)
                slope = (losses[0] - losses[1]) / 0.002
                if not isinstance(p.grad, (int, float)):
                    say("gradients", f"grad of {name}[{i}][{j}] should be a plain number")
                    return False
                if not math.isclose(p.grad, slope, rel_tol=1e-3, abs_tol=1e-5):
                    wanted = f"a nudge of 0.001 says that it should be {slope:.5f}"
                    say("gradients", f"grad of {name}[{i}][{j}] is {p.grad:.5f}, and {wanted}")
                    return False
                num_tried += 1
        say("gradients", f"{num_tried} of {num_tried} fit what yours computes, by a nudge of 0.001")
        return True

    def losses(self):
        """Compare twenty steps of the default run, losses on held-out names, and new names."""
        ours, theirs = self.runs = [Run(module) for module in (original(), self.module)]
        for step in range(1, 21):
            wait()
            given, wanted = (Result(next(run.losses, None)) for run in (theirs, ours))
            words = difference(f"step {step}", given, wanted)
            if words:
                say("losses", f"{step - 1} of 20 agree; {words}")
                return False
        for doc in ours.docs[-5:]:
            wait()
            given, wanted = (Result(run.held_out_loss(doc)) for run in (theirs, ours))
            words = words or difference(f"the loss on {doc}, which is held out,", given, wanted)
        for i in range(0 if "draw" in self.learner.own else 5):  # which may use rng in its own way
            wait()
            given, wanted = (Result(run.name()) for run in (theirs, ours))
            words = words or difference(f"new name {i + 1}", given, wanted)
        say("losses", f"20 of 20 agree; {words}" if words else
            "20 steps of the default run, five held-out names and five new ones agree")  # fmt: skip
        return not words

    def speed(self):
        """Compare the time of ten more steps, taken in turn, and the number of nodes."""
        ratios = []
        for _ in range(10):
            wait()
            times = [time.perf_counter()]
            for run in self.runs:
                next(run.losses)
                times.append(time.perf_counter())
            ratios.append((times[2] - times[1]) / (times[1] - times[0]))
        ratio, (ours, theirs) = statistics.median(ratios), (run.num_nodes() for run in self.runs)
        words = f"a step takes {ratio:.1f} times as long as in microgpt.py"
        if theirs > 1.05 * ours:
            words += f": its graph has {theirs / ours:.1f} times as many nodes"
        say("speed", words)
        return True


class Run:
    """The default run of a module: its losses, step by step."""

    def __init__(self, module):
        self.module, self.rng = module, random.Random(42)
        self.docs = module.split_docs((ROOT / "names.txt").read_text(encoding="utf-8"))
        self.rng.shuffle(self.docs)
        self.tokenizer = module.Tokenizer(self.docs)
        self.model = module.GPT(self.tokenizer.vocab_size, rng=self.rng)
        batches = ([self.tokenizer.encode(doc)] for doc in self.docs)
        optimizer, rates = module.Adam(self.model.parameters), module.linear_decay(0.01, 1000)
        self.losses = iter(module.train(self.model, optimizer, batches, rates))

    def held_out_loss(self, doc):
        """Return the loss on a document."""
        return self.module.evaluate(self.model, [self.tokenizer.encode(doc)])

    def name(self):
        """Return a name that the model writes."""
        bos, size = self.tokenizer.bos, self.model.block_size
        tokens = self.module.sample(self.model, [bos], size, stop=bos, rng=self.rng)
        return self.tokenizer.decode(tokens)

    def num_nodes(self):
        """Return how many nodes the graph of a document's loss has."""
        loss = self.model.loss(self.tokenizer.encode(self.docs[0]))
        return len(original().Value.topological_order(loss))


def compare(path):
    """Say stage by stage how far a program agrees with microgpt.py; return whether all does."""
    learner = Program(read(path), path)
    others = f" (also changed: {', '.join(learner.others)})" if learner.others else ""
    say("yours", (", ".join(learner.own) or "no part differs") + others)
    stages = ["examples", "cases", "gradients", "losses", "speed"]
    if learner.own and not {*learner.own} & {*parts_of("2"), *parts_of("3")}:
        stages.remove("gradients")  # the parts of other chapters have none
    all_agrees, stage = True, "loading"
    try:
        check = Check(learner)
        for stage in stages:
            if stage not in ("examples", "cases") and check.has_raised:
                say("skipped", "the rest: mend the error first")
                break
            if stage != "speed" or all_agrees:
                all_agrees &= getattr(check, stage)()
    except BaseException as error:
        say(stage, f"raises {Problem(error, learner)}")
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    return all_agrees


AGREES, DIFFERS = 100, 101  # exit statuses that a learner's program won't give by chance
CHILD = "import sys; sys.path[0] = sys.argv[1]; from tests import rebuild; rebuild.work(*sys.argv)"


def work(_, folder, path, patience, report):
    """Compare a program in this process, which ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.reconfigure(errors="backslashreplace")
    with suppress(ImportError, OSError, ValueError):  # what fills the memory must end, too
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    Watch.patience, Watch.file = float(patience), open(report, "w", encoding="utf-8")
    agrees = compare(Path(path))
    sys.stderr.flush()
    os._exit(AGREES if agrees else DIFFERS)  # whatever else the program has started


def check(path, patience=PATIENCE):
    """Check a program in a process of its own; return the exit status."""
    try:
        learner = Program(read(path), path)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if not path.is_file():
            raise
        line = getattr(error, "lineno", None)
        place = f"; line {line}: {(error.text or '').strip()[:200]}" if line else ""
        words = getattr(error, "reason", None) or (error.args or [type(error).__name__])[0]
        say("syntax", f"{words}{place}")
        return 1
    if learner.missing:
        say("missing", f"{', '.join(learner.missing)}: bring back the line with def and the name")
        return 1
    status = DIFFERS
    lines = {name: body(learner.functions[name])[0].lineno for name in learner.blank}
    if learner.own or learner.others or not lines:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report"
            words = map(str, (ROOT, path, patience, report))
            command = [sys.executable, "-c", CHILD, *words]
            status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
            words = report.read_text(encoding="utf-8") if report.exists() else ""
        if words:
            frames = re.findall(r'File "(.+)", line (\d+) in', words)
            here = str(path).encode("ascii", "backslashreplace").decode()
            places = [int(line) for file, line in frames if file == here]
            own = [line for line in places if learner.is_own(line)] or places
            line = learner.source.split("\n")[own[0] - 1].strip() if own else ""
            place = f"; line {own[0]}: {line}" if own else ""
            question = "endless, or only slower?"
            say("stopped", f"not finished after {patience:g} seconds: {question}{place}")
        elif status not in (AGREES, DIFFERS):
            say("stopped", f"the program has ended Python, with status {status}")
    if lines:
        say("to write", ", ".join(f"{name} (line {lines[name]})" for name in lines))
    return 0 if status == AGREES and not lines else 1


def main():
    """Do what the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(
        "rebuild.py", "rebuild.py --list | PART ... | --check [FILE]", allow_abbrev=False
    )
    parser.description = "Rebuild a part of microgpt.py yourself, and be told how far you agree."
    parser.add_argument("parts", nargs="*", metavar="PART", help="a part, or a chapter from 1 to 5")
    parser.add_argument("--list", action="store_true", help="name all parts")
    parser.add_argument("--check", nargs="?", const="try.py", metavar="FILE", help="check try.py")
    parser.error = lambda words: parser.exit(2, f"rebuild.py: error: {words}\n")
    given = parser.parse_args()
    if [bool(given.parts), given.list, given.check is not None].count(True) != 1:
        parser.error("give a part to write, or --check, or --list, which names all parts")
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if given.check is not None:
            return check(Path(given.check))
        if given.list:
            for title, names in chapters().items():
                print(title, *(f"   {name:24s} {PARTS[name]}" for name in names), sep="\n")
        else:
            write([name for word in given.parts for name in parts_of(word)], Path("try.py"))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        with suppress(OSError):
            sys.stdout.close()  # what a closed pipe hasn't taken must not be tried again
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
