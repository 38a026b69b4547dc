"""One name, with numbers: train as microgpt.py does, and print the pictures of README.md.

Run `python tests/one_name.py`. It takes some fifteen seconds.
"""

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

docs, rng = (ROOT / "names.txt").read_text(encoding="utf-8").split(), random.Random(42)
rng.shuffle(docs)
tokenizer = microgpt.Tokenizer(docs)
maria = tokenizer.encode("maria")
print("BOS   m   a   r   i   a  BOS\n", "  ".join(f"{token:2}" for token in maria))

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

# %% Training: the losses of the other steps, and of counting


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
    print(f"{what:11} {loss:.4f} {'█' * round(40 * (loss - 2))}{names}")

# %% Model: what its functions do as it reads maria


def watched(function, calls):
    def call(*inputs):
        calls.append((*inputs, function(*inputs)))
        return calls[-1][-1]

    return mock.patch.object(microgpt, function.__name__, call)


norms, products, heads, cache = [], [], [], model.new_cache()
with watched(microgpt.rmsnorm, norms), watched(microgpt.linear, products):
    with watched(microgpt.attention, heads):
        logits = [model.forward(token, cache) for token in maria[:-1]]
norms, products = norms[9:12], products[21:28]  # at the r, the fourth token
print()
for what, numbers in {
    "wte[17] + wpe[3]": norms[0][0], "x = rmsnorm of it": norms[0][1],
    "+ attention": products[3][2], "+ MLP": products[5][2], "= x": products[6][0],
    "logits = linear": logits[3],
}.items():
    print(f"{what:17}", *[f"{x.data:6.2f}" for x in numbers[:8]], f"  ... {len(numbers)} numbers")
nexts = sorted(zip([p.data for p in softmax(logits[3])], tokenizer.chars + ["BOS"]), reverse=True)
print("softmax            ", *[f" {char} {p:.2f}" for p, char in nexts[:8]])

# %% Model: attention

query, keys, _, _ = heads[4 * 3 + 1]  # at the r, head 1
scores = [dot(query, key) / math.sqrt(4) for key in keys]
print("\nquery of r", *[f"{x.data:6.2f}" for x in query], "  score  weight")
for char, key, score, weight in zip("·mar", keys, scores, softmax(scores)):
    print(f"key of {char}  ", *[f"{x.data:6.2f}" for x in (*key, score, weight)])
print("\n ", "     ".join(["  ·  m  a  r  i  a"] * 4))
for i, char in enumerate("·maria"):
    rows = []
    for query, keys, _, _ in heads[4 * i : 4 * i + 4]:
        weights = softmax([dot(query, key) / math.sqrt(4) for key in keys])
        rows.append("".join(f"{100 * x.data:3.0f}" for x in weights))
    print(char, (" " * (20 - 3 * i)).join(rows))

# %% Sampling: temperatures

print("\n      a     e     i     o     u     names")
for t in (0.25, 0.5, 1, 2):
    p = softmax([logit / t for logit in logits[1]])  # after the m
    names = [sample(model, tokenizer, t, random.Random(seed)) for seed in range(4)]
    print(f"{t:<5}", *[f"{p[x].data:.2f} " for x in tokenizer.encode("aeiou")[1:-1]], *names)
