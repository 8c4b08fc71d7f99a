"""A Kubernetes API in memory: server, store, semantics.

The official Python client and an ordinary kubectl talk to it over TLS. What nodes and containers
do is asked through `kubelets.Kubelets`; what controllers do, they do to the store like any client.
"""
