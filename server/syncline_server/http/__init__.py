"""The HTTP twins of the protocol: one table of operations, from which the routes and the OpenAPI document are made.

`operation` is the shape of the table, `stores`, `records`, `writes`, `changes`, `status` are its rows, each with its
handler; `bodies` are the JSON objects that go in and out; `problem` the refusals. What a request means is decided by
the same hub, committer and storage as over the WebSocket (PROTOCOL 14).
"""
