//! Fronts as files, by the extension of their name.

mod columns;
mod csv;
mod html;
mod json;
mod parquet;
mod png;

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::plot;
use crate::table::Front;

/// Extensions in the order of [`Format`].
pub(crate) const EXTENSIONS: [&str; 6] = [".csv", ".json", ".parquet", ".svg", ".png", ".html"];

/// Pixels of a PNG for each of the plot's.
const PNG_SCALE: i32 = 2;

/// What a front can be written as. Equal fronts give equal bytes.
///
/// CSV, Parquet and the tooltips of HTML have the same columns: `run`, `checkpoint`; for each objective `max.NAME` or
/// `min.NAME`, and `low.NAME` and `high.NAME` where some row has an interval; `is_pareto`, `is_kept` where an epsilon was
/// given, `rank`, `crowding`; `param.NAME` for each param; `artifact_digest`, `lineage_root`, `family`; and the same in each
/// row, since these tables have no other place for it: `hypervolume`, `reference.NAME`, `is_default_reference`,
/// `epsilon.NAME`.
///
/// Infinite numbers are `inf` and `-inf`: bare in CSV, as pandas reads them; strings in JSON, which has no such numbers
/// (`float` of Python and `astype(float)` of pandas read them, jq sees a string and no null); as they are in Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text with commas; what is missing is empty.
    Csv,
    /// One object with everything, the rejected rows too.
    Json,
    /// Uncompressed columns, readable without Arrow.
    Parquet,
    /// Plot of lines and text; names fonts no farther than `sans-serif`.
    Svg,
    /// The same plot as pixels, with a font of ours.
    Png,
    /// The same plot as one page with every column of a point at the pointer; nothing is loaded from elsewhere.
    Html,
}

impl Format {
    /// The format that a file name ends in: `.csv`, `.json`, `.parquet`, `.svg`, `.png` or `.html`, in any case.
    ///
    /// # Errors
    /// `Extension` for any other.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("json") => Ok(Self::Json),
            Some("parquet") => Ok(Self::Parquet),
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            Some("html") => Ok(Self::Html),
            _ => Err(Error::Extension(path.to_owned())),
        }
    }
}

impl Front {
    /// The front as the bytes of a file.
    ///
    /// # Errors
    /// `Draw`, `Csv`, `Json` or `Parquet` where the format cannot hold it.
    pub fn encode(&self, format: Format) -> Result<Vec<u8>> {
        match format {
            Format::Csv => csv::encode(self),
            Format::Json => json::encode(self),
            Format::Parquet => parquet::encode(self),
            Format::Svg => Ok(plot::svg(self)?.0.into_bytes()),
            Format::Png => {
                let (pixels, width, height) = plot::pixels(self, PNG_SCALE)?;
                Ok(png::encode(&pixels, width, height))
            }
            Format::Html => html::encode(self),
        }
    }

    /// Writes the front in the format its name ends in. The file appears whole or not at all, and replaces an earlier one.
    ///
    /// # Errors
    /// Those of [`Format::of`] and [`encode`](Self::encode), and `Io` naming what was tried.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.encode(Format::of(path)?)?)
    }
}

/// Writes a file that appears whole or not at all, and replaces an earlier one.
///
/// # Errors
/// `Io` naming what was tried.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let mut file = temporary().tempfile_in(folder).map_err(io("create"))?;
    file.write_all(bytes).map_err(io("write"))?;
    file.as_file().sync_all().map_err(io("sync"))?;
    file.persist(path).map_err(|e| io("name")(e.error))?;
    // The name is durable once its folder is.
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(io("sync the folder of"))?;
    Ok(())
}

/// Files that whoever may read the folder may read, as with any other program.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".front-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}
