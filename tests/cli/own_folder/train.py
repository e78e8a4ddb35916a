"""The user's training loop: torch, the model, and recipe.py, written by `transfer --to pytorch`.

given.pt holds everything that must be the same for two runs to be comparable: `arguments` of the
model, standard normal `noise` by parameter, the values of those that the model's own code draws
(`kept`), `train` [steps, batch, context + 1] and `eval` tokens, and the settings `warmup` and
`clip`.
"""

from __future__ import annotations

import json

import decoder  # type: ignore[import-not-found]
import recipe  # type: ignore[import-not-found]
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

given = torch.load("given.pt")
warmup: int = given["warmup"]
steps = len(given["train"])
model = decoder.build(**given["arguments"])
pattern_of = recipe.claimed(model)
multiplier_of = {name: recipe.multipliers[recipe.PATTERNS[p]] for name, p in pattern_of.items()}
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if name in given["kept"]:
            parameter.copy_(given["kept"][name])
        elif name in pattern_of:
            mean, std = recipe.INIT[pattern_of[name]]
            parameter.copy_(mean + std * given["noise"][name])


def factor(step: int) -> float:
    """Factor on the peak rates: linear warm-up, linear decay to zero."""
    return (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)


def loss_of(tokens: Tensor) -> Tensor:
    weights = dict(model.named_parameters())
    weights |= {name: m * weights[name] for name, m in multiplier_of.items() if m != 1}
    logits = functional_call(model, weights, (tokens[:, :-1],))
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


(optimizer,) = recipe.optimizers(model, multipliers="in_model")
names = {id(parameter): name for name, parameter in model.named_parameters()}
held = {
    names[id(p)]: {key: group[key] for key in ("lr", "weight_decay", "eps")}
    | {"multiplier": multiplier_of[names[id(p)]]}
    for group in optimizer.param_groups
    for p in group["params"]
}
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
losses = []
for tokens in given["train"]:
    loss = loss_of(tokens)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if given["clip"] is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), given["clip"])
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
with torch.no_grad():
    eval_loss = torch.stack([loss_of(tokens) for tokens in given["eval"]]).mean().item()
print(json.dumps({"held": held, "train_losses": losses, "eval_loss": eval_loss}))
