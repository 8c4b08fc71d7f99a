"""A Kubernetes API in memory: the official Python client and kubectl talk to it over TLS.

`server` reads a request into a `calls.Call` and asks who it is (`identity`, `reviews`), whether
they may (`rbac`), and `audit` to note the answer. The `store` holds objects of the kinds in
`resources`; `reads` and `writes` are the way to them, `subresources` and `containers` to what lies
below one. `admission` settles an object before it is stored; `fields` says what it may hold. Kinds,
defaults, columns and messages are `data`.

Kubelets, the metrics server and the garbage collector are asked through `kubelets.Behind`; what
other controllers do, they do to the store like any client.
"""
