"""The pictures, tables and figures of the README, worked out anew."""

import contextlib
import io
import math
import operator
import os
import random
import re
import sys
import tempfile
import tokenize
import types
import unittest
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path
from unittest import mock

import microgpt
from microgpt import Value
from tests import exercises
from tests.support import PROGRAM, README, ROOT, TRACE, central_difference, default_checkpoint
from tests.support import result, samples, section, start_default_run, start_few_names_run

DOCS = microgpt.split_docs((ROOT / "names.txt").read_text(encoding="utf-8"))
RNG = random.Random(42)
RNG.shuffle(DOCS)
AFTER_SHUFFLE = RNG.getstate()
PLAY = section("In a notebook, in a browser")
DRAWING, CALLS, BROWSER = re.findall(r"(?s)```python\n(.+?)```", PLAY)


def default_model():
    """Return the tokens of the shuffled names, and the default model as it is before training."""
    RNG.setstate(AFTER_SHUFFLE)
    tokenizer = microgpt.Tokenizer(DOCS)
    examples = [tokenizer.encode(doc) for doc in DOCS]
    return examples, microgpt.GPT(tokenizer.vocab_size, rng=RNG)


def drawing():
    """Return the names that the README's code for pictures defines."""
    names = {}
    exec(DRAWING, names)
    return types.SimpleNamespace(**names)


class Pictures(unittest.TestCase):
    def test_the_graph_has_the_numbers_of_the_expression(self):
        nodes = {"a": Value(2.0), "b": Value(3.0)}
        nodes["product"], nodes["cube"] = nodes["a"] * nodes["b"], nodes["b"] ** 3
        nodes["f"] = nodes["product"] + nodes["cube"]
        nodes["f"].backward()
        titles = {"product": "a * b", "cube": "b ** 3"}
        labels = {
            name: f"{titles.get(name, name)}<br>data {node.data:g}<br>grad {node.grad:g}"
            for name, node in nodes.items()
        }
        arrows = {
            (source, f"{local_grad:g}", name)
            for name, node in nodes.items()
            for inputs, local_grads in node.sources
            for x, local_grad in zip(inputs, local_grads)
            for source in nodes if nodes[source] is x
        }  # fmt: skip
        picture = re.search(r"(?s)flowchart LR\n(.+?)```", README)[1]
        self.assertEqual(dict(re.findall(r'(\w+)\["(.+?)"\]', picture)), labels)
        shown = re.findall(r"(\w+) -->\|(.+?)\| (\w+)", re.sub(r"\[.+?\]", "", picture))
        self.assertEqual(len(shown), 5)
        self.assertEqual(set(shown), arrows)

    def test_the_table_of_operations_has_their_local_gradients(self):
        signs = {
            "·": "*", "²": "**2", "aⁿ⁻¹": "a**(n - 1)", "aⁿ": "a**n", "eᵃ": "math.exp(a)",
            "ln(a)": "math.log(a)", ", otherwise": " else",
        }  # fmt: skip
        table = re.search(r"(?m)^\| operation .+\n.+\n((?:\|.+\n)+)", README)[1]
        rows = [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()]
        self.assertEqual(len(rows), 9)
        for operation, *formulas in rows[:7]:
            for sign, meaning in signs.items():
                formulas = [formula.replace(sign, meaning) for formula in formulas]
            for a in (1.7, -1.7) if "relu" in operation else (1.7,):
                numbers = {"a": a, "b": -0.6, "n": 3}
                values = {name: Value(x) if name != "n" else x for name, x in numbers.items()}
                got = eval(operation.strip("`"), {}, values)
                wanted, slopes = (eval(f, {"math": math, **numbers}) for f in formulas)
                got.backward()
                with self.subTest(operation, a=a):
                    self.assertAlmostEqual(got.data, wanted, places=12)
                    for name, slope in zip("ab", slopes if type(slopes) is tuple else [slopes]):
                        self.assertAlmostEqual(values[name].grad, slope, places=12)
        self.assertEqual(rows[7], ["`dot(a, b)`", "a₁b₁ + … + aₙbₙ", "b₁ … bₙ, a₁ … aₙ"])
        a, b = [Value(2.0), Value(3.0)], [Value(5.0), Value(7.0)]
        (_, to_a), (_, to_b) = microgpt.dot(a, b).sources
        self.assertEqual((to_a, to_b), ([5.0, 7.0], [2.0, 3.0]))
        operation = ["`cross_entropy(a, target)`", "-ln(softmax(a)[target])"]
        self.assertEqual(rows[8], [*operation, "softmax(a), less 1 at the target"])
        logits = [0.3, -1.2, 0.8]
        p = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
        for i in range(3):
            slope = central_difference(lambda x: -math.log(microgpt_softmax(x)[1]), logits, i)
            self.assertAlmostEqual(slope, p[i] - (i == 1), places=6)

    def test_the_table_of_adam_is_what_its_formulas_give_for_these_gradients(self):
        examples, model = default_model()
        rates = microgpt.linear_decay(0.01, 1000)
        batches = ([tokens] for tokens in examples)
        training = microgpt.train(model, microgpt.Adam(model.parameters), batches, rates)
        weight, gradients = model.state_dict["wte"][26][0], []
        number, rows = weight.data, [[f"{weight.data:.4f}"]]
        for step in range(1, 6):
            next(training)
            gradients.append(weight.grad)
            # means with weights that fall by beta a step, and that add up to 1
            mean, square = (
                sum(beta**age * g for age, g in enumerate(reversed(past)))
                / sum(beta**age for age in range(step))
                for beta, past in ((0.85, gradients), (0.99, [g * g for g in gradients]))
            )
            root = math.sqrt(square)
            number -= 0.01 * (1 - (step - 1) / 1000) * mean / root
            self.assertAlmostEqual(weight.data, number, places=7)
            figures = [f"{x:.4f}" for x in (weight.grad, mean, root)]
            rows.append([str(step), DOCS[step - 1], *figures, f"{mean / root:.3f}", f"{number:.4f}"])
        shown = re.search(r"(?s)step  name .*?\n(.+?)```", README)[1]
        self.assertEqual([line.split() for line in shown.splitlines()], rows)

    def test_the_chart_is_that_of_the_default_run(self):
        out = result(start_default_run())[1]
        lines = re.findall(r"train loss (\S+) \| val loss (\S+)", out)
        table, guess = re.search(r"bigram table (\S+) \| ln\(27\) (\S+)", out).groups()
        examples, model = default_model()
        fresh = [
            f"{microgpt.evaluate(model, [tokens[:17] for tokens in part[:200]]):.4f}"
            for part in (examples, examples[28830:])
        ]
        train, val = zip(fresh, *lines)
        wanted = {"train": train, "val": val, "bigram table": [table] * 6, "ln(27)": [guess] * 6}
        shown = re.findall(r'line "(.+?)" \[(.+?)\]', README)
        self.assertEqual(
            {name: line.split(", ") for name, line in shown},
            {name: list(line) for name, line in wanted.items()},
        )
        self.assertIn('x-axis "step" [0, 200, 400, 600, 800, 1000]', README)

    def test_the_triangles_are_the_attention_weights_of_the_default_run(self):
        result(start_default_run())
        run = microgpt.load(default_checkpoint())
        tokens, blocks = run.tokenizer.encode("maria")[:-1], []
        for head in range(4):
            rows = [f"head {head}", "   " + "".join(f"{char:>4}" for char in "·maria")]
            for char, row in zip("·maria", drawing().attention_weights(run.model, tokens, head)):
                rows.append(f"  {char}" + "".join(f"{round(100 * p):4d}" for p in row))
            blocks.append(rows)
        pairs = [[f"{a:34}{b}" for a, b in zip(*blocks[i : i + 2])] for i in (0, 2)]
        self.assertIn("```text\n" + "\n\n".join("\n".join(rows) for rows in pairs) + "\n```", README)

    def test_the_scores_of_one_head_are_those_of_the_default_run(self):
        result(start_default_run())
        model = microgpt.load(default_checkpoint()).model
        seen = []  # what attention is given

        def attention(query, keys, values, n_head):
            seen.append([[x.data for x in vector[4:8]] for vector in (query, *keys, *values)])
            return [Value(0.0)] * 16

        cache = model.new_cache()
        with mock.patch.object(microgpt, "attention", attention):
            for token in [26, 12, 0, 17]:  # BOS, m, a, r
                model.forward(token, cache)
        query, keys, values = seen[-1][0], seen[-1][1:5], seen[-1][5:]
        scores = [sum(q * k for q, k in zip(query, key)) / 2 for key in keys]
        total = sum(map(math.exp, scores))
        weights = [math.exp(score) / total for score in scores]
        mixed = [sum(p * value[i] for p, value in zip(weights, values)) for i in range(4)]
        rows = [
            [char, *key, score, math.exp(score), f"{100 * p:.0f}", "%", *value]
            for char, key, score, p, value in zip("·mar", keys, scores, weights, values)
        ]
        rows.append([total, "100", "%", *mixed])
        rows = [[x if type(x) is str else f"{x:.2f}" for x in row] for row in rows]
        shown = re.search(r"(?s) +key +score .*?\n(.+?)```", README)[1]
        self.assertEqual([line.split() for line in shown.splitlines()], rows)
        numbers = ", ".join(f"{q:.2f}" for q in query)
        self.assertIn(f"Head 1 (of 0 to 3) makes the query {numbers}, and gets these", " ".join(README.split()))

    def test_the_weights_are_those_with_which_attention_mixes(self):
        model, softmax, seen = microgpt.GPT(5, 1, 6, 3, 4, random.Random(0)), microgpt.softmax, []
        for p in model.parameters:
            p.data *= 20
        tokens, cache = [4, 0, 2, 1], model.new_cache()
        with mock.patch.object(microgpt, "softmax", lambda x: seen.append(softmax(x)) or seen[-1]):
            for token in tokens:
                model.forward(token, cache)
        for head in range(3):
            wanted = [[p.data for p in row] for row in seen[head::3]]
            for row, other in zip(drawing().attention_weights(model, tokens, head), wanted):
                self.assertEqual(len(row), len(other))
                for p, q in zip(row, other):
                    self.assertAlmostEqual(p, q, places=12)

    def test_the_calls_draw_what_they_say(self):
        result(start_default_run())
        run = microgpt.load(default_checkpoint())
        run.losses = TRACE["default"]["losses"]
        names = {**vars(drawing()), "run": run}
        pictures = [eval(line, names) for line in CALLS.splitlines()]
        curve, attention, letters = (
            xml.etree.ElementTree.fromstring(picture._repr_svg_()) for picture in pictures
        )
        space = "{http://www.w3.org/2000/svg}"
        points = curve.find(f"{space}polyline").get("points").split()
        heights = [float(point.split(",")[1]) for point in points]
        self.assertEqual((len(points), min(heights), max(heights)), (50, 20.0, 180.0))
        means = [sum(run.losses[i : i + 20]) / 20 for i in range(0, 1000, 20)]
        self.assertEqual(heights[means.index(min(means))], 180.0)
        self.assertEqual([x.text for x in curve.findall(f"{space}text")],
                         [f"{max(means):.2f}", f"{min(means):.2f}"])  # fmt: skip
        squares = [float(x.get("fill-opacity")) for x in attention.findall(f"{space}rect")]
        self.assertEqual(len(squares), 21)
        self.assertAlmostEqual(sum(squares), 6, delta=0.02)
        self.assertEqual(max(squares[6:10]), squares[8])  # the r, at the a
        places = {x.text: (float(x.get("x")), float(x.get("y"))) for x in letters.iter(f"{space}text")}
        self.assertEqual(places["e"][0], 280.0)
        self.assertEqual(places["l"][1], 20.0)
        right = sorted(places, key=lambda char: -places[char][0])
        self.assertEqual(set(right[1:6]), set("aoiub"))
        said = "the letters whose embeddings are closest to *e*'s are *a*, *o*, *i*, *u* and *b*"
        self.assertIn(said, " ".join(README.split()))

    def test_any_run_can_be_drawn(self):
        names = drawing()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder) / "text"
            path.write_text("<a&b>\n" * 9)
            flags = {"num_steps": 3, "n_layer": 2, "n_embd": 4, "n_head": 2, "block_size": 3}
            for is_stream in (False, True):
                run = microgpt.main(data=path, stream=is_stream, **flags)
                text = "<a&b>\n"[: 3 + 1 - is_stream] if is_stream else "<a"
                for picture in (names.loss_curve(run.losses), names.loss_curve(run.losses[:1]),
                                names.attention_map(run, text, 1), names.letter_map(run, "a", "<")):
                    xml.etree.ElementTree.fromstring(picture)  # fmt: skip

    def test_the_lines_for_a_browser_fetch_the_files_and_train(self):
        served = {name: (ROOT / name).read_text("utf-8") for name in ("microgpt.py", "names.txt")}
        served["names.txt"] = served["names.txt"][:300]  # less to grade the model on
        module = types.ModuleType("pyodide.http")
        module.open_url = lambda url: io.StringIO(served[Path(url).name])
        parts = {"pyodide": types.ModuleType("pyodide"), "pyodide.http": module}
        self.addCleanup(os.chdir, os.getcwd())
        code = BROWSER.replace("num_steps=200", "num_steps=2")
        self.assertNotEqual(code, BROWSER)
        names = {}
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, parts):
            os.chdir(folder)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            for name in served:
                self.assertEqual(Path(name).read_text(encoding="utf-8"), served[name])
            os.chdir(ROOT)
        self.assertEqual(len(names["run"].losses), 2)
        self.assertIn("sample 20: ", out.getvalue())


def microgpt_softmax(numbers):
    """Return what softmax makes of plain numbers."""
    return [p.data for p in microgpt.softmax([Value(x) for x in numbers])]


class Figures(unittest.TestCase):
    def holds(self, *sentences):
        """Assert that the README says this, however its lines are broken."""
        text = " ".join(README.split())
        for sentence in sentences:
            self.assertTrue(sentence in text, f"the README should say: {sentence}")

    def test_the_overfitting_run_prints_what_it_shows(self):
        lines = re.findall(r"(?m)^(?:step .* \| lr|train loss) .*\n", result(start_few_names_run())[1])
        self.assertIn(f"```console\n{''.join(lines)}```", README)
        self.assertEqual(len(lines), 5)

    def test_what_is_counted_in_the_names(self):
        pairs = Counter(pair for doc in DOCS[:28830] for pair in zip(doc, doc[1:] + "."))
        after_w = sum(pairs[pair] for pair in pairs if pair[0] == "w")
        p = (pairs["w", "i"] + 1) / (after_w + 27)
        seen = set(DOCS[:28830])
        twice = sum(doc in seen for doc in DOCS[28830:29030])
        held_out = len(DOCS[28830:])
        starts = Counter(doc[0] for doc in DOCS)
        shares = [starts[char] / len(DOCS) for char in starts]
        first = sum(-share * math.log(share) for share in shares)
        self.holds(
            f"The program reads {len(DOCS):,} first names",
            f"{after_w} tokens follow a *w*, and {pairs['w', 'i']} of these are an *i*",
            f"p = ({pairs['w', 'i']} + 1) / ({after_w} + 27) = {p:.2f}",
            f"{twice} of the 200 held-out names are also among those to train on",
            f"the first letter alone costs {first:.2f}",
            f"the tail of the shuffled documents ({held_out:,} names)",
        )

    def test_what_is_counted_in_the_default_run_and_the_longer_one(self):
        out = result(start_default_run())[1]
        val, table = map(float, re.search(r"val loss (\S+) \| bigram table (\S+)", out).groups())
        names = samples(out)
        new = [name for name in names if name not in DOCS]
        longer = re.search(r"val loss (\d\.\d+) \| bigram table .*\nsaved", README)[1]
        parameters = len(default_model()[1].parameters)
        self.holds(
            f"for a blind guess, {math.exp(table):.1f} for the bigrams, and {math.exp(val):.1f} for the",
            f"Of the 20 names that the run prints, {len(new)} are not in the file",
            f"takes the val loss from {val:.2f} to {float(longer):.2f}",
            f"trains a model of {parameters:,} parameters",
            f"{405e9 / parameters / 1e6:.0f} million times the parameters",
        )
        self.assertIn("lemai", new)
        self.assertNotIn("kelon", new)

    def test_the_sums_in_the_answers_of_the_exercises(self):
        steps = {
            betas: [(1 - betas[0] ** t) / math.sqrt(1 - betas[1] ** t) for t in range(1, 100)]
            for betas in ((0.85, 0.99), (0.9, 0.999))
        }
        ours, usual = steps.values()
        self.assertEqual((ours.index(max(ours)), usual.index(max(usual))), (7, 11))
        mixed = []  # the chance of a window's start that leaves it open, and its mean loss
        for seen in (1, 2, 3):
            p = 1 / (5 - seen)
            mixed.append((p, (5 - seen) / 5, -p * math.log(p) - (1 - p) * math.log(1 - p)))
        floor = sum(share * loss for _, share, loss in mixed) / 4
        losses = ["a mean loss of {:.3f}", "{:.3f}", "{:.3f}"]
        graded = []
        for part in ("aaaab" * 54, "aaaab" * 6):  # to train on, and held out
            windows = microgpt.first_windows(part, 4, 200)
            starts = [window[: i + 1] for window in windows for i in range(len(window) - 1)]
            nexts = [window[i + 1] for window in windows for i in range(len(window) - 1)]
            open_ones = [(mixed[len(start) - 1][0], char) for start, char in zip(starts, nexts)
                         if "b" not in start and len(start) < 4]  # fmt: skip
            costs = [-math.log(p if char == "b" else 1 - p) for p, char in open_ones]
            graded.append(sum(costs) / len(starts))
        _, model = default_model()
        self.holds(
            f"{ours[0]:.1f} times in the first step, {max(ours):.1f} times in the eighth",
            f"it would be {max(usual):.1f} times in the twelfth",
            *(form.format(loss) for form, (_, _, loss) in zip(losses, mixed)),
            f"/ 4 = {floor:.3f}",
            f"these probabilities would get {graded[0]:.3f} and {graded[1]:.3f}.)",
            f"four certain predictions: {floor / 2:.3f}",
            f"{sum(len(row) for row in model.state_dict['lm_head'])} of {len(model.parameters):,}",
            f"= {12 * 16**2:,}: four matrices",
        )
        figures = [float(row.train) for row in exercises.rows() if row.number == "21"]
        for figure, lowest in zip(figures, (floor, floor / 2)):
            self.assertTrue(lowest - 0.001 < figure < lowest + 0.005)

    def test_what_the_answers_say_of_nodes_logits_and_temperatures(self):
        two, twelve = (self.with_changes(number) for number in ("2", "12"))
        pair = [[two.Value(1.0) for _ in range(16)] for _ in range(2)]
        nodes = len(two.dot(*pair).topological_order())
        alike = []
        for module, n_layer in (twelve, 4), (twelve, 1), (microgpt, 4):
            RNG.setstate(AFTER_SHUFFLE)
            model, cosines = module.GPT(27, n_layer=n_layer, rng=RNG), []
            for tokens in default_model()[0][:12]:
                cache = model.new_cache()
                rows = [[x.data for x in model.forward(token, cache)] for token in tokens[:-1]]
                for i, a in enumerate(rows):
                    for b in rows[:i]:
                        cosines.append(sum(map(operator.mul, a, b)) / math.hypot(*a) / math.hypot(*b))
            alike.append(sum(cosines) / len(cosines))
        examples = [tokens[:17] for tokens in default_model()[0]]
        table = microgpt.bigram_loss(examples[:1000], examples[28830:][:200], 27)
        shares = Counter(token for tokens in examples[:28830] for token in tokens[1:])
        graded = [token for tokens in examples[28830:][:200] for token in tokens[1:]]
        guesses = [math.log(sum(shares.values()) / shares[token]) for token in graded]
        self.holds(
            f"from the same thousand names ({table:.4f})",
            f"{nodes}, and a leaf: 16 products, and 16 additions, as `sum` starts with 0",
            f"how often each letter comes ({sum(guesses) / len(guesses):.4f})",
            f"(The mean cosine between them is {alike[0]:.2f}. With a single layer it is "
            f"{alike[1]:.2f}, and with `+` {alike[2]:.2f}.)",
        )
        (answer,) = (text for text in exercises.texts().values() if "Temperatures" in text[:20])
        result(start_default_run())
        for temperature, shown in re.findall(r"--temperature (\d)\n(.+?)\.\.\.", answer, re.S):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                flags = {"temperature": float(temperature), "num_samples": 3}
                microgpt.main(load=default_checkpoint(), **flags)
            shown = shown.replace("  (in the data)", "")  # which it hasn't read
            self.assertTrue(out.getvalue().endswith(shown))

    def with_changes(self, number):
        """Return the program of an exercise as a module."""
        source = PROGRAM.read_text(encoding="utf-8")
        for diff in exercises.changes(number):
            source = exercises.changed(source, diff)
        module = types.ModuleType("changed")
        module.__file__ = str(PROGRAM)
        exec(source, vars(module))
        return module

    def test_the_sizes_of_the_file_and_of_the_graph(self):
        source = PROGRAM.read_text(encoding="utf-8")
        lesson = source[: source.index("# %% The algorithm ends here")]
        code = set()
        for token in tokenize.generate_tokens(io.StringIO(lesson).readline):
            is_prose = token.type == tokenize.COMMENT or token.string.startswith('"""')
            if token.string.strip() and not is_prose:
                code.update(range(token.start[0], token.end[0] + 1))
        lines, all_lines = lesson.count("\n"), source.count("\n")
        examples, model = default_model()
        nodes = len(model.loss(examples[0]).topological_order())
        self.holds(
            f"{all_lines:,} lines: {lines} for chapters 1 to 5, of which {len(code)} are code, "
            f"and {all_lines - lines} for the rest",
            f"has {nodes:,} nodes",
        )
