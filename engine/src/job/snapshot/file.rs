//! The files of a snapshot.
//!
//! ```text
//! N.manifest:  CRC-32C of what follows as eight hexadecimal digits, a blank, and JSON: the point, and for each part of
//!              the state its kind, length and CRC-32C
//! N.state:     the parts behind each other: notes as JSON, columns as streams in Arrow's IPC format
//! ```

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::{Point, Snapshot};
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::operator::Part;
use crate::stream::{DiskError, Volume, VolumeFile};

const MANIFEST: &str = "manifest";
const STATE: &str = "state";
/// What a manifest is called before it is whole.
const NEW: &str = "new";
/// Version of the format.
const FORMAT: u8 = 1;
/// Digits of a checksum, and the blank behind them.
const CHECK_BYTES: usize = 9;

#[derive(Serialize, Deserialize)]
struct Manifest<'a> {
    format: u8,
    point: Cow<'a, Point>,
    parts: Vec<PartFacts>,
}

#[derive(Serialize, Deserialize)]
struct PartFacts {
    /// A note, else columns.
    note: bool,
    bytes: u64,
    crc: u32,
}

/// Those whose manifests are in a folder, oldest first. What others have left is removed.
pub(super) fn generations(volume: &dyn Volume, folder: &Path) -> Result<Vec<u64>, DiskError> {
    let names = volume.list(folder)?;
    let number = |name: &str| -> Option<u64> { Path::new(name).file_stem()?.to_str()?.parse().ok() };
    let ends = |name: &str, ending: &str| Path::new(name).extension().is_some_and(|found| found == ending);
    let mut found: Vec<u64> =
        names.iter().filter(|name| ends(name, MANIFEST)).filter_map(|name| number(name)).collect();
    found.sort_unstable();
    for name in names.iter().filter(|name| !ends(name, MANIFEST)) {
        if !number(name).is_some_and(|number| ends(name, STATE) && found.contains(&number)) {
            volume.remove(&folder.join(name))?;
        }
    }
    Ok(found)
}

/// Writes both files, each on disk before the next is begun.
pub(super) fn write(
    volume: &dyn Volume,
    folder: &Path,
    generation: u64,
    snapshot: Snapshot,
) -> Result<(), EngineError> {
    let Snapshot { point, state } = snapshot;
    let disk = |error: std::io::Error| EngineError::Disk(Arc::new(error.into()));
    let file = volume.open(&path(folder, generation, STATE), true).map_err(disk)?;
    file.truncate(0).map_err(disk)?;
    let (mut parts, mut at) = (Vec::new(), 0);
    for part in state.into_parts() {
        let (note, bytes) = encoded(part)?;
        file.write_all_at(&bytes, at).map_err(disk)?;
        parts.push(PartFacts { note, bytes: bytes.len() as u64, crc: crc32c::crc32c(&bytes) });
        at += bytes.len() as u64;
    }
    file.sync().map_err(disk)?;
    Failpoint::SnapshotState.pass();
    let manifest = Manifest { format: FORMAT, point: Cow::Owned(point), parts };
    let text = serde_json::to_string(&manifest).map_err(|error| EngineError::Internal(Box::new(error)))?;
    let new = path(folder, generation, NEW);
    let file = volume.open(&new, true).map_err(disk)?;
    file.truncate(0).map_err(disk)?;
    file.write_all_at(format!("{:08x} {text}", crc32c::crc32c(text.as_bytes())).as_bytes(), 0).map_err(disk)?;
    file.sync().map_err(disk)?;
    Failpoint::SnapshotWritten.pass();
    volume.rename(&new, &path(folder, generation, MANIFEST)).map_err(disk)?;
    Failpoint::SnapshotRenamed.pass();
    volume.sync_folder(folder).map_err(disk)?;
    Failpoint::SnapshotEnds.pass();
    Ok(())
}

/// Reads what was written.
pub(super) fn read(volume: &dyn Volume, folder: &Path, generation: u64) -> Result<Snapshot, EngineError> {
    let text = whole(volume, &path(folder, generation, MANIFEST))?;
    let (crc, text) = text.split_at_checked(CHECK_BYTES).ok_or_else(|| damaged("a manifest is cut"))?;
    let (crc, blank) = crc.split_at(CHECK_BYTES - 1);
    let crc = std::str::from_utf8(crc).ok().and_then(|crc| u32::from_str_radix(crc, 16).ok());
    if crc != Some(crc32c::crc32c(text)) || blank != b" " {
        return Err(damaged("the checksum of a manifest is another"));
    }
    let manifest: Manifest<'_> = serde_json::from_slice(text).map_err(|error| EngineError::State(error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(damaged(&format!("a manifest has format {}", manifest.format)));
    }
    let bytes = whole(volume, &path(folder, generation, STATE))?;
    if manifest.parts.iter().map(|part| part.bytes).sum::<u64>() != bytes.len() as u64 {
        return Err(damaged("a state has another length"));
    }
    let mut rest = bytes.as_slice();
    let mut parts = Vec::with_capacity(manifest.parts.len());
    for facts in &manifest.parts {
        let (part, behind) = rest.split_at(usize::try_from(facts.bytes).unwrap_or(usize::MAX).min(rest.len()));
        rest = behind;
        if crc32c::crc32c(part) != facts.crc {
            return Err(damaged("the checksum of a state is another"));
        }
        parts.push(decoded(facts.note, part)?);
    }
    Failpoint::SnapshotRead.pass();
    Ok(Snapshot { point: manifest.point.into_owned(), state: parts.into_iter().collect() })
}

/// Bytes of a snapshot's files; those that are not there have none.
pub(super) fn bytes(volume: &dyn Volume, folder: &Path, generation: u64) -> u64 {
    let length = |ending| volume.open(&path(folder, generation, ending), false).and_then(|file| file.length());
    [MANIFEST, STATE].into_iter().map(|ending| length(ending).unwrap_or(0)).sum()
}

/// Removes a snapshot: its manifest first.
pub(super) fn remove(volume: &dyn Volume, folder: &Path, generation: u64) -> Result<(), DiskError> {
    for ending in [MANIFEST, STATE] {
        match volume.remove(&path(folder, generation, ending)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => Failpoint::SnapshotRemoves.pass(),
        }
    }
    Ok(())
}

fn path(folder: &Path, generation: u64, ending: &str) -> PathBuf {
    folder.join(format!("{generation:020}.{ending}"))
}

fn whole(volume: &dyn Volume, path: &Path) -> Result<Vec<u8>, EngineError> {
    let read = || -> std::io::Result<Vec<u8>> {
        let file: Arc<dyn VolumeFile> = volume.open(path, false)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|error| EngineError::Disk(Arc::new(error.into())))
}

fn encoded(part: Part) -> Result<(bool, Vec<u8>), EngineError> {
    match part {
        Part::Note(text) => Ok((true, text.into_bytes())),
        Part::Rows(rows) => {
            let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
            writer.write(&rows)?;
            Ok((false, writer.into_inner()?))
        }
    }
}

fn decoded(note: bool, bytes: &[u8]) -> Result<Part, EngineError> {
    if note {
        return String::from_utf8(bytes.to_vec()).map(Part::Note).map_err(|_| damaged("a note is no text"));
    }
    let unreadable = |error: arrow::error::ArrowError| EngineError::State(error.to_string());
    let mut reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let rows: Option<RecordBatch> = reader.next().transpose().map_err(unreadable)?;
    rows.map(Part::Rows).ok_or_else(|| damaged("a part has no columns"))
}

fn damaged(what: &str) -> EngineError {
    EngineError::State(what.to_owned())
}
