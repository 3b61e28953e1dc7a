//! Plans and expressions as text: one line a node, inputs indented below.

use std::fmt;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, Case, Sort};
use datafusion_expr::{Expr, Operator};

use crate::duration::human;
use crate::plan::{
    AggregateCall, GatherKind, GatherSpec, JoinSpec, JoinTime, NamedExpr, Plan, RankFunction, RankSpec, RankTime,
    WindowKind, WindowSpec,
};
use crate::types::sql_name;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_node(self, 0, f)
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WindowKind::Tumble { size_ns } => write!(f, "tumble {}", human(size_ns))?,
            WindowKind::Hop { size_ns, slide_ns } => write!(f, "hop {} every {}", human(size_ns), human(slide_ns))?,
            WindowKind::Cumulate { size_ns, step_ns } => {
                write!(f, "cumulate {} by {}", human(size_ns), human(step_ns))?;
            }
            WindowKind::Calendar(calendar) => write!(f, "tumble {calendar}")?,
            WindowKind::Session { gap_ns } => write!(f, "session {}", human(gap_ns))?,
            WindowKind::Count { rows, slide } if rows == slide => write!(f, "count {rows}")?,
            WindowKind::Count { rows, slide } => write!(f, "count {rows} every {slide}")?,
        }
        if self.offset_ns == 0 { Ok(()) } else { write!(f, " from {}", human(self.offset_ns)) }
    }
}

fn write_node(plan: &Plan, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:1$}", "", depth * 2)?;
    match plan {
        Plan::Scan { relation, schema } => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            write!(f, "scan {relation} ({})", names.join(", "))?;
        }
        Plan::Filter { predicate, .. } => write!(f, "filter {}", text(predicate))?,
        Plan::Project { exprs, .. } => write!(f, "project {}", named(exprs))?,
        Plan::AssignWindow { window, .. } => write!(f, "assign {window}")?,
        Plan::ByArrival { .. } => write!(f, "by arrival")?,
        Plan::Sample { sample, .. } => {
            write!(f, "sample {}", sample.fraction)?;
            if !sample.keys.is_empty() {
                write!(f, " by {}", sample.keys.iter().map(text).collect::<Vec<_>>().join(", "))?;
            }
            if sample.seed != 0 {
                write!(f, " seed {}", sample.seed)?;
            }
        }
        Plan::Track { track, .. } => {
            let calls =
                track.calls.iter().map(|call| format!("{:?} of {} as {}", call.function, call.argument, call.column));
            write!(f, "track {}", calls.collect::<Vec<_>>().join(", "))?;
            if !track.partition_by.is_empty() {
                write!(f, " by {}", track.partition_by.join(", "))?;
            }
            write!(f, ", kept {}", human(track.ttl_ns))?;
        }
        Plan::Unnest { outer, ordinality, schema, .. } => {
            let element = schema.field(schema.fields().len() - 1 - usize::from(*ordinality));
            write!(f, "unnest to {}{}", element.name(), if *outer { ", or null" } else { "" })?;
        }
        Plan::Aggregate { window, keys, aggregates, grace_ns, .. } => {
            write!(f, "aggregate {window}")?;
            if *grace_ns != 0 {
                write!(f, " grace {}", human(*grace_ns))?;
            }
            write_groups(keys, aggregates, f)?;
        }
        Plan::Gather { gather, .. } => write_gather(gather, f)?,
        Plan::AggregateRunning { keys, aggregates, ttl_ns, .. } => {
            write!(f, "aggregate running, kept {}", human(*ttl_ns))?;
            write_groups(keys, aggregates, f)?;
        }
        Plan::Fill { value, empty_windows, .. } => {
            let value = format!("{value:?}").to_lowercase();
            write!(f, "fill {value} for {empty_windows} windows")?;
        }
        Plan::Join { join, .. } => write_join(join, f)?,
        Plan::Rank { rank, .. } => write_rank(rank, f)?,
        Plan::Union { .. } => write!(f, "union")?,
    }
    for input in plan.inputs() {
        writeln!(f)?;
        write_node(input, depth + 1, f)?;
    }
    Ok(())
}

fn write_groups(keys: &[NamedExpr], aggregates: &[AggregateCall], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !keys.is_empty() {
        write!(f, " by {}", named(keys))?;
    }
    if !aggregates.is_empty() {
        let calls = aggregates.iter().map(|call| name_and_text(&call.expr, &call.name));
        write!(f, " compute {}", calls.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

fn write_gather(gather: &GatherSpec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (kind, grace_ns) = match gather.kind {
        GatherKind::Session { gap_ns, grace_ns } => (WindowKind::Session { gap_ns }, grace_ns),
        GatherKind::Count { rows, slide } => (WindowKind::Count { rows, slide }, 0),
    };
    write!(f, "aggregate {}", WindowSpec { kind, offset_ns: 0 })?;
    if grace_ns != 0 {
        write!(f, " grace {}", human(grace_ns))?;
    }
    if !gather.partition_by.is_empty() {
        write!(f, " of {}", gather.partition_by.iter().map(text).collect::<Vec<_>>().join(", "))?;
    }
    write_groups(&gather.keys, &gather.aggregates, f)?;
    match &gather.filter {
        Some(filter) => write!(f, " where {}", text(filter)),
        None => Ok(()),
    }
}

fn write_join(join: &JoinSpec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kind = format!("{:?}", join.kind).to_lowercase();
    write!(f, "{kind} join")?;
    match &join.time {
        JoinTime::Window { grace_ns, .. } => {
            write!(f, " in one window")?;
            if *grace_ns != 0 {
                write!(f, " grace {}", human(*grace_ns))?;
            }
        }
        JoinTime::Interval { least_ns, most_ns, kept } => {
            write!(f, " within {} to {}", human(*least_ns), human(*most_ns))?;
            if kept.contains(&true) {
                write!(f, " (time to live)")?;
            }
        }
        JoinTime::Table { table, key } => write!(f, " with table {table} by {}", key.join(", "))?,
    }
    let mut word = " on ";
    for key in &join.on {
        let equals = if key.nulls { "IS NOT DISTINCT FROM" } else { "=" };
        write!(f, "{word}{} {equals} {}", text(&key.left), text(&key.right))?;
        word = " and ";
    }
    match &join.filter {
        Some(filter) => write!(f, "{word}{}", text(filter)),
        None => Ok(()),
    }
}

fn write_rank(rank: &RankSpec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let function = match rank.function {
        RankFunction::RowNumber => "row_number",
        RankFunction::Rank => "rank",
        RankFunction::DenseRank => "dense_rank",
    };
    write!(f, "{function}")?;
    if let Some(limit) = rank.limit {
        write!(f, " up to {limit}")?;
    }
    match &rank.time {
        RankTime::Window { grace_ns, .. } => {
            write!(f, " in each window")?;
            if *grace_ns != 0 {
                write!(f, " grace {}", human(*grace_ns))?;
            }
        }
        RankTime::Running { ttl_ns, .. } => write!(f, " running, kept {}", human(*ttl_ns))?,
    }
    if !rank.partition_by.is_empty() {
        write!(f, " by {}", rank.partition_by.iter().map(text).collect::<Vec<_>>().join(", "))?;
    }
    let order = rank.order_by.iter().map(|sort| {
        let direction = if sort.asc { "" } else { " DESC" };
        let nulls =
            if sort.nulls_first == sort.asc { if sort.asc { " NULLS FIRST" } else { " NULLS LAST" } } else { "" };
        format!("{}{direction}{nulls}", text(&sort.expr))
    });
    match rank.order_by.is_empty() {
        true => write!(f, " as they come")?,
        false => write!(f, " order {}", order.collect::<Vec<_>>().join(", "))?,
    }
    match &rank.column {
        Some(column) => write!(f, " as {column}"),
        None => Ok(()),
    }
}

fn named(exprs: &[NamedExpr]) -> String {
    exprs.iter().map(|item| name_and_text(&item.expr, &item.name)).collect::<Vec<_>>().join(", ")
}

fn name_and_text(expr: &Expr, name: &str) -> String {
    let text = text(expr);
    if text == name { text } else { format!("{text} as {name}") }
}

/// The expression, casts included.
pub(crate) fn text(expr: &Expr) -> String {
    Writer { casts: true }.write(expr)
}

/// The expression as a person would write it: without the casts that typing put in.
pub fn short_text(expr: &Expr) -> String {
    Writer { casts: false }.write(expr)
}

struct Writer {
    casts: bool,
}

impl Writer {
    fn write(&self, expr: &Expr) -> String {
        match expr {
            Expr::Column(column) => column.name.clone(),
            Expr::Literal(value, _) => literal(value),
            Expr::Alias(alias) => self.write(&alias.expr),
            Expr::BinaryExpr(binary) => {
                let right = self.operand(&binary.right, &binary.op, true);
                format!("{} {} {right}", self.operand(&binary.left, &binary.op, false), binary.op)
            }
            Expr::Not(inner) => format!("NOT {}", self.inner(inner)),
            Expr::Negative(inner) => format!("-{}", self.inner(inner)),
            Expr::IsNull(inner) => format!("{} IS NULL", self.inner(inner)),
            Expr::IsNotNull(inner) => format!("{} IS NOT NULL", self.inner(inner)),
            Expr::Cast(cast) if self.casts => {
                format!("CAST({} AS {})", self.write(&cast.expr), sql_name(cast.field.data_type()))
            }
            Expr::Cast(cast) => self.write(&cast.expr),
            Expr::TryCast(cast) => {
                format!("TRY_CAST({} AS {})", self.write(&cast.expr), sql_name(cast.field.data_type()))
            }
            Expr::InList(list) => {
                let negated = if list.negated { " NOT" } else { "" };
                format!("{}{negated} IN ({})", self.inner(&list.expr), self.list(&list.list))
            }
            Expr::Between(between) => {
                let negated = if between.negated { " NOT" } else { "" };
                let (low, high) = (self.inner(&between.low), self.inner(&between.high));
                format!("{}{negated} BETWEEN {low} AND {high}", self.inner(&between.expr))
            }
            Expr::ScalarFunction(call) => format!("{}({})", call.name(), self.list(&call.args)),
            Expr::AggregateFunction(call) => self.aggregate(call),
            Expr::Case(case) => self.case(case),
            Expr::Like(like) | Expr::SimilarTo(like) => {
                let negated = if like.negated { " NOT" } else { "" };
                let word = match (expr, like.case_insensitive) {
                    (Expr::SimilarTo(_), _) => "SIMILAR TO",
                    (_, true) => "ILIKE",
                    (_, false) => "LIKE",
                };
                format!("{}{negated} {word} {}", self.inner(&like.expr), self.inner(&like.pattern))
            }
            other => other.to_string(),
        }
    }

    fn list(&self, exprs: &[Expr]) -> String {
        exprs.iter().map(|expr| self.write(expr)).collect::<Vec<_>>().join(", ")
    }

    fn aggregate(&self, call: &AggregateFunction) -> String {
        let params = &call.params;
        let counts_rows = matches!(params.args.as_slice(), [Expr::Literal(ScalarValue::Int64(Some(1)), _)]);
        let args = if call.func.name() == "count" && counts_rows { "*".to_owned() } else { self.list(&params.args) };
        let distinct = if params.distinct { "DISTINCT " } else { "" };
        let mut out = format!("{}({distinct}{args}", call.func.name());
        if !params.order_by.is_empty() {
            let sorts: Vec<String> = params.order_by.iter().map(|sort| self.sort(sort)).collect();
            out.push_str(&format!(" ORDER BY {}", sorts.join(", ")));
        }
        out.push(')');
        if let Some(filter) = &params.filter {
            out.push_str(&format!(" FILTER (WHERE {})", self.write(filter)));
        }
        out
    }

    fn sort(&self, sort: &Sort) -> String {
        let direction = if sort.asc { "" } else { " DESC" };
        let nulls = if sort.nulls_first == sort.asc {
            if sort.nulls_first { " NULLS FIRST" } else { " NULLS LAST" }
        } else {
            ""
        };
        format!("{}{direction}{nulls}", self.write(&sort.expr))
    }

    fn case(&self, case: &Case) -> String {
        let mut out = "CASE".to_owned();
        if let Some(expr) = &case.expr {
            out.push_str(&format!(" {}", self.write(expr)));
        }
        for (when, then) in &case.when_then_expr {
            out.push_str(&format!(" WHEN {} THEN {}", self.write(when), self.write(then)));
        }
        if let Some(otherwise) = &case.else_expr {
            out.push_str(&format!(" ELSE {}", self.write(otherwise)));
        }
        out + " END"
    }

    /// An expression where only a simple one reads well.
    fn inner(&self, expr: &Expr) -> String {
        match expr {
            Expr::BinaryExpr(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_) => {
                format!("({})", self.write(expr))
            }
            Expr::Cast(cast) if !self.casts => self.inner(&cast.expr),
            _ => self.write(expr),
        }
    }

    /// An operand, in parentheses where its operator binds less.
    fn operand(&self, expr: &Expr, outer: &Operator, right: bool) -> String {
        match expr {
            Expr::BinaryExpr(binary) => {
                let binds = binary.op.precedence().cmp(&outer.precedence());
                if binds.is_gt() || (binds.is_eq() && !right) { self.write(expr) } else { self.inner(expr) }
            }
            Expr::Cast(cast) if !self.casts => self.operand(&cast.expr, outer, right),
            Expr::IsNull(_) | Expr::IsNotNull(_) if outer.is_logic_operator() => self.write(expr),
            _ => self.inner(expr),
        }
    }
}

/// A constant as SQL has it.
fn literal(value: &ScalarValue) -> String {
    if value.is_null() {
        return "NULL".into();
    }
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            const DAY_NS: i64 = 86_400_000_000_000;
            let total =
                i64::from(interval.days).checked_mul(DAY_NS).and_then(|days| days.checked_add(interval.nanoseconds));
            total.map_or_else(|| value.to_string(), |total| format!("INTERVAL '{}'", human(total)))
        }
        ScalarValue::TimestampNanosecond(..) | ScalarValue::Date32(_) => {
            format!("{} '{}'", sql_name(&value.data_type()), formatted(value))
        }
        ScalarValue::Float64(Some(number)) => format!("{number:?}"),
        ScalarValue::Int64(_) | ScalarValue::Boolean(_) => value.to_string(),
        other => format!("{} '{}'", sql_name(&other.data_type()), formatted(other)),
    }
}

fn formatted(value: &ScalarValue) -> String {
    let Ok(array) = value.to_array() else { return value.to_string() };
    ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())
        .map_or_else(|_| value.to_string(), |formatter| formatter.value(0).to_string())
}
