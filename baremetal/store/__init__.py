"""What control remembers: SQLAlchemy Core tables, one writer, one module a noun.

    store = Store.open("sqlite:////var/lib/baremetal/baremetal.db")
    node = store.read(lambda c: nodes.get(c, node_id))
    await store.write(lambda c: nodes.save(c, before, after, now))

Every function of a noun takes a connection, so that several of them make one
transaction.
"""

from baremetal.store import servers as servers  # its tables belong to every database
from baremetal.store.store import BadValue, Fenced, Store, StoreError, opened

__all__ = ["BadValue", "Fenced", "Store", "StoreError", "opened"]
