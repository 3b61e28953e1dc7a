//! Other systems' names of what is there under another one: the call is read as its meaning, before it is planned.

use crate::FunctionInfo;

/// A function by another system's name.
pub(crate) struct Spelling {
    /// Its names, in lower case.
    pub(crate) names: &'static [&'static str],
    /// `scalar` or `aggregate`.
    kind: &'static str,
    /// How it is called, behind its name.
    arguments: &'static str,
    /// What a call means; its arguments are `a`, `b` and `c`.
    pub(crate) meaning: &'static str,
    /// How many arguments it takes.
    pub(crate) takes: usize,
    /// Whether DISTINCT, ORDER BY and WITHIN GROUP of a call are those of its meaning.
    pub(crate) renamed: bool,
    description: &'static str,
}

/// A function that is what it means but for its name.
const fn renamed(
    names: &'static [&'static str],
    arguments: &'static str,
    meaning: &'static str,
    takes: usize,
    description: &'static str,
) -> Spelling {
    Spelling { names, kind: "aggregate", arguments, meaning, takes, renamed: true, description }
}

const fn aggregate(
    names: &'static [&'static str],
    arguments: &'static str,
    meaning: &'static str,
    takes: usize,
    description: &'static str,
) -> Spelling {
    Spelling { names, kind: "aggregate", arguments, meaning, takes, renamed: false, description }
}

const fn scalar(
    names: &'static [&'static str],
    arguments: &'static str,
    meaning: &'static str,
    takes: usize,
    description: &'static str,
) -> Spelling {
    Spelling { names, kind: "scalar", arguments, meaning, takes, renamed: false, description }
}

/// All of them; those of one name differ by how many arguments they take.
pub(crate) const SPELLINGS: [Spelling; 47] = [
    aggregate(
        &["count_if", "countif"],
        "(condition)",
        "count(*) FILTER (WHERE a)",
        1,
        "How many rows meet a condition.",
    ),
    aggregate(
        &["arg_max", "argmax", "max_by"],
        "(x, y)",
        "first_value(a ORDER BY b DESC) FILTER (WHERE a IS NOT NULL AND b IS NOT NULL)",
        2,
        "What x is where y is greatest, of the rows in which neither is null.",
    ),
    aggregate(
        &["arg_min", "argmin", "min_by"],
        "(x, y)",
        "first_value(a ORDER BY b) FILTER (WHERE a IS NOT NULL AND b IS NOT NULL)",
        2,
        "What x is where y is least, of the rows in which neither is null.",
    ),
    aggregate(
        &["latest_by_offset"],
        "(x)",
        "last_value(a) FILTER (WHERE a IS NOT NULL)",
        1,
        "The last x that is not null, by event time.",
    ),
    aggregate(
        &["earliest_by_offset"],
        "(x)",
        "first_value(a) FILTER (WHERE a IS NOT NULL)",
        1,
        "The first x that is not null, by event time.",
    ),
    aggregate(&["collect_set"], "(x)", "array_agg(DISTINCT a)", 1, "Every value of x once, as a list."),
    renamed(&["collect_list", "list"], "(x [ORDER BY y])", "array_agg(a)", 1, "All values of x as a list."),
    renamed(&["every"], "(condition)", "bool_and(a)", 1, "Whether all rows meet a condition."),
    renamed(
        &["listagg", "group_concat"],
        "(x [, delimiter] [ORDER BY y])",
        "string_agg(a, ',')",
        1,
        "All texts one behind the other, with the delimiter (a comma unless said) between them.",
    ),
    renamed(&["listagg", "group_concat"], "", "string_agg(a, b)", 2, ""),
    scalar(
        &["regexp_extract"],
        "(text, pattern [, group])",
        "array_element(regexp_match(a, '(' || b || ')'), 1)",
        2,
        "What matches a regular expression first, or the group of that number in it; null where nothing does.",
    ),
    scalar(&["regexp_extract"], "", "array_element(regexp_match(a, '(' || b || ')'), c + 1)", 3, ""),
    scalar(
        &["time_bucket"],
        "(interval, timestamp)",
        "date_bin(a, b, TIMESTAMP '2000-01-03 00:00:00')",
        2,
        "The start of the interval that a time lies in; weeks start on Mondays. As date_bin.",
    ),
    scalar(
        &["strftime"],
        "(timestamp, format)",
        "to_char(a, b)",
        2,
        "A time as a text: strftime(ts, '%Y-%m-%d %H:%M').",
    ),
    scalar(&["if", "iif"], "(condition, then, else)", "CASE WHEN a THEN b ELSE c END", 3, "One of two values."),
    scalar(&["epoch"], "(timestamp)", "date_part('epoch', a)", 1, "Seconds since 1970."),
    scalar(&["len"], "(text)", "length(a)", 1, "How many characters a text has."),
    scalar(&["ucase"], "(text)", "upper(a)", 1, "The text in capital letters."),
    scalar(&["lcase"], "(text)", "lower(a)", 1, "The text in small letters."),
    scalar(&["regexp_matches"], "(text, pattern)", "regexp_like(a, b)", 2, "Whether a regular expression matches."),
    scalar(&["year"], "(timestamp)", "date_part('year', a)", 1, "A part of a time, as EXTRACT(YEAR FROM ts)."),
    scalar(&["quarter"], "(timestamp)", "date_part('quarter', a)", 1, "A part of a time, as EXTRACT(QUARTER FROM ts)."),
    scalar(&["month"], "(timestamp)", "date_part('month', a)", 1, "A part of a time, as EXTRACT(MONTH FROM ts)."),
    scalar(
        &["week", "weekofyear"],
        "(timestamp)",
        "date_part('week', a)",
        1,
        "The ISO week, as EXTRACT(WEEK FROM ts).",
    ),
    scalar(
        &["day", "dayofmonth"],
        "(timestamp)",
        "date_part('day', a)",
        1,
        "A part of a time, as EXTRACT(DAY FROM ts).",
    ),
    scalar(&["dayofyear"], "(timestamp)", "date_part('doy', a)", 1, "A part of a time, as EXTRACT(DOY FROM ts)."),
    scalar(&["hour"], "(timestamp)", "date_part('hour', a)", 1, "A part of a time, as EXTRACT(HOUR FROM ts)."),
    scalar(&["minute"], "(timestamp)", "date_part('minute', a)", 1, "A part of a time, as EXTRACT(MINUTE FROM ts)."),
    scalar(&["second"], "(timestamp)", "date_part('second', a)", 1, "A part of a time, as EXTRACT(SECOND FROM ts)."),
    scalar(&["dayname"], "(timestamp)", "to_char(a, '%A')", 1, "Monday and so on."),
    scalar(&["monthname"], "(timestamp)", "to_char(a, '%B')", 1, "January and so on."),
    scalar(&["unix_timestamp"], "(timestamp)", "to_unixtime(a)", 1, "Whole seconds since 1970."),
    scalar(&["date_add"], "(timestamp, interval)", "a + b", 2, "A time so much later, as ts + INTERVAL '1 day'."),
    scalar(&["date_sub"], "(timestamp, interval)", "a - b", 2, "A time so much earlier, as ts - INTERVAL '1 day'."),
    scalar(&["mod"], "(x, y)", "a % b", 2, "What is left of a division, as x % y."),
    scalar(&["ceiling"], "(x)", "ceil(a)", 1, "The next whole number, upwards."),
    scalar(&["truncate"], "(x, digits)", "trunc(a, b)", 2, "A number cut behind so many digits."),
    scalar(
        &["split", "string_split", "str_split"],
        "(text, delimiter)",
        "string_to_array(a, b)",
        2,
        "A text's pieces.",
    ),
    scalar(
        &["split_index"],
        "(text, delimiter, index)",
        "array_element(string_to_array(a, b), c + 1)",
        3,
        "A piece of a text, counted from 0.",
    ),
    scalar(
        &["locate"],
        "(part, text)",
        "strpos(b, a)",
        2,
        "Where a part stands in a text, counted from 1; 0: nowhere.",
    ),
    scalar(&["startswith", "prefix"], "(text, start)", "starts_with(a, b)", 2, "Whether a text starts so."),
    scalar(&["endswith", "suffix"], "(text, end)", "ends_with(a, b)", 2, "Whether a text ends so."),
    scalar(
        &["extractjsonfield", "get_json_object"],
        "(json, path)",
        "json_value(a, b)",
        2,
        "A value in JSON, as a text.",
    ),
    scalar(&["transform"], "(list, x -> …)", "array_transform(a, b)", 2, "What a function makes of each item."),
    scalar(&["to_base64"], "(text)", "encode(a, 'base64')", 1, "Bytes as a text in base64."),
    scalar(&["from_base64"], "(text)", "decode(a, 'base64')", 1, "Bytes of a text in base64."),
    scalar(&["gen_random_uuid"], "()", "uuid()", 0, "A random UUID."),
];

/// The names, for suggestions.
pub(super) fn names<'a>() -> impl Iterator<Item = &'a str> {
    SPELLINGS.iter().flat_map(|spelling| spelling.names.iter().map(|name| -> &'a str { name }))
}

/// How a function of that name is called; `None`: it is none of these.
pub(crate) fn syntax(name: &str) -> Option<String> {
    let spelling = SPELLINGS.iter().find(|spelling| spelling.names.contains(&name))?;
    Some(format!("{name}{}", spelling.arguments))
}

/// All of them, for completion.
pub(super) fn describe() -> Vec<FunctionInfo> {
    let described = SPELLINGS.iter().filter(|spelling| !spelling.description.is_empty());
    let infos = described.flat_map(|spelling| {
        spelling.names.iter().map(|name| FunctionInfo {
            name: (*name).to_owned(),
            kind: spelling.kind,
            syntax: format!("{name}{}", spelling.arguments),
            description: spelling.description.to_owned(),
        })
    });
    infos.collect()
}
