"""Update rules over stacked trials; one file per optimizer."""
