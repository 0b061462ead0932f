"""How a process that trains is set up: one thread, and memory that is kept rather than given back.

Networks this small are slower on more threads, and round differently; one such process a core fills a machine. Most of
the environment is read when a process starts, so whoever starts it sets it.
"""

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Every step frees what the next one asks for again: left to itself, glibc hands the pages back in between.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    # Torch then asks for huge pages for its large tensors.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""For `os.environ` of the parent: none of it changes a result."""


def one_thread() -> None:
    """Have torch compute on one thread in this process, whatever it was started with."""
    import torch

    torch.set_num_threads(1)
