//! Whether the disk has room for the output.

use std::fs;
use std::path::{Path, PathBuf};

use crate::output::part_of;
use crate::plan::{Job, Merge};

impl Merge {
    /// Adds to the problems what the file system of `out`, the folder that is to be written, lacks of the bytes of the weights;
    /// those that an earlier try has written count as there.
    pub fn check_space(&mut self, out: &Path) {
        let needed: u64 = self.jobs.iter().map(Job::n_bytes).sum();
        let there = written(&part_of(out));
        // A folder that is not there yet is on the file system of the nearest one that is.
        let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf());
        let mut folders = absolute.ancestors().skip(1);
        let Some(folder) = folders.find(|folder| folder.is_dir()) else { return };
        match rustix::fs::statvfs(folder) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                if let Some(what) = lacking(needed.saturating_sub(there), free, folder) {
                    self.problem(what);
                }
            }
            Err(e) => self.warn(format!("free space of `{}` is not known: {e}", folder.display())),
        }
    }
}

fn lacking(needed: u64, free: u64, folder: &Path) -> Option<String> {
    let missing = needed.checked_sub(free).filter(|missing| *missing > 0)?;
    let folder = folder.display();
    Some(format!(
        "no space left for the output: expected {needed} free bytes in `{folder}`, got {free}; free {missing} more"
    ))
}

/// Bytes on disk of the weights in an unfinished output.
fn written(part: &PathBuf) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(part).into_iter().flatten().flatten();
    let weights = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "safetensors"));
    weights.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_to_the_byte() {
        let folder = Path::new("/x");
        assert_eq!(lacking(10, 10, folder), None);
        assert_eq!(lacking(0, 0, folder), None);
        let what = lacking(13, 10, folder).unwrap();
        assert!(what.contains("13 free bytes in `/x`, got 10; free 3 more"), "{what}");
    }
}
