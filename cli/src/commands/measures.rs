//! What metrics of one name mean: runs that define one differently are not compared.

use std::collections::BTreeMap;

use tracker_lab::lab::MEASURE;
use tracker_store::{RunId, Store};

use crate::failure::InputError;

/// Refuses runs that define a measure of one name differently: full-vocabulary against two-way softmax, one kl3 against
/// another.
///
/// # Errors
/// An input error naming measure, runs and definitions; those of the store.
pub fn check(store: &Store, runs: &[RunId]) -> anyhow::Result<()> {
    let mut known: BTreeMap<String, (RunId, String)> = BTreeMap::new();
    for run in runs {
        for (key, definition) in store.params(*run)? {
            let Some(name) = key.strip_prefix(MEASURE) else { continue };
            let (other, first) = known.entry(name.to_owned()).or_insert_with(|| (*run, definition.clone()));
            if *first != definition {
                let what = format!(
                    "`{name}` is not the same measure in runs {} and {}: expected `{first}`, got `{definition}`",
                    other.short(),
                    run.short()
                );
                let hint = Some("numbers of one name with two definitions are not compared; compare other runs".into());
                return Err(InputError { what, hint }.into());
            }
        }
    }
    Ok(())
}
