"""The Results section: tables, tests and figures from records. Nothing here imports torch or Ray."""
