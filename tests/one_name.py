"""One name, with numbers: train as microgpt.py does, and print the pictures in README.md."""

import math
import random
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # microgpt.py is there

import microgpt  # noqa: E402
from microgpt import dot, evaluate, mean, sample, softmax, train_step  # noqa: E402

# %% Data: tokens

name, at = "maria", 3  # the name to read, and the place, that of its r, to look at closely
docs, rng = (ROOT / "names.txt").read_text(encoding="utf-8").split(), random.Random(42)
rng.shuffle(docs)
tokenizer = microgpt.Tokenizer(docs)
assert set(name) <= set(tokenizer.chars) and 0 <= at <= len(name) < 16, "a to z, and at most 15"
tokens, chars = tokenizer.encode(name), [*tokenizer.chars, "BOS"]
print("  ".join(f"{chars[token]:>3}" for token in tokens))
print("  ".join(f"{token:3}" for token in tokens))

# %% Training: one parameter in five steps

examples = [tokenizer.encode(doc) for doc in docs]
training, held_out = examples[:28830], examples[28830:29030]
model = microgpt.GPT(tokenizer.vocab_size, rng=rng)
optimizer, p = microgpt.Adam(model.parameters), model.state_dict["wte"][tokenizer.bos][0]
print("\nstep  name     parameter  gradient  ratio")
for step in range(5):
    before, rate = p.data, 0.01 * (1 - step / 1000)
    train_step(model, optimizer, [training[step]], rate)
    ratio = (before - p.data) / rate  # mean / sqrt(square), in Adam.step
    print(f"{step + 1:4}  {docs[step]:8} {before:9.4f} {p.grad:9.4f} {ratio:6.2f}")

# %% Training: the loss on held-out names at later steps, and that of counting


def trigrams(examples):
    return [x for tokens in examples for x in zip([tokens[0], *tokens], tokens, tokens[1:])]


counts = Counter(trigrams(training))
pairs = Counter(x[:2] for x in counts.elements())
losses = [-math.log((counts[x] + 1) / (pairs[x[:2]] + 27)) for x in trigrams(held_out)]
rows = [(math.log(27), "blind guess", ""), (mean(losses), "trigrams", "")]
rows.append((microgpt.bigram_loss(training, held_out, 27), "bigrams", ""))
for step in range(5, 1000):
    train_step(model, optimizer, [training[step]], 0.01 * (1 - step / 1000))
    if step + 1 in (10, 50, 100, 200, 500, 1000):
        names = [sample(model, tokenizer, rng=random.Random(seed)) for seed in (5, 6, 7)]
        rows.append((evaluate(model, held_out), f"step {step + 1}", " " + " ".join(names)))
print()
for loss, what, names in sorted(rows, reverse=True):
    print(f"{what:11} {loss:.4f} {'█' * round(60 * (loss - 2))}{names}")

# %% Model: what its functions get to see while it reads the name

spies = {name: mock.Mock(wraps=vars(microgpt)[name]) for name in ("rmsnorm", "linear", "attention")}
cache = model.new_cache()
with mock.patch.multiple(microgpt, **spies):
    logits = [model.forward(token, cache) for token in tokens[:-1]]
norms, products, heads = [[call.args for call in spy.call_args_list] for spy in spies.values()]
vectors = [norms[3 * at + i][0] for i in range(3)] + [products[7 * at + 6][0]]
print()
for what, vector in zip(("wte + wpe", "x = rmsnorm", "+ attention", "+ MLP"), vectors):
    print(f"{what:13}", *[f"{x.data:6.2f}" for x in vector[:8]], "  ... 16 numbers")
best = sorted(range(27), key=lambda i: -logits[at][i].data)[:8]
print("next token".ljust(13), *[f"{chars[i]:>6}" for i in best])
for what, vector in ("logits", logits[at]), ("softmax", softmax(logits[at])):
    print(f"{what:13}", *[f"{vector[i].data:6.2f}" for i in best], "  ... 27 numbers")

# %% Model: attention


def weigh(query, keys, values):
    scores = [dot(query, key) / math.sqrt(len(query)) for key in keys]
    return scores, softmax(scores)


text = "·" + name
query, keys, values = heads[4 * at + 1]  # head 1
print(f"\nquery of {text[at]}", *[f"{x.data:6.2f}" for x in query], "  score  weight")
for char, key, score, weight in zip(text, keys, *weigh(query, keys, values)):
    print(f"key of {char}  ", *[f"{x.data:6.2f}" for x in (*key, score, weight)])
print("\n ", (" " * 5).join(["".join(f"{char:>3}" for char in text)] * 4))
for i, char in enumerate(text):
    rows = [weigh(*call)[1] for call in heads[4 * i : 4 * i + 4]]
    rows = ["".join(f"{100 * x.data:3.0f}" for x in row) for row in rows]
    print(char, (" " * (3 * len(name) + 5 - 3 * i)).join(rows))

# %% Sampling: temperatures

print("\n      a     e     i     o     u     names")
for t in (0.25, 0.5, 1, 2):
    p = softmax([logit / t for logit in logits[1]])  # after the first letter
    names = [sample(model, tokenizer, t, random.Random(seed)) for seed in range(4)]
    print(f"{t:<5}", *[f"{p[x].data:.2f} " for x in tokenizer.encode("aeiou")[1:-1]], *names)
