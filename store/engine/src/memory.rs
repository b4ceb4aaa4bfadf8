//! The engine in memory: the model the others are held to, and the store of tests and throw-away runs.
//!
//! The map is copied on write when a snapshot or a running visit still holds it, so both are plain shared pointers.
//! Nothing is shared with other processes and nothing survives the last handle.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::kind::Local;
use crate::staged;
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

type Map = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

/// Ordered bytes in memory.
#[derive(Debug, Default)]
pub struct Memory {
    map: RwLock<Arc<Map>>,
}

impl Memory {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn current(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Read for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Frozen(self.current()).get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        Frozen(self.current()).range(range, direction, visit)
    }
}

impl Local for Memory {
    fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()> {
        match self.commit(batch, durability) {
            Err(Error::Conflict { .. })
                if resent && staged::is_written(&batch.writes().into_iter().collect(), self)? =>
            {
                Ok(())
            }
            committed => committed,
        }
    }
}

impl Engine for Memory {
    fn commit(&self, batch: &Batch, _durability: Durability) -> Result<()> {
        batch.check_size()?;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let unmet =
            batch.first_unmet(|key, expected| Ok::<_, Error>(map.get(key).map(|value| &**value) == expected))?;
        if let Some(key) = unmet {
            return Err(Error::Conflict { key });
        }
        if batch.n_writes() == 0 {
            return Ok(());
        }
        let map = Arc::make_mut(&mut map);
        for (key, value) in batch.writes() {
            match value {
                Some(value) => drop(map.insert(key.into(), value.into())),
                None => drop(map.remove(key)),
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        Ok(Arc::new(Frozen(self.current())))
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

/// The map as it was.
struct Frozen(Arc<Map>);

impl Read for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).map(|value| value.to_vec()))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut entries = self.0.range::<[u8], _>(range.bounds());
        while let Some((key, value)) = match direction {
            Direction::Ascending => entries.next(),
            Direction::Descending => entries.next_back(),
        } {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
