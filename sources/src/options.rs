//! The options of a `WITH (…)` clause, read with types: what is unknown, misspelt, missing or malformed becomes a
//! [`Diagnostic`] at its place, all at once.

use std::time::Duration;

use squilla_query::{Diagnostic, OptionValue};

/// The options of one statement. Reading an option makes its name known; [`Options::finish`] complains about the
/// names that nobody read.
pub(crate) struct Options<'a> {
    given: &'a [OptionValue],
    known: Vec<&'static str>,
    mistakes: Vec<Diagnostic>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(given: &'a [OptionValue]) -> Self {
        let mut mistakes = Vec::new();
        for (at, option) in given.iter().enumerate() {
            if given[..at].iter().any(|earlier| earlier.name == option.name) {
                mistakes.push(
                    Diagnostic::new("duplicate_option", format!("option \"{}\" is given twice", option.name))
                        .at(option.span)
                        .help("leave one of them out"),
                );
            }
        }
        Self { given, known: Vec::new(), mistakes }
    }

    fn find(&mut self, name: &'static str) -> Option<&'a OptionValue> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.given.iter().find(|option| option.name == name)
    }

    /// Adds a mistake about an option's value.
    pub(crate) fn bad_value(&mut self, name: &'static str, message: impl Into<String>, help: impl Into<String>) {
        let span = self.find(name).and_then(|option| option.span);
        self.mistakes.push(Diagnostic::new("bad_option", message).at(span).help(help));
    }

    /// Text as written, `None` when the option is absent.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.find(name).map(|option| option.value.as_str())
    }

    /// Text that must be there. `None` adds a mistake.
    pub(crate) fn required(&mut self, name: &'static str, help: &str) -> Option<&'a str> {
        let text = self.text(name);
        if text.is_none() {
            let mistake = Diagnostic::new("missing_option", format!("option \"{name}\" is missing")).help(help);
            self.mistakes.push(mistake);
        }
        text
    }

    /// A value that `read` understands; a default when the option is absent or wrong.
    fn read<T>(&mut self, name: &'static str, default: T, what: &str, read: impl Fn(&str) -> Option<T>) -> T {
        let Some(option) = self.find(name) else { return default };
        read(option.value.trim()).unwrap_or_else(|| {
            let message = format!("option \"{name}\" has value \"{}\", which is not {what}", option.value);
            self.mistakes.push(Diagnostic::new("bad_option", message).at(option.span).help(format!("write {what}")));
            default
        })
    }

    pub(crate) fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        self.read(name, default, "a duration like '250ms', '10s', '15m', '2h' or '1d'", parse_duration)
    }

    pub(crate) fn size(&mut self, name: &'static str, default: usize) -> usize {
        self.read(name, default, "a size like '64MiB' or '1GB'", parse_size)
    }

    pub(crate) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        self.read(name, default, "'true' or 'false'", |text| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    pub(crate) fn integer(&mut self, name: &'static str) -> Option<u64> {
        self.read(name, None, "a whole number, zero or above", |text| text.replace('_', "").parse().ok().map(Some))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let Some(option) = self.find(name) else { return default };
        let value = option.value.trim().to_ascii_lowercase();
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == value) {
            return *chosen;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let message = format!("option \"{name}\" cannot be \"{}\"", option.value);
        self.mistakes.push(Diagnostic::new("bad_option", message).at(option.span).help(suggest(&value, &words)));
        default
    }

    /// Refuses an option that is known but not supported, with help.
    pub(crate) fn refuse(&mut self, name: &'static str, help: &str) {
        if let Some(option) = self.find(name) {
            let message = format!("option \"{name}\" is not supported");
            self.mistakes.push(Diagnostic::new("unsupported", message).at(option.span).help(help));
        }
    }

    /// True when a mistake was found so far.
    pub(crate) fn has_mistakes(&self) -> bool {
        !self.mistakes.is_empty()
    }

    /// All mistakes, those of unknown names among them.
    pub(crate) fn finish(mut self, owner: &str) -> Vec<Diagnostic> {
        self.known.sort_unstable();
        for option in self.given {
            if !self.known.contains(&option.name.as_str()) {
                self.mistakes.push(
                    Diagnostic::new("unknown_option", format!("{owner} has no option \"{}\"", option.name))
                        .at(option.span)
                        .help(suggest(&option.name, &self.known)),
                );
            }
        }
        self.mistakes
    }

    /// The mistakes so far; unknown names are not looked for.
    pub(crate) fn finish_without_names(self) -> Vec<Diagnostic> {
        self.mistakes
    }
}

/// Help that names the closest right word, or all of them.
pub(crate) fn suggest(word: &str, right: &[&str]) -> String {
    let closest = right.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    match closest {
        Some((distance, candidate)) if distance <= candidate.len().max(word.len()) / 2 => {
            format!("did you mean \"{candidate}\"?")
        }
        _ => format!("it can be: {}", right.join(", ")),
    }
}

/// Edits (insert, delete, replace) from one word to another.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// A number and a unit: `10s`, `500 ms`, `1.5 hours`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit.as_str() {
        "ns" | "nanosecond" | "nanoseconds" => 1e-9,
        "us" | "µs" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// A number and a unit: `64MiB`, `1 GB`, `4096`.
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let bytes = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let size = number * bytes;
    (size.is_finite() && size < 1e15).then_some(size as usize)
}

fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use squilla_query::Span;

    use super::*;

    fn option(name: &str, value: &str, start: usize) -> OptionValue {
        let span = Some(Span { start, end: start + name.len() });
        OptionValue { name: name.to_owned(), value: value.to_owned(), span }
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("500 ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5 hours"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("10"), None);
        assert_eq!(parse_duration("-1s"), None);
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("1 GB"), Some(1_000_000_000));
        assert_eq!(parse_size("12x"), None);
    }

    #[test]
    fn all_mistakes_are_found_at_once_and_name_what_is_right() {
        let given = [option("fromat", "json", 5), option("mode", "onec", 20), option("idle_timeout", "soon", 40)];
        let mut options = Options::new(&given);
        options.text("format");
        assert_eq!(options.choice("mode", 1, &[("once", 1), ("follow", 2)]), 1);
        options.duration("idle_timeout", Duration::from_secs(10));
        options.required("path", "name a file");
        let mistakes = options.finish("connector \"file\"");
        let seen: Vec<_> = mistakes.iter().map(|m| (m.code, m.span.map(|s| s.start), m.help.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("bad_option", Some(20), "did you mean \"once\"?"),
                ("bad_option", Some(40), "write a duration like '250ms', '10s', '15m', '2h' or '1d'"),
                ("missing_option", None, "name a file"),
                ("unknown_option", Some(5), "did you mean \"format\"?"),
            ]
        );
    }

    #[test]
    fn a_far_off_name_is_answered_with_all_names() {
        let given = [option("zzz", "1", 0)];
        let mut options = Options::new(&given);
        options.text("path");
        options.text("format");
        assert_eq!(options.finish("it")[0].help, "it can be: format, path");
    }

    #[test]
    fn an_option_given_twice_is_a_mistake() {
        let given = [option("path", "a", 0), option("path", "b", 9)];
        assert_eq!(Options::new(&given).finish("it")[0].code, "duplicate_option");
    }
}
