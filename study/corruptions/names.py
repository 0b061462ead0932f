"""The names of the corruptions, which are also those of the published files."""

FAMILIES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
)
"""The families of CIFAR-10-C in the order of its script: the 15 of the benchmark, then four more."""
NOT_COMPUTED = ("frost", "spatter")
"""Those that are read alone: one needs photographs of ice, the other OpenCV's edges."""
COMPUTED = tuple(family for family in FAMILIES if family not in NOT_COMPUTED)
SEVERITIES = (1, 2, 3, 4, 5)
LEAST_SIDE = 8
"""The least height and width of an image that is corrupted, in pixels: a smaller one has no inner part to warp."""
