//! Aligned columns for people, block by block, so that live rows can be shown as they come.

use comfy_table::{CellAlignment, ColumnConstraint, ContentLineStyle, LineStyle, Table, TableStyle, Width};
use serde_json::value::RawValue;

/// Rows that are gathered to find the widths of the columns before they are shown.
const BLOCK_ROWS: usize = 1000;
/// Longest text of a cell, in characters; what is longer is cut and ends in `…`.
const CELL_CHARS: usize = 200;

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction('|'))
    .header_separator(LineStyle::none().fill('-').junction('+'))
    .content_lines(ContentLineStyle::none().junction('|'));

/// Rows on their way to the terminal.
pub(super) struct TableBlocks {
    names: Vec<String>,
    right: Vec<bool>,
    widths: Vec<u16>,
    header_shown: bool,
    rows: Vec<Vec<String>>,
}

impl TableBlocks {
    /// For columns of these names; `right`: those that are aligned to the right.
    pub(super) fn new(names: Vec<String>, right: Vec<bool>) -> Self {
        let widths = vec![0; names.len()];
        let names = names.iter().map(|name| printable(name)).collect();
        Self { names, right, widths, header_shown: false, rows: Vec::new() }
    }

    /// Takes a row.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// True when [`TableBlocks::render`] should be called.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= BLOCK_ROWS
    }

    /// Writes the rows gathered. The header comes first, and again when a column has grown.
    pub(super) fn render(&mut self, out: &mut Vec<u8>) {
        if !self.rows.is_empty() {
            self.render_block(out);
        }
    }

    /// Writes the rows gathered, and the header if no row ever came.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if !(self.rows.is_empty() && self.header_shown) {
            self.render_block(out);
        }
    }

    fn render_block(&mut self, out: &mut Vec<u8>) {
        let mut table = Table::new();
        table.load_style(STYLE).force_no_tty().set_header(self.names.clone());
        table.add_rows(self.rows.drain(..));
        let mut header_wanted = !self.header_shown;
        for (at, width) in table.column_max_content_widths().into_iter().enumerate() {
            header_wanted |= width > self.widths[at];
            self.widths[at] = width.max(self.widths[at]);
            let column = table.column_mut(at).expect("the header has a cell a column");
            // The constraint counts the padding of one on either side.
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(self.widths[at] + 2)));
            if self.right[at] {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.header_shown = true;
        let header_lines = 2;
        for line in table.lines().skip(if header_wanted { 0 } else { header_lines }) {
            out.extend_from_slice(line.trim_end().as_bytes());
            out.push(b'\n');
        }
    }
}

/// The text of a JSON value in a cell.
pub(super) fn cell(value: &RawValue) -> String {
    match serde_json::from_str::<String>(value.get()) {
        Ok(text) => printable(&text),
        Err(_) => printable(value.get()),
    }
}

/// The text on one line, without what could move a terminal's cursor, and not too long.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at == CELL_CHARS {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(table: &mut TableBlocks) -> String {
        let mut out = Vec::new();
        table.render(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_header_comes_again_only_when_a_column_grows() {
        let mut table = TableBlocks::new(vec!["device".into(), "n".into()], vec![false, true]);
        table.push(vec!["tv".into(), "12".into()]);
        assert_eq!(rendered(&mut table), " device | n\n--------+----\n tv     | 12\n".replace(" n\n", "  n\n"));
        table.push(vec!["phone".into(), "3".into()]);
        assert_eq!(rendered(&mut table), " phone  |  3\n");
        table.push(vec!["phone".into(), "300".into()]);
        assert_eq!(rendered(&mut table), " device |   n\n--------+-----\n phone  | 300\n");
        assert_eq!(rendered(&mut table), "");
    }

    #[test]
    fn a_result_without_rows_shows_its_columns() {
        let mut table = TableBlocks::new(vec!["a".into()], vec![false]);
        assert_eq!(rendered(&mut table), "");
        let mut out = Vec::new();
        table.end(&mut out);
        assert_eq!(out, b" a\n---\n");
    }

    #[test]
    fn data_cannot_move_the_cursor() {
        assert_eq!(printable("a\n\u{1b}[2J"), "a\\n\\u{1b}[2J");
        assert_eq!(printable(&"x".repeat(300)).chars().count(), CELL_CHARS + 1);
    }
}
