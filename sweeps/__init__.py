"""The experiments: named lists of trials, one file a question, and what it takes to run them."""
