//! What a run holds, section by section: equal sections of two stores mean equal runs, and those that differ have names.

use std::collections::BTreeMap;

use super::closure::row_kinds;
use crate::bundle::Section;
use crate::error::Result;
use crate::id::{ExperimentId, NodeId, RunId};
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;
use blake3::Hasher;

/// The sections of a run by name.
pub(crate) type Sections = BTreeMap<String, Section>;

impl Store {
    /// All that a run recorded, but for what may be changed later: its name, its tags, the experiment it is filed under. Its logged models and
    /// traces may come after it ended, and are held against those of an export one by one.
    pub(crate) fn sections(&self, id: RunId) -> Result<Sections> {
        let mut sections = Sections::new();
        let mut run = self.run(id)?;
        run.experiment = ExperimentId::from_bytes([0; 16]);
        run.name.clear();
        run.deleted = None;
        let mut sum = Sum::default();
        sum.add(b"run", &run.encode()?);
        sum.end("run", &mut sections);
        for (name, prefix) in [("stages", keys::stages(id)), ("params", keys::params(id)), ("inputs", keys::inputs(id))]
        {
            self.sum(name, &prefix, &mut sections)?;
        }
        let mut edges = Sum::default();
        for kind in row_kinds() {
            self.sum(&format!("{}s", kind.name()), &keys::rows(kind, id), &mut sections)?;
            edges.entries(self, &keys::row_edges_up(kind, id))?;
        }
        let mut contents = Sum::default();
        for entry in self.entries(&keys::recorded_by(id)) {
            let (key, _) = entry?;
            contents.add(&key, &[]);
            edges.entries(self, &keys::edges_up_in(&keys::recorded_at(&key)?, id))?;
        }
        contents.end("contents", &mut sections);
        edges.entries(self, &keys::edges_up_in(&NodeId::run(id), id))?;
        edges.end("edges", &mut sections);
        // Points as a set: how they lie in blocks is no difference.
        let mut points = Sum::default();
        for (key, _) in self.all_series(id)? {
            for point in self.history(id, &key, None)? {
                points.add(key.as_bytes(), &point?.sortable());
            }
        }
        points.end("points", &mut sections);
        Ok(sections)
    }

    fn sum(&self, name: &str, prefix: &[u8], sections: &mut Sections) -> Result<()> {
        let mut sum = Sum::default();
        sum.entries(self, prefix)?;
        sum.end(name, sections);
        Ok(())
    }
}

/// What differs between two runs, for people.
pub(super) fn differences(here: &Sections, there: &Sections) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differs = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    differs
        .map(|name| {
            let n = |side: &Sections| side.get(name).map_or(0, |section| section.n);
            match (n(here), n(there)) {
                (1, 1) if name == "run" => "the run's own record (status, plan, seed, times, versions)".to_owned(),
                (here, there) => counted(name, here, there),
            }
        })
        .collect()
}

/// That some things differ, with how many there are.
pub(super) fn counted(name: &str, here: u64, there: u64) -> String {
    if here == there {
        format!("{name} (`{here}` on both sides, others)")
    } else {
        format!("{name} (`{here}` here, `{there}` in the file)")
    }
}

#[derive(Default)]
struct Sum {
    hasher: Hasher,
    n: u64,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            self.hasher.update(&(part.len() as u64).to_be_bytes());
            self.hasher.update(part);
        }
        self.n += 1;
    }

    fn entries(&mut self, store: &Store, prefix: &[u8]) -> Result<()> {
        for entry in store.entries(prefix) {
            let (key, value) = entry?;
            self.add(&key, &value);
        }
        Ok(())
    }

    /// Adds the section, if there is anything in it.
    fn end(self, name: &str, sections: &mut Sections) {
        if self.n > 0 {
            sections.insert(name.to_owned(), Section { n: self.n, digest: self.hasher.finalize().into() });
        }
    }
}
