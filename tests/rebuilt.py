"""The parts of microgpt.py in another author's words, and usual mistakes made in them on purpose.

What rebuild.py says of them is what test_rebuild.py checks.
"""

BODIES = {
    "Tokenizer.encode": """
        tokens = [self.bos]
        for char in doc:
            if char not in self.ids:
                raise ValueError(f"no id for {char!r}")
            tokens.append(self.ids[char])
        tokens.append(self.bos)
        return tokens
    """,
    "bigram_loss": """
        table = [[1] * vocab_size for _ in range(vocab_size)]
        for tokens in train_examples:
            for i in range(len(tokens) - 1):
                table[tokens[i]][tokens[i + 1]] += 1
        total, n = 0.0, 0
        for tokens in examples:
            for i in range(len(tokens) - 1):
                row = table[tokens[i]]
                total -= math.log(row[tokens[i + 1]] / sum(row))
                n += 1
        return total / n
    """,
    "Value.__mul__": """
        if isinstance(other, (int, float)):
            return Value(self.data * other, ((self,), (other,)))
        product = self.data * other.data
        return Value(product, ((self,), (other.data,)), ((other,), (self.data,)))
    """,
    "Value.topological_order": """
        finished, seen = [], set()

        def visit(node):
            seen.add(node)
            for inputs, _ in node.sources:
                for x in inputs:
                    if x.sources and x not in seen:
                        visit(x)
            finished.append(node)

        visit(self)
        finished.reverse()
        return finished
    """,
    "Value.backward": """
        order, seen = [], set()

        def visit(node):
            if node not in seen:
                seen.add(node)
                for inputs, _ in node.sources:
                    for x in inputs:
                        visit(x)
                order.append(node)

        visit(self)
        for node in order:
            if node.sources:
                node.grad = 0.0
        self.grad += 1.0
        for node in reversed(order):
            for inputs, local_grads in node.sources:
                for i in range(len(inputs)):
                    inputs[i].grad += node.grad * local_grads[i]
    """,
    "dot": """
        xs, ys = list(a), list(b)
        if len(xs) != len(ys):
            raise ValueError("lengths differ")
        total, d_xs, d_ys = 0.0, [], []
        for x, y in zip(xs, ys):
            total += x.data * y.data
            d_xs.append(y.data)
            d_ys.append(x.data)
        return Value(total, (xs, d_xs), (ys, d_ys))
    """,
    "linear": """
        y = []
        for row in weight:
            y.append(dot(row, x))
        return y
    """,
    "rmsnorm": """
        mean_square = sum(xi * xi for xi in x) / len(x)
        root = (mean_square + 1e-5) ** 0.5
        return [xi / root for xi in x]
    """,
    "softmax": """
        top = max(x.data for x in logits)
        powers = []
        for x in logits:
            powers.append((x - top).exp())
        return [power * sum(powers) ** -1 for power in powers]
    """,
    "cross_entropy": """
        top = max(x.data for x in logits)
        total = sum((x - top).exp() for x in logits)
        return total.log() - (logits[target] - top)
    """,
    "attention": """
        n = len(query) // n_head
        result = []
        for h in range(n_head):
            a, b = h * n, h * n + n
            scores = [dot(query[a:b], key[a:b]) / math.sqrt(n) for key in keys]
            weights = softmax(scores)
            for i in range(a, b):
                result.append(sum(w * value[i] for w, value in zip(weights, values)))
        return result
    """,
    "GPT.forward": """
        t = len(cache[0][0])
        if t >= self.block_size:
            raise ValueError("no room is left")
        weights = self.state_dict
        x = []
        for i in range(len(weights["wte"][token])):
            x.append(weights["wte"][token][i] + weights["wpe"][t][i])
        x = rmsnorm(x)
        for layer in range(self.n_layer):
            name, (past_keys, past_values) = f"layer{layer}.", cache[layer]
            y = rmsnorm(x)
            q, k, v = (linear(y, weights[f"{name}attn_w{letter}"]) for letter in "qkv")
            past_keys += [k]
            past_values += [v]
            y = attention(q, past_keys, past_values, self.n_head)
            y = linear(y, weights[name + "attn_wo"])
            x = [old + new for old, new in zip(x, y)]
            y = rmsnorm(x)
            y = linear(y, weights[name + "mlp_fc1"])
            y = [z.relu() for z in y]
            y = linear(y, weights[name + "mlp_fc2"])
            x = [old + new for old, new in zip(x, y)]
        return linear(x, weights["lm_head"])
    """,
    "GPT.losses": """
        cache = self.new_cache()
        found = []
        for i in range(min(len(tokens) - 1, self.block_size)):
            logits = self.forward(tokens[i], cache)
            found.append(cross_entropy(logits, tokens[i + 1]))
        return found
    """,
    "Adam.step": """
        self.steps_done += 1
        t = self.steps_done
        for i in range(len(self.parameters)):
            g = self.parameters[i].grad
            self.means[i] += (1 - self.beta1) * (g - self.means[i])
            self.squares[i] += (1 - self.beta2) * (g**2 - self.squares[i])
            m = self.means[i] / (1 - self.beta1**t)
            v = self.squares[i] / (1 - self.beta2**t)
            self.parameters[i].data -= learning_rate * m / (v**0.5 + self.epsilon)
    """,
    "linear_decay": """
        return [peak * (num_steps - step) / num_steps for step in range(num_steps)]
    """,
    "train": """
        batches = iter(batches)
        for rate in learning_rates:
            batch = next(batches)
            for p in model.parameters:
                p.grad = 0
            mean = 0.0
            for example in batch:
                loss = model.loss(example) * (1 / len(batch))
                loss.backward()
                mean += loss.data
            if math.isnan(mean) or math.isinf(mean):
                raise FloatingPointError("it has diverged")
            optimizer.step(rate)
            yield mean
    """,
    "draw": """
        scores = [x.data for x in logits]
        best = max(scores)
        if temperature == 0:
            return scores.index(best)
        chances = [math.exp((score - best) / temperature) for score in scores]
        if top_k:
            least = sorted(scores, reverse=True)[:top_k][-1]  # where there are fewer, of all
            chances = [c if score >= least else 0.0 for c, score in zip(chances, scores)]
        mark = rng.random() * sum(chances)
        for token, chance in enumerate(chances):
            mark -= chance
            if mark < 0:
                return token
        return scores.index(best)
    """,
    "sample": """
        context = list(tokens)
        new, cache = [], model.new_cache()
        context = context[-model.block_size:]
        for token in context:
            logits = model.forward(token, cache)
        while len(new) < max_new_tokens:
            token = draw(logits, temperature, top_k, rng)
            if token == stop:
                break
            new.append(token)
            context.append(token)
            if len(context) > model.block_size:
                context.pop(0)
                cache = model.new_cache()
                for earlier in context:
                    logits = model.forward(earlier, cache)
            else:
                logits = model.forward(token, cache)
        return new
    """,
    "evaluate": """
        total, n = 0.0, 0
        for tokens in examples:
            for loss in model.losses(tokens):
                total += loss.data
                n += 1
        return total / n
    """,
}

MISTAKES = (  # part, what it says above, what a learner might write instead, part of the hint
    ("Tokenizer.encode", "        tokens.append(self.bos)\n", "", "BOS is missing at the end"),
    ("Tokenizer.encode", "tokens = [self.bos]", "tokens = []", "BOS is missing at the start"),
    ("Tokenizer.encode", "        tokens.append(self.bos)\n        return tokens",
     "        return tokens[1:]", "both ends"),
    ("Tokenizer.encode", "raise ValueError(", "raise KeyError(", ""),
    ("bigram_loss", "[1] * vocab_size", "[0] * vocab_size", ""),  # two mistakes in one
    ("bigram_loss", "sum(row)", "(sum(row) - vocab_size)", "grows by vocab_size"),
    ("Value.__mul__", "((self,), (other.data,)), ((other,), (self.data,))",
     "((self,), (self.data,)), ((other,), (other.data,))", "other way round"),
    ("Value.__mul__", "        if isinstance(other, (int, float)):\n"
     "            return Value(self.data * other, ((self,), (other,)))\n", "", "no Value yet"),
    ("Value.topological_order", "        finished.reverse()\n", "", "y comes first"),
    ("Value.topological_order", "        finished.reverse()\n        return finished",
     "        return reversed(finished)", ""),
    ("Value.__mul__", "((self,), (other.data,)), ((other,), (self.data,))",
     "((self,), (other,)), ((other,), (self,))", "plain numbers"),
    ("Value.topological_order", """            seen.add(node)
            for inputs, _ in node.sources:
                for x in inputs:
                    if x.sources and x not in seen:
                        visit(x)
            finished.append(node)

        visit(self)
        finished.reverse()
""", """            seen.add(node)
            finished.append(node)
            for inputs, _ in node.sources:
                for x in inputs:
                    if x.sources and x not in seen:
                        visit(x)

        visit(self)
""", "all its users"),
    ("Value.backward", "grad += node.grad", "grad = node.grad", "two paths"),
    ("Value.backward", "reversed(order)", "order", "y comes first"),
    ("Value.backward", "node.grad * local_grads[i]", "local_grads[i]", "multiplies"),
    ("Value.backward", "self.grad += 1.0", "pass", "gets anywhere"),
    ("Value.backward", "                node.grad = 0.0", "                pass",
     "passed on again"),
    ("Value.backward", "            if node.sources:\n                node.grad = 0.0",
     "            node.grad = 0.0", "leaves must keep"),
    ("Value.backward", "self.grad += 1.0", "self.grad = 1.0", "grow by 1"),
    ("Value.backward", "local_grads[i]\n", "local_grads[i]\n            if node.sources:\n"
     "                node.grad = 0.0\n", ""),
    ("dot", ", (xs, d_xs), (ys, d_ys)", "", "plain number"),
    ("dot", ", (ys, d_ys)", "", "no gradient gets to b"),
    ("dot", "d_xs.append(y.data)", "d_ys.append(y.data)", ""),
    ("dot", "(xs, d_xs), (ys, d_ys)", "(xs, d_ys), (ys, d_xs)", "other way round"),
    ("dot", "len(xs) != len(ys)", "not xs", "must be refused"),
    ("linear", "for row in weight:", "for row in zip(*weight):", "columns"),
    ("rmsnorm", " / len(x)", "", "sum of the squares"),
    ("rmsnorm", " + 1e-5", "", "1e-5 is missing"),
    ("rmsnorm", " ** 0.5", "", "root is missing"),
    ("rmsnorm", "(mean_square + 1e-5) ** 0.5", "mean_square ** 0.5 + 1e-5", "under the root"),
    ("rmsnorm", "        mean_square", "        mean = sum(x) / len(x)\n"
     "        x = [xi - mean for xi in x]\n        mean_square", "LayerNorm"),
    ("rmsnorm", "return [xi / root for xi in x]",
     "x[:] = [xi / root for xi in x]\n        return x", ""),
    ("rmsnorm", "return [xi / root for xi in x]", "return (xi / root for xi in x)",
     "no numbered items"),
    ("rmsnorm", "xi / root", "xi / root.data", "no gradient"),
    ("softmax", "(x - top).exp()", "x.exp()", "overflow"),
    ("softmax", "power * sum(powers) ** -1", "power", "division by the sum"),
    ("softmax", "sum(powers) ** -1", "sum(p.data for p in powers) ** -1", "no gradient"),
    ("cross_entropy", "top = max(x.data for x in logits)", "top = 0", "overflow"),
    ("cross_entropy", "return total.log() - (logits[target] - top)",
     "return -((logits[target] - top).exp() / total).log()", "log(0) fails"),
    ("cross_entropy", "(logits[target] - top)", "logits[target]", "added again"),
    ("cross_entropy", "return total.log()", "return Value(total.log().data)", ""),
    ("cross_entropy", "(logits[target] - top)", "(logits[target].data - top)", "probability - 1"),
    ("attention", " / math.sqrt(n)", "", "divide them by sqrt(head_dim)"),
    ("attention", "math.sqrt(n)", "2", ""),  # right only where a head has 4 numbers
    ("attention", "n = len(query) // n_head", "n, n_head = len(query), 1", "n_head isn't used"),
    ("attention", "value[i] for w, value in zip(weights, values)",
     "value[i] for w, value in zip(weights, keys)", "keys are mixed"),
    ("attention", "math.sqrt(n)", "n", "divide by its square root"),
    ("attention", "math.sqrt(n)", "math.sqrt(len(query))", "sqrt(n_embd)"),
    ("attention", "        return result", "            return result", "inside the loop"),
    ("attention", "softmax(scores)", "scores", "aren't weights yet"),
    ("attention", "range(a, b)", "range(n)", "its own part of the values"),
    ("attention", "            scores = [dot(query[a:b], key[a:b])", "            scores = "
     "[dot(query[h:h + n], key[h:h + n])", "not at h"),
    ("attention", "query[a:b], key[a:b]", "query, key", "its own part"),
    ("attention", "        n = len(query)", "        keys, values = keys[-1:], values[-1:]\n"
     "        n = len(query)", "only the last key"),
    ("GPT.forward", "past_keys, past_values, self", "[k], [v], self", "newest key"),
    ("GPT.forward", "past_keys += [k]\n            past_values += [v]",
     "past_keys = past_keys + [k]\n            past_values = past_values + [v]", "no past"),
    ("GPT.forward", "            past_keys += [k]\n            past_values += [v]\n"
     "            y = attention(q, past_keys, past_values, self.n_head)\n",
     "            y = attention(q, past_keys, past_values, self.n_head)\n"
     "            past_keys += [k]\n            past_values += [v]\n", "finds nothing"),
    ("GPT.forward", "[old + new for old, new in zip(x, y)]\n            y =", "x + y\n            y =",
     "number by number"),
    ("GPT.forward", "if t >= self.block_size", "if t >= self.block_size - 1", ""),
    ("GPT.forward", "            y = rmsnorm(x)\n            q", "            x = rmsnorm(x)\n"
     "            y = x\n            q", "normed x"),
    ("GPT.forward", "t = len(cache[0][0])", "t = len(cache)", "the number of layers"),
    ("GPT.forward", 'weights["wpe"][t]', 'weights["wpe"][0]', "always 0"),
    ("GPT.forward", "past_keys += [k]\n            past_values += [v]",
     "past_keys += [v]\n            past_values += [k]", "changed places"),
    ("GPT.forward", 'y = linear(y, weights[name + "attn_wo"])', "pass", "attn_wo isn't used"),
    ("GPT.forward", "linear(x, weights", "linear(rmsnorm(x), weights", "no rmsnorm before lm_head"),
    ("GPT.forward", 'return linear(x, weights["lm_head"])',
     'return softmax(linear(x, weights["lm_head"]))', "return the logits"),
    ("GPT.forward", "        return linear", "            return linear", "inside the loop"),
    ("GPT.forward", ' + weights["wpe"][t][i]', "", "row of wpe"),
    ("GPT.forward", "x = rmsnorm(x)\n        for", "for", "right after the embeddings"),
    ("GPT.forward", "y = rmsnorm(x)\n            q", "y = x\n            q", "before attention"),
    ("GPT.forward", 'rmsnorm(x)\n            y = linear(y, weights[name + "mlp_fc1',
     'x\n            y = linear(y, weights[name + "mlp_fc1', "before the MLP"),
    ("GPT.forward", "z.relu()", "z", "ReLU"),
    ("GPT.forward", "x = [old + new for old, new in zip(x, y)]\n            y =",
     "x = y\n            y =", "attention's update"),
    ("GPT.forward", "x = [old + new for old, new in zip(x, y)]\n        return",
     "x = y\n        return", "MLP's update"),
    ("GPT.losses", "tokens[i + 1]))", "tokens[i]))", "not shifted"),
    ("GPT.losses", "min(len(tokens) - 1, self.block_size)", "len(tokens) - 1", "block_size"),
    ("GPT.losses", "tokens[i], cache", "tokens[i], self.new_cache()", "empty cache"),
    ("Adam.step", """ / (1 - self.beta1**t)
            v = self.squares[i] / (1 - self.beta2**t)""", """
            v = self.squares[i]""", "bias correction"),
    ("Adam.step", " / (1 - self.beta1**t)", "", ""),  # half of it: nothing that it knows
    ("Adam.step", "        self.steps_done += 1\n", "", "isn't counted first"),
    ("Adam.step", "- self.beta1) *", "- beta1) *", ""),  # a NameError, no mistake in the sums
    ("Adam.step", "g**2", "g", ""),
    ("Adam.step", """            self.means[i] += (1 - self.beta1) * (g - self.means[i])
            self.squares[i] += (1 - self.beta2) * (g**2 - self.squares[i])
            m = self.means[i] / (1 - self.beta1**t)
            v = self.squares[i] / (1 - self.beta2**t)
""", """            m = (1 - self.beta1) * g / (1 - self.beta1**t)
            v = (1 - self.beta2) * g * g / (1 - self.beta2**t)
""", "aren't kept"),
    ("Adam.step", "(1 - self.beta1) * (g - self.means[i])\n            self.squares[i] += (1 - self.beta2)",
     "(1 - self.beta2) * (g - self.means[i])\n            self.squares[i] += (1 - self.beta1)",
     "changed places"),
    ("Adam.step", "(g**2 - self", "(self.means[i] ** 2 - self", "not that of the mean"),
    ("Adam.step", "(v**0.5 + self.epsilon)", "(v + self.epsilon) ** 0.5", "not under it"),
    ("Adam.step", "(v**0.5 + self.epsilon)", "v**0.5", "isn't added"),
    ("Adam.step", "learning_rate * m", "m", "learning rate isn't used"),
    ("Adam.step", "        t = self", "        self.beta1, self.beta2 = self.beta2, self.beta1\n"
     "        t = self", ""),
    ("Adam.step", "            self.parameters[i].data -=", "            g -=", "haven't changed"),
    ("Adam.step", "            g = self", "            self.steps_done += i > 0\n"
     "            t = self.steps_done\n            g = self", "with each parameter"),
    ("Adam.step", "v**0.5", "v", "square root"),
    ("Adam.step", "learning_rate * m / (v**0.5 + self.epsilon)", "learning_rate * g", "plain"),
    ("Adam.step", "data -=", "data +=", "climbs"),
    ("linear_decay", "num_steps - step)", "num_steps - step - 1)", "from 0"),
    ("train", "                p.grad = 0\n", "                pass\n", "not cleared"),
    ("train", "            for example in batch:\n", "            for example in batch:\n"
     "                for p in model.parameters:\n                    p.grad = 0\n",
     "only the last example"),
    ("train", " * (1 / len(batch))", "", "len(batch)"),
    ("train", """                mean += loss.data
            if math.isnan(mean) or math.isinf(mean):
                raise FloatingPointError("it has diverged")
            optimizer.step(rate)
""", """                mean += loss.data
                optimizer.step(rate)
            if math.isnan(mean) or math.isinf(mean):
                raise FloatingPointError("it has diverged")
""", "after each example"),
    ("train", "                loss.backward()\n", "", "at the update"),
    ("train", "                loss.backward()\n                mean += loss.data\n",
     "                mean += loss.data\n            loss.backward()\n", "only the last example"),
    ("train", "            optimizer.step(rate)\n            yield mean", "            yield mean\n"
     "            optimizer.step(rate)", "before the yield"),
    ("train", "            optimizer.step(rate)\n", "", "stays as it is"),
    ("train", """            if math.isnan(mean) or math.isinf(mean):
                raise FloatingPointError("it has diverged")
            optimizer.step(rate)
""", """            optimizer.step(rate)
            if math.isnan(mean) or math.isinf(mean):
                raise FloatingPointError("it has diverged")
""", ""),
    ("train", "for rate in learning_rates:\n            batch", "for i in range(3):\n"
     "            rate = learning_rates[i]\n            batch", "no numbered items"),
    ("train", "        for rate in learning_rates:\n            batch = next(batches)\n",
     "        for batch, rate in zip(batches, learning_rates):\n", ""),
    ("GPT.losses", "cross_entropy(logits, tokens[i + 1])", "-softmax(logits)[tokens[i + 1]].log()", ""),
    ("train", "if math.isnan(mean) or math.isinf(mean)", "if False", "FloatingPointError"),
    ("draw", " / temperature", "", "not used"),
    ("draw", " / temperature", " * temperature", "multiplies"),
    ("draw", "if top_k:", "if False:", "top_k is not used"),
    ("draw", "score - best", "score", "overflow"),
    ("draw", "rng.random()", "random.random()", "from rng"),
    ("sample", """            if token == stop:
                break
            new.append(token)
""", """            new.append(token)
            if token == stop:
                break
""", "not part of"),
    ("sample", "if token == stop", "if stop and token == stop", ""),
    ("sample", "context[-model.block_size:]", "context[:model.block_size]", ""),
    ("sample", "if token == stop", "if False", "when stop is drawn"),
    ("sample", "forward(token, cache)\n        return new",
     "forward(token, cache)\n        return [*tokens, *new]", "only the new ones"),
    ("sample", "if len(context) > model.block_size", "if False", "into an empty cache"),
    ("sample", "logits = model.forward(token, cache)\n        return",
     "logits = model.forward(token, model.new_cache())\n        return", "forgets"),
    ("sample", "temperature, top_k, rng", "temperature, rng=rng", "top_k isn't passed on"),
    ("sample", "temperature, top_k, rng)", "temperature, top_k)", "passed on to draw"),
    ("sample", "                for earlier in context:", "                for earlier in [token]:",
     "not only the last"),
    ("sample", "                context.pop(0)", "                break", "isn't the end"),
    ("Adam.step", "for i in range(len(self.parameters))", "for i in self.params", ""),
    ("Value.__mul__", "if isinstance(other, (int, float)):\n            return",
     "if isinstance(other, (int, float)):\n            return valeu or", ""),
    ("cross_entropy", "top = max(x.data for x in logits)", "top = logits[target].data", ""),
    ("softmax", "top = max(x.data for x in logits)", "top = logits[0].data", ""),
    ("sample", "context[-model.block_size:]", "context[-block_size:]", ""),
    ("Value.topological_order", "if x.sources and x not in seen", "if x not in seen", ""),
    ("evaluate", "return total / n", "return total", "the sum"),
    ("evaluate", "loss.data", "loss", ""),
    ("evaluate", "        return total / n", "        total / n", ""),
    ("evaluate", """        total, n = 0.0, 0
        for tokens in examples:
            for loss in model.losses(tokens):
                total += loss.data
                n += 1
        return total / n
""", """        return sum(model.loss(tokens).data for tokens in examples) / len(examples)
""", "mean of means"),
)  # fmt: skip
