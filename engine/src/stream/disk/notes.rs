//! What a record notes beside its rows: how far the inputs had been read, and what publishers' requests were taken.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::DiskError;
use crate::stream::{Position, ProducerMark};

/// How far each input had been read.
pub(super) type Inputs = Vec<(String, Position)>;

/// See the module. As JSON: the inputs alone, or both by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes<'a> {
    pub(super) inputs: Cow<'a, [(String, Position)]>,
    /// Those of the record; of a segment's first record also all that were known before it.
    pub(super) marks: Cow<'a, [ProducerMark]>,
}

#[derive(Serialize, Deserialize)]
struct Both<'a> {
    inputs: Cow<'a, [(String, Position)]>,
    producers: Cow<'a, [ProducerMark]>,
}

impl Notes<'_> {
    /// Appends them; nothing when there is nothing to tell.
    pub(super) fn write(self, out: &mut Vec<u8>) -> Result<(), DiskError> {
        let unreadable = |error: serde_json::Error| DiskError::Unreadable(error.to_string());
        if !self.marks.is_empty() {
            let both = Both { inputs: self.inputs, producers: self.marks };
            return serde_json::to_writer(out, &both).map_err(unreadable);
        }
        if self.inputs.is_empty() {
            return Ok(());
        }
        serde_json::to_writer(out, &self.inputs).map_err(unreadable)
    }

    /// Reads what was written, with zeros behind it.
    pub(super) fn read(text: &[u8]) -> Result<Notes<'static>, DiskError> {
        let unreadable = |error: serde_json::Error| DiskError::Unreadable(error.to_string());
        let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        match text.first().filter(|_| end > 0) {
            None => Ok(Notes::default()),
            Some(b'{') => {
                let both: Both<'static> = serde_json::from_slice(&text[..end]).map_err(unreadable)?;
                Ok(Notes { inputs: both.inputs, marks: both.producers })
            }
            Some(_) => {
                let inputs: Inputs = serde_json::from_slice(&text[..end]).map_err(unreadable)?;
                Ok(Notes { inputs: inputs.into(), marks: Cow::default() })
            }
        }
    }
}
