"""PromQL: what Prometheus 2.42 answers, for the functions of `functions.SUPPORTED`."""
