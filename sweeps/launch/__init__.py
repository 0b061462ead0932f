"""Run trials on Ray Tune.

Importing the package sets the environment that Ray reads. Only modules of this package import Ray, so it is always set
first.
"""

from sweeps.launch import environment as environment
