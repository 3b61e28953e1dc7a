//! Who waits for a range of a column's values.

use arrow::buffer::NullBuffer;

/// So few ranges are tried one by one: sorting the rows costs more.
const FEW: usize = 4;

/// Ranges of one column.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    waiting: Vec<Waiting>,
}

/// The values of a batch that some range may hold, ascending, with their rows.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    values: Vec<(u64, u32)>,
    rows: Vec<u32>,
}

/// Who waits for values between two, both included.
#[derive(Debug)]
struct Waiting {
    low: u64,
    high: u64,
    slot: u32,
}

impl Ranges {
    pub(super) fn add(&mut self, low: u64, high: u64, slot: u32) {
        self.waiting.push(Waiting { low, high, slot });
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.waiting.retain(|waiting| waiting.slot != slot);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sorts the rows of a batch by their values, those apart that no range holds.
    pub(super) fn sort(&self, numbers: &[u64], valid: Option<&NullBuffer>, sorted: &mut Sorted) {
        let low = self.waiting.iter().map(|waiting| waiting.low).min().unwrap_or(u64::MAX);
        let high = self.waiting.iter().map(|waiting| waiting.high).max().unwrap_or(0);
        let held = |row: u32, number: u64| {
            (low..=high).contains(&number) && valid.is_none_or(|valid| valid.is_valid(row as usize))
        };
        let Sorted { values, rows: of_values } = sorted;
        values.clear();
        let rows = (0..).zip(numbers).filter(|(row, number)| held(*row, **number));
        values.extend(rows.map(|(row, number)| (*number, row)));
        if self.waiting.len() > FEW {
            values.sort_unstable();
        }
        of_values.clear();
        of_values.extend(values.iter().map(|(_, row)| *row));
    }

    /// Those who wait, with the rows whose values their ranges hold.
    pub(super) fn found<'a>(&'a self, sorted: &'a Sorted) -> impl Iterator<Item = (u32, std::borrow::Cow<'a, [u32]>)> {
        let Sorted { values, rows } = sorted;
        let few = self.waiting.len() <= FEW;
        self.waiting.iter().map(move |Waiting { low, high, slot }| {
            if few {
                let held = values.iter().filter(|(number, _)| (low..=high).contains(&number));
                return (*slot, held.map(|(_, row)| *row).collect());
            }
            let from = values.partition_point(|(number, _)| number < low);
            let until = values.partition_point(|(number, _)| number <= high);
            (*slot, rows[from..until.max(from)].into())
        })
    }
}
