"""The record: what a trial leaves behind, in Parquet."""
