from __future__ import annotations

from mutransfer_cli.recipe.choices import RuleChoices
from mutransfer_cli.recipe.types import Recipe


def test_recipes_from_before_embeddings_could_decay_are_read_and_written_as_they_were(
    unfolded: Recipe,
) -> None:
    choices = unfolded.rule
    assert choices is not None
    written = choices.model_dump()
    assert "embedding_decay" not in written
    assert RuleChoices.model_validate(written) == choices
    asked = choices.model_copy(update={"embedding_decay": "as_hidden"})
    assert RuleChoices.model_validate(asked.model_dump()).embedding_decay == "as_hidden"
