"""Where files are: paths and URIs, and the few things that are asked of a local folder or of a bucket."""
