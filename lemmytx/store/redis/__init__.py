"""
The table in Redis: shared by many instances, and changed by operators with two plain commands.

  - L{lemmytx.store.redis.address}: the URL;
  - L{lemmytx.store.redis.wire}: a connection, on txredisapi;
  - L{lemmytx.store.redis.dialling} and L{lemmytx.store.redis.link}: how there comes to be one, and always another;
  - L{lemmytx.store.redis.scripts}: what runs in Redis;
  - L{lemmytx.store.redis.entries}: what its answers mean;
  - L{lemmytx.store.redis.loading}: the table, of which only what has changed is read;
  - L{lemmytx.store.redis.parts}: how that does not hold up others;
  - L{lemmytx.store.redis.counting}: who has how much in flight;
  - L{lemmytx.store.redis.announcing}: what others announce;
  - L{lemmytx.store.redis.store}: all of it together.

Nothing here imports txredisapi before a store is opened: it takes Twisted's global reactor when it is imported, and
installs one if there is none.
"""
