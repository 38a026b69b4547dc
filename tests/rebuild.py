"""Rebuild a part of microgpt.py yourself, and be told how far you agree.

    python tests/rebuild.py --list
    python tests/rebuild.py softmax      write try.py: the program without the body of softmax()
    python tests/rebuild.py --check      run try.py, and compare it with microgpt.py

A check tries small cases and the examples in the docstrings, gradients (a nudge of 0.001 must say
the same), and the first twenty steps of the default run. Where the results are exactly those of a
usual mistake, it says which. The exit status is 0 if everything agrees, 1 if something differs or
is still to be written, and 2 for a mistake on the command line.
"""

import ast
import contextlib
import doctest
import io
import math
import os
import random
import re
import signal
import sys
import threading
import traceback
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.parts import CASES, MISTAKES, helpers  # noqa: E402

TAKEN = "# Taken out, to be written by you: "
BLANK = "raise NotImplementedError('{} is still to be written')"


def functions(tree):
    """Return the functions and methods of a program: its syntax trees by name."""
    owners = [("", tree)] + [(f"{x.name}.", x) for x in tree.body if isinstance(x, ast.ClassDef)]
    found = [(name + x.name, x) for name, owner in owners for x in owner.body if hasattr(x, "args")]
    return dict(found)


def load(program):
    """Run the definitions of a program, and return the module."""
    module = types.ModuleType("microgpt")
    exec(program, vars(module))
    return module


SOURCE = (ROOT / "microgpt.py").read_text(encoding="utf-8")
ORIGINAL, CODE = functions(ast.parse(SOURCE)), compile(SOURCE, "microgpt.py", "exec")
MODULE = load(CODE)


def take_out(names):
    """Return microgpt.py without the bodies of some parts, named in the order of the file."""
    lines = SOURCE.split("\n")
    for name in reversed(names):
        function, first = ORIGINAL[name], ORIGINAL[name].body[0]
        start = first.end_lineno if ast.get_docstring(function) else first.lineno - 1
        lines[start : function.end_lineno] = [" " * first.col_offset + BLANK.format(name)]
    return "\n".join(lines) + f"\n{TAKEN}{', '.join(names)}\n"


def chapter(name):
    """Return the number of the chapter that a part is in."""
    lines = SOURCE.split("\n")[: ORIGINAL[name].lineno]
    return [line[5] for line in lines if line.startswith("# %% ")][-1]


def write(words, path):
    """Write the program without some parts to a file; ValueError if it holds a learner's work."""
    meanings = {name: {name, name.split(".")[-1], chapter(name)} for name in CASES}
    for word in set(words).difference(*meanings.values()):
        raise ValueError(f"there is no part {word!r}: --list names all")
    text = take_out([name for name in CASES if not meanings[name].isdisjoint(words)])
    if path.is_file():
        taken = path.read_bytes().decode("utf-8", "replace").partition(TAKEN)[2].strip().split(", ")
        if CASES.keys() >= {*taken} and path.read_bytes() == take_out(taken).encode():
            path.unlink()  # nothing has been written into it
    try:
        with open(path, "xb") as file:
            file.write(text.encode())
    except FileExistsError:
        raise ValueError(f"{path} holds your work: move it away first, then ask again") from None
    print(f"{path} is microgpt.py with something left for you to write:")
    print(Learner(path).to_write)


class Learner:
    """A learner's program: which parts are still blank, and which are the learner's own."""

    def __init__(self, path):
        text = path.read_bytes().decode("utf-8-sig")
        self.tree, self.lines = ast.parse(text, path.name), text.split("\n")
        self.functions, taken = functions(self.tree), text.partition(TAKEN)[2].strip().split(", ")
        taken = [name for name in CASES if name in taken] or [*CASES]
        for name in [name for name in taken if name not in self.functions]:
            raise SyntaxError(f"{name} is missing: bring back the line with def and the name")
        ends = {name: self.functions[name].body[-1] for name in taken}
        self.blank = [name for name in taken if ast.unparse(ends[name]) == BLANK.format(name)]
        self.own = [name for name in taken if name not in self.blank]
        self.to_write = ", ".join(f"{name} (line {ends[name].lineno})" for name in self.blank)

    def place(self, frames):
        """Return the innermost line of the learner's own among some frames."""
        own = [x for name, x in self.functions.items() if name in self.own or name not in ORIGINAL]
        for n in [frame.lineno for frame in reversed(frames) if frame.filename == "<yours>"]:
            if any(function.lineno <= n <= function.end_lineno for function in own):
                return f"; line {n}: {self.lines[n - 1].strip()[:99]}"
        return ""

    def problem(self, error):
        """Say what was raised, and where."""
        words = " ".join(str(error)[:200].split()) or "without a word"
        place = self.place(traceback.extract_tb(error.__traceback__))
        return f"raises {type(error).__name__}: {words}{place}"

    def load(self):
        """Run the program's definitions. Meanwhile, microgpt.py lends what is blank."""
        for name in self.blank:
            self.functions[name].body = functions(ast.parse(SOURCE))[name].body
            for node in ast.walk(self.functions[name]):
                ast.copy_location(node, self.functions[name])
        self.module = load(compile(self.tree, "<yours>", "exec"))
        return []


def number(x):
    """Return a number as text, without the digits in which orders of adding differ."""
    return f"{round(x, 12) + 0.0:.9g}" if isinstance(x, (int, float)) else repr(x)[:99]


def leaves(value, place=""):
    """Yield the items of nested lists as text, each with its place, such as [0][2]."""
    if isinstance(value, (list, tuple)):
        yield place, f"a list of {len(value)}"
        for i, item in enumerate(value):
            yield from leaves(item, f"{place}[{i}]")
    elif hasattr(value, "grad"):
        yield place, f"Value({number(value.data)})"
        yield f"{place}.grad", number(value.grad)
    else:
        yield place, "None: is there a return?" if value is None else number(value)


def results(module, part, learner=None):
    """Return what the cases of a part, and the examples in its docstrings, give with a module."""
    cases, thing, found = CASES[part][:], MODULE, {}
    for name in part.split("."):
        thing, sources = getattr(thing, name), []
        for example in doctest.DocTestParser().get_examples(thing.__doc__ or ""):
            sources.append(re.sub(r"\s+# .*", "", example.source.strip()))
            cases += ["; ".join(sources)] if example.want else []
    for case in cases:
        names, (before, _, last) = {**vars(module), **helpers(module, case)}, case.rpartition("; ")
        try:
            exec(before, names)
            found.update({(case, place): text for place, text in leaves(eval(last, names))})
        except BaseException as error:
            kind = f"raises {type(error).__name__}:"
            found[case, ""] = learner.problem(error) if learner else kind
    return found


def sentence(place, wanted, given):
    """Say what should be there, and what is, with five digits if these tell them apart."""
    short = [re.sub(r"\d+\.\d+", lambda x: f"{float(x[0]):.5g}", text) for text in (wanted, given)]
    wanted, given = short if short[0] != short[1] else (wanted, given)
    return f"{place} should be {wanted}, and {'' if given.startswith('raises') else 'is '}{given}"


def hint(part, theirs):
    """Return the mistake with which microgpt.py gives the same results in all cases, or ""."""
    theirs = {key: text.split(":")[0] for key, text in theirs.items() if key[0] in CASES[part]}
    for _, words, where, mistake in [entry for entry in MISTAKES if entry[0] == part]:
        module, (owner, _, last) = load(CODE), where.rpartition(".")
        owner = getattr(module, owner) if owner else module
        right = getattr(owner, last)
        setattr(owner, last, lambda *given, **how: mistake(module, right, *given, **how))
        others = results(module, part)
        if theirs == {key: others[key].split(":")[0] for key in others if key[0] in CASES[part]}:
            return words
    return ""


# The stages of a check return lines: stage, words, and whether all agrees (None: with an error)


def check_cases(learner):
    """Try small cases of what the learner wrote, with a look at usual mistakes."""
    wrong, tried = [], set()
    for part in learner.own:
        theirs, ours = results(learner.module, part, learner), results(MODULE, part)
        tried.update(case for case, _ in ours)
        for case, place in [key for key in ours if theirs.get(key) != ours[key]][:1]:
            words = sentence(case + place, ours[case, place], theirs[case, place])
            wrong.append((case, words, hint(part, theirs)))
    if not wrong:
        return [("cases", f"{len(tried)} of {len(tried)} are as in microgpt.py", True)]
    case, words, advice = next((x for x in wrong if x[2]), wrong[0])
    known = helpers(MODULE, 0).items()
    where = "; ".join(f.__doc__ for name, f in known if re.search(rf"\b{name}\(", case))
    lines = ("cases", words, None if ", and raises " in words else False)
    return [line for line in (lines, ("where", where, False), ("hint", advice, False)) if line[1]]


def check_gradients(learner):
    """Nudge two parameters of each matrix by 0.001: does the loss change as their grads say?"""
    model, num_tried = helpers(learner.module, 0)["model"](), 0
    sum(model.losses([4, 0, 1, 3, 2])).backward()
    for name, rows in model.state_dict.items():
        for i, j in ((0, 0), (3, 1)):
            p, losses = rows[i][j], []
            for nudge in (0.001, -0.002, 0.001):
                p.data += nudge
                losses.append(sum(model.losses([4, 0, 1, 3, 2])).data)
            slope = (losses[0] - losses[1]) / 0.002
            if not math.isclose(p.grad, slope, rel_tol=1e-3, abs_tol=1e-5):
                words = f"is {p.grad:.5f}, and a nudge of 0.001 says that it should be {slope:.5f}"
                return [("gradients", f"grad of {name}[{i}][{j}] {words}", False)]
            num_tried += 1
    words = f"{num_tried} of {num_tried} fit what yours computes, by a nudge of 0.001"
    return [("gradients", words, True)]


def check_losses(learner):
    """Compare the losses of twenty steps of the default run."""
    docs, runs = (ROOT / "names.txt").read_text(encoding="utf-8").split(), []
    for module in (MODULE, learner.module):
        rng, tokenizer = random.Random(42), module.Tokenizer(docs)
        rng.shuffle(shuffled := [*docs])
        model = module.GPT(tokenizer.vocab_size, rng=rng)
        runs.append((module, model, module.Adam(model.parameters), tokenizer))
    for i, doc in enumerate(shuffled[:20]):
        rate = 0.01 * (1 - i / 1000)
        losses = [m.train_step(model, adam, [t.encode(doc)], rate) for m, model, adam, t in runs]
        texts = [number(loss) for loss in losses]
        if texts[0] != texts[1]:
            return [("losses", f"{i} of 20 agree; {sentence(f'step {i + 1}', *texts)}", False)]
    return [("losses", "20 of 20 agree", True)]


def check(path, seconds=20):
    """Say how far a program agrees with microgpt.py; return the exit status."""

    def say(stage, words, out=sys.stdout):  # not to where the learner's program prints
        print(f"{stage:11s}{words}", file=out, flush=True)

    def stop():
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident])
        say("stopped", f"not done after {seconds} seconds: is it endless?{learner.place(stack)}")
        os._exit(1)

    try:
        learner, statuses = Learner(path), []
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        say("syntax", error)
        return 1
    printed, stages = io.StringIO(), (Learner.load, check_cases, check_gradients, check_losses)
    if learner.own:
        say("yours", ", ".join(learner.own))
    for stage in stages if learner.own else ():
        timer = threading.Timer(seconds, stop)
        timer.start()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                lines = stage(learner)
            except BaseException as error:
                lines = [(stage.__name__.split("_")[-1], learner.problem(error), None)]
        timer.cancel()
        for name, words, agrees in lines:
            say(name, words)
            statuses.append(agrees)
        if None in statuses:
            say("skipped", "the rest: mend the error first")
            break
    for line in printed.getvalue().split("\n")[:5]:
        say("printed", line[:200]) if line else None
    if learner.blank:
        say("to write", learner.to_write)
    return 0 if all(statuses) and not learner.blank else 1


def main(words):
    """Do what the command line says, and return the exit status."""
    try:
        if words == ["--list"]:
            for name, cases in CASES.items():
                print(f"{chapter(name)}  {name:18s} as in {cases[0]}")
        elif words[:1] == ["--check"] and len(words) < 3:
            return check(Path(*words[1:] or ["try.py"]))
        elif words and not any(word.startswith("-") for word in words):
            write(words, Path("try.py"))
        else:
            raise ValueError("give a part to write, or --check, or --list, which names all parts")
    except (OSError, ValueError) as error:
        print("rebuild.py: error:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
