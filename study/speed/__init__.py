"""Measure how fast networks train on a device, and choose the fastest way to train them."""
