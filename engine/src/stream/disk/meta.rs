//! What is known of a log beside its segments: its epochs, its columns, and whether it was closed.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::volume::Volume;
use super::{DiskError, DiskOptions, Durability, Resumed};
use crate::failpoint::Failpoint;
use crate::stream::{Carried, Offset, Position};

const FILE: &str = "stream.json";
const NEW_FILE: &str = "stream.json.new";
/// Version of the folder's format.
const FORMAT: u8 = 1;
/// Epochs that are remembered: positions of older ones are unknown.
const MAX_EPOCHS: usize = 1000;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    format: u8,
    partitions: u32,
    /// A line a column.
    columns: Vec<String>,
    /// All that readers saw is on disk.
    closed: bool,
    /// Oldest first; the last is the log's.
    epochs: Vec<Epoch>,
    /// The logs that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<Carried>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Epoch {
    epoch: u64,
    /// Each partition's first offset in it.
    starts: BTreeMap<u32, Offset>,
}

impl Meta {
    /// What lies in a folder; `None`: nothing does.
    pub(super) fn read(volume: &dyn Volume, folder: &Path) -> Result<Option<Self>, DiskError> {
        let path = folder.join(FILE);
        if !volume.list(folder)?.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        let file = volume.open(&path, false)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0)?;
        let meta: Result<Self, _> = serde_json::from_slice(&bytes);
        match meta {
            Ok(meta) if meta.format == FORMAT => Ok(Some(meta)),
            Ok(meta) => Err(DiskError::Format { path, found: meta.format }),
            // Positions of its epochs are unknown then; the rows are there.
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "this cannot be read: the log gets a new epoch");
                Ok(None)
            }
        }
    }

    /// Refuses a log of other columns or partitions.
    pub(super) fn check(&self, options: &DiskOptions) -> Result<(), DiskError> {
        let other = |what| DiskError::Other { folder: options.folder.clone(), what };
        if self.columns != columns(&options.schema) {
            return Err(other("columns"));
        }
        if self.partitions != options.partitions { Err(other("partitions")) } else { Ok(()) }
    }

    /// What holds from now on. A log that was not closed goes on in its epoch only if readers never saw more than is
    /// there.
    pub(super) fn resume(known: Option<Self>, options: &DiskOptions, resumed: &mut Resumed) -> Self {
        let mut meta = known.unwrap_or_else(|| Self {
            format: FORMAT,
            partitions: options.partitions,
            columns: columns(&options.schema),
            closed: true,
            epochs: Vec::new(),
            carried: options.carried.clone(),
        });
        let seen_is_there = meta.closed || options.durability == Durability::Durable;
        let goes_on = seen_is_there && resumed.cut_bytes == 0;
        if let Some(last) = meta.epochs.last().filter(|_| goes_on) {
            resumed.position.epoch = last.epoch;
        } else {
            let starts = resumed.position.offsets.iter().map(|(number, (offset, _))| (*number, *offset)).collect();
            meta.epochs.push(Epoch { epoch: options.epoch, starts });
            let surplus = meta.epochs.len().saturating_sub(MAX_EPOCHS);
            meta.epochs.drain(..surplus);
        }
        meta.closed = false;
        meta
    }

    /// Says that all that readers saw is on disk.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The logs that it takes the place of.
    pub(super) fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// The log's incarnation.
    pub(super) fn epoch(&self) -> u64 {
        self.epochs.last().map_or(0, |epoch| epoch.epoch)
    }

    /// See `DiskLog::translate`.
    pub(super) fn translate(&self, position: &Position) -> Option<Position> {
        let at = self.epochs.iter().position(|epoch| epoch.epoch == position.epoch)?;
        // No later start of the log may have lost it.
        let within = self.epochs[at + 1..].iter().all(|next| {
            position.offsets.iter().all(|(number, (offset, skip))| {
                let end = next.starts.get(number).copied().unwrap_or_default();
                *offset < end || *offset == end && *skip == 0
            })
        });
        within.then(|| Position { epoch: self.epoch(), offsets: position.offsets.clone() })
    }

    /// Writes it in place of what lies there.
    pub(super) fn write(&self, volume: &dyn Volume, folder: &Path) -> Result<(), DiskError> {
        let new = folder.join(NEW_FILE);
        let file = volume.open(&new, true)?;
        file.truncate(0)?;
        let text = serde_json::to_string_pretty(self).expect("names and numbers are always JSON");
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync()?;
        Failpoint::MetaWritten.pass();
        volume.rename(&new, &folder.join(FILE))?;
        Failpoint::MetaRenamed.pass();
        Ok(volume.sync_folder(folder)?)
    }
}

fn columns(schema: &Schema) -> Vec<String> {
    let line = |field: &arrow::datatypes::FieldRef| {
        format!("{} {}{}", field.name(), field.data_type(), if field.is_nullable() { "" } else { " NOT NULL" })
    };
    schema.fields().iter().map(line).collect()
}
