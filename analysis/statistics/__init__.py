"""The statistics: each takes a frame of records and returns a frame."""
