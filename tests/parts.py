"""The parts of microgpt.py that rebuild.py can take out: what to write, cases, usual mistakes."""

PARTS = {  # in the order of the file: what the learner is to write
    "Tokenizer.encode": "BOS, the ids of the characters, BOS; a ValueError for unknown characters",
    "bigram_loss": "count the pairs in train_examples, then grade those in examples",
    "Value.__mul__": "the product, as a Value with its inputs and local gradients",
    "Value.topological_order": "this node and all behind it that have sources, users first",
    "Value.backward": "dy/dy is 1; then each node, users first, adds to its inputs' grads",
    "dot": "a Value: the sum of the products, with two sources; for equal lengths only",
    "linear": "one dot product for each row of the matrix",
    "rmsnorm": "x divided by the root of its mean square, made 1e-5 larger",
    "softmax": "exp of each logit, divided by their sum; no exp may overflow",
    "cross_entropy": "a Value: log(total) - logit, with its local gradients",
    "attention": "for each head: scores, weights, and the mean of the values",
    "GPT.forward": "embed the token and its position, then layers, then logits; block_size at most",
    "GPT.losses": "the cross-entropy of each token's logits and the token after it",
    "Adam.step": "two running means for each parameter, corrected; then the update",
    "linear_decay": "num_steps learning rates: the first is peak, the next would be 0",
    "train": "clear the gradients, forward, backward, check, update, yield the loss",
    "draw": "a random token, by the softmax of logits / temperature",
    "sample": "read, draw, repeat, up to stop; past block_size, read anew",
    "evaluate": "the mean of all single losses in all examples, a plain number",
}

GRAPHS = """
    grads(lambda x: 5 * x, 1)
    grads(lambda x: x * x, 3)
    grads(lambda x: ((x * 2) * 3) * 4, 1)
    grads(lambda x: (a := x * 2) + (a * 3) * 5, 1)
    grads(lambda x: ((a := x * 2) * 3) * 5 + a, 1)
    grads(lambda x, y: dot([x, y], [x, y]), 2, 3)
    grad_between(lambda x: x * 2, lambda a: a * a, 3)

    grads(lambda x: x * x * x, 2, calls=2)
    grads(lambda x: x, 2, calls=2)
"""
CASES = {  # of each part: calls that must give what they give with microgpt.py, in groups
    "Tokenizer.encode": """
        Tokenizer(["emma", "ava"]).encode("mav")
        Tokenizer(["emma", "ava"]).encode("")

        Tokenizer(["emma", "ava"]).encode("eve ")
    """,
    "bigram_loss": """
        bigram_loss([[2, 0, 2]], [[2, 0]], 3)
        bigram_loss([[2, 0, 1, 2], [2, 1, 2]], [[2, 0, 1, 2], [2, 2]], 3)
    """,
    "Value.__mul__": """
        Value(3.0) * Value(4.0)
        grads(lambda a, b: a * b, 3, 4)
        grads(lambda a: a * a, 3)

        Value(3.0) * 2
    """,
    "Value.topological_order": f"""
        order_of(lambda x: x * x)
        order_of(lambda x: ((a := x * 2) * 3) * 5 + a)
        order_of(lambda x: (a := x * 2) + (a * 3) * 5){GRAPHS}""",
    "Value.backward": GRAPHS,
    "dot": """
        dot(vector(1, 2), vector(3, 4))
        dot(vector(1, 2), vector(3, 4), [3.0, 4.0])
        grads(lambda a, b, c, d: dot([a, b], [c, d]), 1, 2, 3, 4)
        grads(lambda a, b: dot([a, b], [a, b]), 3, 4)
        grads(lambda a, b: dot([a, b], [a, b]), 3, 4, calls=2)

        dot(vector(1), vector(1, 2))
    """,
    "linear": """
        linear(vector(5, 6), vectors("12", "34"))
        grads(lambda a, b, c, d: linear([a, b], [[c, d], [a, d]])[1], 1, 2, 3, 4)
    """,
    "rmsnorm": """
        rmsnorm(vector(3, 4))
        rmsnorm(vector(0.001, 0.002))
        rmsnorm(vector(0, 0))
        grads(lambda a, b: rmsnorm([a, b])[0], 3, 4)

        is_left_alone(rmsnorm, vector(3, 4))
    """,
    "softmax": """
        softmax(vector(2, 1, 0))
        grads(lambda a, b: softmax([a, b])[0], 1, 0)
        grads(lambda a, b: softmax([a, b])[1], 1, 0)

        softmax(vector(1000, 0))
        softmax(vector(0, 1000))
        softmax(vector(-1000, -1001))

        is_left_alone(softmax, vector(2, 1))
    """,
    "cross_entropy": """
        cross_entropy(vector(2, 1, 0), 1)
        grads(lambda a, b, c: cross_entropy([a, b, c], 1), 2, 1, 0)

        cross_entropy(vector(1000, 0), 1)
        cross_entropy(vector(0, 1000), 0)
        cross_entropy(vector(-1000, -1001), 0)
    """,
    "attention": """
        attention(vector(1, 2), vectors("10", "01"), vectors("12", "34"), 1)
        attention(vector(1, 2, 3, 4), vectors("1020", "0102"), vectors("1234", "9786"), 2)
        attention(vector(1, 2, 3, 4), vectors("1020", "0102"), vectors("1234", "9786"), 1)
        grads(lambda a, b, c: attention([a, b], [[b, c], [c, a]], [[c, c], [a, b]], 1)[0], 1, 2, 3)
    """,
    "GPT.forward": """
        logits(model(), [4, 0, 1])
        logits(model(n_layer=2), [4, 0, 1])
        grads_of_parameters(model(n_layer=2), [4, 0, 1, 4])

        logits(model(block_size=2), [4, 0])
        logits(model(block_size=2), [4, 0, 1])
    """,
    "GPT.losses": """
        model().losses([4, 0, 1, 4])

        model(block_size=2).losses([4, 0, 1, 4])

        model(size=1000).losses([4, 0, 1, 4])
    """,
    "Adam.step": """
        memory_after_steps(Adam, [0.1], [2.0])
        memory_after_steps(Adam, [0.1, 0.1], [2.0, -3.0])

        parameters_after_steps(Adam, [0.1], [2.0])
        parameters_after_steps(Adam, [0.1, 0.1, 0.05], [2.0, 2.0, -3.0])

        parameters_after_steps(Adam, [0.1, 0.1], [2.0, 1.0], beta1=0.5, beta2=0.5)
        parameters_after_steps(Adam, [0.1, 0.1], [1e-8, 0.0])
    """,
    "linear_decay": """
        list(linear_decay(0.01, 4))
    """,
    "train": """
        losses_of(train, model(), [[4, 0, 1, 4]])
        losses_of(train, model(), [[4, 0, 1, 4], [4, 2, 4]])
        steps_until_the_first_loss_of(train, model())
        batches_taken(train, model())

        losses_of(train, fixed(math.nan), [[4]])
        losses_of(train, fixed(math.inf), [[4]])
        steps_until_the_first_loss_of(train, fixed(math.nan))
    """,
    "draw": """
        draw(vector(0, 5, 1), temperature=0)
        shares(draw, vector(0, 1, 2), temperature=1.0)
        shares(draw, vector(0, 1, 2), temperature=0.5)

        shares(draw, vector(0, 1, 1, 2), temperature=1.0, top_k=1)
        shares(draw, vector(0, 1, 1, 2), temperature=1.0, top_k=2)
        shares(draw, vector(0, 1), temperature=1.0, top_k=9)

        shares(draw, vector(0, 1000), temperature=1.0)
        shares(draw, vector(1, 2), temperature=0.001)

        same_twice(draw, vector(*range(9)), 9.0)
    """,
    "sample": """
        sample(model(size=20), [4], 3, temperature=0)
        sample(model(size=20), [4, 1], 2, temperature=0)
        sample(model(size=20), [4], 4, temperature=0, stop=1)


        sample(model(), [4], 3, temperature=1.0, top_k=1, rng=random.Random(1))

        sample(model(size=20), [4], 9, temperature=0)
        sample(model(size=20), [4], 9, temperature=0, stop=0)
        sample(model(size=20), [4, 0, 1, 2, 3, 0], 3, temperature=0)
        sample(model(size=20), [4, 2, 2, 2, 0, 1, 3], 3, temperature=0)

        is_left_alone(lambda tokens: sample(model(), tokens, 3), [4])

        same_twice(sample, model(), [4], 3)
    """,
    "evaluate": """
        evaluate(model(size=20), [[4, 0, 1, 2, 4], [4, 4]])
    """,
}
WORDS = {  # what the cases call besides the program
    "grads": "grads(f, 3, 4) makes Values of 3 and 4, calls f(...).backward() once, or as often as "
    "calls says, and returns their grads",
    "grad_between": "grad_between(f, g, 3) is the grad of a = f(Value(3)) after g(a).backward()",
    "order_of": "order_of(f) looks at f(Value(1.0)).topological_order()",
    "vector": "vector(1, 2) is [Value(1.0), Value(2.0)]",
    "vectors": 'vectors("12", "34") is [vector(1, 2), vector(3, 4)]',
    "model": "model() has 5 tokens (4 is BOS), 2 heads and random parameters, times size if given",
    "logits": "logits(model(), [4, 0]) are those after each of the tokens",
    "grads_of_parameters": "these are the grads of all parameters after loss(...).backward()",
    "parameters_after_steps": "[0] and [1] are two parameters, at first 1, after steps with these "
    "learning rates and gradients; those of [1] are -1/1000 of them",
    "memory_after_steps": "means [0], squares [1], steps_done [2] and grads [3] of two parameters, "
    "after steps with these learning rates and gradients (of the second: -1/1000 of them)",
    "losses_of": "losses_of(train, ...) are those of three steps with the same batch",
    "batches_taken": "batches_taken(train, ...) of three steps, and the number of losses",
    "steps_until_the_first_loss_of": "how often step() was called until next() gave a loss",
    "fixed": "fixed(x) is a model whose loss is x",
    "shares": "shares(draw, ...) is how often each token comes in 1000 draws, a little by chance",
    "same_twice": "same_twice(f, ...) calls f with rng=random.Random(1), again and again, twice",
    "is_left_alone": "is_left_alone(f, xs) is whether the list xs is the same after f(xs)",
}
ERRORS = (  # words of an error, and what they mean here
    (r"TypeError: must be real number, not Value",
     "math takes plain numbers: a Value has its own .exp(), .log() and **; its number is .data"),
    (r"AttributeError: '(float|int)' object has no attribute '(exp|log|relu)",
     "a plain number has no .exp(), .log() or .relu(): use math, or keep the Value"),
    (r"ValueError: a dot product needs equal lengths",
     "do + or += join two lists somewhere? Vectors are added number by number"),
    (r"TypeError: '.*' not supported between .*Value", "compare plain numbers: take their .data"),
    (r"AttributeError: '(float|int)' object has no attribute '(data|grad|backward|sources)",
     "a plain number stands where a Value is needed"),
    (r"AttributeError: '(list|tuple)' object has no attribute '(data|sources|serial)",
     "a list stands where a Value is needed (a source is a pair: inputs, local_grads)"),
    (r"(TypeError|AttributeError): .*'NoneType'",
     "something is None where a number or a Value is needed (without return or yield, you get None)"),
    (r"TypeError: 'generator' object is not", "a generator has no numbered items: make it a list"),
)  # fmt: skip

MISTAKES = {  # in each part: words of the program, what a mistake makes of them, the hint
    "Tokenizer.encode": [
        (
            "for char in doc] + [self.bos]",
            "for char in doc]",
            "BOS is missing at the end: it marks where a document ends, too",
        ),
        (
            "return [self.bos] + [self.ids",
            "return [self.ids",
            "BOS is missing at the start: the first character is predicted from it",
        ),
        (
            "return [self.bos] + [self.ids[char] for char in doc] + [self.bos]",
            "return [self.ids[char] for char in doc]",
            "BOS is missing at both ends",
        ),
    ],
    "bigram_loss": [
        (
            "(bigrams[token, target] + 1)",
            "bigrams[token, target]",
            "a pair that was never seen must count once, too",
        ),
        (
            "(firsts[token] + vocab_size)",
            "firsts[token]",
            "if each of vocab_size pairs counts once more, their total grows by vocab_size",
        ),
        (
            "for token in tokens[:-1]",
            "for token in tokens",
            "the last token of an example begins no pair",
        ),
    ],
    "Value.__mul__": [
        (
            "(other.data, self.data)",
            "(other, self)",
            "local gradients are plain numbers: take .data",
        ),
        (
            "(other.data, self.data)",
            "(self.data, other.data)",
            "the local gradients are the other way round: for c = a * b, dc/da is b",
        ),
        (
            """
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data""",
            """
        return Value(self.data * other.data""",
            "a plain number is no Value yet: it has no .data",
        ),
    ],
    "Value.backward": [
        (
            "x.grad += local_grad * grad",
            "x.grad = local_grad * grad",
            "a number that is used twice has two paths: add to its grad (+=) instead of setting it",
        ),
        (
            "x.grad += local_grad * grad",
            "x.grad += local_grad",
            "the chain rule multiplies: the local gradient times the node's own grad",
        ),
        (
            "self.grad += 1.0",
            "pass",
            "no gradient gets anywhere: is self.grad 1 (dy/dy) at the start, is x.grad set?",
        ),
        (
            "node.grad = 0.0",
            "pass",
            "in each call, all grads but those of leaves start at 0: old ones are passed on again",
        ),
        (
            """                node.grad = 0.0
        self.grad += 1.0""",
            """                pass
        self.grad = 1.0""",
            "in each call, all grads but those of leaves start at 0: old ones are passed on again",
        ),
        (
            "sorted(nodes, reverse=True)",
            "sorted(nodes)",
            "the order is wrong: from y back to the leaves means that y comes first",
        ),
        (
            "return [nodes[serial] for serial in sorted(nodes, reverse=True)]",
            "return list(nodes.values())",
            "the order is wrong: a node passed its grad on before all its users had added to it",
        ),
        (
            "return [nodes[serial] for serial in sorted(nodes, reverse=True)]",
            """
        order = []
        def visit(node):
            if node.sources and node not in order:
                order.append(node)
                for inputs, _ in node.sources:
                    for x in inputs:
                        visit(x)
        visit(self)
        return order""",
            "the order is wrong: a node passed its grad on before all its users had added to it",
        ),
        (
            "return [nodes[serial] for serial in sorted(nodes, reverse=True)]",
            """
        order, stack = [], [self]
        while stack:
            node = stack.pop()
            if node.sources and node not in order:
                order.append(node)
                for inputs, _ in node.sources:
                    stack.extend(inputs)
        return order""",
            "the order is wrong: a node passed its grad on before all its users had added to it",
        ),
        (
            """        nodes = self.topological_order()
""",
            """
        def visit(node):
            for inputs, local_grads in node.sources:
                for x, local_grad in zip(inputs, local_grads):
                    x.grad += local_grad * node.grad
                    visit(x)
        self.grad += 1.0
        visit(self)
        return
        nodes = []
""",
            "a node passed on what it had passed on before: wait until its grad is complete",
        ),
        (
            """            if node.sources:
                node.grad = 0.0""",
            """            node.grad = 0.0
            for inputs, _ in node.sources:
                for x in inputs:
                    x.grad = 0.0""",
            "leaves must keep their grads: those of several calls add up",
        ),
        (
            "self.grad += 1.0  # dy/dy",
            "self.grad = 1.0",
            "a leaf's grad must grow by 1: those of several calls add up",
        ),
    ],
    "dot": [
        (
            "(a, b_data), (b, a_data)",
            "(a, b_data)",
            "no gradient gets to b: a dot product has a source for a and one for b",
        ),
        (
            "(a, b_data), (b, a_data)",
            "(a, a_data), (b, b_data)",
            "the local gradients are the other way round: for a they are the numbers in b",
        ),
        (
            "if len(a) != len(b):",
            "if False:",
            "vectors of different lengths must be refused: zip and map would drop the rest",
        ),
    ],
    "linear": [
        (
            "for row in weight]",
            "for row in zip(*weight)]",
            "these are the columns of the matrix: a linear layer takes its rows",
        ),
    ],
    "rmsnorm": [
        (
            "dot(x, x) / len(x) + 1e-5",
            "dot(x, x) + 1e-5",
            "this is the sum of the squares: divide by len(x) to get their mean",
        ),
        (
            "dot(x, x) / len(x) + 1e-5",
            "dot(x, x) / len(x)",
            "the 1e-5 is missing: without it, a vector of zeros is divided by 0",
        ),
        (
            "1e-5) ** -0.5",
            "1e-5) ** -1",
            "the root is missing: x is to be divided by the root of the mean square",
        ),
        (
            "+ 1e-5) ** -0.5",
            "+ 1e-5).data ** -0.5",
            "the scale depends on x, too: as a plain number it passes on no gradient",
        ),
        (
            "(dot(x, x) / len(x) + 1e-5) ** -0.5",
            "((dot(x, x) / len(x)) ** 0.5 + 1e-5) ** -1",
            "the 1e-5 belongs under the root",
        ),
        (
            "    scale = (dot(x, x)",
            """    mean = sum(x) / len(x)
    x = [xi - mean for xi in x]
    scale = (dot(x, x)""",
            "RMSNorm doesn't subtract the mean: LayerNorm does",
        ),
    ],
    "softmax": [
        (
            "(logit - largest).exp()",
            "logit.exp()",
            "subtract the largest logit before exp, or large logits overflow",
        ),
        ("return [e / total for e in exps]", "return exps", "the division by the sum is missing"),
        (
            "return [e / total for e in exps]",
            "return [e / total.data for e in exps]",
            "the sum depends on the logits, too: as a plain number it passes on no gradient",
        ),
    ],
    "cross_entropy": [
        (
            "exps = [math.exp(logit.data - largest) for logit in logits]",
            "largest, exps = 0.0, [math.exp(logit.data) for logit in logits]",
            "subtract the largest logit before exp, or large logits overflow",
        ),
        (
            "loss = math.log(total) - (logits[target].data - largest)",
            "loss = -math.log(math.exp(logits[target].data - largest) / total)",
            "a tiny probability rounds to 0, and log(0) fails: use log(total) - logit",
        ),
        (
            "local_grads[target] -= 1.0",
            "pass",
            "the target's local gradient is its probability - 1",
        ),
        (
            "(logits[target].data - largest)",
            "logits[target].data",
            "the largest logit was taken off, and must be added again",
        ),
        (
            "local_grads[target] -= 1.0",
            "local_grads[target] += 1.0",
            "the target's local gradient is its probability - 1, not + 1",
        ),
    ],
    "attention": [
        ("* head_dim**-0.5", "", "the scores are too large: divide them by sqrt(head_dim)"),
        (
            "head_dim**-0.5",
            "head_dim**-1",
            "the scores are divided by head_dim: divide by its square root",
        ),
        (
            "head_dim**-0.5",
            "len(query)**-0.5",
            "the scores are divided by sqrt(n_embd): divide by sqrt(head_dim)",
        ),
        (
            "dot(query[head], key[head])",
            "dot(query, key)",
            "each head compares only its own part of query and key",
        ),
        (
            "head_dim = len(query) // n_head",
            "head_dim, keys, values = len(query) // n_head, keys[-1:], values[-1:]",
            "only the last key and value are used: attention mixes those of all tokens so far",
        ),
        (
            "head_dim = len(query) // n_head",
            "head_dim, keys, values = len(query) // n_head, keys[:-1], values[:-1]",
            "the token itself is left out: it is the last one in keys and values",
        ),
        (
            "weights = softmax(scores)",
            "weights = scores",
            "the scores aren't weights yet: softmax makes them positive, with a sum of 1",
        ),
        (
            "range(0, len(query), head_dim)",
            "range(0, head_dim, head_dim)",
            "only the first head is computed: is the return inside the loop?",
        ),
        (
            "[value[i] for value in values]",
            "[value[i - start] for value in values]",
            "each head mixes its own part of the values, not their first numbers",
        ),
        (
            "head = slice(start, start + head_dim)",
            "head = slice(start // head_dim, start // head_dim + head_dim)",
            "head h starts at number h * head_dim of query and key, not at h",
        ),
        (
            "head_dim = len(query) // n_head",
            "head_dim = len(query)",
            "n_head isn't used: each head takes len(query) // n_head numbers",
        ),
        (
            "[value[i] for value in values]",
            "[value[i] for value in keys]",
            "the keys are mixed: the weights are for the values",
        ),
    ],
    "GPT.forward": [
        (
            "attention(query, keys, values, self.n_head)",
            "attention(query, keys[-1:], values[-1:], self.n_head)",
            "attention sees only the newest key and value: give it all that are in the cache",
        ),
        (
            "for i, (keys, values) in enumerate(cache):",
            "for i, (keys, values) in enumerate(self.new_cache()):",
            "keys and values have no past: append them to the lists in the cache",
        ),
        (
            '[t + p for t, p in zip(w["wte"][token], w["wpe"][position])]',
            'list(w["wte"][token])',
            "the position's embedding, a row of wpe, is not added",
        ),
        ("x = rmsnorm(x)  #", "#", "the rmsnorm right after the embeddings is missing"),
        (
            """h = rmsnorm(x)
            query""",
            """h = x
            query""",
            "the rmsnorm before attention is missing",
        ),
        ("linear(rmsnorm(x), w", "linear(x, w", "the rmsnorm before the MLP is missing"),
        (
            "h = [hi.relu() for hi in h]",
            "",
            "the ReLU between the two matrices of the MLP is missing",
        ),
        (
            """
            x = [a + b for a, b in zip(x, h)]
            h = linear(rmsnorm""",
            """
            x = h
            h = linear(rmsnorm""",
            "attention's update must be added to x, and not replace it",
        ),
        (
            """mlp_fc2"])
            x = [a + b for a, b in zip(x, h)]""",
            """mlp_fc2"])
            x = h""",
            "the MLP's update must be added to x, and not replace it",
        ),
        (
            "keys.append(linear(h, w[f\"layer{i}.attn_wk\"]))",
            "later = linear(h, w[f\"layer{i}.attn_wk\"])",
            "values.append(linear(h, w[f\"layer{i}.attn_wv\"]))",
            "also = linear(h, w[f\"layer{i}.attn_wv\"])",
            "h = linear(attention(query, keys, values, self.n_head), w[f\"layer{i}.attn_wo\"])",
            "h = linear(attention(query, keys, values, self.n_head), w[f\"layer{i}.attn_wo\"])"
            "; keys.append(later); values.append(also)",
            "attention finds nothing in the cache: append this token's key and value first",
        ),
        (
            "position = len(cache[0][0])",
            "position = 0",
            "the position is always 0: it is how many keys the cache holds",
        ),
        (
            "keys.append(linear(h, w[f\"layer{i}.attn_wk\"]))",
            "keys.append(linear(h, w[f\"layer{i}.attn_wv\"]))",
            "values.append(linear(h, w[f\"layer{i}.attn_wv\"]))",
            "values.append(linear(h, w[f\"layer{i}.attn_wk\"]))",
            "keys and values have changed places",
        ),
        (
            "linear(attention(query, keys, values, self.n_head), w[f\"layer{i}.attn_wo\"])",
            "attention(query, keys, values, self.n_head)",
            "attn_wo isn't used: attention's result passes through it",
        ),
        (
            "return linear(x, w[\"lm_head\"])",
            "return linear(rmsnorm(x), w[\"lm_head\"])",
            "there is no rmsnorm before lm_head in this model",
        ),
        (
            "return linear(x, w[\"lm_head\"])",
            "return softmax(linear(x, w[\"lm_head\"]))",
            "these are probabilities: return the logits",
        ),
        (
            "enumerate(cache):",
            "enumerate(cache[:1]):",
            "only the first layer is computed: is the return inside the loop?",
        ),
        (
            "h = rmsnorm(x)\n            query",
            "x = h = rmsnorm(x)\n            query",
            "attention's update is added to the normed x: keep x itself for the residual",
        ),
        (
            "position = len(cache[0][0])",
            "position = len(cache)",
            "len(cache) is the number of layers: the position is how many keys one of them holds",
        ),
    ],
    "GPT.losses": [
        (
            "list(zip(tokens, tokens[1:]))",
            "list(zip(tokens, tokens))",
            "the targets are not shifted: a token's target is the token after it",
        ),
        (
            "list(zip(tokens, tokens[1:]))",
            "list(zip(tokens[:-1], tokens[:-1]))",
            "the targets are not shifted: a token's target is the token after it",
        ),
        (
            "pairs = pairs[: self.block_size]",
            "",
            "only the first block_size predictions fit into the context",
        ),
        (
            "self.forward(token, cache)",
            "self.forward(token, self.new_cache())",
            "each token got an empty cache: all tokens of an example share one",
        ),
    ],
    "Adam.step": [
        (
            "= 1 - beta1**self.steps_done, 1 - beta2**self.steps_done",
            "= 1, 1",
            "the bias correction is missing: divide by 1 - beta1**steps and 1 - beta2**steps",
        ),
        (
            "self.steps_done += 1",
            "pass",
            "steps_done isn't counted first, so that the corrections are 1 - beta**0 = 0",
        ),
        (
            "math.sqrt(square / correction2)",
            "square / correction2",
            "the square root is missing: mean / sqrt(square)",
        ),
        (
            "p.data -= learning_rate * ratio",
            "p.data -= learning_rate * p.grad",
            "this is plain gradient descent: Adam divides a running mean by the root of another",
        ),
        (
            "p.data -= learning_rate",
            "p.data += learning_rate",
            "this climbs: an update goes against the gradient, with a minus",
        ),
        (
            "beta1, beta2, means, squares = self.beta1, self.beta2,",
            "beta1, beta2, means, squares = self.beta2, self.beta1,",
            "beta1 is for the means and beta2 for the squares: they have changed places",
        ),
        (
            "means[i] = mean =",
            "means[i] = mean = 1 / correction1 *",
            "squares[i] = square =",
            "squares[i] = square = 1 / correction2 *",
            "the corrected means are stored: keep the uncorrected ones in means and squares",
        ),
        (
            "p.data -= learning_rate * ratio",
            "pass",
            "the parameters haven't changed: set their .data",
        ),
        (
            "        for i, p in enumerate(self.parameters):\n",
            "        self.steps_done -= 1\n        for i, p in enumerate(self.parameters):\n"
            "            self.steps_done += 1\n"
            "            correction1 = 1 - beta1**self.steps_done\n"
            "            correction2 = 1 - beta2**self.steps_done\n",
            "steps_done grows with each parameter: count it once per step",
        ),
        (
            "means[i] = mean =",
            "mean =",
            "squares[i] = square =",
            "square =",
            "the running means aren't kept: set means[i] and squares[i]",
        ),
        (
            "(1 - beta1) * p.grad",
            "p.grad",
            "(1 - beta2) * p.grad * p.grad",
            "p.grad * p.grad",
            "a running mean takes in only 1 - beta of what is new",
        ),
        (
            "(1 - beta2) * p.grad * p.grad",
            "(1 - beta2) * mean * mean",
            "squares takes in the square of the gradient, not that of the mean",
        ),
        (
            "math.sqrt(square / correction2) + self.epsilon",
            "math.sqrt(square / correction2 + self.epsilon)",
            "epsilon is added to the root, not under it",
        ),
        (
            "(math.sqrt(square / correction2) + self.epsilon)",
            "math.sqrt(square / correction2)",
            "epsilon isn't added to the root",
        ),
        (
            "p.data -= learning_rate * ratio",
            "p.data -= ratio",
            "the learning rate isn't used",
        ),
    ],
    "linear_decay": [
        (
            "1 - step / num_steps",
            "1 - (step + 1) / num_steps",
            "the first step has the full learning rate: count steps from 0",
        ),
    ],
    "train": [
        (
            "            p.grad = 0.0",
            "            pass",
            "the gradients are not cleared: those of all steps so far add up",
        ),
        (
            """        for tokens in batch:
""",
            """        for tokens in batch:
            for p in model.parameters:
                p.grad = 0.0
""",
            "only the last example counts: clear once per batch, call backward() for each example",
        ),
        (
            "model.loss(tokens) / len(batch)",
            "model.loss(tokens)",
            "this is the sum over a batch: divide each example's loss by len(batch)",
        ),
        (
            "if not math.isfinite(batch_loss):",
            "if False:",
            "a loss that is inf or nan must end the training, with a FloatingPointError",
        ),
        (
            "            batch_loss += loss.data\n",
            "            batch_loss += loss.data\n            optimizer.step(learning_rate)\n",
            "        optimizer.step(learning_rate)\n        yield",
            "        yield",
            "there is an update after each example: take one step per batch",
        ),
        (
            "loss.backward()",
            "pass",
            "all gradients are 0 at the update: no backward(), or cleared after it?",
        ),
        (
            "        optimizer.step(learning_rate)\n        yield batch_loss",
            "        yield batch_loss",
            "optimizer.step() isn't called: the model stays as it is",
        ),
        (
            "        optimizer.step(learning_rate)\n        yield batch_loss",
            "        yield batch_loss\n        optimizer.step(learning_rate)",
            "take the step before the yield: what follows it waits for the next call of next()",
        ),
        (
            "def train(model, optimizer, batches, learning_rates):",
            "def train(*given):\n    return list(steps(*given))\n\n\n"
            "def steps(model, optimizer, batches, learning_rates):",
            "this takes all steps at once: yield each loss when it is known",
        ),
    ],
    "draw": [
        (
            "math.exp((x - largest) / temperature)",
            "math.exp(x - largest)",
            "the temperature is not used: divide the logits by it",
        ),
        (
            "(x - largest) / temperature",
            "(x - largest) * temperature",
            "this multiplies by the temperature: divide the logits by it",
        ),
        (
            "least = sorted(logits)[-top_k]",
            "pass",
            "top_k is not used: all but the k likeliest tokens, and ties, must have no chance",
        ),
        (
            "math.exp((x - largest) / temperature)",
            "math.exp(x / temperature)",
            "subtract the largest logit before exp, or large logits overflow",
        ),
        (
            "rng.choices",
            "random.SystemRandom().choices",
            "the randomness must come from rng, or no run can be repeated",
        ),
    ],
    "sample": [
        (
            """if token == stop:
            break
        tokens.append(token)""",
            """tokens.append(token)
        if token == stop:
            break""",
            "stop itself is not part of what is returned",
        ),
        ("if token == stop:", "if False:", "it should end when stop is drawn"),
        (
            "return tokens[start:]",
            "return tokens",
            "the given tokens are not part of what is returned: only the new ones",
        ),
        (
            "if len(tokens) > model.block_size:",
            "if False:",
            "past block_size tokens, it must read the latest ones anew, into an empty cache",
        ),
        (
            "logits = model.forward(token, cache)",
            "logits = model.forward(token, model.new_cache())",
            "the model forgets what it has read: all tokens share one cache",
        ),
        (
            "draw(logits, temperature, top_k, rng)",
            "draw(logits, temperature, rng=rng)",
            "top_k isn't passed on to draw()",
        ),
        (
            "draw(logits, temperature, top_k, rng)",
            "draw(logits, temperature, top_k)",
            "rng isn't passed on to draw(), so that no run can be repeated",
        ),
        (
            "cache, unread = model.new_cache(), tokens[-model.block_size :]\n    return",
            "cache = model.new_cache()\n    return",
            "past block_size tokens, it must read all of the latest ones anew, not only the last",
        ),
        (
            "cache, unread = model.new_cache(), tokens[-model.block_size :]\n    return",
            "break\n    return",
            "a full context isn't the end: it goes on with the latest tokens",
        ),
    ],
    "evaluate": [
        (
            "[loss.data for tokens in examples for loss in model.losses(tokens)]",
            "[model.loss(tokens).data for tokens in examples]",
            "this is a mean of means: take the mean over all predictions of all examples",
        ),
        (
            "return sum(losses) / len(losses)\n\n\ndef first_run",
            "return sum(losses)\n\n\ndef first_run",
            "this is the sum: divide by the number of losses",
        ),
    ],
}
MISTAKES["Value.topological_order"] = MISTAKES["Value.backward"]  # it can also be made there
