"""The corruptions of CIFAR-10-C (Hendrycks and Dietterich, 2019): its files, or 17 of its 19 families computed anew.

A corruption takes and returns bytes [N, C, H, W] of one or three channels and of any size. Its parameters are those
that the published files were made with, which are weaker than ImageNet-C's; lengths are in pixels, whatever the size.
Random numbers come from a stream for each family, severity and image: all networks are shown one corrupted test set.
"""
