//! Columns that nobody reads are not computed and not scanned.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::Expr;

use crate::bind::{column_of, columns};
use crate::plan::{GatherSpec, JoinSpec, JoinTime, NamedExpr, Plan, RankSpec, RankTime};
use crate::track::TrackSpec;

/// The plan with at least the columns of that name; the order is kept.
pub(super) fn prune(plan: &Arc<Plan>, wanted: &BTreeSet<String>) -> Arc<Plan> {
    match plan.as_ref() {
        Plan::Scan { relation, schema } => {
            Arc::new(Plan::Scan { relation: relation.clone(), schema: keep(schema, wanted) })
        }
        Plan::Filter { input, predicate } => {
            let mut read = wanted.clone();
            read.extend(columns(predicate));
            Arc::new(Plan::Filter { input: prune(input, &read), predicate: predicate.clone() })
        }
        Plan::Project { input, exprs, schema } => {
            let kept: Vec<NamedExpr> = exprs.iter().filter(|item| wanted.contains(&item.name)).cloned().collect();
            let read = kept.iter().flat_map(|item| columns(&item.expr)).collect();
            Arc::new(Plan::Project { input: prune(input, &read), exprs: kept, schema: keep(schema, wanted) })
        }
        Plan::AssignWindow { input, window, schema } => {
            let input = prune(input, wanted);
            let mut fields = input.schema().fields().to_vec();
            fields.extend(schema.fields().iter().skip(schema.fields().len() - 3).cloned());
            Arc::new(Plan::AssignWindow { input, window: *window, schema: Arc::new(Schema::new(fields)) })
        }
        Plan::ByArrival { input } => Arc::new(Plan::ByArrival { input: prune(input, wanted) }),
        Plan::Sample { input, sample } => {
            let mut read = wanted.clone();
            read.extend(sample.keys.iter().flat_map(columns));
            Arc::new(Plan::Sample { input: prune(input, &read), sample: sample.clone() })
        }
        Plan::Unnest { input, outer, ordinality, schema } => {
            let (mut read, list) = (wanted.clone(), input.schema().fields().len() - 1);
            read.insert(input.schema().field(list).name().clone());
            let input = prune(input, &read);
            let mut fields = input.schema().fields().to_vec();
            fields.pop();
            fields.extend(schema.fields().iter().skip(list).cloned());
            let schema = Arc::new(Schema::new(fields));
            Arc::new(Plan::Unnest { input, outer: *outer, ordinality: *ordinality, schema })
        }
        Plan::Aggregate { input, window, keys, aggregates, grace_ns, schema } => {
            let kept: Vec<_> = aggregates.iter().filter(|call| wanted.contains(&call.name)).cloned().collect();
            let exprs = keys.iter().map(|key| &key.expr).chain(kept.iter().map(|call| &call.expr));
            let read = exprs.flat_map(columns).collect();
            Arc::new(Plan::Aggregate {
                input: without_choice(prune(input, &read)),
                window: *window,
                keys: keys.clone(),
                aggregates: kept,
                grace_ns: *grace_ns,
                schema: groups(schema, keys.len(), wanted),
            })
        }
        Plan::Gather { input, gather, schema } => prune_gather(input, gather, schema, wanted),
        Plan::Fill { input, window, keys, value, empty_windows, schema } => Arc::new(Plan::Fill {
            input: prune(input, wanted),
            window: *window,
            keys: *keys,
            value: *value,
            empty_windows: *empty_windows,
            schema: groups(schema, *keys, wanted),
        }),
        Plan::Track { input, track, .. } => prune_track(input, track, wanted),
        Plan::AggregateRunning { .. } => prune_running(plan, wanted),
        Plan::Join { left, right, join, schema } => prune_join(left, right, join, schema, wanted),
        Plan::Rank { input, rank, .. } => prune_rank(input, rank, wanted),
        Plan::Union { inputs, schema } => {
            let schema = keep(schema, wanted);
            let inputs = inputs.iter().map(|input| exactly(prune(input, wanted), &schema)).collect();
            Arc::new(Plan::Union { inputs, schema })
        }
    }
}

fn prune_gather(input: &Arc<Plan>, gather: &GatherSpec, schema: &SchemaRef, wanted: &BTreeSet<String>) -> Arc<Plan> {
    let mut gather = Box::new(gather.clone());
    gather.aggregates.retain(|call| wanted.contains(&call.name));
    let keys = gather.keys.iter().map(|key| &key.expr);
    let exprs = keys.chain(gather.aggregates.iter().map(|call| &call.expr));
    let read = exprs.chain(&gather.partition_by).chain(&gather.filter).flat_map(columns).collect();
    let schema = groups(schema, gather.keys.len(), wanted);
    Arc::new(Plan::Gather { input: without_choice(prune(input, &read)), gather, schema })
}

/// The fields of groups: the window, the keys, and of the aggregates those that are wanted.
fn groups(schema: &SchemaRef, keys: usize, wanted: &BTreeSet<String>) -> SchemaRef {
    let fields = schema.fields().iter().enumerate();
    let kept = fields.filter(|(index, field)| *index < 2 + keys || wanted.contains(field.name()));
    Arc::new(Schema::new(kept.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>()))
}

fn prune_rank(input: &Arc<Plan>, rank: &RankSpec, wanted: &BTreeSet<String>) -> Arc<Plan> {
    let mut rank = Box::new(rank.clone());
    let place = rank.place();
    let column = rank.column.take();
    let own = |name: &&String| column.as_ref() == Some(name) || place.as_ref() == Some(name);
    let mut read: BTreeSet<String> = wanted.iter().filter(|name| !own(name)).cloned().collect();
    read.extend(rank.partition_by.iter().flat_map(columns));
    read.extend(rank.order_by.iter().flat_map(|sort| columns(&sort.expr)));
    if let RankTime::Window { start, end, .. } = &rank.time {
        read.extend([start.clone(), end.clone()]);
    }
    if let RankTime::Running { .. } = &rank.time {
        let keyed = rank.limit != Some(1) || place.is_some();
        rank.column = column.filter(|name| keyed || wanted.contains(name));
        let input = prune(input, &read);
        let schema = rank.running_schema(input.schema());
        return Arc::new(Plan::Rank { input, rank, schema });
    }
    let input = prune(input, &read);
    let mut fields = input.schema().fields().to_vec();
    rank.column = column.filter(|name| wanted.contains(name));
    if let Some(name) = &rank.column {
        fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
    }
    Arc::new(Plan::Rank { input, rank, schema: Arc::new(Schema::new(fields)) })
}

fn prune_track(input: &Arc<Plan>, track: &TrackSpec, wanted: &BTreeSet<String>) -> Arc<Plan> {
    let mut track = Box::new(track.clone());
    let mut read = wanted.clone();
    for call in &track.calls {
        read.remove(&call.column);
    }
    track.calls.retain(|call| wanted.contains(&call.column));
    if track.calls.is_empty() {
        return prune(input, &read);
    }
    read.extend(track.partition_by.iter().cloned());
    read.extend(track.calls.iter().map(|call| call.argument.clone()));
    let input = prune(input, &read);
    let mut fields = input.schema().fields().to_vec();
    for call in &track.calls {
        let value = input.schema().field_with_name(&call.argument).map(Field::data_type);
        let kind = value.map_or(DataType::Null, |kind| call.function.returns(kind));
        fields.push(Arc::new(Field::new(&call.column, kind, true)));
    }
    Arc::new(Plan::Track { input, track, schema: Arc::new(Schema::new(fields)) })
}

fn prune_running(plan: &Arc<Plan>, wanted: &BTreeSet<String>) -> Arc<Plan> {
    let Plan::AggregateRunning { input, keys, aggregates, ttl_ns, schema } = plan.as_ref() else {
        return Arc::clone(plan);
    };
    let kept: Vec<_> = aggregates.iter().filter(|call| wanted.contains(&call.name)).cloned().collect();
    let exprs = keys.iter().map(|key| &key.expr).chain(kept.iter().map(|call| &call.expr));
    let read = exprs.flat_map(columns).collect();
    let mut names = wanted.clone();
    names.extend(keys.iter().map(|key| key.name.clone()));
    Arc::new(Plan::AggregateRunning {
        input: without_choice(prune(input, &read)),
        keys: keys.clone(),
        aggregates: kept,
        ttl_ns: *ttl_ns,
        schema: keep(schema, &names),
    })
}

fn prune_join(
    left: &Arc<Plan>,
    right: &Arc<Plan>,
    join: &JoinSpec,
    schema: &SchemaRef,
    wanted: &BTreeSet<String>,
) -> Arc<Plan> {
    let mut read = wanted.clone();
    read.extend(join.filter.iter().flat_map(columns));
    let (mut of_left, mut of_right) = (read.clone(), read);
    for key in &join.on {
        of_left.extend(columns(&key.left));
        of_right.extend(columns(&key.right));
    }
    match &join.time {
        JoinTime::Window { left_end, right_end, .. } => {
            of_left.extend(columns(left_end));
            of_right.extend(columns(right_end));
        }
        JoinTime::Table { key, .. } => of_right.extend(key.iter().cloned()),
        JoinTime::Interval { .. } => {}
    }
    let (left, right) = (prune(left, &of_left), prune(right, &of_right));
    let there = |field: &&Arc<Field>| {
        left.schema().field_with_name(field.name()).is_ok() || right.schema().field_with_name(field.name()).is_ok()
    };
    // An input may give more than was asked for: what its filters read.
    let fields: Vec<Arc<Field>> = schema.fields().iter().filter(there).cloned().collect();
    Arc::new(Plan::Join { left, right, join: Box::new(join.clone()), schema: Arc::new(Schema::new(fields)) })
}

/// The input of a projection that only leaves columns out: whoever names its columns need not have them left out.
fn without_choice(plan: Arc<Plan>) -> Arc<Plan> {
    let Plan::Project { input, exprs, .. } = plan.as_ref() else { return plan };
    let chooses = |item: &NamedExpr| matches!(&item.expr, Expr::Column(column) if column.name == item.name);
    if exprs.iter().all(chooses) { Arc::clone(input) } else { plan }
}

fn keep(schema: &SchemaRef, wanted: &BTreeSet<String>) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| wanted.contains(field.name()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// The plan with these columns and no others: what a filter read may be left over.
fn exactly(plan: Arc<Plan>, schema: &SchemaRef) -> Arc<Plan> {
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    if names(plan.schema()) == names(schema) {
        return plan;
    }
    let exprs =
        schema.fields().iter().map(|field| NamedExpr { expr: column_of(field.name()), name: field.name().clone() });
    let fields: Vec<Arc<Field>> = names(schema)
        .iter()
        .filter_map(|name| plan.schema().field_with_name(name).ok())
        .map(|field| Arc::new(field.clone()))
        .collect();
    let exprs = exprs.collect();
    Arc::new(Plan::Project { input: plan, exprs, schema: Arc::new(Schema::new(fields)) })
}
