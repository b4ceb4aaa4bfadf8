//! Fronts as text with commas (RFC 4180): a header, a line a row, lines ended by a line feed.

use super::columns;
use crate::error::{Error, Result};
use crate::table::Front;

pub(super) fn encode(front: &Front) -> Result<Vec<u8>> {
    let columns = columns::of(front);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|c| &c.name))?;
    for row in 0..front.rows.len() {
        writer.write_record(columns.iter().map(|c| c.cells.text(row).unwrap_or_default()))?;
    }
    writer.into_inner().map_err(|e| Error::Csv(e.into_error().into()))
}
