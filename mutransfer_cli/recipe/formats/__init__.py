"""The recipe in the formats of training frameworks.

Format `a-b` is listed here, `FORMAT` in module `a_b` says what it can hold and what writes it, and
its text is a template in `templates/`.
"""

PLAIN = ("yaml", "json")
FORMATS = (
    *("pytorch", "torchtitan", "megatron", "transformers", "olmo-core", "nemo-automodel"),
    *("megatron-bridge", "optax", "nanochat"),
)
