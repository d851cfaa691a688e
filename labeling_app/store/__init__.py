"""The labeling app's database: tables, migrations, and one function a transaction.

Every function takes a connection of `Store.write()` or `Store.read()` and does not commit: the caller's
`with` block is the transaction, so what the block did is on the disk when it is left, or never happened.
"""
