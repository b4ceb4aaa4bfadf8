//! A store from one engine to another.

use std::path::Path;
use std::time::Duration;

use tracker_engine::{Converted, Kind as EngineKind, Options, Step};

use crate::error::Result;
use crate::store::{Store, require_store};

/// How long others may take to let go of the store: commands that are ending, not ones that go on.
const PATIENCE: Duration = Duration::from_secs(2);

impl Store {
    /// Lets `engine` keep the store in `dir`, which nobody may have open. The records are copied and compared before the new
    /// engine takes the old one's place; files beside them stay where they are. `None` if `engine` keeps it already. `tell`
    /// is told how far it is.
    ///
    /// # Errors
    /// `NotFound` if there is no store in `dir`; the engine's errors, `InUse` and `NotBuilt` among them. The store is then as
    /// it was.
    pub fn convert(dir: &Path, engine: EngineKind, tell: &mut dyn FnMut(Step)) -> Result<Option<Converted>> {
        require_store(dir)?;
        let options = Options { patience: PATIENCE, ..Options::default() };
        Ok(tracker_engine::convert(dir, engine, &options, tell)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Durability, Error, NewRun, Plan, Recording};

    #[test]
    fn a_store_keeps_its_records_under_another_engine() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Store::convert(dir.path(), EngineKind::Sled, &mut |_| {}).unwrap_err();
        assert!(matches!(missing, Error::NotFound { what: "store", .. }), "{missing}");
        let store = Store::create(dir.path()).unwrap();
        let new_run = NewRun {
            name: "r".to_owned(),
            experiment: "e".to_owned(),
            study: String::new(),
            plan: Plan::new(""),
            seed: 1,
            device: "cpu".to_owned(),
            host: "here".to_owned(),
            versions: BTreeMap::new(),
        };
        let run = store.create_run(&new_run).unwrap().id;
        let mut recording = Recording::new();
        recording.put_param(run, "lr", "0.1").unwrap();
        store.commit(&recording, Durability::Sync).unwrap();
        let digest = store.record_digest(run).unwrap();
        let in_use = Store::convert(dir.path(), EngineKind::Sled, &mut |_| {}).unwrap_err();
        assert!(in_use.is_input() && in_use.to_string().contains("end it and try again"), "{in_use}");
        drop(store);
        let converted = Store::convert(dir.path(), EngineKind::Sled, &mut |_| {}).unwrap().unwrap();
        assert_eq!((converted.from, converted.to), (EngineKind::Redb, EngineKind::Sled));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.engine_name(), "sled");
        assert_eq!(store.record_digest(run).unwrap(), digest);
    }
}
