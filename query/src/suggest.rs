//! "Did you mean": the nearest name by edit distance.

/// The candidate nearest to `wanted`, when it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let bound = (wanted.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&wanted, &candidate.to_lowercase());
            (distance <= bound).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let width = right.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut line = vec![row + 1; width];
        for (column, &b) in right.iter().enumerate() {
            let replace = last[column] + usize::from(a != b);
            let mut best = replace.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                best = best.min(before[column - 1] + 1);
            }
            line[column + 1] = best;
        }
        before = std::mem::replace(&mut last, line);
    }
    last[width - 1]
}

/// `"a", "b" and 3 more`: names for a note.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    /// Names that fit a line.
    const SHOWN: usize = 24;
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// `a, b and c`.
pub(crate) fn and(names: &[String]) -> String {
    match names {
        [rest @ .., before, last] => {
            let rest: String = rest.iter().map(|name| format!("{name}, ")).collect();
            format!("{rest}{before} and {last}")
        }
        few => few.join(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["price", "bidder", "auction", "ts"];
        assert_eq!(nearest("prise", names), Some("price"));
        assert_eq!(nearest("bider", names), Some("bidder"));
        assert_eq!(nearest("PRICE", names), Some("price"));
        assert_eq!(nearest("pirce", names), Some("price"));
        assert_eq!(nearest("volume", names), None);
    }
}
