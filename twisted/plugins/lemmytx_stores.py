"""The stores that come with lemmytx, found like anyone else's."""

from lemmytx.plugin import Store
from lemmytx.store.file import FileStore
from lemmytx.store.memory import MemoryStore
from lemmytx.store.redis.store import RedisStore

memory = Store("memory", MemoryStore)
file = Store("file", FileStore)
redis = Store("redis", RedisStore)
