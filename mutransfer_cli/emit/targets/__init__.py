"""Recipes in the formats of training frameworks: one file a target."""
