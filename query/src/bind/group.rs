//! GROUP BY: windows, keys and aggregates.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, Operator, binary_expr, cast, lit};
use datafusion_functions::core::named_struct;
use datafusion_sql::sqlparser::ast;

use super::expr::{columns, default_name, field, first_span};
use super::fill;
use super::from::window_columns;
use super::names::unique;
use super::refusals::without_window;
use super::select::{Item, filter};
use super::sets::{SetReader, grouping_bits, nothing};
use super::strip::strip;
use super::window::{ends, window_function};
use super::{Binder, Bound, WindowColumn, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::display::short_text;
use crate::functions::rate;
use crate::parse::fold;
use crate::plan::{AggregateCall, FillValue, NamedExpr, Plan, WindowKind, WindowSpec};
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME, timestamp_type};

/// The struct of window bounds that the short form makes.
pub(super) const WINDOW: &str = "window";

/// A GROUP BY clause.
pub(super) struct Grouping {
    /// There is a GROUP BY.
    pub(super) said: bool,
    /// The windows of `tumble(…)` or `hop(…)` in it.
    pub(super) short_form: Option<WindowSpec>,
    /// The windows of the short form are of processing time.
    pub(super) by_arrival: Option<bool>,
    /// Text of that call.
    pub(super) call: Option<String>,
    /// The other expressions, as they stand until [`Binder::resolve_keys`].
    pub(super) syntax: Vec<ast::Expr>,
    /// Keys, bound.
    keys: Vec<NamedExpr>,
    /// What FILL asks for.
    fill: Option<FillValue>,
    /// Of GROUPING SETS, CUBE and ROLLUP: for each set which of the expressions are its keys.
    pub(super) sets: Option<Vec<Vec<usize>>>,
    /// Where the clause stands.
    pub(super) at: Option<Span>,
}

/// What a grouping made.
pub(super) struct Group {
    /// Fields: the three window columns, the keys, the aggregates.
    pub(super) bound: Bound,
    /// What was grouped by, and the name of its column.
    pub(super) keys: Vec<NamedExpr>,
    pub(super) aggregates: Vec<AggregateCall>,
    /// Columns below that tell the window.
    pub(super) window: Vec<(String, WindowColumn)>,
    /// Keys of other sets of GROUPING SETS, and the nulls that they are here.
    pub(super) nulls: Vec<(Expr, Expr)>,
}

impl Binder<'_> {
    /// Reads GROUP BY; its keys are bound later, when the windows are assigned.
    pub(super) fn grouping(&mut self, select: &ast::Select, bound: &Bound) -> Option<Grouping> {
        let at = self.place(&select.group_by).or_else(|| self.place(select));
        let mut grouping = Grouping {
            said: false,
            short_form: None,
            by_arrival: None,
            call: None,
            syntax: Vec::new(),
            keys: Vec::new(),
            fill: None,
            sets: None,
            at,
        };
        let (exprs, modifiers) = match &select.group_by {
            ast::GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
            ast::GroupByExpr::All(_) => {
                self.refuse(
                    "GROUP BY ALL does not go with *",
                    at,
                    "name the window and the keys: GROUP BY country, tumble('10s')",
                );
                return None;
            }
        };
        grouping.said = !exprs.is_empty();
        let mut good = true;
        let mut sets = SetReader::default();
        for expr in exprs {
            if let Some(call) = fill::call(expr) {
                grouping.fill = self.fill_value(call);
                good &= grouping.fill.is_some();
                continue;
            }
            let Some((name, function)) = window_function(expr) else {
                sets.read(expr);
                continue;
            };
            if grouping.call.is_some() {
                let at = self.place(expr);
                self.refuse(
                    "two windows in one GROUP BY are not available",
                    at,
                    "run two queries, or window a sub-query again",
                );
                good = false;
                continue;
            }
            grouping.call = Some(expr.to_string());
            let call = self.short_form(&name, function, bound).map(|call| (call.spec, call.by_arrival));
            (grouping.short_form, grouping.by_arrival) = call.unzip();
            good &= grouping.short_form.is_some();
        }
        sets.modify(modifiers);
        match sets.finish(at) {
            Ok((syntax, sets)) => (grouping.syntax, grouping.sets) = (syntax, sets),
            Err(mistake) => {
                self.tell(mistake);
                good = false;
            }
        }
        good.then_some(grouping)
    }

    /// Binds the keys: expressions, names and numbers of `SELECT` items. `None` when one cannot be.
    pub(super) fn resolve_keys(&mut self, grouping: &mut Grouping, items: &[Item], bound: &Bound) -> Option<()> {
        let mut scope = self.select_scope(bound, grouping.short_form.is_some(), "GROUP BY")?;
        scope.aggregates = false;
        let known = |name: &str| scope.schema.has_column_with_unqualified_name(name);
        let mut good = Some(());
        for syntax in grouping.syntax.clone() {
            let mut name = None;
            let syntax = match &syntax {
                ast::Expr::Value(value) => match &value.value {
                    ast::Value::Number(number, _) => {
                        let item = number.parse::<usize>().ok().and_then(|n| items.get(n.wrapping_sub(1)));
                        let Some(item) = item else {
                            let message = format!("GROUP BY {number}: the SELECT list has {} items", items.len());
                            let mistake = Diagnostic::new("invalid", message).at(self.place(&syntax));
                            self.tell(mistake.help("write the expression, or its number from 1"));
                            good = None;
                            continue;
                        };
                        name = Some(item.name.clone());
                        item.syntax.clone()
                    }
                    _ => syntax,
                },
                ast::Expr::Identifier(ident) if !known(&fold(ident)) => {
                    match items.iter().find(|item| item.alias && item.name == fold(ident)) {
                        Some(item) => {
                            name = Some(item.name.clone());
                            item.syntax.clone()
                        }
                        None => syntax,
                    }
                }
                _ => syntax,
            };
            let same = |item: &&Item| item.alias && item.syntax.to_string() == syntax.to_string();
            let name = name.or_else(|| items.iter().find(same).map(|item| item.name.clone()));
            let placed = grouping.in_place(&syntax);
            match self.expr(&placed, &scope) {
                Some(expr) => {
                    grouping.keys.push(NamedExpr { expr, name: name.unwrap_or_else(|| default_name(&syntax)) });
                }
                None => good = None,
            }
        }
        good
    }

    /// Groups, and computes the `SELECT` list over the groups.
    pub(super) fn grouped(
        &mut self,
        bound: Bound,
        grouping: Grouping,
        exprs: Vec<NamedExpr>,
        having: Option<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let rates = |item: NamedExpr| NamedExpr { expr: rate::expand(item.expr), name: item.name };
        let (exprs, having) = (exprs.into_iter().map(rates).collect(), having.map(rate::expand));
        let (exprs, having) = self.estimates(&bound, exprs, having, at)?;
        let at = if grouping.said { grouping.at } else { at };
        let Some(sets) = &grouping.sets else {
            return self.grouped_by(bound, &grouping, None, exprs, having, at);
        };
        let mut parts = Vec::with_capacity(sets.len());
        for set in sets {
            let part = self.grouped_by(bound.clone(), &grouping, Some(set), exprs.clone(), having.clone(), at)?;
            parts.push((part, at));
        }
        self.unite(parts)
    }

    /// Groups by all keys, or by those of a set: then the others are null.
    fn grouped_by(
        &mut self,
        bound: Bound,
        grouping: &Grouping,
        set: Option<&Vec<usize>>,
        exprs: Vec<NamedExpr>,
        having: Option<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let kept = |index: &usize| set.is_none_or(|set| set.contains(index));
        let (here, others): (Vec<usize>, Vec<usize>) = (0..grouping.keys.len()).partition(kept);
        let mut keys: Vec<NamedExpr> = here.iter().map(|index| grouping.keys[*index].clone()).collect();
        let absent: Vec<Expr> = others.iter().map(|index| grouping.keys[*index].expr.clone()).collect();
        let absent: Vec<Expr> = absent.into_iter().filter(|expr| !keys.iter().any(|key| key.expr == *expr)).collect();
        let told = |expr: Expr| grouping_bits(expr, &keys, &absent);
        let exprs = exprs.into_iter().map(|item| Ok(NamedExpr { expr: told(item.expr)?, name: item.name }));
        let (exprs, having) = match (exprs.collect::<Result<Vec<_>, _>>(), having.map(told).transpose()) {
            (Ok(exprs), Ok(having)) => (exprs, having),
            (Err(mistake), _) | (_, Err(mistake)) => {
                self.tell(mistake.at(at));
                return None;
            }
        };
        let scope = DFSchema::try_from(bound.schema().as_ref().clone()).ok()?;
        let nulls = absent.into_iter().map(|expr| nothing(expr, &scope)).collect::<Option<Vec<_>>>()?;
        if grouping.short_form.is_some() {
            keys.push(NamedExpr { expr: column_of(WINDOW_START), name: WINDOW_START.to_owned() });
        }
        let mut calls: Vec<(Expr, Option<String>)> = Vec::new();
        for item in &exprs {
            let whole = matches!(item.expr, Expr::AggregateFunction(_));
            collect_aggregates(&item.expr, whole.then_some(&item.name), &mut calls);
        }
        if let Some(condition) = &having {
            collect_aggregates(condition, None, &mut calls);
        }
        let label = bound.label.clone();
        let mut group = self.group(bound, keys, calls, grouping.fill, at)?;
        group.nulls = nulls;
        let mut good = true;
        let mut bound = group.bound.clone();
        if let Some(having) = having {
            match self.rebase(having, &group, &label) {
                Some(predicate) => bound = filter(bound, predicate),
                None => good = false,
            }
        }
        let mut out = Vec::with_capacity(exprs.len());
        for item in exprs {
            match self.rebase(item.expr, &group, &label) {
                Some(expr) => out.push(NamedExpr { expr, name: item.name }),
                None => good = false,
            }
        }
        if good { self.project(bound, out, at) } else { None }
    }

    /// Makes the aggregate: over assigned windows, or over the groups of the same windows below.
    pub(super) fn group(
        &mut self,
        bound: Bound,
        keys: Vec<NamedExpr>,
        calls: Vec<(Expr, Option<String>)>,
        fill: Option<FillValue>,
        at: Option<Span>,
    ) -> Option<Group> {
        let Some(window) = bound.window.clone() else {
            if !self.may_fill_alone(fill, at) {
                return None;
            }
            return self.running(&bound, &keys, calls, at);
        };
        let tells = |expr: &Expr| matches!(expr, Expr::Column(column) if window.columns.contains_key(&column.name));
        if !keys.iter().any(|key| tells(&key.expr)) {
            if window.named {
                return self.running(&bound, &keys, calls, at);
            }
            self.tell(without_window(&window.columns, &keys, at));
            return None;
        }
        if !self.may_group(&window, fill, at) {
            return None;
        }
        let of_window = |name: &String| window.columns.contains_key(name);
        let only_window = |expr: &Expr| {
            let names = columns(expr);
            !names.is_empty() && names.iter().all(of_window)
        };
        let keys: Vec<NamedExpr> = keys.into_iter().filter(|key| !only_window(&key.expr)).collect();
        let read: Vec<String> =
            keys.iter().map(|key| &key.expr).chain(calls.iter().map(|(call, _)| call)).flat_map(columns).collect();
        if window.spec.is_made_by_rows() {
            return self.gather(bound, &window, keys, calls, at);
        }
        let mut moved = Vec::new();
        let (input, spec) = if window.grouped {
            (Arc::clone(&bound.plan), ends(window.spec))
        } else if let Some(stripped) = strip(&bound.plan, &read) {
            moved = stripped.moved;
            (stripped.plan, window.spec)
        } else if let WindowKind::Tumble { .. } | WindowKind::Calendar(_) = window.spec.kind {
            (Arc::clone(&bound.plan), window.spec)
        } else {
            let message = "an expression over both a row and its hopping window is not available";
            self.refuse(message, at, "use the window's columns alone, or tumbling windows");
            return None;
        };
        let make = |input, keys, aggregates, schema| Plan::Aggregate {
            input,
            window: spec,
            keys,
            aggregates,
            grace_ns: 0,
            schema,
        };
        let mut aggregate = self.aggregate(&bound, input, keys, calls, at, make)?;
        if let Some(value) = fill {
            aggregate.bound = fill::filled(aggregate.bound, spec, aggregate.keys.len(), value);
        }
        let mut group = Group { window: window.columns.into_iter().collect(), ..aggregate };
        let fixed = !matches!(window.spec.kind, WindowKind::Calendar(_));
        let size_ns = (window.grouped && fixed).then(|| window.spec.size_ns());
        group.bound = self.with_window_columns(group.bound, window.spec, size_ns, at)?;
        for predicate in moved {
            group.bound = filter(group.bound, predicate);
        }
        Some(group)
    }

    /// Groups without their window columns. `make` puts the node on.
    pub(super) fn aggregate(
        &mut self,
        bound: &Bound,
        input: Arc<Plan>,
        keys: Vec<NamedExpr>,
        calls: Vec<(Expr, Option<String>)>,
        at: Option<Span>,
        make: impl FnOnce(Arc<Plan>, Vec<NamedExpr>, Vec<AggregateCall>, SchemaRef) -> Plan,
    ) -> Option<Group> {
        let scope = DFSchema::try_from(input.schema().as_ref().clone()).ok()?;
        let mut fields: Vec<FieldRef> =
            [WINDOW_START, WINDOW_END].map(|name| Arc::new(Field::new(name, timestamp_type(), false))).to_vec();
        let mut names = vec![WINDOW_TIME.to_owned(), WINDOW.to_owned()];
        names.extend(fields.iter().map(|field| field.name().clone()));
        let mut named = Vec::with_capacity(keys.len());
        let mut aggregates = Vec::with_capacity(calls.len());
        let add = |expr: &Expr, name: &str, fields: &mut Vec<FieldRef>| match field(expr, name, &scope) {
            Ok(field) => {
                fields.push(field);
                None
            }
            Err(message) => Some(Diagnostic::new("type_mismatch", message).at(at)),
        };
        let mut mistake = None;
        for key in &keys {
            let name = unique(&key.name, &mut names);
            mistake = mistake.or(add(&key.expr, &name, &mut fields));
            named.push(NamedExpr { expr: key.expr.clone(), name });
        }
        for (expr, name) in calls {
            let name = unique(&name.unwrap_or_else(|| short_text(&expr)), &mut names);
            mistake = mistake.or(add(&expr, &name, &mut fields));
            aggregates.push(AggregateCall { expr, name });
        }
        if let Some(mistake) = mistake {
            self.tell(mistake);
            return None;
        }
        let (keys, calls, schema) = (named.clone(), aggregates.clone(), Arc::new(Schema::new(fields)));
        let plan = make(input, keys, calls, schema);
        let bound = Bound {
            plan: Arc::new(plan),
            qualifier: None,
            joined: None,
            label: "the groups".into(),
            times: Vec::new(),
            window: None,
            replay: bound.replay,
            nodes: bound.nodes + 1,
        };
        Some(Group { bound, keys: named, aggregates, window: Vec::new(), nulls: Vec::new() })
    }

    /// The aggregate's fields with the three window columns before them. `size_ns` is given where the aggregate's own
    /// windows share only their ends with those that are meant.
    pub(super) fn with_window_columns(
        &mut self,
        bound: Bound,
        spec: WindowSpec,
        size_ns: Option<i64>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let start = match size_ns {
            Some(size_ns) => before_end(size_ns),
            None => column_of(WINDOW_START),
        };
        let time = match spec.kind {
            WindowKind::Count { .. } => column_of(WINDOW_END),
            _ => before_end(MILLISECOND_NS),
        };
        let mut exprs = vec![
            NamedExpr { expr: start, name: WINDOW_START.to_owned() },
            NamedExpr { expr: column_of(WINDOW_END), name: WINDOW_END.to_owned() },
            NamedExpr { expr: time, name: WINDOW_TIME.to_owned() },
        ];
        let rest = bound.schema().fields().iter().skip(2);
        exprs.extend(rest.map(|field| NamedExpr { expr: column_of(field.name()), name: field.name().clone() }));
        let bound = self.project(bound, exprs, at)?;
        let times = [WINDOW_TIME, WINDOW_END, WINDOW_START].map(str::to_owned).to_vec();
        Some(Bound { times, window: Some(window_columns(spec, true)), ..bound })
    }

    /// The expression over the groups instead of the rows; `None` when it needs a column that is not grouped.
    fn rebase(&mut self, expr: Expr, group: &Group, label: &str) -> Option<Expr> {
        let mut lost: Vec<(String, Option<Span>)> = Vec::new();
        let text = self.text;
        let rebased = expr.transform_down(|expr| {
            if let Some(key) = group.keys.iter().find(|key| key.expr == expr) {
                return Ok(Transformed::new(column_of(&key.name), true, TreeNodeRecursion::Jump));
            }
            if let Some(call) = group.aggregates.iter().find(|call| call.expr == expr) {
                return Ok(Transformed::new(column_of(&call.name), true, TreeNodeRecursion::Jump));
            }
            if let Some((_, null)) = group.nulls.iter().find(|(key, _)| *key == expr) {
                return Ok(Transformed::new(null.clone(), true, TreeNodeRecursion::Jump));
            }
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let bounds = group.window.iter().find(|(name, _)| *name == column.name).map(|(_, bounds)| match bounds {
                WindowColumn::Start => column_of(WINDOW_START),
                WindowColumn::End => column_of(WINDOW_END),
                WindowColumn::Time => column_of(WINDOW_TIME),
            });
            let bounds = bounds.or_else(|| (column.name == WINDOW).then(window_struct));
            let bounds = bounds.or_else(|| (column.name == rate::WINDOW_SECONDS).then(window_seconds));
            match bounds {
                Some(bounds) => Ok(Transformed::new(bounds, true, TreeNodeRecursion::Jump)),
                None => {
                    lost.push((column.name.clone(), first_span(&expr, text)));
                    Ok(Transformed::no(expr))
                }
            }
        });
        for (name, at) in &lost {
            let message = format!("column \"{name}\" of {label} is neither grouped nor aggregated");
            let help = format!("add it to GROUP BY, or choose one of its values: max({name}), first_value({name})");
            self.tell(Diagnostic::new("not_grouped", message).at(*at).help(help));
        }
        if lost.is_empty() { rebased.ok().map(|rebased| rebased.data) } else { None }
    }
}

impl Group {
    /// The column of the key that was called so.
    pub(super) fn key(&self, name: &str) -> Option<Expr> {
        let key = self.keys.iter().find(|key| matches!(&key.expr, Expr::Column(column) if column.name == name))?;
        Some(column_of(&key.name))
    }
}

const MILLISECOND_NS: i64 = 1_000_000;

/// `window_end` less a length.
fn before_end(ns: i64) -> Expr {
    let interval = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, ns)));
    binary_expr(column_of(WINDOW_END), Operator::Minus, lit(interval))
}

/// `{start, end}` of the window.
fn window_struct() -> Expr {
    let args = vec![lit("start"), column_of(WINDOW_START), lit("end"), column_of(WINDOW_END)];
    Expr::ScalarFunction(ScalarFunction::new_udf(named_struct(), args))
}

/// The window's length in seconds.
fn window_seconds() -> Expr {
    let ns = |name| cast(column_of(name), DataType::Int64);
    cast(ns(WINDOW_END) - ns(WINDOW_START), DataType::Float64) / lit(1e9)
}

/// True when the expression calls an aggregate.
pub(super) fn has_aggregate(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(_)))).unwrap_or(false)
}

fn collect_aggregates(expr: &Expr, name: Option<&String>, calls: &mut Vec<(Expr, Option<String>)>) {
    let _ = expr.apply(|expr| {
        if let Expr::AggregateFunction(_) = expr {
            if !calls.iter().any(|(call, _)| call == expr) {
                calls.push((expr.clone(), name.cloned()));
            }
            return Ok(TreeNodeRecursion::Jump);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}
