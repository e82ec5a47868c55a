"""Our own Triton kernels: imported only where one is run."""
