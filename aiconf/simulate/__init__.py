"""Request-level replay: schedulers, KV cache and queues on predicted iteration times."""
