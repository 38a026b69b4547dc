"""The same training on plain lists of floats, with every derivative worked out by hand.

It is what the tests hold the gradients of microgpt.py against, and what the benchmark compares its
cost with. It shares no code with microgpt.py. Notation: dx is the derivative of the loss by x.
weights and gradients are matrices of floats by name, named as in microgpt.py.
"""

import math
from operator import mul


def dot(a, b):
    """The dot product of two vectors."""
    return sum(map(mul, a, b))


def add(a, b):
    """The sum of two vectors."""
    return [x + y for x, y in zip(a, b)]


def linear(weight, x):
    """y = W x."""
    return [dot(row, x) for row in weight]


def linear_backward(weight, d_weight, x, dy):
    """dW += dy x^T, and return dx = W^T dy."""
    dx = [0.0] * len(x)
    for row, d_row, d in zip(weight, d_weight, dy):
        d_row[:] = [a + d * b for a, b in zip(d_row, x)]
        dx = [a + d * w for a, w in zip(dx, row)]
    return dx


def rmsnorm(x):
    """y = s x with s = 1 / sqrt(mean(x^2) + eps); return y and s."""
    s = 1.0 / math.sqrt(dot(x, x) / len(x) + 1e-5)
    return [s * a for a in x], s


def rmsnorm_backward(dy, y, s):
    """ds/dx_j = -s^3 x_j / n, so that dx = s (dy - y (dy . y) / n)."""
    c = dot(dy, y) / len(y)
    return [s * (d - a * c) for d, a in zip(dy, y)]


def softmax(scores):
    """p_i = exp(s_i) / sum of all exp(s_j)."""
    largest = max(scores)
    exps = [math.exp(s - largest) for s in scores]
    total = sum(exps)
    return [e / total for e in exps]


def softmax_backward(dp, p):
    """dp_i/ds_j = p_i ([i = j] - p_j), so that ds = p (dp - dp . p)."""
    c = dot(dp, p)
    return [a * (d - c) for a, d in zip(p, dp)]


def forward(weights, tokens, n_layer, n_head):
    """Return the logits at every position, all positions of a layer before the next layer.

    And what the backward pass needs again: the normed embeddings, a tuple a layer, the last x.
    """
    head_dim = len(weights["wte"][0]) // n_head
    xs = [add(weights["wte"][token], weights["wpe"][i]) for i, token in enumerate(tokens)]
    embedded = [rmsnorm(x) for x in xs]
    xs = [x for x, _ in embedded]
    layers = []
    for i in range(n_layer):
        wq, wk, wv, wo = (weights[f"layer{i}.attn_{name}"] for name in ("wq", "wk", "wv", "wo"))
        normed = [rmsnorm(x) for x in xs]
        qs, ks, vs = ([linear(weight, x) for x, _ in normed] for weight in (wq, wk, wv))
        shares, founds = [], []
        for t, q in enumerate(qs):
            share, found = [], []
            for a in range(0, len(q), head_dim):
                b = a + head_dim
                scores = [dot(q[a:b], k[a:b]) / math.sqrt(head_dim) for k in ks[: t + 1]]
                share.append(softmax(scores))
                found += [dot(share[-1], column[: t + 1]) for column in zip(*[v[a:b] for v in vs])]
            shares.append(share)
            founds.append(found)
        xs = [add(x, linear(wo, found)) for x, found in zip(xs, founds)]
        normed_mlp = [rmsnorm(x) for x in xs]
        hiddens = [linear(weights[f"layer{i}.mlp_fc1"], x) for x, _ in normed_mlp]
        hiddens = [[max(h, 0.0) for h in hidden] for hidden in hiddens]
        xs = [add(x, linear(weights[f"layer{i}.mlp_fc2"], h)) for x, h in zip(xs, hiddens)]
        layers.append((normed, qs, ks, vs, shares, founds, normed_mlp, hiddens))
    return [linear(weights["lm_head"], x) for x in xs], embedded, layers, xs


def attention_backward(t, d_found, share, q, ks, vs, dks, dvs):
    """Return dq of position t; add to dks and dvs of the positions up to it."""
    n_head = len(share)
    head_dim = len(q) // n_head
    dq = []
    for h, p in enumerate(share):
        a, b = h * head_dim, (h + 1) * head_dim
        d_out, part = d_found[a:b], [0.0] * head_dim
        d_scores = softmax_backward([dot(d_out, v[a:b]) for v in vs[: t + 1]], p)
        for j, d_score in enumerate(d_scores):
            d = d_score / math.sqrt(head_dim)
            part = [x + d * y for x, y in zip(part, ks[j][a:b])]
            dks[j][a:b] = [x + d * y for x, y in zip(dks[j][a:b], q[a:b])]
            dvs[j][a:b] = [x + p[j] * y for x, y in zip(dvs[j][a:b], d_out)]
        dq += part
    return dq


def zeros(weights):
    """Matrices of the same names and sizes."""
    return {name: [[0.0] * len(row) for row in w] for name, w in weights.items()}


def loss_and_gradients(weights, document, n_layer, n_head, block_size, gradients=None):
    """Return the mean cross-entropy of a document, and its gradient, added to those given."""
    gradients = gradients or zeros(weights)
    targets = document[1 : block_size + 1]
    tokens, count = document[: len(targets)], len(targets)
    logits, embedded, layers, xs = forward(weights, tokens, n_layer, n_head)
    loss, dxs = 0.0, []
    for x, scores, target in zip(xs, logits, targets):
        p = softmax(scores)
        loss -= math.log(p[target]) / count
        p[target] -= 1.0  # d(-log p_target)/d logit_i = p_i - [i = target]
        d_logits = [d / count for d in p]
        dxs.append(linear_backward(weights["lm_head"], gradients["lm_head"], x, d_logits))
    for i in reversed(range(n_layer)):
        w = {name: weights[f"layer{i}.{name}"] for name in NAMES}
        g = {name: gradients[f"layer{i}.{name}"] for name in NAMES}
        normed, qs, ks, vs, shares, founds, normed_mlp, hiddens = layers[i]
        dks, dvs = ([[0.0] * len(k) for k in ks] for _ in range(2))
        for t in reversed(range(count)):  # the keys and values of t are used at t and later
            x, s = normed_mlp[t]
            dh = linear_backward(w["mlp_fc2"], g["mlp_fc2"], hiddens[t], dxs[t])
            dh = [d if h > 0 else 0.0 for d, h in zip(dh, hiddens[t])]
            dx = linear_backward(w["mlp_fc1"], g["mlp_fc1"], x, dh)
            dxs[t] = add(dxs[t], rmsnorm_backward(dx, x, s))
            d_found = linear_backward(w["attn_wo"], g["attn_wo"], founds[t], dxs[t])
            dq = attention_backward(t, d_found, shares[t], qs[t], ks, vs, dks, dvs)
            x, s = normed[t]
            dx = linear_backward(w["attn_wq"], g["attn_wq"], x, dq)
            dx = add(dx, linear_backward(w["attn_wk"], g["attn_wk"], x, dks[t]))
            dx = add(dx, linear_backward(w["attn_wv"], g["attn_wv"], x, dvs[t]))
            dxs[t] = add(dxs[t], rmsnorm_backward(dx, x, s))
    for t, (token, dx, (x, s)) in enumerate(zip(tokens, dxs, embedded)):
        dx = rmsnorm_backward(dx, x, s)
        gradients["wte"][token] = add(gradients["wte"][token], dx)
        gradients["wpe"][t] = add(gradients["wpe"][t], dx)
    return loss, gradients


NAMES = ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")


def train(weights, draw, num_steps, n_layer, n_head, block_size, learning_rate=0.01):
    """Yield the loss of each step of Adam, with linear decay, on the batch of draw(step)."""
    beta1, beta2, epsilon = 0.85, 0.99, 1e-8
    means, squares = zeros(weights), zeros(weights)
    for step in range(num_steps):
        loss, gradients, batch = 0.0, zeros(weights), draw(step)
        n = len(batch)
        for text in batch:
            loss += loss_and_gradients(weights, text, n_layer, n_head, block_size, gradients)[0] / n
        rate = learning_rate * (1 - step / num_steps) / (1 - beta1 ** (step + 1))
        scale = 1 / (1 - beta2 ** (step + 1))
        for name, matrix in weights.items():
            for w, g, m, v in zip(matrix, gradients[name], means[name], squares[name]):
                m[:] = [beta1 * a + (1 - beta1) * b / n for a, b in zip(m, g)]
                v[:] = [beta2 * a + (1 - beta2) * (b / n) ** 2 for a, b in zip(v, g)]
                w[:] = [x - rate * a / (math.sqrt(b * scale) + epsilon) for x, a, b in zip(w, m, v)]
        yield loss
