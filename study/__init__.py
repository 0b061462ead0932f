"""The Methods section: data, corruption, networks, training and measurements of one trial.

Nothing here imports Ray or pandas, so a trial runs in a debugger, a batch job or on a machine that has neither.
"""
