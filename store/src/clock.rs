//! The one place that reads the wall clock.
//!
//! Invariant: nothing read here enters an identity; record digests are the same whatever the hour.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, to the millisecond. JSON has it as RFC 3339 in UTC, records as milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// This moment.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one home of the wall clock")]
    pub fn now() -> Self {
        Self::truncated(Utc::now())
    }

    /// The moment `millis` milliseconds after 1970 began, if the calendar reaches it.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The calendar time.
    #[must_use]
    pub fn calendar(self) -> DateTime<Utc> {
        self.0
    }

    fn truncated(time: DateTime<Utc>) -> Self {
        Self::from_millis(time.timestamp_millis()).unwrap_or(Self(time))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::truncated(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.millis().serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            return DateTime::<Utc>::deserialize(deserializer).map(Self::truncated);
        }
        let millis = i64::deserialize(deserializer)?;
        Self::from_millis(millis).ok_or_else(|| D::Error::custom("time is out of the calendar's range"))
    }
}

/// How long ago something on disk was written; nothing if that lies ahead.
#[allow(clippy::disallowed_methods, reason = "this is the one home of the wall clock")]
pub(crate) fn since(written: SystemTime) -> Duration {
    SystemTime::now().duration_since(written).unwrap_or_default()
}

/// Nanoseconds of this second: a number that differs between processes that collide.
#[allow(clippy::disallowed_methods, reason = "this is the one home of the wall clock")]
pub(crate) fn jitter() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos())
}

/// A new identifier that sorts after those made before it.
pub(crate) fn new_uuid() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_json_to_the_millisecond() {
        let moment = Timestamp::from_millis(1_795_000_000_123).unwrap();
        let json = serde_json::to_string(&moment).unwrap();
        assert_eq!(json, "\"2026-11-18T11:06:40.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), moment);
    }
}
