//! Rows that come too late are remarked as such where they are put in, and only those: a case's author has said
//! beforehand which ones the ledger must count.

use super::values::parse_remark;
use super::{Case, Step};

/// What a late row's remark begins with. `late ×3` is a row that three jobs, groupings or list items are late for.
const LATE: &str = "late";

/// Compares the remarks of a case's rows with how many its ledger counts late, whatever the reason.
///
/// # Errors
/// The rows that say it, when they are not as many.
pub(super) fn check(case: &Case, late: u64) -> Result<(), String> {
    let inputs = case.inputs.iter().flat_map(|(.., lines)| lines);
    let steps = case.timeline.iter().filter_map(|step| match step {
        Step::Row { line, .. } => Some(line),
        Step::Clock(_) => None,
    });
    let said = inputs.chain(steps).filter_map(|line| Some((times(&parse_remark(line)?)?, line.as_str())));
    let said: Vec<(u64, &str)> = said.collect();
    if said.iter().map(|(times, _)| times).sum::<u64>() == late {
        return Ok(());
    }
    let lines: Vec<&str> = said.iter().map(|(_, line)| *line).collect();
    let rows = if lines.is_empty() { "none".to_owned() } else { lines.join("\n") };
    Err(format!(
        "{late} rows are late, but these have a remark that begins with \"{LATE}\" (\"{LATE} ×2\": counted twice):\n{rows}"
    ))
}

/// How often a row with this remark is late; `None`: it is not.
fn times(remark: &str) -> Option<u64> {
    let rest = remark.trim().strip_prefix(LATE).filter(|rest| !rest.starts_with(char::is_alphabetic))?;
    let Some(times) = rest.trim_start().strip_prefix('×') else { return Some(1) };
    let digits = times.split(|next: char| !next.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_say_which_rows_are_late() {
        let case = Case::parse(
            "=== sql\nSELECT 1\n=== input a\n1\n2 # late: by 3 s\n3 # later\n\"# late\"\n4 # late ×2, for both\n5 # not late",
        );
        let case = case.expect("a case");
        assert_eq!(check(&case, 3), Ok(()));
        let error = check(&case, 1).expect_err("one row too many says it");
        assert!(error.contains("2 # late: by 3 s\n4 # late"), "{error}");
    }
}
