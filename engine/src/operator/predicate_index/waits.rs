//! Whether a row may be for somebody who waits for its value. Asked of each row: there is one type for each way to tell, so
//! that the loops over rows have its answer in them.

use super::cells::Bits;

/// See the module.
pub(super) trait May {
    /// The cell of a row's second column.
    fn cell(&self, row: usize) -> u32;

    /// The cells of as many rows from one on.
    fn cells(&self, first: usize, cells: &mut [u32]);

    /// Whether a row with such a cell may be for somebody at a bucket, counted from one; at bucket zero nobody waits.
    fn be(&self, bucket: u32, cell: u32) -> bool;
}

/// Any row.
pub(super) struct Waits;

/// Those of whose second column somebody waits for the cell. `cell`: of a value.
pub(super) struct WaitsIn<'a, V, C> {
    pub(super) cells: &'a Bits,
    pub(super) values: &'a [V],
    pub(super) cell: C,
}

impl May for Waits {
    #[inline(always)]
    fn cell(&self, _: usize) -> u32 {
        0
    }

    fn cells(&self, _: usize, _: &mut [u32]) {}

    #[inline(always)]
    fn be(&self, bucket: u32, _: u32) -> bool {
        bucket > 0
    }
}

impl<V: Copy, C: Fn(V) -> u32> May for WaitsIn<'_, V, C> {
    #[inline(always)]
    fn cell(&self, row: usize) -> u32 {
        (self.cell)(self.values[row])
    }

    fn cells(&self, first: usize, cells: &mut [u32]) {
        let of_values = cells.iter_mut().zip(&self.values[first..]);
        of_values.for_each(|(cell, value)| *cell = (self.cell)(*value));
    }

    #[inline(always)]
    fn be(&self, bucket: u32, cell: u32) -> bool {
        self.cells.holds(bucket, cell)
    }
}
