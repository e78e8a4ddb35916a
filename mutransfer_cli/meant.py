"""Near words for one that is not ours: synonyms, other letters, or a slip of the keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

# words that people use for ours, in lower case, without spaces, hyphens and underscores
SYNONYMS: dict[str, tuple[str, ...]] = {
    "mup": ("mup", "μp", "maximalupdate", "maximalupdateparametrization", "mutransfer"),
    "standard": ("sp", "standardparametrization", "default"),
    "lr": ("learningrate", "learningrates", "lrs", "rate", "peaklr", "maxlr", "alpha"),
    "weight_decay": ("wd", "decay", "lambda", "l2"),
    "depth": ("nlayers", "nlayer", "layers", "numlayers", "numhiddenlayers", "blocks"),
    "batch": ("batchsize", "bs", "microbatchsize", "globalbatchsize"),
    "context": ("seqlen", "sequencelength", "seqlength", "blocksize", "contextlength", "maxlen"),
    "steps": ("iterations", "iters", "maxiters", "maxsteps", "numsteps", "trainsteps"),
    "warmup": ("warmupsteps", "warmupiters"),
    "schedule": ("lrschedule", "scheduler", "lrscheduler"),
    "clip": ("gradclip", "maxgradnorm", "clipgradnorm", "gradientclipping", "clipping"),
    "heads": ("nheads", "nhead", "numheads", "numattentionheads"),
    "kv_heads": ("nkvheads", "numkeyvalueheads"),
    "head_size": ("headdim", "dhead", "headwidth"),
    "widths": ("width", "dmodel", "hiddensize", "hiddensizes", "nembd"),
    "base_width": (
        *("basewidth", "basedmodel", "basehiddensize"),
        *("width", "dmodel", "hiddensize", "nembd"),
    ),
    "vocab": ("vocabsize", "nvocab"),
    "seeds": ("seed",),
    "seed": ("seeds",),
    "precision": ("dtype",),
    "fp32": ("float32", "float", "full"),
    "bf16": ("bfloat16", "mixed", "amp"),
    "name": ("type", "kind"),
    "source": ("name", "type", "kind", "dataset"),
    "family": ("name", "type", "kind", "architecture"),
    "start": ("from",),
    "from": ("start", "min", "low"),
    "to": ("stop", "end", "max", "high"),
    "betas": ("beta", "beta1", "beta2"),
    "eps": ("epsilon",),
    "epsilon": ("eps",),
    "sweep": ("grid", "search"),
    "train": ("training",),
    "data": ("dataset",),
}


def nearest(word: str, valid: Iterable[str]) -> str:
    """Suggest a valid word for a wrong one: "; did you mean 'x'? (valid: x, y)"."""
    valid = list(valid)
    found = nearest_of(word, valid)
    hint = f"; did you mean {found!r}?" if found else ""
    return f"{hint} (valid: {', '.join(valid)})"


def nearest_of(word: str, valid: Sequence[str]) -> str | None:
    """The valid word that was meant: the same in other letters, a synonym, or a similar one."""
    same = same_as(word, valid)
    close = same or difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return close[0] if close else None


def same_as(word: str, valid: Sequence[str]) -> list[str]:
    """The valid words that mean the same: in other letters first, then as synonyms."""
    plain = _plain(word)
    written = [one for one in valid if plain == _plain(one)]
    synonyms = [one for one in SYNONYMS if one in valid and plain in SYNONYMS[one]]
    return list(dict.fromkeys(written + synonyms))


def _plain(word: str) -> str:
    return word.lower().translate(str.maketrans("", "", " -_."))
