//! "Did you mean": the nearest name by edit distance.

/// Characters of a name that is compared with others; longer ones have no neighbours.
const MAX_CHARS: usize = 128;
/// Bytes of a character at the most.
const LONGEST_CHAR: usize = 4;

/// The candidate nearest to `wanted`, when it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No more characters are read than tell that a text is no name of ours.
    let wanted: Vec<char> = wanted.chars().take(MAX_CHARS + 1).flat_map(char::to_lowercase).collect();
    if wanted.len() > MAX_CHARS {
        return None;
    }
    let bound = (wanted.len() / 3).clamp(1, 3);
    let mut lines = Lines::default();
    candidates
        .into_iter()
        .filter(|candidate| {
            // Each edit changes the length by one at the most.
            wanted.len() + bound >= candidate.len() / LONGEST_CHAR && wanted.len() <= candidate.len() + bound
        })
        .filter_map(|candidate| Some((lines.distance(&wanted, candidate, bound)?, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Room to compare many names with one: three lines of the table of distances.
#[derive(Default)]
struct Lines {
    right: Vec<char>,
    before: Vec<usize>,
    last: Vec<usize>,
    line: Vec<usize>,
}

impl Lines {
    /// Edits (insert, delete, replace, swap of neighbours) from one text to the other; `None`: more than the bound.
    fn distance(&mut self, left: &[char], right: &str, bound: usize) -> Option<usize> {
        let Self { right: chars, before, last, line } = self;
        chars.clear();
        chars.extend(right.chars().flat_map(char::to_lowercase));
        if left.len().abs_diff(chars.len()) > bound {
            return None;
        }
        let width = chars.len() + 1;
        last.clear();
        last.extend(0..width);
        before.resize(width, 0);
        line.resize(width, 0);
        for (row, &a) in left.iter().enumerate() {
            line[0] = row + 1;
            let mut least = line[0].min(last[0]);
            for (column, &b) in chars.iter().enumerate() {
                let replace = last[column] + usize::from(a != b);
                let mut best = replace.min(last[column + 1] + 1).min(line[column] + 1);
                if row > 0 && column > 0 && a == chars[column - 1] && left[row - 1] == b {
                    best = best.min(before[column - 1] + 1);
                }
                line[column + 1] = best;
                least = least.min(best).min(last[column + 1]);
            }
            // What follows is no less than the least of two lines.
            if least > bound {
                return None;
            }
            std::mem::swap(before, last);
            std::mem::swap(last, line);
        }
        Some(last[width - 1]).filter(|distance| *distance <= bound)
    }
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
        assert_eq!(nearest("rpice", names), Some("price"));
        assert_eq!(nearest("au", ["t", "été"]), None);
        assert_eq!(nearest("ete", ["été", "etat"]), None);
        assert_eq!(nearest("ÉTÉS", ["été"]), Some("été"));
        assert_eq!(nearest(&"x".repeat(60_000), names), None);
    }
}
