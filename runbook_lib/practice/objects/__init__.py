"""What Kubernetes objects are, whoever asks for them or works on them.

`resources` names the kinds, `fields` says what an object may hold and how two versions of it are
merged, `admission` settles one before it is stored, and the `store` keeps all, with their history.
`selectors` and `quantities` read parts of them; `errors` are the refusals, as a Status says them;
`veil` hides what would give a rehearsal away. Kinds, defaults, columns, rules and words are `data`.
"""
