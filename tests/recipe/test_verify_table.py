"""Many optimizers and schedulers with what `verify` says of them; nothing, of right ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import optim
from torch.optim import Optimizer, lr_scheduler

from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.recipe.verify import Verification
from tests.recipe.made import Net
from tests.recipe.stand_ins import ADAM, Container, Groups, Larc, of_class

Says = dict[str, str]
UNKNOWN = r"^{} updates .*, hidden .*, and is not known to be adamw: any other update"
OTHER = r"^{} \({}\) updates .*, hidden .*, the recipe is for adamw: the same lr makes steps"
GRADIENT = r"weight_decay of hidden .* is added to the gradient by this optimizer"


class Loud(optim.AdamW):
    """An AdamW of one's own that inherits its step."""


class Own(optim.AdamW):
    """An optimizer with a step of its own, which may be anything."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(parameter.grad.sign(), alpha=-group["lr"])


def plain(cls: Any, groups: Groups, **keywords: Any) -> Optimizer:
    """An optimizer with the groups' rates, without keys that it does not know."""
    known = cls([torch.zeros(1, requires_grad=True)], lr=1.0).param_groups[0]
    kept = ("params", "param_names", *known)
    made: Optimizer = cls([{k: g[k] for k in kept if k in g} for g in groups], lr=1.0, **keywords)
    return made


def torchao(name: str, groups: Groups, **attributes: Any) -> Optimizer:
    return of_class("torchao.optim.adam", name, groups, ADAM, **attributes)


def bitsandbytes(name: str, groups: Groups) -> Optimizer:
    module = "lion" if "Lion" in name else "adamw" if "AdamW" in name else "adam"
    return of_class(f"bitsandbytes.optim.{module}", name, groups, ADAM)


def fused(module: str, groups: Groups, mode: int, **keys: Any) -> Optimizer:
    return of_class(module, "FusedAdam", groups, ADAM | keys, adam_w_mode=mode)


OPTIMIZERS: dict[str, tuple[Callable[[Groups], Any], Says]] = {
    "AdamW": (optim.AdamW, {}),
    "AdamW, fused": (partial(optim.AdamW, fused=True), {}),
    "AdamW, foreach": (partial(optim.AdamW, foreach=True), {}),
    "AdamW, capturable": (partial(optim.AdamW, capturable=True), {}),
    "Adam, decoupled": (partial(optim.Adam, decoupled_weight_decay=True), {}),
    "subclass of AdamW": (Loud, {}),
    "torchao AdamW8bit": (partial(torchao, "AdamW8bit", is_adamw=True), {}),
    "torchao AdamW4bit": (partial(torchao, "AdamW4bit", is_adamw=True), {}),
    "torchao AdamWFp8": (partial(torchao, "AdamWFp8", is_adamw=True), {}),
    "torchao _AdamW": (partial(torchao, "_AdamW", is_adamw=True), {}),
    "bitsandbytes AdamW": (partial(bitsandbytes, "AdamW"), {}),
    "bitsandbytes AdamW8bit": (partial(bitsandbytes, "AdamW8bit"), {}),
    "bitsandbytes PagedAdamW32bit": (partial(bitsandbytes, "PagedAdamW32bit"), {}),
    "bitsandbytes Adam8bit": (partial(bitsandbytes, "Adam8bit"), {}),
    "DeepSpeed FusedAdam": (partial(fused, "deepspeed.ops.adam.fused_adam", mode=1), {}),
    "DeepSpeed CPU": (
        lambda groups: of_class(
            "deepspeed.ops.adam.cpu_adam", "DeepSpeedCPUAdam", groups, ADAM, adam_w_mode=True
        ),
        {},
    ),
    "apex FusedAdam": (partial(fused, "apex.optimizers.fused_adam", mode=1), {}),
    "OLMo-core SkipStepAdamW": (
        lambda groups: of_class("olmo_core.optim.adamw", "SkipStepAdamW", groups, ADAM),
        {},
    ),
    "accelerate": (lambda groups: Accelerator().prepare(optim.AdamW(groups)), {}),
    "torchtitan's container": (
        lambda groups: Container([optim.AdamW(groups[:1]), optim.AdamW(groups[1:])]),
        {},
    ),
    "Adam": (optim.Adam, {"decay_convention": GRADIENT}),
    "torchao Adam8bit": (
        partial(torchao, "Adam8bit", is_adamw=False),
        {"decay_convention": GRADIENT},
    ),
    "apex FusedAdam, L2": (
        partial(fused, "apex.optimizers.fused_adam", mode=0),
        {"decay_convention": GRADIENT},
    ),
    "apex FusedAdam, biased": (
        partial(fused, "apex.optimizers.fused_adam", mode=1, bias_correction=False),
        {"optimizer": r"hidden .*: bias_correction is False, in the recipe's runs it was True"},
    ),
    "AdamW, amsgrad": (
        partial(optim.AdamW, amsgrad=True),
        {"optimizer": r"hidden .*: amsgrad is True, in the recipe's runs it was False"},
    ),
    "AdamW, maximize": (
        partial(optim.AdamW, maximize=True),
        {"optimizer": r"hidden .*: maximize is True"},
    ),
    "SGD": (partial(plain, optim.SGD), {"optimizer": OTHER.format("sgd", "torch.*SGD")}),
    "RAdam": (
        partial(optim.RAdam, decoupled_weight_decay=True),
        {"optimizer": UNKNOWN.format("torch.*RAdam")},
    ),
    "NAdam": (
        partial(optim.NAdam, decoupled_weight_decay=True),
        {"optimizer": UNKNOWN.format("torch.*NAdam")},
    ),
    "Adamax": (optim.Adamax, {"optimizer": UNKNOWN.format("torch.*Adamax")}),
    "RMSprop": (
        partial(plain, optim.RMSprop),
        {"optimizer": UNKNOWN.format("torch.*RMSprop"), "betas": "betas of hidden .* are missing"},
    ),
    "Lion": (
        lambda groups: of_class("lion_pytorch.lion_pytorch", "Lion", groups, {}),
        {"optimizer": OTHER.format("lion", "lion_pytorch.*Lion")},
    ),
    "bitsandbytes PagedLion8bit": (
        partial(bitsandbytes, "PagedLion8bit"),
        {"optimizer": OTHER.format("lion", "bitsandbytes.*PagedLion8bit")},
    ),
    "schedule-free AdamW": (
        lambda groups: of_class(
            "schedulefree.adamw_schedulefree", "AdamWScheduleFree", groups, ADAM
        ),
        {"optimizer": UNKNOWN.format("schedulefree.*AdamWScheduleFree")},
    ),
    "Adafactor": (
        lambda groups: optim.Adafactor([{**g, "eps": (None, 1e-3)} for g in groups]),
        {"optimizer": OTHER.format("adafactor", "torch.*Adafactor")},
    ),
    "Adafactor of transformers": (
        lambda groups: transformers.Adafactor(  # type: ignore[no-untyped-call]
            [{**g, "lr": None, "eps": (1e-30, 1e-3)} for g in groups]
        ),
        {
            "optimizer": OTHER.format("adafactor", "transformers.*Adafactor"),
            "lr": r"lr of hidden .* is missing, so that the optimizer chooses its own; the recipe",
        },
    ),
    "LARC around AdamW": (
        lambda groups: Larc(optim.AdamW(groups)),
        {"optimizer": UNKNOWN.format("apex.*Larc")},
    ),
    "one's own": (
        Own,
        {"optimizer": UNKNOWN.format(r".*Own") + ".* or say optimizer_class='adamw' if it is"},
    ),
}

Schedule = Callable[[Optimizer], Any]


def peaks(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def share(optimizer: Optimizer, factor: float) -> list[float]:
    return [factor * peak for peak in peaks(optimizer)]


class FromZero:
    """A warm-up from 0 for 3 steps of nothing, without the peaks in the groups."""

    def __init__(self, optimizer: Optimizer, peaks: list[float], held: int = 3) -> None:
        self.optimizer, self.peaks, self.held, self.steps = optimizer, peaks, held, -1
        self.step()

    def step(self) -> None:
        self.steps += 1
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * max(0, self.steps - self.held) / 100


class DeepSpeedWarmup:
    """DeepSpeed's WarmupLR: one peak for all groups unless a list is given."""

    def __init__(self, optimizer: Optimizer, warmup_max_lr: list[float] | float) -> None:
        self.optimizer, self.last = optimizer, 0
        if isinstance(warmup_max_lr, float):
            warmup_max_lr = [warmup_max_lr] * len(optimizer.param_groups)
        self.max_lrs = warmup_max_lr
        self.step()

    def step(self) -> None:
        self.last += 1
        for group, peak in zip(self.optimizer.param_groups, self.max_lrs, strict=True):
            group["lr"] = peak * min(1, self.last / 1000)


def added_later(optimizer: Optimizer, make: Schedule) -> Any:
    """A scheduler that is older than the last group."""
    last = optimizer.param_groups.pop()
    scheduler = make(optimizer)
    optimizer.add_param_group(last)
    return scheduler


def another(optimizer: Optimizer) -> Optimizer:
    return optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-3)


OneCycle, Cyclic = lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR
BEND = "the ratios between groups bend"
SCHEDULERS: dict[str, tuple[Schedule, Says]] = {
    "LambdaLR from 0": (lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1, step / 100)), {}),
    "LinearLR": (lambda o: lr_scheduler.LinearLR(o, 0.01, total_iters=100), {}),
    "ConstantLR": (lambda o: lr_scheduler.ConstantLR(o, 0.5), {}),
    "CosineAnnealingLR": (lambda o: lr_scheduler.CosineAnnealingLR(o, 100), {}),
    "warm restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5), {}),
    "StepLR": (lambda o: lr_scheduler.StepLR(o, 3), {}),
    "MultiStepLR": (lambda o: lr_scheduler.MultiStepLR(o, [3, 6]), {}),
    "ExponentialLR": (lambda o: lr_scheduler.ExponentialLR(o, 0.9), {}),
    "MultiplicativeLR": (lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.95), {}),
    "PolynomialLR": (lambda o: lr_scheduler.PolynomialLR(o, 100), {}),
    "SequentialLR": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1), lr_scheduler.CosineAnnealingLR(o, 100)], [5]
        ),
        {},
    ),
    "ChainedScheduler": (
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)]
        ),
        {},
    ),
    "OneCycleLR": (lambda o: OneCycle(o, peaks(o), 100, cycle_momentum=False), {}),
    "CyclicLR": (lambda o: Cyclic(o, share(o, 0.1), peaks(o), 4, cycle_momentum=False), {}),
    "transformers, cosine": (
        lambda o: transformers.get_cosine_schedule_with_warmup(o, 10, 100),
        {},
    ),
    "transformers, wsd": (
        lambda o: transformers.get_wsd_schedule(o, 10, 10, num_training_steps=100),
        {},
    ),
    "transformers, floor": (
        lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            o, 10, 100, min_lr_rate=0.1
        ),
        {},
    ),
    "accelerate": (
        lambda o: Accelerator().prepare(lr_scheduler.LinearLR(o, 0.01)),
        {},
    ),
    "by hand, from 0": (lambda o: FromZero(o, peaks(o)), {}),
    "DeepSpeed's, peaks by group": (lambda o: DeepSpeedWarmup(o, peaks(o)), {}),
    "StepLR, group added later": (
        lambda o: added_later(o, partial(lr_scheduler.StepLR, step_size=3)),
        {},
    ),
    "eta_min": (lambda o: lr_scheduler.CosineAnnealingLR(o, 100, eta_min=1e-4), {"schedule": BEND}),
    "SWALR": (
        lambda o: torch.optim.swa_utils.SWALR(o, 1e-4),
        {"schedule": BEND},
    ),
    "OneCycleLR, one peak": (
        lambda o: OneCycle(o, 0.01, 100, cycle_momentum=False),
        {"one_rate": "one lr for all groups: lr of embedding .* is 0.01, the recipe says"},
    ),
    "OneCycleLR, momentum": (
        lambda o: OneCycle(o, peaks(o), 100),
        {"betas": r"moves momentum \(beta1\) of hidden .* 0.85 and 0.95.*cycle_momentum=False"},
    ),
    "CyclicLR, one peak": (
        lambda o: Cyclic(o, 1e-4, 1e-2, cycle_momentum=False),
        {"one_rate": "one lr for all groups"},
    ),
    "CyclicLR, one base": (
        lambda o: Cyclic(o, 1e-4, peaks(o), cycle_momentum=False),
        {"one_rate": "now lr is 0.0001 for all groups", "schedule": BEND},
    ),
    "CyclicLR, momentum": (
        lambda o: Cyclic(o, share(o, 0.1), peaks(o), 4),
        {"betas": "moves momentum .* between 0.8 and 0.9, in the recipe's runs it was constant"},
    ),
    "DeepSpeed's, one peak": (
        lambda o: DeepSpeedWarmup(o, 1e-3),
        {"one_rate": "lr of hidden .* is 0.001, the recipe says"},
    ),
    "by hand, one rate from 0": (
        lambda o: FromZero(o, [1e-3] * 3, held=30),
        {"one_rate": "after 31 scheduler steps lr is 1e-05 for all groups"},
    ),
    "by hand, 0 for good": (
        lambda o: FromZero(o, peaks(o), held=10**9),
        {"schedule": "every lr is 0 now and in the next 10000 scheduler steps, so that nothing"},
    ),
    "LambdaLR, group added later": (
        lambda o: added_later(o, lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step)),
        {"scheduler": r"LambdaLR was made before the group of hidden \(.*\) was added: it stops"},
    ),
    "of another optimizer": (
        lambda o: lr_scheduler.LinearLR(another(o), 0.1),
        {"scheduler": "LinearLR changes no lr here: it holds another optimizer, or groups that"},
    ),
}


@pytest.fixture
def groups(recipe: LoadedRecipe) -> tuple[Net, Groups]:
    model = Net()
    return model, recipe.param_groups(model)


def compare(result: Verification, wanted: Says) -> None:
    found: Says = {}
    for difference in result.differences:
        found[difference.name] = f"{found.get(difference.name, '')}{difference.sentence}\n"
    assert found.keys() == wanted.keys(), found
    for name, pattern in wanted.items():
        assert re.search(pattern, found[name]), found[name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(recipe: LoadedRecipe, groups: tuple[Net, Groups], name: str) -> None:
    build, wanted = OPTIMIZERS[name]
    model, of_recipe = groups
    compare(recipe.verify(model, build(of_recipe)), wanted)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(recipe: LoadedRecipe, groups: tuple[Net, Groups], name: str) -> None:
    make, wanted = SCHEDULERS[name]
    model, of_recipe = groups
    optimizer = optim.AdamW(of_recipe)
    scheduler = make(optimizer)
    before = [dict(group) for group in optimizer.param_groups]
    compare(recipe.verify(model, optimizer, scheduler, steps=8), wanted)
    assert optimizer.param_groups == before
