"""Images of digits, drawn with numpy: 12 x 12 pixels, shifted, of varied contrast, noisy."""

import numpy as np
import torch

SIZE = 12
DIGITS = (  # 3 x 5 pixels each, row by row
    "111101101101111 010110010010111 111001111100111 111001111001111 101101111001001 "
    "111100111001111 111100111101111 111001010010010 111101111101111 111101111001111"
)


def digits(count: int = 4096, noise: float = 1.0) -> dict[str, torch.Tensor]:
    """Images, float [count, 1, 12, 12], with mean about 0, and their labels."""
    glyphs = np.array([[int(bit) for bit in glyph] for glyph in DIGITS.split()])
    glyphs = glyphs.reshape(10, 5, 3).repeat(2, 1).repeat(2, 2)  # twice as large
    draw = np.random.default_rng(0)
    labels = draw.integers(10, size=count)
    images = noise * draw.standard_normal((count, 1, SIZE, SIZE))
    for image, label in zip(images, labels, strict=True):
        top, left = draw.integers(SIZE - 10 + 1), draw.integers(SIZE - 6 + 1)
        image[0, top : top + 10, left : left + 6] += draw.uniform(1, 2) * glyphs[label]
    return {
        "image": torch.from_numpy(images - images.mean()).float(),
        "label": torch.from_numpy(labels),
    }
