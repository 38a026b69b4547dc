"""Rebuild a part of microgpt.py yourself, and be told how far you agree.

    python tests/rebuild.py --list
    python tests/rebuild.py softmax      write try.py: the program without the body of softmax()
    python tests/rebuild.py --check      run try.py, and compare it with microgpt.py

A check goes through the examples in the docstrings, small cases, gradients (a nudge of 0.001 must
say the same), the first twenty steps of the default run, and the speed. Where the figures are
exactly those of a usual mistake, it says which. The exit status is 0 if everything agrees, 1 if
something differs or is still to be written, and 2 for a mistake on the command line.
"""

import argparse
import ast
import difflib
import doctest
import faulthandler
import functools
import math
import random
import re
import subprocess
import sys
import time
import traceback
import types
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parts import CASES, MISTAKES, PARTS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "microgpt.py"
SOURCE = PROGRAM.read_text(encoding="utf-8")
LESSON = SOURCE.split("# %% The algorithm ends here")[0]
PATIENCE = 10  # seconds for an example, a case or a step: those of microgpt.py take far less
NUM_STEPS = 20


# Taking out


def functions(source):
    """Return the functions and methods of a program: its syntax trees by name."""
    found = {}
    for node in ast.parse(source).body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.FunctionDef):
                found[part.name if part is node else f"{node.name}.{part.name}"] = part
    return found


def body(function):
    """Return the statements of a function, without its docstring."""
    return function.body[ast.get_docstring(function) is not None :]


def shape(function):
    """Return the statements of a function as text that doesn't depend on its layout."""
    return [ast.dump(statement) for statement in body(function)]


def placeholder(name):
    """Return what stands in the place of a body, as two lines without their indent."""
    return [f"# {PARTS[name]}", f'raise NotImplementedError("{name} is still to be written")']


def is_blank(name, function):
    """Return whether a function is as take_out() leaves it."""
    return shape(function) == [ast.dump(ast.parse(placeholder(name)[1]).body[0])]


def take_out(names):
    """Return microgpt.py without the bodies of some parts; what they are to do stands there."""
    lines, found = SOURCE.split("\n"), functions(SOURCE)
    for name in sorted(names, key=lambda name: -found[name].lineno):  # from the last to the first
        statements = body(found[name])
        is_documented = statements is not found[name].body and len(statements) < len(found[name].body)
        start = found[name].body[0].end_lineno if is_documented else statements[0].lineno - 1
        indent = " " * statements[0].col_offset
        lines[start : found[name].end_lineno] = [indent + line for line in placeholder(name)]
    return "\n".join(lines)


def chapters():
    """Return the parts of each chapter, by its title."""
    found, lines = functions(SOURCE), {}
    for i, line in enumerate(LESSON.split("\n"), 1):
        if re.match(r"# %% \d", line):
            lines[line[5:]] = i
    starts = [*lines.values(), len(SOURCE)]
    return {
        title: [name for name in PARTS if start < found[name].lineno < end]
        for title, start, end in zip(lines, starts, starts[1:])
    }


def parts_of(word):
    """Return the parts that a word on the command line means; ValueError if it means none."""
    for title, names in chapters().items():
        if word == title[0]:
            return names
    found = [name for name in PARTS if word in (name, name.split(".")[-1])]
    if not found:
        close = difflib.get_close_matches(word, [*PARTS, *(name.split(".")[-1] for name in PARTS)], 1)
        hint = f"did you mean {close[0]}?" if close else "--list names all"
        raise ValueError(f"there is no part {word!r}: {hint}")
    return found


def write(names, path):
    """Write the program without some parts to a file, unless it holds something of the learner's."""
    names = [name for name in PARTS if name in names]
    with suppress(FileNotFoundError):
        before = path.read_text(encoding="utf-8")
        with suppress(SyntaxError):
            there = functions(before)
            blank = [name for name in PARTS if name in there and is_blank(name, there[name])]
            if before == take_out(blank):
                path.unlink()  # nothing has been written into it
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(take_out(names))
    except FileExistsError:
        raise ValueError(f"{path} holds your work: move it away first, then ask again") from None
    there = functions(take_out(names))
    places = [f"{name} (line {body(there[name])[0].lineno})" for name in names]
    print(f"{path} is microgpt.py with something left for you to write:")
    print(", ".join(places))


# Checking


class Problem:
    """An error that a program raised, and the learner's line that it came from."""

    def __init__(self, error, learner):
        self.kind, self.words, self.place = type(error).__name__, str(error), ""
        frames = traceback.extract_tb(error.__traceback__) if learner else ()
        frames = [frame for frame in frames if frame.filename == learner.path]
        for frame in [frame for frame in frames if learner.is_own(frame.lineno)] or frames:
            self.place = f"; line {frame.lineno}: {frame.line}"  # the innermost

    def __str__(self):
        return f"{self.kind}{self.words and ': '}{self.words}{self.place}"


class Share(float):
    """How often something came out of 1000 draws, which depends a little on how one draws."""


class Program:
    """A program, loaded as a module, with those of its parts that differ from microgpt.py."""

    def __init__(self, source, path):
        self.path, self.functions, original = str(path), functions(source), functions(SOURCE)
        self.missing = [name for name in PARTS if name not in self.functions]
        there = {name: self.functions[name] for name in PARTS if name in self.functions}
        self.blank = [name for name in there if is_blank(name, there[name])]
        self.own = [
            name
            for name in there
            if name not in self.blank and shape(there[name]) != shape(original[name])
        ]
        self.source = source

    def is_own(self, line):
        """Return whether a line is in a part that the learner has written."""
        parts = [self.functions[name] for name in self.own]
        return any(part.lineno <= line <= part.end_lineno for part in parts)

    def load(self):
        """Run the definitions, and return the module."""
        module = types.ModuleType(Path(self.path).stem)
        module.__file__ = self.path
        exec(compile(self.source, self.path, "exec"), vars(module))
        return module


@functools.lru_cache(maxsize=None)
def original():
    """Return microgpt.py as a module."""
    return Program(SOURCE, PROGRAM).load()


def fill_in(module, names):
    """Give a module the bodies of microgpt.py for the parts that are still to be written."""
    for name in names:
        *owner, last = name.split(".")
        target, source = (getattr(x, owner[0]) if owner else x for x in (module, original()))
        there = getattr(source, last)
        copy = types.FunctionType(there.__code__, vars(module), last, there.__defaults__)
        setattr(target, last, copy)


def helpers(module):
    """Return what the cases call besides the names of a module."""

    def vector(*numbers):
        return [module.Value(float(x)) for x in numbers]

    def slopes(function, *numbers):
        xs = vector(*numbers)
        function(*xs).backward()
        return [x.grad for x in xs]

    def slopes_of_two_calls(function, *numbers):
        xs = vector(*numbers)
        y = function(*xs)
        y.backward()
        y.backward()
        return [x.grad for x in xs]

    def users_come_first(function):
        y = function(module.Value(1.0))
        order = y.topological_order()
        nodes, wanted = [id(node) for node in order], {id(y): y}
        queue = [y]
        for user in queue:
            for x in (x for inputs, _ in user.sources for x in inputs if x.sources):
                wanted[id(x)] = x
                queue.append(x)
                if nodes.index(id(user)) > nodes.index(id(x)):
                    return False
        return sorted(nodes) == sorted(wanted)

    def model(n_layer=1, block_size=4, size=1):
        made = module.GPT(5, n_layer, 4, 2, block_size, random.Random(7))
        for p in made.parameters:
            p.data *= size
        return made

    def logits(made, tokens):
        cache = made.new_cache()
        return [made.forward(token, cache) for token in tokens]

    def slopes_of_parameters(made, tokens):
        made.loss(tokens).backward()
        return [p.grad for p in made.parameters]

    def after_steps(optimizer, learning_rates, gradients):
        parameters = vector(1, 1)
        adam = optimizer(parameters)
        for learning_rate, gradient in zip(learning_rates, gradients):
            parameters[0].grad, parameters[1].grad = gradient, -gradient / 1000
            adam.step(learning_rate)
        return [p.data for p in parameters]

    def losses_of(train, made, batch):
        rates = module.linear_decay(0.05, 3)
        return list(train(made, module.Adam(made.parameters), cycle([batch]), rates))

    def steps_done_after_the_first_loss_of(train, made):
        optimizer = module.Adam(made.parameters)
        next(iter(train(made, optimizer, cycle([[[4, 0, 1]]]), module.linear_decay(0.05, 3))))
        return optimizer.steps_done

    def shares(draw, scores, **how):
        rng = random.Random(1)
        drawn = [draw(scores, rng=rng, **how) for _ in range(1000)]
        return [Share(drawn.count(i) / len(drawn)) for i in range(len(scores))]

    def same_twice(function, *given):
        first, second = (
            [function(*given, rng=rng) for _ in range(20)] for rng in map(random.Random, (1, 1))
        )
        return first == second

    return {**vars(module), **locals()}


def results(module, part, learner=None):
    """Return the figures that the cases of a part give with a module, or the error, by case."""
    names, found = helpers(module), {}
    for case in map(str.strip, CASES[part].strip().split("\n")):
        wait()
        try:
            found[case] = leaves(eval(case, names))
        except (Exception, SystemExit) as error:
            found[case] = [Problem(error, learner)]
    return found


def leaves(result):
    """Return the single figures of a result."""
    if isinstance(result, (list, tuple, types.GeneratorType)):
        return [leaf for item in islice(result, 10000) for leaf in leaves(item)]
    return [result]


def agree(a, b):
    """Return whether two figures are the same, but for rounding; b is the one that is wanted."""
    if isinstance(b, Problem):
        return isinstance(a, Problem) and a.kind == b.kind
    if hasattr(b, "data"):
        return hasattr(a, "data") and agree(a.data, b.data)
    if isinstance(b, float) and isinstance(a, (int, float)):
        is_nan = a != a and b != b
        return is_nan or math.isclose(a, b, rel_tol=1e-6, abs_tol=0.07 if type(b) is Share else 1e-12)
    return type(a) is type(b) and a == b


def show(figure, other=None):
    """Return a figure as text, with as many digits as tell it from another."""
    if hasattr(figure, "data"):
        return f"Value({show(figure.data, getattr(other, 'data', None))})"
    if isinstance(figure, float):
        short = f"{figure:.5g}"
        return repr(figure) if isinstance(other, float) and short == f"{other:.5g}" else short
    if isinstance(figure, Problem):
        return f"a {figure.kind}"
    return repr(figure)


def difference(case, theirs, ours):
    """Return how a result differs from that of microgpt.py, as a sentence; None if it doesn't."""
    if theirs == [None] != ours:
        return f"{case} is None: is there a return?"
    for i, (a, b) in enumerate(zip(theirs, ours)):
        if not agree(a, b):
            place = f"[{i}]" if len(theirs) > 1 else ""
            wanted = f"should raise a {b.kind}" if isinstance(b, Problem) else f"should be {show(b, a)}"
            gives = f"raises {a}" if isinstance(a, Problem) else f"is {show(a, b)}"
            return f"{case}{place} {wanted}, and {gives}"
    if len(theirs) != len(ours):
        return f"{case} should have {len(ours)} figures, and has {len(theirs)}"
    return None


@functools.lru_cache(maxsize=None)
def reference(part, old="", new=""):
    """Return what the cases of a part give with microgpt.py, or with a mistake in it."""
    return results(Program(LESSON.replace(old, new), PROGRAM).load(), part)


def hint(part, found):
    """Return the mistake with which microgpt.py gives the same figures as the learner's; or ""."""
    for old, new, words in MISTAKES[part]:
        if all(map(same_figures, found.values(), reference(part, old, new).values())):
            return words
    return ""


def same_figures(theirs, others):
    """Return whether two results are the same: errors of any kind, or figures that agree."""
    if [Problem] in ([type(x) for x in theirs], [type(x) for x in others]):
        return [type(x) for x in theirs] == [type(x) for x in others]
    return len(theirs) == len(others) and all(map(agree, theirs, others))


class Checker(doctest.OutputChecker):
    """Compares figures as agree() does: another order of adding changes the last digits."""

    NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")

    def check_output(self, want, got, optionflags):
        figures = [list(map(float, self.NUMBER.findall(text))) for text in (want, got)]
        texts = [self.NUMBER.sub("", text) for text in (want, got)]
        return texts[0] == texts[1] and all(map(agree, figures[1], figures[0]))


class Examples(doctest.DocTestRunner):
    """Runs examples, and keeps a sentence on the first that fails."""

    def __init__(self, learner):
        super().__init__(Checker(), verbose=False)
        self.learner, self.first, self.num_failed, self.has_raised = learner, "", 0, False

    def report_start(self, out, test, example):
        wait()

    def report_failure(self, out, test, example, got):
        given, wanted = (" ".join(text.split()) or "nothing" for text in (got, example.want))
        self.note(f"{example.source.strip()} should give {wanted}, and gives {given}")

    def report_unexpected_exception(self, out, test, example, exc_info):
        self.note(f"{example.source.strip()} raises {Problem(exc_info[1], self.learner)}")
        self.has_raised = True

    def note(self, words):
        """Keep the first words."""
        self.first, self.num_failed = self.first or words, self.num_failed + 1


def wait():
    """Give the next example, case or step its time; if that is over, say where we are, and end."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)


class Check:
    """The stages of a check: each returns whether all agrees, and what to say."""

    def __init__(self, learner):
        self.learner, self.has_raised = learner, False
        self.original = original()
        wait()
        self.module = learner.load()
        fill_in(self.module, learner.blank)

    def examples(self):
        """Try the examples in the docstrings of microgpt.py: those of what the learner wrote."""
        names = [name for part in self.learner.own for name in (part, part.split(".")[0])]
        runner, num_tried = Examples(self.learner), 0
        for test in doctest.DocTestFinder().find(self.original, "", globs=vars(self.module)):
            if test.name.lstrip(".") in names or not names:
                num_tried += runner.run(test, out=str, clear_globs=False).attempted
        self.has_raised |= runner.has_raised
        if runner.first:
            return False, f"{runner.num_failed} of {num_tried} differ: {runner.first}"
        return True, f"{num_tried} of {num_tried} give what they show" if num_tried else ""

    def cases(self):
        """Try small cases: first those of what the learner wrote, with a look at usual mistakes."""
        own, wrong = self.learner.own, {}
        for part in sorted(PARTS, key=lambda part: part not in own):
            if wrong and part not in own:
                break  # it may only be wrong because another part is
            found = results(self.module, part, self.learner)
            words = list(filter(None, map(difference, found, found.values(), reference(part).values())))
            if words:
                wrong[part] = words[0], hint(part, found)
                self.has_raised |= any(isinstance(x, Problem) for xs in found.values() for x in xs)
        if not wrong:
            n = sum(len(reference(part)) for part in PARTS)
            return True, f"{n} of {n} are as in microgpt.py"
        words, guess = next((pair for pair in wrong.values() if pair[1]), [*wrong.values()][0])
        return False, words + (f"\n{'hint':11s}{guess}" if guess else "")

    def gradients(self):
        """Nudge two parameters of each matrix by 0.001: does the loss change as their grads say?"""
        model = self.module.GPT(27, n_embd=8, n_head=2, rng=random.Random(42))
        tokens = [26, 4, 12, 12, 0, 26]
        model.loss(tokens).backward()
        reference = self.original.GPT(27, n_embd=8, n_head=2, rng=random.Random(42))
        reference.loss(tokens).backward()
        rows = [(name, i) for name, rows in model.state_dict.items() for i in range(len(rows))]
        places = [(name, i, j) for name, i in rows for j in range(len(model.state_dict[name][i]))]
        steepest = sorted(zip(places, reference.parameters), key=lambda pair: -abs(pair[1].grad))
        num_tried = 0
        for name in model.state_dict:
            for _, i, j in [place for place, _ in steepest if place[0] == name][:2]:
                wait()
                p, losses = model.state_dict[name][i][j], []
                for nudge in (0.001, -0.002, 0.001):
                    p.data += nudge
                    losses.append(model.loss(tokens).data)
                slope = (losses[0] - losses[1]) / 0.002
                if not math.isclose(p.grad, slope, rel_tol=1e-3, abs_tol=1e-5):
                    place = f"d(loss)/d({name}[{i}][{j}])"
                    return False, f"{place} is {p.grad:.5f}, and a nudge of 0.001 gives {slope:.5f}"
                num_tried += 1
        return True, f"{num_tried} of {num_tried} agree with a nudge of 0.001"

    def losses(self):
        """Compare twenty steps of the default run, the loss on held-out names, and five names."""
        ours, theirs = self.runs = [Run(module) for module in (self.original, self.module)]
        for step in range(1, NUM_STEPS + 1):
            wait()
            found = difference(f"step {step}", [next(theirs.losses, None)], [next(ours.losses)])
            if found:
                return False, f"{step - 1} of {NUM_STEPS} agree; {found}"
        wait()
        found = difference("the held-out loss", [theirs.held_out_loss()], [ours.held_out_loss()])
        if not found and "draw" not in self.learner.own:  # which may use rng in its own way
            found = difference("the names", theirs.names(), ours.names())
        if found:
            return False, f"{NUM_STEPS} of {NUM_STEPS} agree; {found}"
        return True, f"{NUM_STEPS} steps, the loss on held-out names and five new names agree"

    def speed(self):
        """Compare the time of ten more steps, taken in turn."""
        seconds = [0.0, 0.0]
        for _ in range(10):
            for i, run in enumerate(self.runs):
                wait()
                start = time.perf_counter()
                next(run.losses)
                seconds[i] += time.perf_counter() - start
        ratio = seconds[1] / seconds[0]
        return True, f"a step takes {ratio:.1f} times as long as in microgpt.py"


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

    def held_out_loss(self):
        """Return the loss on twenty names that it has not trained on."""
        return self.module.evaluate(self.model, [self.tokenizer.encode(x) for x in self.docs[-20:]])

    def names(self):
        """Return five names that the model writes."""
        bos, size = self.tokenizer.bos, self.model.block_size
        how = {"stop": bos, "rng": self.rng}
        written = [self.module.sample(self.model, [bos], size, **how) for _ in range(5)]
        return [self.tokenizer.decode(tokens) for tokens in written]


def say(stage, words):
    """Print a line of the report."""
    print(f"{stage:11s}{words}", flush=True)


def compare(path):
    """Say stage by stage how far a program agrees with microgpt.py; return whether all does."""
    learner = Program(path.read_text(encoding="utf-8"), path)
    say("yours", ", ".join(learner.own) or "nothing: all bodies are those of microgpt.py")
    stages = ["examples", "cases", "gradients", "losses", "speed"]
    if learner.own and not {*learner.own} & {*parts_of("2"), *parts_of("3")}:
        stages.remove("gradients")  # the parts of other chapters have none
    all_agrees, stage = True, "program"
    try:
        check = Check(learner)
        for stage in stages:
            if (stage == "speed" and not all_agrees) or (stage == "gradients" and check.has_raised):
                break
            agrees, words = getattr(check, stage)()
            if words:
                say(stage, words)
            all_agrees &= agrees
    except (Exception, SystemExit) as error:
        say(stage, f"raises {Problem(error, learner)}")
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    return all_agrees


CHILD = """
import signal, sys
from contextlib import suppress
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(0, sys.argv[1])
import rebuild
sys.stdout.reconfigure(errors="backslashreplace")
with suppress(ImportError, OSError, ValueError):  # what fills the memory without end, must end, too
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
rebuild.PATIENCE = float(sys.argv[3])
sys.exit(not rebuild.compare(Path(sys.argv[2])))
"""


def check(path, patience=PATIENCE):
    """Check a program in a process of its own; return the exit status."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {path} ({reason}): --list names what it can hold") from None
    try:
        learner = Program(source, path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "text", None) or ""
        say("syntax", f"{error.args[0]}; line {getattr(error, 'lineno', '?')}: {line.strip()}")
        return 1
    if learner.missing:
        say("missing", f"{', '.join(learner.missing)}: bring back the line with def and the name")
        return 1
    status, lines = 0, {name: body(learner.functions[name])[0].lineno for name in learner.blank}
    if learner.own or not lines:
        folder = str(Path(__file__).resolve().parent)
        command = [sys.executable, "-c", CHILD, folder, str(path), str(patience)]
        process = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        status = process.returncode
        words = process.stderr.decode("utf-8", "backslashreplace")
        if "Timeout (" in words:
            frames = re.findall(r'File "(.+)", line (\d+) in', words)
            places = [int(line) for file, line in frames if file == str(path)]
            own = [line for line in places if learner.is_own(line)] or places
            line = f"line {own[0]}: {source.splitlines()[own[0] - 1].strip()}" if own else "?"
            say("stopped", f"no end after {patience:g} seconds, in {line}")
        elif status not in (0, 1):
            say("stopped", f"Python ended with status {status}: {words.strip()[-300:]}")
    if lines:
        say("to write", ", ".join(f"{name} (line {lines[name]})" for name in lines))
    return 1 if status or lines else 0


def main():
    """Do what the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(
        "rebuild.py", "rebuild.py --list | PART ... | --check [FILE]", allow_abbrev=False
    )
    parser.description = __doc__.split("\n")[0]
    parser.add_argument("parts", nargs="*", metavar="PART", help="a part, or a chapter from 1 to 5")
    parser.add_argument("--list", action="store_true", help="name all parts")
    parser.add_argument("--check", nargs="?", const="try.py", metavar="FILE", help="check try.py")
    given = parser.parse_args()
    if [bool(given.parts), given.list, given.check is not None].count(True) != 1:
        parser.error("give a part to write, or --check, or --list, which names all parts")
    try:
        if given.check is not None:
            return check(Path(given.check))
        if given.parts:
            write([name for word in given.parts for name in parts_of(word)], Path("try.py"))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if given.list:
        for title, names in chapters().items():
            print(title, *(f"   {name:24s} {PARTS[name]}" for name in names), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
