//! The bytes of the CacheKit protocol: keys, MessagePack, envelope and frame.
