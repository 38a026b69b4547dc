"""The model of microgpt.py in PyTorch, for wider models, longer contexts and millions of names.

    python tests/gpt_torch.py --load names.json --num_steps 2000
    torchrun --nproc_per_node 2 tests/gpt_torch.py --batch_size 8

Flags, data, batches, checkpoints and the lines in a file are those of microgpt.py: this is its
program with another train(), evaluate() and forward(). On a CPU, it computes in double precision,
as Python does, and finds the same losses. On a GPU, which it uses where there is one for each
process, it computes in single precision: for large models much faster, and good to some seven
digits. (CUDA_VISIBLE_DEVICES= in front of the command hides the GPU.) Ctrl-C ends the training, and
what was trained is saved; torchrun then prints a traceback of its own.
"""

import os
import signal
import sys
from pathlib import Path

try:
    import torch
    from torch.nn import functional as F
except ModuleNotFoundError:
    print("gpt_torch.py: error: it needs PyTorch: pip install torch", file=sys.stderr)
    sys.exit(2)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # microgpt.py is there
import microgpt

# torchrun starts SIZE processes, and tells each its RANK among them: 0, 1, 2, ...
RANK, SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
HAS_GPU = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
DEVICE = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if HAS_GPU else "cpu"
KIND = {"dtype": torch.float32 if HAS_GPU else torch.float64, "device": DEVICE}

# %% The model


def rmsnorm(x):
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class GPT:
    """A copy of a microgpt.GPT, with tensors for matrices. (Larger programs use nn.Module.)"""

    def __init__(self, model):
        self.n_layer, self.n_head = model.n_layer, len(model.heads)
        self.state_dict = {
            name: torch.tensor([[p.data for p in row] for row in rows], **KIND)
            for name, rows in model.state_dict.items()
        }
        self.parameters = [matrix.requires_grad_() for matrix in self.state_dict.values()]

    def forward(self, tokens):
        """Read a batch of texts at once: (text, position) in, (text, position, logit) out."""
        w = self.state_dict
        x = rmsnorm(w["wte"][tokens] + w["wpe"][: tokens.shape[1]])  # (text, position, n_embd)
        for i in range(self.n_layer):
            h = rmsnorm(x)
            qkv = [F.linear(h, w[f"layer{i}.attn_w{c}"]) for c in "qkv"]
            # Each head gets its part: (text, position, n_embd) to (text, head, position, size).
            qkv = [a.unflatten(2, (self.n_head, -1)).transpose(1, 2) for a in qkv]
            # In microgpt.py, later tokens aren't in the cache yet. Here, all are, so a causal mask
            # hides the later ones. The division by sqrt(size) and the softmax are built in, too.
            found = F.scaled_dot_product_attention(*qkv, is_causal=True)
            x = x + F.linear(found.transpose(1, 2).flatten(2), w[f"layer{i}.attn_wo"])
            h = F.linear(rmsnorm(x), w[f"layer{i}.mlp_fc1"]).relu()
            x = x + F.linear(h, w[f"layer{i}.mlp_fc2"])
        return F.linear(x, w["lm_head"])

    def losses(self, examples):
        """Return the loss of each prediction, a row for each text, and where there really is one.

        The rows of a tensor are equally long, so short texts are padded at the end with -100. As a
        target, that means "no prediction" to PyTorch, with a loss of 0. As an input, it is replaced
        by any token, here 0: no token before it can see it.
        """
        rows = [torch.tensor(tokens[: len(self.state_dict["wpe"]) + 1]) for tokens in examples]
        padded = torch.nn.utils.rnn.pad_sequence(rows, True, padding_value=-100).to(DEVICE)
        logits, targets = self.forward(padded[:, :-1].clamp(min=0)), padded[:, 1:]
        losses = F.cross_entropy(logits.mT, targets, reduction="none")  # .mT: logits second
        return losses, targets >= 0


# %% The training
#
# In training, tensors hold the numbers of microgpt.py's run: its parameters are in run.model.twin,
# a GPT from above, and its running means in PyTorch's own AdamW.


def new_optimizer(run):
    """Return PyTorch's AdamW for the twin, with the running means so far."""
    adam, weights = run.optimizer, run.model.twin.parameters
    betas, decay = (adam.beta1, adam.beta2), adam.weight_decay
    optimizer = torch.optim.AdamW(weights, betas=betas, weight_decay=decay, fused=True)
    for key, numbers in ("exp_avg", adam.means), ("exp_avg_sq", adam.squares):
        parts = torch.tensor(numbers, **KIND).split([w.numel() for w in weights])
        for w, part in zip(weights, parts):
            optimizer.state[w][key] = part.view_as(w)
            optimizer.state[w]["step"] = torch.tensor(float(adam.steps_done), device=DEVICE)
    return optimizer


def save(run, optimizer, path):
    """Write a checkpoint, if there is a path, with the numbers that are in tensors."""
    if path:
        state, moments = run.state(), optimizer.state.values()
        matrices = run.model.twin.state_dict.items()
        state["weights"] = {name: matrix.tolist() for name, matrix in matrices}
        for name, key in ("means", "exp_avg"), ("squares", "exp_avg_sq"):
            state[name] = [number for x in moments for number in x[key].flatten().tolist()]
        microgpt.save(state, path)


def add_up(tensor):
    """Replace a tensor by the sum of it over all processes."""
    if SIZE > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def train_step(model, optimizer, batch, learning_rate):
    """Learn from a batch, of which each process takes its share; return the mean loss.

    The processes add up their gradients. So all make the same step, and their weights stay equal.
    """
    share, weights, loss = batch[RANK::SIZE], model.parameters, torch.zeros((), **KIND)
    for w in weights:
        w.grad = torch.zeros_like(w)
    if share:  # there may be more processes than texts
        losses, is_real = model.losses(share)
        loss = (losses.sum(1) / is_real.sum(1)).sum() / len(batch)  # the mean of each text's mean
        loss.backward()
    # One vector with all of it, since a sum over processes takes time, however short it is.
    total = add_up(torch.cat([loss.detach().view(1), *[w.grad.flatten() for w in weights]]))
    if not total.square().sum().isfinite():
        raise FloatingPointError("the model has diverged: try a smaller --learning_rate")
    for w, part in zip(weights, total[1:].split([w.numel() for w in weights])):
        w.grad = part.view_as(w)
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.step()
    return total[0].item()


def train(run):
    """Take the steps that are left, up to Ctrl-C; report, grade and save meanwhile."""
    flags, adam, num_steps, signals = run.flags, run.optimizer, run.flags["num_steps"], []
    path = flags["save"] if RANK == 0 else None
    if len(run.model.parameters) < 100_000:
        torch.set_num_threads(1)  # with so little to do, threads would mostly wait for each other
    run.model.twin = GPT(run.model)
    optimizer, random_state = new_optimizer(run), run.rng.getstate()
    if HAS_GPU:
        torch.cuda.set_device(DEVICE)
    if SIZE > 1:
        torch.distributed.init_process_group("nccl" if HAS_GPU else "gloo")
    kinds = signal.SIGINT, signal.SIGTERM  # Ctrl-C and kill: they wait for the end of a step
    handlers = [signal.signal(kind, lambda kind, _: signals.append(kind)) for kind in kinds]
    try:
        while adam.steps_done < num_steps:
            if add_up(torch.tensor(len(signals), device=DEVICE)):
                break  # all processes together, whichever was told to
            rate = microgpt.learning_rate_at(adam.steps_done, **flags)
            run.losses.append(train_step(run.model.twin, optimizer, run.batch(), rate))
            adam.steps_done, random_state = adam.steps_done + 1, run.rng.getstate()
            head = f"step {adam.steps_done:4d} / {num_steps:4d} |"
            print(f"{head} loss {run.losses[-1]:.4f}")
            is_due = adam.steps_done % (flags["eval_interval"] or num_steps) == 0
            if is_due and adam.steps_done < num_steps and RANK == 0:
                print(f"{head} lr {rate:#.3g} | {run.grade()}")
                save(run, optimizer, path)
    finally:
        run.rng.setstate(random_state)  # a batch that wasn't trained on is drawn again
        save(run, optimizer, path)
        for kind, handler in zip(kinds, handlers):
            signal.signal(kind, handler)
    if SIZE > 1:
        torch.distributed.destroy_process_group()
    if RANK > 0 or signal.SIGTERM in signals:  # the first process does the rest
        sys.exit(143 if signal.SIGTERM in signals else 0)


def evaluate(model, examples):
    """Return the mean loss of all predictions in some tokenized names."""
    with torch.no_grad():
        losses, is_real = model.twin.losses(examples)
    return (losses.sum() / is_real.sum()).item()


def forward(model, token, cache):
    """Read a token, and yield the logits of the next one, if asked: microgpt.py samples with this.

    In the place of keys, the cache has all tokens so far. We read them all again.
    """
    cache[0][0].append(token)

    def logits():
        with torch.no_grad():
            found = model.twin.forward(torch.tensor([cache[0][0]], device=DEVICE))
        yield from map(microgpt.Value, found[0, -1].tolist())

    return logits()


def command():
    """Do what the command microgpt.py does, with the functions above."""
    microgpt.train, microgpt.evaluate, microgpt.GPT.forward = train, evaluate, forward
    if RANK > 0:
        sys.stdout = open(os.devnull, "w")  # only the first process prints
    try:
        microgpt.command()
    except torch.OutOfMemoryError as error:
        print("gpt_torch.py: error:", str(error).partition(".")[0], file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    command()
