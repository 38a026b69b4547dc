"""The kit takes parts of the program out, and knows right bodies from mistaken ones."""

import ast
import contextlib
import io
import re
import signal
import sys
import textwrap
import unittest

from tests import rebuild
from tests.support import README, Folder

BODIES = """
Value.backward:
    order = {}
    def visit(node):
        if node.inputs and node not in order:
            for x in node.inputs + node.partners:
                visit(x)
            order[node], node.grad = True, 0.0
    visit(self)
    self.grad += 1.0
    for node in reversed(order):
        slopes = node.local_grads or [x.data for x in node.partners + node.inputs]
        for x, slope in zip(node.inputs + node.partners, slopes):
            x.grad += slope * node.grad
dot:
    xs, ys = [x.data for x in a], [y.data for y in b]
    return Value(sum(x * y for x, y in zip(xs, ys)), (*a, *b), (*ys, *xs))
rmsnorm:
    root = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** 0.5
    return [xi / root for xi in x]
softmax:
    print("what is printed is left out")
    powers = [(logit - max(x.data for x in logits)).exp() for logit in logits]
    total = sum(powers)
    return [power * total**-1 for power in powers]
attention:
    weights = softmax([dot(query, key) * len(query) ** -0.5 for key in keys])
    return [sum(w * value[i] for w, value in zip(weights, values)) for i in range(len(values[0]))]
Adam.step:
    self.steps_done = t = self.steps_done + 1
    for i, p in enumerate(self.parameters):
        self.means[i] += (1 - self.beta1) * (p.grad - self.means[i])
        self.squares[i] += (1 - self.beta2) * (p.grad * p.grad - self.squares[i])
        root = (self.squares[i] / (1 - self.beta2**t)) ** 0.5
        p.data -= learning_rate * self.means[i] / (1 - self.beta1**t) / (root + self.epsilon)
sample:
    tokens, cache = [tokenizer.bos], model.new_cache()
    while len(tokens) <= model.block_size and (len(tokens) == 1 or tokens[-1] != tokenizer.bos):
        powers = [math.exp(x.data / temperature) for x in model.forward(tokens[-1], cache)]
        tokens += rng.choices(range(len(powers)), powers)
    return tokenizer.decode(tokens)
"""
MISTAKES = """
Tokenizer.encode: BOS
    return [self.bos] + [self.ids[char] for char in doc]
Value.__mul__: the other way round
    return Value(self.data * other.data, (self, other), (self.data, other.data))
Value.backward: two paths
    for x, local_grad in zip(self.inputs, self.local_grads):
        x.grad = local_grad
rmsnorm: add 1e-5
    root = mean([xi * xi for xi in x]) ** 0.5
    return [xi / root for xi in x]
softmax: subtract
    exps = [logit.exp() for logit in logits]
    return [e / sum(exps) for e in exps]
attention: square root
    weights = softmax([dot(query, key) for key in keys])
    return [dot(weights, column) for column in zip(*values)]
GPT.forward: earlier tokens
    return linear(rmsnorm(self.state_dict["wte"][token]), self.state_dict["lm_head"])
Adam.step: too small
    for p in self.parameters:
        mean, square = (1 - self.beta1) * p.grad, (1 - self.beta2) * p.grad**2
        p.data -= learning_rate * mean / square**0.5
train_step: not cleared
    loss = mean(model.losses(batch[0]))
    loss.backward()
    optimizer.step(learning_rate)
    return loss.data
"""


def bodies(text):
    """Return the names, hints and bodies in a text."""
    return re.findall(r"(?m)^(\S+): ?(.*)\n((?: .*\n)+)", text)


def program(**parts):
    """Return the program with other bodies."""
    text = rebuild.take_out([name for name in rebuild.CASES if name in parts])
    for name, body in parts.items():
        body = textwrap.dedent(body).strip()
        blank = rf"(?m)^( +){re.escape(rebuild.BLANK.format(name))}"
        text = re.sub(blank, lambda found: textwrap.indent(body, found[1]), text)
    return text


@unittest.skipIf(sys.platform == "emscripten", "the tool needs a thread")
class Rebuild(Folder):
    def tool(self, *words, source=None):
        """Run the tool, on a program if one is given; return its exit status, output and errors."""
        path, out, err = self.folder / "mine.py", io.StringIO(), io.StringIO()
        if source is not None:
            path.write_text(source, encoding="utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return rebuild.main([*words], path), out.getvalue(), err.getvalue()

    def assert_error(self, *words, source=None):
        status, out, err = self.tool(*words, source=source)
        self.assertEqual((status, out, err.count("\n")), (2, "", 1), words)

    def test_only_bodies_are_taken_out(self):
        self.assertIn("2 dot\n", self.tool("--list")[1])
        self.assertEqual([self.tool(word)[0] for word in ("2", "--check")], [0, 1])
        learner = rebuild.Learner(self.folder / "mine.py")
        self.assertEqual(learner.blank, ["Value.__mul__", "Value.backward", "dot"])
        self.assertEqual(learner.own, {})
        for name, function in rebuild.ORIGINAL.items():
            docstrings = map(ast.get_docstring, (function, learner.functions[name]))
            self.assertEqual(*docstrings)

    def test_work_is_never_overwritten(self):
        self.assert_error("softmax", source="work")
        self.assertEqual((self.folder / "mine.py").read_text(encoding="utf-8"), "work")

    def test_an_error_is_one_line_and_status_2(self):
        for words in (["sofmax"], ["6"], ["dot", "--check"], ["--check"], ["--lis"]):
            self.assert_error(*words)
        self.assert_error("--check", source=program(dot="return ["))

    def test_the_session_of_the_readme(self):
        body = re.search(r"(?s)`(scale = .*?)`", README)[1] + "\nreturn [xi * scale for xi in x]"
        session = re.search(r"(?s)```console\n(\$ python tests/rebuild.*?)```", README)[1]
        sources = None, program(rmsnorm=body)  # before and after the learner's work
        for part, source in zip(session.split("$ python tests/rebuild.py ")[1:], sources):
            word, _, wanted = part.partition("\n")
            out = self.tool(word, source=source)[1]
            self.assertEqual(*[re.sub(r"line \d+", "line N", x) for x in (out, wanted)])
        self.assertIn("hint", wanted)

    def test_no_case_raises_in_the_program(self):
        for part in rebuild.CASES:
            self.assertNotIn("raises", str(rebuild.results(rebuild.MODULE, part)))

    def test_right_bodies_agree_also_in_another_authors_words(self):
        for parts in ({}, {name: body for name, _, body in bodies(BODIES)}):
            status, out, err = self.tool("--check", source=program(**parts))
            self.assertEqual((status, err), (0, ""), out)
            self.assertRegex(out, r"\Ayours .*\ncases +(\d\d) of \1 .*\ngradients +(\d) of \2 .*\n")
            self.assertRegex(out, r"\nlosses +20 of 20 agree\n\Z")

    def test_a_usual_mistake_gets_its_hint(self):
        for name, hint, body in bodies(MISTAKES):
            status, out, _ = self.tool("--check", source=program(**{name: body}))
            self.assertRegex(out, rf"yours +{name}\ncases .*\n.*\n.*\n +hint .*{hint}", name)
            self.assertEqual(status, 1)

    def test_parts_that_are_blank_are_those_of_microgpt(self):
        body = "size = mean([xi.data**2 for xi in x]) ** 0.5\nreturn [xi * (1 / size) for xi in x]"
        source = program(rmsnorm=body, softmax=rebuild.BLANK.format("softmax"))
        out = self.tool("--check", source=source)[1]
        self.assertRegex(out, r"(?m)^gradients .*\[3\]\[1\] is \S+, and a nudge of 0.001 says ")
        self.assertRegex(out, r"(?m)^losses +\d of 20 agree; step \d+ should be \S+, and is ")
        self.assertRegex(out, r"(?m)^to write +softmax \(line \d+\)$")

    def test_an_error_is_named_with_the_learners_line(self):
        for line in ("nonsense", "raise SystemExit('nonsense')", "print(Value('').exp())"):
            out = self.tool("--check", source=program(softmax=f"a = 1\n{line}"))[1]
            self.assertRegex(out, rf"yours   raises \w+: .*; line \d+: {re.escape(line)}\n")

    def test_an_endless_body_is_ended(self):
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        source = program(dot="while True:\n    a = b")
        (self.folder / "mine.py").write_text(source, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertEqual(rebuild.check(self.folder / "mine.py", seconds=0.2), 1)
        self.assertRegex(out.getvalue(), r"\ncases .* endless.*; line \d+: (while True:|a = b)\n\Z")
