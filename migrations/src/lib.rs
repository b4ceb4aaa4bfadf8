//! tracker-migrations
