"""The recipe in the formats of training frameworks, one file each."""
