//! Texts that are asked for, compared with those of many rows. Where the texts of a batch lie is seldom near: they are
//! looked at as they lie, without a decision in between, so that all are waited for at once.

use arrow::array::StringArray;

use super::predicate::Atom;

/// Bytes that are compared at once.
const WORD: usize = 8;

/// What predicates ask of a column of texts, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Texts {
    wanted: Vec<Wanted>,
    /// How many ask for a text.
    asking: usize,
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
    /// Notes the text that a predicate asks for; `None`: any will do, or it is looked at otherwise.
    pub(super) fn set(&mut self, slot: u32, text: Option<&str>) {
        let at = slot as usize;
        if self.wanted.len() <= at {
            self.wanted.resize(at + 1, Wanted::ANY);
        }
        self.asking -= usize::from(!self.wanted[at].any);
        self.wanted[at] = text.map_or(Wanted::ANY, Wanted::of);
        self.asking += usize::from(!self.wanted[at].any);
    }

    /// Nobody asks for a text.
    pub(super) fn is_empty(&self) -> bool {
        self.asking == 0
    }

    /// Lets go of pairs of a row and a predicate's number whose text is surely another. `begins`: room.
    pub(super) fn sift(&self, texts: &StringArray, pairs: &mut Vec<u64>, begins: &mut Vec<u32>) {
        let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
        let wanted = |pair: u64| self.wanted.get(pair as u32 as usize).unwrap_or(&Wanted::ANY);
        begins.clear();
        begins.resize(pairs.len(), 0);
        let mut kept = 0;
        for at in 0..pairs.len() {
            let pair = pairs[at];
            let (wanted, row) = (wanted(pair), (pair >> 32) as usize);
            let (begin, end) = (offsets[row], offsets[row + 1]);
            (pairs[kept], begins[kept]) = (pair, begin.cast_unsigned());
            kept += usize::from(wanted.any | ((end - begin).cast_unsigned() == wanted.length));
        }
        pairs.truncate(kept);
        kept = 0;
        for at in 0..pairs.len() {
            let pair = pairs[at];
            let wanted = wanted(pair);
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

/// The text that an atom asks for, if it is the only one that asks anything of its column.
pub(super) fn only_text<'a>(atom: &'a Atom, atoms: &[Atom]) -> Option<(usize, &'a str)> {
    let Atom::Texts { column, values } = atom else { return None };
    let [only] = values.as_slice() else { return None };
    let alone = atoms.iter().filter(|other| other.column() == *column).count() == 1;
    alone.then_some((*column, only.as_ref()))
}

/// Whether a text of the same length whose ends are the same is the same.
pub(super) fn is_told_by_ends(text: &str) -> bool {
    text.len() <= 2 * WORD
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn a_text_passes_and_another_of_its_length_that_differs_at_an_end_does_not() {
        let all = ["", "a", "b", "abcdefg", "abcdefh", "abcdefgh", "Xbcdefgh", "abcdefgX", "abcdefghabcdefgh", "é"];
        let mut texts = Texts::default();
        (0..).zip(all).for_each(|(slot, text)| texts.set(slot, Some(text)));
        // One that has come and gone; others that ask for none are not noted.
        texts.set(10, Some("a"));
        texts.set(10, None);
        let rows = StringArray::from(all.to_vec());
        for sliced in [rows.clone(), rows.slice(4, 6)] {
            let pairs = |waiting: u64| (0..sliced.len() as u64).map(move |row| row << 32 | waiting);
            let mut found: Vec<u64> = (0..12).flat_map(pairs).collect();
            texts.sift(&sliced, &mut found, &mut Vec::new());
            let equal = |pair: u64| {
                let (waiting, row) = (pair as u32 as usize, (pair >> 32) as usize);
                all.get(waiting).is_none_or(|text| *text == sliced.value(row))
            };
            let expected: Vec<u64> = (0..12).flat_map(pairs).filter(|pair| equal(*pair)).collect();
            assert_eq!(found, expected);
        }
        assert!(!texts.is_empty());
        (0..10).for_each(|slot| texts.set(slot, None));
        assert!(texts.is_empty());
    }

    #[test]
    fn a_text_is_told_only_if_nothing_else_is_asked_of_its_column() {
        let atom = |column, texts: &[&str]| Atom::Texts {
            column,
            values: texts.iter().map(|text| Box::from(*text)).collect(),
        };
        let atoms = [atom(3, &["a"]), atom(4, &["a", "b"]), atom(5, &["a"]), Atom::Null { column: 5, is: false }];
        let told: Vec<_> = atoms.iter().map(|atom| only_text(atom, &atoms)).collect();
        assert_eq!(told, [Some((3, "a")), None, None, None]);
        assert!(is_told_by_ends("sixteen letters!") && !is_told_by_ends("seventeen letters"));
    }
}
