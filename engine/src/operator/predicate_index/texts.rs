//! Texts that are asked for, compared with those of many rows. Where the texts of a batch lie is seldom near: they are
//! looked at one behind the other without a decision in between, so that all are waited for at once.

use arrow::array::StringArray;

use super::Entry;
use super::predicate::Atom;

/// Bytes that are compared at once.
const WORD: usize = 8;

/// What each of some who wait asks of a column of texts.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) column: usize,
    wanted: Vec<Wanted>,
}

/// Length and both ends of a text; those of a short one are the same.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    length: u32,
    head: u64,
    tail: u64,
    /// Which bits of the ends are the text's.
    mask: u64,
    /// Any text will do, or is looked at otherwise.
    any: bool,
}

impl Texts {
    /// Of the column that most of them ask one text of; `None`: none does.
    pub(super) fn new<'e>(waiting: impl Iterator<Item = &'e Entry> + Clone) -> Option<Self> {
        let mut columns: Vec<usize> = waiting.clone().flat_map(only_texts).map(|(column, _)| column).collect();
        columns.sort_unstable();
        let column = columns.chunk_by(|a, b| a == b).max_by_key(|alike| alike.len())?[0];
        let wanted = |entry| {
            let text = only_texts(entry).find(|(of, _)| *of == column).map(|(_, text)| text);
            text.map_or(Wanted::ANY, Wanted::of)
        };
        Some(Self { column, wanted: waiting.map(wanted).collect() })
    }

    /// Lets go of pairs of who waits and a row whose text is surely another. `begins`: room.
    pub(super) fn sift(&self, texts: &StringArray, pairs: &mut Vec<u64>, begins: &mut Vec<u32>) {
        let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
        begins.clear();
        begins.resize(pairs.len(), 0);
        let mut kept = 0;
        for at in 0..pairs.len() {
            let pair = pairs[at];
            let (wanted, row) = (&self.wanted[(pair >> 32) as usize], pair as u32 as usize);
            let (begin, end) = (offsets[row], offsets[row + 1]);
            (pairs[kept], begins[kept]) = (pair, begin.cast_unsigned());
            kept += usize::from(wanted.any | ((end - begin).cast_unsigned() == wanted.length));
        }
        pairs.truncate(kept);
        kept = 0;
        for at in 0..pairs.len() {
            let pair = pairs[at];
            let wanted = &self.wanted[(pair >> 32) as usize];
            pairs[kept] = pair;
            kept += usize::from(wanted.any | wanted.may_be(bytes, begins[at] as usize));
        }
        pairs.truncate(kept);
    }
}

impl Wanted {
    const ANY: Self = Self { length: 0, head: 0, tail: 0, mask: 0, any: true };

    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mask = if bytes.len() < WORD { (1 << (8 * bytes.len())) - 1 } else { u64::MAX };
        let (head, tail) = (word(bytes, 0), word(bytes, bytes.len().saturating_sub(WORD)));
        // Longer ones than any column holds are none of its texts.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { length, head, tail, mask, any: false }
    }

    /// Whether the ends of a text of the same length are the same.
    #[inline(always)]
    fn may_be(&self, bytes: &[u8], begin: usize) -> bool {
        let tail = begin + (self.length as usize).saturating_sub(WORD);
        ((word(bytes, begin) ^ self.head) | (word(bytes, tail) ^ self.tail)) & self.mask == 0
    }
}

/// The bytes from one on, those behind the last as zeros.
#[inline(always)]
fn word(bytes: &[u8], from: usize) -> u64 {
    if let Some(Ok(whole)) = bytes.get(from..from + WORD).map(<[u8; WORD]>::try_from) {
        return u64::from_le_bytes(whole);
    }
    let mut padded = [0; WORD];
    let rest = bytes.get(from..).unwrap_or_default();
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(padded)
}

/// The columns that have to have one certain text.
fn only_texts(entry: &Entry) -> impl Iterator<Item = (usize, &str)> {
    entry.atoms.iter().filter_map(|atom| match atom {
        Atom::Texts { column, values } => match values.as_slice() {
            [only] => Some((*column, only.as_ref())),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn a_text_passes_and_another_of_its_length_that_differs_at_an_end_does_not() {
        let all = ["", "a", "b", "abcdefg", "abcdefh", "abcdefgh", "Xbcdefgh", "abcdefgX", "abcdefghabcdefgh", "é"];
        let atoms = |text: &str| Atom::Texts { column: 3, values: vec![text.into()] };
        let entry = |text: &&str| Entry { access: None, atoms: [atoms(text)].into(), others: [].into() };
        let mut entries: Vec<Entry> = all.iter().map(entry).collect();
        // Of another column, and one of two: they are looked at otherwise.
        let other = Atom::Texts { column: 4, values: vec!["a".into()] };
        let either = Atom::Texts { column: 3, values: vec!["a".into(), "b".into()] };
        entries.push(Entry { access: None, atoms: [other, either].into(), others: [].into() });
        let texts = Texts::new(entries.iter()).expect("most ask for one");
        assert_eq!(texts.column, 3);
        let rows = StringArray::from(all.to_vec());
        for sliced in [rows.clone(), rows.slice(4, 6)] {
            let pairs = |waiting: u64| (0..sliced.len() as u64).map(move |row| waiting << 32 | row);
            let mut found: Vec<u64> = (0..entries.len() as u64).flat_map(pairs).collect();
            texts.sift(&sliced, &mut found, &mut Vec::new());
            let equal = |pair: u64| {
                let (waiting, row) = ((pair >> 32) as usize, pair as u32 as usize);
                all.get(waiting).is_none_or(|text| *text == sliced.value(row))
            };
            let expected: Vec<u64> = (0..entries.len() as u64).flat_map(pairs).filter(|pair| equal(*pair)).collect();
            assert_eq!(found, expected);
        }
        assert!(Texts::new(entries[..0].iter()).is_none());
    }
}
