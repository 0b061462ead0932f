"""The Results section: records in, tables, tests and figures out. Nothing here imports torch or Ray."""
