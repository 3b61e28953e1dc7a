//! What a fuzzer runs: any bytes are a text or a seed, and no text may make planning panic.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use squilla_query::{Catalog, Relation, RelationKind, TimeAttribute, analyze, split_statements, timestamp_type};

use crate::random::Random;
use crate::statements::Statements;

/// What statements may read.
struct Known;

impl Catalog for Known {
    fn relation(&self, name: &str) -> Option<Relation> {
        let columns: &[(&str, DataType)] = match name {
            "bids" => &[("auction", DataType::Int64), ("price", DataType::Int64), ("channel", DataType::Utf8)],
            "people" => &[("id", DataType::Int64), ("name", DataType::Utf8)],
            _ => return None,
        };
        let mut fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        fields.push(Field::new("ts", timestamp_type(), true));
        Some(Relation {
            name: name.to_owned(),
            kind: RelationKind::Source,
            schema: Arc::new(Schema::new(fields)),
            time: TimeAttribute::Column("ts".to_owned()),
            windows: None,
            replay: false,
            late: None,
        })
    }

    fn names(&self) -> Vec<String> {
        vec!["bids".to_owned(), "people".to_owned()]
    }
}

/// Plans the text that the bytes are, and a statement drawn from them as a seed.
pub fn plan(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = split_statements(text);
        let _ = analyze(text, &Known);
    }
    if let Some(seed) = data.first_chunk::<8>() {
        let sql = Statements::new(&mut Random::new(u64::from_le_bytes(*seed))).statement();
        let _ = analyze(&sql, &Known);
    }
}
