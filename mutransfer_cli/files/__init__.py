"""The files of the chain: validated once at the boundary, dumped, hashed. No torch."""
