//! When results are told: grace in the plan, the rest for the reader.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion_expr::{Expr, Operator};

use super::Reader;
use super::expr::columns;
use super::running::MAX_RUNNING_RANKS;
use crate::catalog::{Catalog, TimeAttribute};
use crate::diagnostic::Diagnostic;
use crate::parse::{EmitKind, EmitSyntax, unsupported};
use crate::plan::{GatherKind, JoinTime, NamedExpr, Plan, RankTime};
use crate::statement::Emit;

/// The plan with `GRACE` in the aggregates that read rows as they come; those above them wait with them.
pub(super) fn with_grace(plan: &Arc<Plan>, emit: Option<&EmitSyntax>) -> Arc<Plan> {
    match emit.map(|emit| emit.kind) {
        Some(EmitKind::OnWindowClose { grace_ns }) if grace_ns > 0 => put_grace(plan, grace_ns),
        _ => Arc::clone(plan),
    }
}

fn put_grace(plan: &Arc<Plan>, wait_ns: i64) -> Arc<Plan> {
    let mut plan = plan.as_ref().clone();
    match &mut plan {
        Plan::Scan { .. } => {}
        Plan::Union { inputs, .. } => inputs.iter_mut().for_each(|input| *input = put_grace(input, wait_ns)),
        Plan::Aggregate { input, grace_ns, .. } => {
            if input.is_windowed() {
                *input = put_grace(input, wait_ns);
            } else {
                *grace_ns = wait_ns;
            }
        }
        Plan::Gather { input, gather, .. } => {
            if input.is_windowed() {
                *input = put_grace(input, wait_ns);
            } else if let GatherKind::Session { grace_ns, .. } = &mut gather.kind {
                *grace_ns = wait_ns;
            }
        }
        Plan::Filter { input, .. }
        | Plan::Project { input, .. }
        | Plan::AggregateRunning { input, .. }
        | Plan::Fill { input, .. }
        | Plan::AssignWindow { input, .. }
        | Plan::ByArrival { input }
        | Plan::Sample { input, .. }
        | Plan::Track { input, .. }
        | Plan::Unnest { input, .. } => *input = put_grace(input, wait_ns),
        Plan::Rank { input, rank, .. } => match &mut rank.time {
            RankTime::Window { grace_ns, .. } if !input.is_windowed() => *grace_ns = wait_ns,
            _ => *input = put_grace(input, wait_ns),
        },
        Plan::Join { left, right, join, .. } => {
            if let JoinTime::Window { grace_ns, .. } = &mut join.time
                && !(left.is_windowed() && right.is_windowed())
            {
                *grace_ns = wait_ns;
            }
            *left = put_grace(left, wait_ns);
            *right = put_grace(right, wait_ns);
        }
    }
    Arc::new(plan)
}

/// The reader's choice and the key of running results.
pub(super) fn emission(
    plan: &Plan,
    emit: Option<&EmitSyntax>,
    reader: Reader,
    catalog: &dyn Catalog,
) -> Result<(Emit, Vec<String>), Diagnostic> {
    if plan.is_changing() {
        return changing(plan, emit, reader);
    }
    let Some(emit) = emit else { return Ok((Emit::OnWindowClose, Vec::new())) };
    if !plan.is_windowed() && emit.kind == EmitKind::Changes {
        // As ksqlDB has it: each row that comes is a change.
        return Ok((Emit::OnWindowClose, Vec::new()));
    }
    if !plan.is_windowed() {
        let named = plan
            .relations()
            .into_iter()
            .find(|name| catalog.relation(name).is_some_and(|relation| relation.time == TimeAttribute::WindowTime));
        return Err(match named {
            Some(name) => unsupported(format!("stream \"{name}\" is read by its final rows only"), emit.span)
                .help("run its query itself with EMIT EVERY to see running results"),
            None => Diagnostic::new("invalid", "EMIT says when windows are told, and this query aggregates none")
                .at(emit.span)
                .help("leave EMIT out: rows are told as they come"),
        });
    }
    if let Some(mistake) = by_count(plan, emit) {
        return Err(mistake);
    }
    let (told, word) = match emit.kind {
        EmitKind::Every { interval_ns } => (every(interval_ns), "EMIT EVERY"),
        EmitKind::Changes => (Emit::Changes, "EMIT CHANGES"),
        EmitKind::OnWindowClose { .. } => return Ok((Emit::OnWindowClose, Vec::new())),
    };
    if let Reader::Named(kind) = reader {
        return Err(named_reader(word, kind, emit));
    }
    if key_parts(plan).is_none() && ranks(plan) {
        let mistake = unsupported(format!("{word} over ranks is for the first groups of windows"), emit.span);
        return Err(mistake.help(format!(
            "GROUP BY …, tumble('10s') ORDER BY n DESC LIMIT 10 {word} …, with up to {MAX_RUNNING_RANKS} ranks; or leave \
             EMIT out: each window's ranks are told when it closes"
        )));
    }
    let Some(parts) = key_parts(plan) else {
        if tracks(plan) {
            let message = format!("{word} over functions of a key's windows is not available");
            let help = "leave EMIT out: each window is told, once, with what came before it";
            return Err(unsupported(message, emit.span).help(help));
        }
        if fills(plan) {
            let mistake = unsupported(format!("{word} is not available with FILL"), emit.span);
            return Err(mistake.help("leave one of them out: a window without rows is told once, when it closes"));
        }
        if unites(plan) {
            let message = format!("{word} over a union whose parts may have rows of the same key is not available");
            return Err(unsupported(message, emit.span).help(
                "select what tells the parts apart: grouping(k) of GROUPING SETS, ROLLUP and CUBE, or a constant in each \
                 query: SELECT 'a' AS part, …",
            ));
        }
        let mistake = unsupported(format!("{word} over a join is not available"), emit.span);
        return Err(mistake.help("leave EMIT out, or subscribe to each of the queries"));
    };
    keyed(&parts, true, Some(emit)).map(|key| (told, key))
}

/// The reader's choice over a result that changes.
fn changing(plan: &Plan, emit: Option<&EmitSyntax>, reader: Reader) -> Result<(Emit, Vec<String>), Diagnostic> {
    let told = match emit.map(|emit| (emit, emit.kind)) {
        None => Emit::OnWindowClose,
        Some((_, EmitKind::Every { interval_ns })) => every(interval_ns),
        Some((_, EmitKind::Changes)) => Emit::Changes,
        Some((emit, EmitKind::OnWindowClose { .. })) => {
            let mistake = Diagnostic::new("invalid", "this query has no windows that could close").at(emit.span);
            return Err(
                mistake.help("GROUP BY …, tumble('10s') has; EMIT CHANGES or EMIT EVERY '1s' tell what changes")
            );
        }
    };
    let told = match (reader, told, emit) {
        (Reader::Named(kind), Emit::Every(_), Some(emit)) => return Err(named_reader("EMIT EVERY", kind, emit)),
        // As ksqlDB has it: a table changes, and its readers choose.
        (Reader::Named(_), ..) => Emit::OnWindowClose,
        (Reader::Client, told, _) => told,
    };
    let parts = key_parts(plan).ok_or_else(|| {
        unsupported("this result changes, and nothing tells its rows apart", emit.and_then(|emit| emit.span)).help(
            "GROUP BY a key tells groups apart, GROUP BY tumble('10s') windows, which are told once, when they close",
        )
    })?;
    keyed(&parts, false, emit).map(|key| (told, key))
}

fn every(interval_ns: i64) -> Emit {
    Emit::Every(Duration::from_nanos(interval_ns.unsigned_abs()))
}

fn named_reader(word: &str, kind: &str, emit: &EmitSyntax) -> Diagnostic {
    unsupported(format!("{word} is not available in {kind}: EMIT is the reader's choice"), emit.span)
        .help("leave EMIT out here, and write it where the results are read")
}

/// The columns by which running results replace each other.
fn keyed(parts: &Parts, windowed: bool, emit: Option<&EmitSyntax>) -> Result<Vec<String>, Diagnostic> {
    let key: Vec<String> =
        parts.columns.iter().filter(|(_, part)| *part != Part::Value).map(|(name, _)| name.clone()).collect();
    let has = |wanted: Part| parts.columns.iter().any(|(_, part)| *part == wanted);
    let missing = (0..parts.keys.len()).filter(|index| !has(Part::Key(*index))).map(|index| parts.keys[index].as_str());
    let mut missing: Vec<&str> = missing.collect();
    if windowed && !has(Part::Window) {
        missing.insert(0, "window_start");
    }
    if missing.is_empty() {
        return Ok(key);
    }
    let mistake = Diagnostic::new(
        "invalid",
        if windowed {
            "running results replace each other by window and group keys, which the SELECT list must hold"
        } else {
            "results that change replace each other by group keys, which the SELECT list must hold"
        },
    );
    Err(mistake.at(emit.and_then(|emit| emit.span)).help(format!("select {} too", missing.join(", "))))
}

/// Whether the query ranks or orders rows.
fn ranks(plan: &Plan) -> bool {
    matches!(plan, Plan::Rank { .. }) || plan.inputs().iter().any(|input| ranks(input))
}

fn tracks(plan: &Plan) -> bool {
    matches!(plan, Plan::Track { .. }) || plan.inputs().iter().any(|input| tracks(input))
}

fn unites(plan: &Plan) -> bool {
    match plan {
        Plan::Union { inputs, .. } => inputs.iter().all(|input| key_parts(input).is_some()),
        Plan::Filter { input, .. } | Plan::Project { input, .. } => unites(input),
        _ => false,
    }
}

fn fills(plan: &Plan) -> bool {
    matches!(plan, Plan::Fill { .. }) || plan.inputs().iter().any(|input| fills(input))
}

/// What windows by count do not know: that a row is late, and results before they are full.
fn by_count(plan: &Plan, emit: &EmitSyntax) -> Option<Diagnostic> {
    let counts =
        |plan: &Plan| matches!(plan, Plan::Gather { gather, .. } if matches!(gather.kind, GatherKind::Count { .. }));
    if !counts(plan) {
        return plan.inputs().into_iter().find_map(|input| by_count(input, emit));
    }
    match emit.kind {
        EmitKind::OnWindowClose { grace_ns } if grace_ns > 0 => {
            let message =
                "windows by count take rows in the order in which they come: none is late, and there is no GRACE";
            Some(Diagnostic::new("invalid", message).at(emit.span).help("leave GRACE out"))
        }
        EmitKind::Every { .. } | EmitKind::Changes => {
            let message = "EMIT EVERY is not available with windows by count: they are told when they are full";
            Some(unsupported(message, emit.span).help("leave EMIT out, or count fewer rows"))
        }
        _ => None,
    }
}

/// What a column of a windowed query tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The window.
    Window,
    /// A group key, by index.
    Key(usize),
    /// Anything else.
    Value,
}

/// What the columns of a result tell, and the names of its group keys.
pub(super) struct Parts {
    pub(super) columns: Vec<(String, Part)>,
    pub(super) keys: Vec<String>,
}

pub(super) fn key_parts(plan: &Plan) -> Option<Parts> {
    match plan {
        Plan::Aggregate { keys, schema, .. } => Some(group_parts(keys, schema)),
        Plan::Gather { gather, schema, .. } => Some(group_parts(&gather.keys, schema)),
        Plan::AggregateRunning { keys, schema, .. } => {
            let part = |index: usize| if index < keys.len() { Part::Key(index) } else { Part::Value };
            let columns = schema.fields().iter().enumerate().map(|(index, field)| (field.name().clone(), part(index)));
            Some(Parts { columns: columns.collect(), keys: keys.iter().map(|key| key.name.clone()).collect() })
        }
        Plan::Rank { rank, schema, .. } if matches!(rank.time, RankTime::Running { .. }) && !rank.keeps_first() => {
            let parts = rank.running_keys();
            let part = |index: usize| if index < parts { Part::Key(index) } else { Part::Value };
            let columns = schema.fields().iter().enumerate().map(|(index, field)| (field.name().clone(), part(index)));
            let keys = schema.fields().iter().take(parts).map(|field| field.name().clone());
            Some(Parts { columns: columns.collect(), keys: keys.collect() })
        }
        // Ranks of groups change with them: whoever falls out of the first ones is withdrawn by its key.
        Plan::Rank { input, rank, .. } if ranks_groups(plan) => {
            let mut parts = key_parts(input)?;
            parts.columns.extend(rank.column.iter().map(|name| (name.clone(), Part::Value)));
            Some(parts)
        }
        Plan::Union { inputs, schema } => super::union_key::parts(inputs, schema),
        Plan::Filter { input, .. } => key_parts(input),
        Plan::Project { input, exprs, .. } => {
            let below = key_parts(input)?;
            let part_of = |name: &str| below.columns.iter().find(|(other, _)| other == name).map(|(_, part)| *part);
            let columns = exprs.iter().map(|item| (item.name.clone(), passed(&item.expr, &part_of)));
            Some(Parts { columns: columns.collect(), keys: below.keys })
        }
        Plan::Scan { .. }
        | Plan::Fill { .. }
        | Plan::AssignWindow { .. }
        | Plan::ByArrival { .. }
        | Plan::Sample { .. }
        | Plan::Unnest { .. }
        | Plan::Track { .. }
        | Plan::Join { .. }
        | Plan::Rank { .. } => None,
    }
}

/// Whether a plan ranks groups of windows, as far as running results can: the first ones of each window.
pub(crate) fn ranks_groups(plan: &Plan) -> bool {
    fn of_groups(plan: &Plan) -> bool {
        match plan {
            Plan::Aggregate { .. } => true,
            Plan::Filter { input, .. } | Plan::Project { input, .. } => of_groups(input),
            _ => false,
        }
    }
    let Plan::Rank { input, rank, .. } = plan else { return false };
    let limited = rank.limit.is_some_and(|limit| (1..=MAX_RUNNING_RANKS).contains(&limit));
    limited && matches!(rank.time, RankTime::Window { .. }) && of_groups(input)
}

/// The columns by which the running results of a plan replace each other; `None`: it has none.
pub(crate) fn running_key(plan: &Plan) -> Option<Vec<String>> {
    let parts = key_parts(plan)?;
    Some(parts.columns.into_iter().filter(|(_, part)| *part != Part::Value).map(|(name, _)| name).collect())
}

fn group_parts(keys: &[NamedExpr], schema: &SchemaRef) -> Parts {
    let part = |index: usize| match index {
        0 | 1 => Part::Window,
        index if index < 2 + keys.len() => Part::Key(index - 2),
        _ => Part::Value,
    };
    let columns = schema.fields().iter().enumerate().map(|(index, field)| (field.name().clone(), part(index)));
    Parts { columns: columns.collect(), keys: keys.iter().map(|key| key.name.clone()).collect() }
}

/// What an expression tells of its inputs: a column as it is, or a window's bound that is shifted or packed.
fn passed(expr: &Expr, part_of: &dyn Fn(&str) -> Option<Part>) -> Part {
    let of_window = || {
        let names = columns(expr);
        !names.is_empty() && names.iter().all(|name| part_of(name) == Some(Part::Window))
    };
    match expr {
        Expr::Column(column) => part_of(&column.name).unwrap_or(Part::Value),
        Expr::BinaryExpr(binary) => {
            let shifted = binary.op == Operator::Minus
                && matches!((binary.left.as_ref(), binary.right.as_ref()), (Expr::Column(_), Expr::Literal(..)));
            if shifted && of_window() { Part::Window } else { Part::Value }
        }
        Expr::ScalarFunction(call) if call.name() == "named_struct" && of_window() => Part::Window,
        _ => Part::Value,
    }
}
